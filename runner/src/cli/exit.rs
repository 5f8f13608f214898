//! How a command ends when it fails: the exit code, and one line with the reason.
//!
//! Codes are those of `sysexits.h` where it has one, so that service managers and scripts can tell them apart.

use std::process::ExitCode;

use runner_core::schedule::Problem;
use runner_queue::{ActionError, BrokerError};

use super::print::{self, Unwritten};
use crate::config::{AccessError, Refused};
use crate::log::LogError;
use crate::upkeep::broker_setup::UnsafeBroker;

/// The work was not done: an id that does not exist, a refused task.
pub const FAILURE: u8 = 1;
/// The command line is invalid.
pub const USAGE: u8 = 2;
/// The input of the command is invalid: manifests, expressions, payloads.
pub const BAD_DATA: u8 = 65;
/// A store or an address cannot be used now.
pub const UNAVAILABLE: u8 = 69;
/// Standard output cannot be written; the command did its work.
pub const NOT_WRITTEN: u8 = 74;
/// The settings cannot be used.
pub const BAD_CONFIG: u8 = 78;

/// Marks an error whose cause is outside and may pass.
#[derive(Debug, thiserror::Error)]
#[error("unavailable")]
pub struct Unavailable;

/// An input of the command is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadData(pub String);

/// The same with an explanation of several lines, in which control characters are already replaced.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Explained(pub String);

/// Options that do not go together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The settings of the store cannot be used, or the store may lose tasks and the settings do not allow that.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadStore(pub String);

/// A signal of this number ended the command before it was done.
#[derive(Debug, thiserror::Error)]
#[error("stopped by signal {0}")]
pub struct Stopped(pub i32);

/// A command that was waited for failed with this exit code.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct CommandFailed {
    /// Its exit code, not 0.
    pub code: u8,
    /// What to say.
    pub why: String,
}

/// The findings have been printed; only the exit code is left.
#[derive(Debug, thiserror::Error)]
#[error("{0} problems")]
pub struct ProblemsFound(pub usize);

/// The faults of the installation have been printed; only the exit code is left.
#[derive(Debug, thiserror::Error)]
#[error("{0} faults")]
pub struct FaultsFound(pub usize);

/// Prints why on standard error and yields the code.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) || error.is::<ProblemsFound>() || error.is::<FaultsFound>() {
        return ExitCode::from(code(error));
    }
    match error.downcast_ref::<Refused>() {
        Some(Refused(problems)) => problems.iter().for_each(|p| print::notes(&problem(p).lines())),
        None if error.is::<Explained>() => print::notes(&format!("error: {error}")),
        None => print::note(&format!("error: {}", line(error))),
    }
    ExitCode::from(code(error))
}

/// The causes in one line, without the marker, and without a cause that only repeats the one before it.
pub fn line(error: &anyhow::Error) -> String {
    let causes = error.chain().filter(|e| !e.is::<Unavailable>());
    let mut causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}

/// A problem of a setting, a manifest or a row, as it is printed.
pub fn problem(problem: &Problem) -> print::Finding<'_> {
    print::Finding {
        place: &problem.place,
        code: &problem.code,
        message: &problem.message,
        excerpt: problem.excerpt.as_deref(),
        hint: problem.hint.as_deref(),
    }
}

/// A reader that closed the pipe, such as `head`, is not a failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Unwritten::is_closed_pipe)
}

fn code(error: &anyhow::Error) -> u8 {
    if let Some(Stopped(signal)) = error.downcast_ref() {
        // As a shell reports a command that a signal killed.
        u8::try_from(128 + signal).unwrap_or(FAILURE)
    } else if let Some(CommandFailed { code, .. }) = error.downcast_ref() {
        *code
    } else if is_closed_pipe(error) {
        0
    } else if error.is::<Unwritten>() {
        NOT_WRITTEN
    } else if error.is::<Usage>() {
        USAGE
    } else if error.is::<BadData>() || error.is::<Explained>() || error.is::<ProblemsFound>() {
        BAD_DATA
    } else if error.is::<Unavailable>() || error.is::<BrokerError>() {
        UNAVAILABLE
    } else if error.is::<BadStore>()
        || error.is::<UnsafeBroker>()
        || error.is::<Refused>()
        || error.is::<LogError>()
        || error.is::<AccessError>()
    {
        BAD_CONFIG
    } else {
        FAILURE
    }
}

/// The error with the exit code that belongs to it.
pub(super) fn refused(error: ActionError) -> anyhow::Error {
    match error {
        ActionError::Broker(error) => error.into(),
        never @ ActionError::Never { .. } => Usage(never.to_string()).into(),
        ActionError::Invalid(invalid) => BadData(invalid.to_string()).into(),
        refused => refused.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use std::io;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let unwritten = |kind: io::ErrorKind| Unwritten::from(io::Error::from(kind));
        for (error, expected) in [
            (anyhow!("no task a in queue b"), 1),
            (Usage("x".into()).into(), 2),
            (BadData("x".into()).into(), 65),
            (ProblemsFound(3).into(), 65),
            (anyhow::Error::new(Stopped(2)).context("left behind"), 130),
            (anyhow::Error::new(Unavailable).context("address in use"), 69),
            (Refused(Vec::new()).into(), 78),
            (BadStore("x".into()).into(), 78),
            (unwritten(io::ErrorKind::BrokenPipe).into(), 0),
            (
                anyhow::Error::new(unwritten(io::ErrorKind::StorageFull)).context("writing"),
                74,
            ),
            // A broken connection is not a closed standard output.
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), 1),
        ] {
            assert_eq!(code(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn the_marker_is_not_printed() {
        let error = anyhow::Error::new(Unavailable)
            .context("refused")
            .context("cannot listen");
        assert_eq!(line(&error), "cannot listen: refused");
    }
}
