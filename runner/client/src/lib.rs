//! A client of `runner`'s queue: it enqueues tasks and waits for their results, runs nothing and reads no settings.
//!
#![doc = include_str!("../README.md")]

mod client;
mod connect;
mod enqueue;
mod handle;
mod workflow;

pub use client::Client;
pub use connect::ConnectError;
pub use enqueue::EnqueueError;
pub use handle::{TaskHandle, TaskResult, WaitError};
pub use jiff::Timestamp;
pub use runner_core::task::{
    Enqueue, InvalidTask, OnConflict, QueueName, Run, Task, TaskId, TaskState, TaskType, TraceContext, TraceId, Unique,
    UniqueKey, UniqueScope,
};
/// Implements [`TaskType`](trait@TaskType) for a payload: `#[task(name = "greet", queue = "low", retry = 3)]`.
pub use runner_macros::ClientTaskType as TaskType;
#[cfg(feature = "redis")]
pub use runner_queue::redis::{Password, RedisSentinels, RedisSettings, RedisTarget, RedisTls};
pub use runner_queue::{Broker, BrokerError, Refusal, WorkflowHead, WorkflowState};
pub use workflow::{Step, Workflow, WorkflowError, WorkflowHandle};
