//! The program `runner` as a library: a user's own `main` joins handlers and schedules to it.
//!
//! The rooms, from the ground up. What each may know stands in ARCHITECTURE.md, and a test holds them to it.

pub mod role;

pub mod text;

pub mod log;
pub mod metrics;

pub mod source;

pub mod scheduler;
pub mod worker;

pub mod web;

pub mod cli;
pub mod config;

pub use cli::{App, AppParts, CodeSchedule};
pub use runner_core::{Timestamp, cron, schedule, task};
pub use runner_sdk as sdk;
