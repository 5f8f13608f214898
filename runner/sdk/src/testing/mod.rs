//! Helpers for tests of handlers, without a broker and a worker: [`Trial`] runs one attempt, [`TestQueue`] a whole queue by a
//! clock that the test moves.

mod attempt;
mod queue;
mod table;
mod trial;

pub use queue::TestQueue;
pub use table::{TestAttempt, TestTask};
pub use trial::{Trial, TrialError, TrialReport};
