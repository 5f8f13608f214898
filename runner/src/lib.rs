//! The program `runner` as a library: a user's own `main` joins handlers and schedules to it.
//!
//! ```no_run
//! use runner::sdk::{Payload, TaskError};
//! use runner::{App, TaskType};
//!
//! #[derive(serde::Serialize, serde::Deserialize, TaskType)]
//! #[task(name = "greet", retry = 3, retention = "1h")]
//! struct Greet {
//!     name: String,
//! }
//!
//! async fn greet(Payload(greet): Payload<Greet>) -> Result<String, TaskError> {
//!     Ok(format!("hello, {}", greet.name))
//! }
//!
//! // A plain `main`: a runtime, logs and connections belong into `setup` or `on_start`, or after `guard_main`.
//! fn main() -> std::process::ExitCode {
//!     App::new()
//!         .handlers(|registry| registry.on_task(greet))
//!         .schedule("greetings", "@hourly", Greet { name: "world".into() })
//!         .main()
//! }
//! ```
//!
//! Commands of manifests start the program once more, as their guard. [`App::main`] sees to that; a `main` that does anything
//! before it, or makes its own runtime for [`App::run`] or [`App::start`], begins with [`guard_main`].
//!
//! [`App`] has the rest: commands, hooks, a runtime and a web server of your own. The dashboard, schedules of files and rows,
//! and the command line of `runner` come with it. [`sdk`] has what handlers are written with, and helpers for their tests.
//!
//! What a `main` needs is at the top level: tasks, schedules and their policies, the client, `clap`'s [`Command`] and
//! [`ArgMatches`]. The rooms, from the ground up; those that are public are so for
//! tests that join them to stores and browsers of their own. ARCHITECTURE.md says what each may know,
//! and a test holds them to it.

// Some code has no caller if a store or a kind of function is left out. The features with which the lints run have all.
#![cfg_attr(
    not(all(
        feature = "amqp",
        feature = "embedded",
        feature = "mail",
        feature = "mysql",
        feature = "otlp",
        feature = "postgres",
        feature = "sql",
        feature = "sqlite",
        feature = "web"
    )),
    allow(dead_code, unused_imports)
)]

mod access;
mod background;
mod diagnose;
mod events;
mod facts;

pub mod audit;
pub mod health;
mod log;
mod messaging;
pub mod metrics;
mod notification;
mod objects;
pub mod operation;
pub mod queue_pause;
mod run_output;
mod task_search;
mod telemetry;
mod text;

pub mod source;
pub mod trigger;

mod scheduler;
mod upkeep;
mod worker;
mod workflow;

#[cfg(feature = "web")]
pub mod web;

mod cli;
mod config;

pub use clap::{self, ArgMatches, Command};
pub use cli::{App, AppError, AppParts, CodeSchedule, StartedApp};
pub use log::{RunLogLayer, SpanExportLayer};
pub use runner_client::{
    Client, ConnectError, EnqueueError, Step, TaskHandle, TaskResult, WaitError, Workflow, WorkflowError,
    WorkflowHandle,
};
pub use runner_core::schedule::{CatchUp, CatchUpPolicy, Overlap};
pub use runner_core::task::{Enqueue, QueueName, Task, TaskId, TaskState, TaskType, Unique};
pub use runner_core::{Timestamp, cron, schedule, task};
pub use runner_handlers::guard_main;
/// Implements [`TaskType`](trait@TaskType) for a payload: `#[task(name = "greet", queue = "low", retry = 3)]`.
pub use runner_macros::RunnerTaskType as TaskType;
pub use source::Schedule;

/// What handlers are written with: the package `runner-sdk`.
pub mod sdk {
    pub use runner_macros::{RunnerTaskType as TaskType, runner_handler as handler};
    pub use runner_sdk::*;
}
