//! The cron engine: grammar, zones, daylight saving time, next and previous instants.
//!
//! Texts become bit sets ([`Expression`]), bit sets find civil times (`calendar`), and civil times
//! become instants under a [`DstRule`] (`instants`). The engine never reads the clock and knows nothing of schedules,
//! catch-up or queues; it answers "when, after this instant".
//!
//! The grammar is the one that Go's asynq schedulers read, with two extensions: a leading field of
//! seconds, and 7 for Sunday. [`lint()`] reports where a text leaves the common ground.

mod calendar;
mod describe;
mod dialect;
mod dialect_lint;
mod error;
mod expression;
mod field;
mod instants;
mod lint;
mod parse;
mod warning;
mod zone;

#[cfg(test)]
mod tests;

pub use describe::Language;
pub use error::CronError;
pub use expression::Expression;
pub use instants::DstRule;
pub use lint::{TIMING_LINTS, lint};
pub use warning::Lint;
pub use zone::{UnknownZone, find_zone};
