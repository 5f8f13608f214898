//! An error with all its causes in one line.

use std::error::Error;

/// `message: cause: cause of the cause`. A message never repeats its source, so whoever prints, prints the chain.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |e| (*e).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
