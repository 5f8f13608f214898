//! The API for authors of handlers: the handler trait, extractors, the registry, outcomes, a test helper.
//!
//! A handler is a plain `async fn`. Its arguments are extractors ([`Payload`], [`State`], [`Ctx`], …), its result determines
//! how the task ends. Handlers are listed by name in a [`Registry`]; a duplicate name is refused, and nothing registers
//! itself implicitly. This package knows no broker, no worker and no settings.
//!
//! ```
//! use runner_sdk::testing::Trial;
//! use runner_sdk::{Outcome, Payload, Registry, ResultExt, State, TaskError};
//!
//! struct Shop { currency: &'static str }
//!
//! #[derive(serde::Deserialize)]
//! struct Invoice { number: u32, cents: String }
//!
//! // An error from `?` is retried; `skip_retry` means that a retry cannot help.
//! async fn invoice(Payload(i): Payload<Invoice>, State(shop): State<Shop>) -> Result<String, TaskError> {
//!     let cents: u64 = i.cents.parse::<u64>().skip_retry()?;
//!     Ok(format!("#{}: {} {}", i.number, cents / 100, shop.currency))
//! }
//!
//! fn register(r: Registry) -> Registry {
//!     r.state(Shop { currency: "EUR" })
//!         .on("invoice.make", invoice)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let good = Trial::of("invoice.make").payload(r#"{"number":7,"cents":"1200"}"#);
//! assert_eq!(good.run(register(Registry::new())).await?.outcome, Outcome::success("#7: 12 EUR"));
//!
//! let bad = Trial::of("invoice.make").payload(r#"{"number":7,"cents":"a lot"}"#);
//! assert!(matches!(bad.run(register(Registry::new())).await?.outcome, Outcome::Skip(_)));
//! # Ok(()) }
//! ```

mod aggregate;
mod callback;
mod context;
mod extract;
mod future;
mod handler;
mod log;
mod matched;
mod middleware;
mod needs;
mod options;
mod outcome;
mod registry;
mod services;
mod side_results;
mod state;
mod stop;
pub mod testing;
mod typed;

pub use aggregate::{Aggregator, Group, GroupTask, IntoTask};
pub use bytes::Bytes;
pub use callback::Callback;
pub use context::{Ctx, CtxParts};
pub use extract::{FromTask, Payload, Raw, State};
pub use future::BoxFuture;
pub use handler::{Handler, OfType, SaysType};
pub use jiff::Timestamp;
pub use log::{RUN_LOG_LINE_BYTES, RUN_LOG_MAX_BYTES, RunLog};
pub use matched::HandlerMatch;
pub use middleware::{HandlerFuture, HandlerLayer, HandlerService};
pub use needs::Needs;
pub use options::HandlerOptions;
pub use outcome::{IntoOutcome, Json, Outcome, ResultExt, TaskError};
pub use registry::{DuplicateName, Handlers, Registry, RegistryError};
pub use runner_core::limit::{
    LimitKey, LimitKeyError, LimitRule, SemaphoreScopeError, SharedSemaphore, StartRate, TaskLimit,
};
pub use runner_core::task::{
    Backoff, DelayFunction, Enqueue, NotJson, QueueName, Task, TaskId, TaskState, TaskType, TraceContext, TraceId,
    Unique, check_json,
};
/// Implements [`TaskType`](trait@TaskType) for a payload: `#[task(name = "greet", queue = "low", retry = 3)]`.
pub use runner_macros::SdkTaskType as TaskType;
/// Checks a handler one argument at a time, so that the compiler names the one that does not fit.
pub use runner_macros::sdk_handler as handler;
pub use services::{EnqueueAnswers, NotEnqueued, Services};
pub use side_results::{Artifact, MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, Progress};
pub use state::States;
pub use stop::{LeaseLimits, Stop, StopReason};
pub use typed::TypedTasks;
