//! The pure rooms of `runner`, from the ground up: time, durations, tasks, functions, cron expressions, schedules.
//!
//! No I/O, no async runtime, no settings. Code that needs a store, a file or a socket is in a package above.

pub mod chain;
pub mod clock;
pub mod cron;
pub mod duration;
pub mod function;
pub mod limit;
pub mod notification;
pub mod schedule;
pub mod task;
pub mod template;
pub mod trigger;

pub use jiff::Timestamp;
