//! The program `runner` as a library: a user's own `main` joins handlers and schedules to it.
//!
//! What a `main` needs is at the top level. The rooms, from the ground up; those that are public are so for
//! tests that join them to stores and browsers of their own. ARCHITECTURE.md says what each may know,
//! and a test holds them to it.

mod background;
mod diagnose;
mod facts;

pub mod health;
mod log;
pub mod metrics;
mod text;

pub mod source;
pub mod trigger;

mod scheduler;
mod upkeep;
mod worker;

pub mod web;

mod cli;
mod config;

pub use clap;
pub use cli::{App, AppError, AppParts, CodeSchedule, StartedApp};
pub use log::RunLogLayer;
pub use runner_client::{Client, EnqueueError, TaskHandle};
pub use runner_core::task::TaskType;
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
