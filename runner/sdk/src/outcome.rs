//! What a handler returns: an outcome for the worker to act on, and the error that `?` makes in a handler.
//!
//! An `Outcome` is what the handler wants, with its data. How the attempt ended is `runner_core::task::AttemptOutcome`,
//! one word for stores, metrics and pages: attempts also end without an outcome, by a panic, a deadline or a lost lease.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use runner_core::chain::chain;
use serde::Serialize;

/// What should happen to a task, as its handler decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done. The result is kept with the task for its retention.
    Success(Option<Bytes>),
    /// Failed; retry after the task's usual delay, while it has retries left.
    Retry(String),
    /// Failed; retry after this delay instead of the usual one, while the task has retries left. For a server that says
    /// when to try again.
    RetryAfter {
        /// How long to wait. The worker waits at least 1 s and at most 90 days.
        after: Duration,
        /// What was wrong.
        error: String,
    },
    /// Failed, and trying again cannot help: archived at once.
    Skip(String),
    /// Not a failure, but too early: run again after this delay, without using a retry.
    Snooze {
        /// How long to wait.
        delay: Duration,
    },
    /// Nothing left to do: the task is removed, neither retried nor archived.
    Revoke(String),
}

impl Outcome {
    /// Done, with a result.
    #[must_use]
    pub fn success(result: impl Into<Bytes>) -> Self {
        Self::Success(Some(result.into()))
    }

    /// Done, without a result.
    #[must_use]
    pub fn done() -> Self {
        Self::Success(None)
    }
}

/// Why a handler gave up, and what should happen next.
///
/// `?` converts every error into one that is retried, with its causes: standard errors, `anyhow::Error`, `eyre::Report`, boxed
/// errors and texts. [`ResultExt`] selects the other endings. Like the error types of other programs it does not implement
/// [`std::error::Error`] itself: that is what makes the conversion possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError(Outcome);

impl TaskError {
    /// Try again after the usual delay.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self(Outcome::Retry(error.to_string()))
    }

    /// Retry after this delay instead of the usual one; uses a retry like any failure.
    pub fn retry_after(after: Duration, error: impl fmt::Display) -> Self {
        let error = error.to_string();
        Self(Outcome::RetryAfter { after, error })
    }

    /// Trying again cannot help.
    pub fn skip(error: impl fmt::Display) -> Self {
        Self(Outcome::Skip(error.to_string()))
    }

    /// There is nothing left to do.
    pub fn revoke(reason: impl fmt::Display) -> Self {
        Self(Outcome::Revoke(reason.to_string()))
    }

    /// Too early; run again after this delay, without using a retry.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        Self(Outcome::Snooze { delay })
    }

    /// Converts to an outcome.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        self.0
    }

    fn into_text(self) -> String {
        match self.0 {
            Outcome::Retry(text) | Outcome::Skip(text) | Outcome::Revoke(text) => text,
            Outcome::RetryAfter { error, .. } => error,
            Outcome::Snooze { .. } | Outcome::Success(_) => String::new(),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Outcome::Retry(text) | Outcome::Skip(text) | Outcome::Revoke(text) => f.write_str(text),
            Outcome::RetryAfter { error, .. } => f.write_str(error),
            Outcome::Snooze { delay } => write!(f, "snoozed for {delay:?}"),
            Outcome::Success(_) => f.write_str("success"),
        }
    }
}

/// Whatever can be boxed: that is more than implements [`Error`], and `anyhow` and `eyre` keep their causes.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self(Outcome::Retry(chain(error.into().as_ref())))
    }
}

/// Selects what an error means for the task, where `?` alone means "try again".
pub trait ResultExt<T> {
    /// Trying again cannot help.
    ///
    /// # Errors
    ///
    /// The error, as [`TaskError::skip`].
    fn skip_retry(self) -> Result<T, TaskError>;

    /// Retry after this delay instead of the usual one; uses a retry like any failure.
    ///
    /// # Errors
    ///
    /// The error, as [`TaskError::retry_after`].
    fn retry_after(self, after: Duration) -> Result<T, TaskError>;

    /// There is nothing left to do.
    ///
    /// # Errors
    ///
    /// The error, as [`TaskError::revoke`].
    fn revoke(self) -> Result<T, TaskError>;
}

impl<T, E: Into<TaskError>> ResultExt<T> for Result<T, E> {
    fn skip_retry(self) -> Result<T, TaskError> {
        self.map_err(|e| TaskError::skip(e.into().into_text()))
    }

    fn retry_after(self, after: Duration) -> Result<T, TaskError> {
        self.map_err(|e| TaskError::retry_after(after, e.into().into_text()))
    }

    fn revoke(self) -> Result<T, TaskError> {
        self.map_err(|e| TaskError::revoke(e.into().into_text()))
    }
}

/// A result that is stored as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The return type of a handler.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return (), String, Bytes, Json<T>, Outcome, or a Result of one of these and any error (also anyhow's or eyre's)"
)]
pub trait IntoOutcome {
    /// Converts to an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::done()
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for Bytes {
    fn into_outcome(self) -> Outcome {
        Outcome::Success(Some(self))
    }
}

impl IntoOutcome for Vec<u8> {
    fn into_outcome(self) -> Outcome {
        Outcome::success(self)
    }
}

impl IntoOutcome for String {
    fn into_outcome(self) -> Outcome {
        Outcome::success(self)
    }
}

impl IntoOutcome for &'static str {
    fn into_outcome(self) -> Outcome {
        Outcome::success(self)
    }
}

impl<T: Serialize> IntoOutcome for Json<T> {
    fn into_outcome(self) -> Outcome {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Outcome::success(bytes),
            // The work is done; only its description is lost. A retry would do the work twice.
            Err(error) => Outcome::Skip(format!("the result cannot be written as JSON: {error}")),
        }
    }
}

impl<T: IntoOutcome, E: Into<TaskError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => error.into().into_outcome(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot send")]
    struct Outer(#[source] std::io::Error);

    fn failed() -> Result<(), Outer> {
        Err(Outer(std::io::Error::other("line is busy")))
    }

    #[test]
    fn an_error_made_by_a_question_mark_is_tried_again_and_names_its_causes() {
        fn work() -> Result<(), TaskError> {
            failed()?;
            Ok(())
        }
        let expected = Outcome::Retry("cannot send: line is busy".into());
        assert_eq!(work().into_outcome(), expected);
        assert_eq!(failed().into_outcome(), expected);
    }

    #[test]
    fn errors_that_are_no_standard_errors_keep_their_causes() {
        use anyhow::Context as _;
        let anyhow = || failed().context("greeting");
        let expected = Outcome::Retry("greeting: cannot send: line is busy".into());
        assert_eq!(anyhow().into_outcome(), expected);
        let work = || -> Result<(), TaskError> { Ok(anyhow()?) };
        assert_eq!(work().into_outcome(), expected);
        let skipped = Outcome::Skip("greeting: cannot send: line is busy".into());
        assert_eq!(anyhow().skip_retry().into_outcome(), skipped);
        let boxed: Result<(), Box<dyn Error + Send + Sync>> = Err("boxed".into());
        assert_eq!(boxed.into_outcome(), Outcome::Retry("boxed".into()));
        assert_eq!(Err::<(), _>("text").into_outcome(), Outcome::Retry("text".into()));
    }

    #[test]
    fn a_cause_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot send: {0}")]
        struct Wordy(#[source] std::io::Error);
        let error = TaskError::from(Wordy(std::io::Error::other("busy")));
        assert_eq!(error.to_string(), "cannot send: busy");
    }

    #[test]
    fn the_other_ends_are_named() {
        let text = "cannot send: line is busy".to_owned();
        let after = Duration::from_secs(9);
        assert_eq!(failed().skip_retry().into_outcome(), Outcome::Skip(text.clone()));
        assert_eq!(failed().revoke().into_outcome(), Outcome::Revoke(text.clone()));
        let error = text;
        assert_eq!(
            failed().retry_after(after).into_outcome(),
            Outcome::RetryAfter { after, error }
        );
        let again: Result<(), TaskError> = Err(TaskError::retry("x"));
        assert_eq!(again.skip_retry().into_outcome(), Outcome::Skip("x".into()));
    }

    #[test]
    fn results_are_stored_as_bytes() {
        let json: Result<_, TaskError> = Ok(Json(vec![1, 2]));
        assert_eq!(json.into_outcome(), Outcome::success("[1,2]"));
        assert_eq!(().into_outcome(), Outcome::Success(None));
        assert_eq!("a".into_outcome(), Outcome::success("a"));
        let odd = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Json(odd).into_outcome(), Outcome::Skip(_)));
    }
}
