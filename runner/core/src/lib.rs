//! The pure rooms of `runner`, from the ground up: time, durations, tasks, functions, cron expressions, schedules.
//!
//! Nothing here performs I/O, knows an async runtime, or reads a setting. Whatever needs a store,
//! a file or a socket lives in a package above.

pub mod chain;
pub mod clock;
pub mod cron;
pub mod duration;
pub mod function;
pub mod schedule;
pub mod task;

pub use jiff::Timestamp;
