//! The meaning of a command's end for its task: the table of exit codes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use runner_core::function::{ExecLimits, ExecSpec};
use runner_sdk::{Bytes, Ctx, Outcome, TaskError};

use super::control::Control;
use crate::misconfigured::misconfigured;

/// The meaning of an exit status alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExitVerdict {
    Success,
    /// The command reports a temporary failure; the control file may set the delay.
    Later(String),
    Retry(String),
    /// Something that it needs is missing.
    Misconfigured(String),
    Fatal(String),
    Revoke(String),
}

/// How the error of a command begins that ended with an exit code.
const EXIT_CODE: &str = "exit code ";

/// The exit code in the error of a command that failed, if it has one.
#[must_use]
pub fn exit_code_in(error: &str) -> Option<u8> {
    let rest = error.strip_prefix(EXIT_CODE)?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .map_or(rest, |end| &rest[..end]);
    digits.parse().ok().filter(|code| *code != 0)
}

/// Looks up the status. The manifest's lists take precedence over the conventions of shells.
pub(crate) fn of(status: ExitStatus, spec: &ExecSpec) -> ExitVerdict {
    let codes = &spec.exit_codes;
    let Some(code) = status.code() else {
        return ExitVerdict::Retry(signal_text(status.signal().unwrap_or_default(), &spec.limits));
    };
    let text = format!("{EXIT_CODE}{code}");
    match code {
        _ if codes.success.contains(&code) => ExitVerdict::Success,
        _ if codes.revoke.contains(&code) => ExitVerdict::Revoke(text),
        _ if codes.fatal.contains(&code) => ExitVerdict::Fatal(text),
        _ if codes.retry.contains(&code) => ExitVerdict::Later(text),
        126 => ExitVerdict::Misconfigured(format!("{text} (found, but cannot be executed)")),
        127 => ExitVerdict::Misconfigured(format!("{text} (command not found)")),
        // How a shell reports a child that was killed.
        129..=192 => ExitVerdict::Retry(format!("{text} ({})", signal_text(code - 128, &spec.limits))),
        _ => ExitVerdict::Retry(text),
    }
}

/// A signal, with the limit that it stands for.
fn signal_text(signal: i32, limits: &ExecLimits) -> String {
    let used_up = match Signal::try_from(signal) {
        Ok(Signal::SIGXCPU) => limits
            .cpu_time
            .map(|time| format!("limits.cpu_time of {time:?} is used up")),
        Ok(Signal::SIGXFSZ) => {
            let size = limits.file_size;
            size.map(|bytes| format!("a file would be longer than limits.file_size of {bytes} bytes"))
        }
        _ => None,
    };
    match used_up {
        Some(limit) => format!("signal {signal}: {limit}"),
        None => format!("signal {signal}"),
    }
}

/// The outcome, with the command's own summary of its end.
pub(crate) fn outcome(
    verdict: ExitVerdict,
    control: &Control,
    summary: Option<String>,
    cx: &Ctx,
    result: impl FnOnce() -> Option<Bytes>,
) -> Result<Outcome, TaskError> {
    let with_reason = |text: String| match &summary {
        Some(summary) => format!("{text}: {summary}"),
        None => text,
    };
    match verdict {
        ExitVerdict::Success if control.revoke => {
            let reason = control.summary.clone();
            Err(TaskError::revoke(
                reason.unwrap_or_else(|| "revoked by the command".to_owned()),
            ))
        }
        ExitVerdict::Success => Ok(Outcome::Success(result())),
        ExitVerdict::Revoke(text) => Err(TaskError::revoke(with_reason(text))),
        ExitVerdict::Fatal(text) => Err(TaskError::skip(with_reason(text))),
        ExitVerdict::Retry(text) => Err(TaskError::retry(with_reason(text))),
        ExitVerdict::Misconfigured(text) => Err(misconfigured(with_reason(text), cx)),
        ExitVerdict::Later(text) => Err(match control.retry_after {
            Some(after) => TaskError::retry_after(after, with_reason(text)),
            None => TaskError::retry(with_reason(text)),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use std::time::Duration;

    use super::*;

    fn exited(code: i32) -> ExitVerdict {
        of(ExitStatus::from_raw(code << 8), &ExecSpec::new(["x"]))
    }

    #[test]
    fn the_table_of_exit_codes() {
        let text = |code| format!("exit code {code}");
        assert_eq!(
            (exit_code_in(&text(3)), exit_code_in("exit code 137 (signal 9)")),
            (Some(3), Some(137))
        );
        assert_eq!(
            [text(0), text(256), "exit code".into(), "signal 9".into()].map(|e| exit_code_in(&e)),
            [None; 4]
        );
        assert_eq!(exited(0), ExitVerdict::Success);
        assert_eq!(exited(75), ExitVerdict::Later(text(75)));
        for code in [64, 65, 77, 78] {
            assert_eq!(exited(code), ExitVerdict::Fatal(text(code)));
        }
        assert_eq!(exited(99), ExitVerdict::Revoke(text(99)));
        for code in [1, 2, 63, 66, 100, 128, 255] {
            assert_eq!(exited(code), ExitVerdict::Retry(text(code)));
        }
        for code in [126, 127] {
            assert!(matches!(exited(code), ExitVerdict::Misconfigured(t) if t.starts_with(&text(code))));
        }
        assert_eq!(exited(137), ExitVerdict::Retry("exit code 137 (signal 9)".into()));
        let killed = of(ExitStatus::from_raw(9), &ExecSpec::new(["x"]));
        assert_eq!(killed, ExitVerdict::Retry("signal 9".into()));
    }

    #[test]
    fn the_signal_of_a_limit_names_it() {
        let mut spec = ExecSpec::new(["x"]);
        spec.limits.cpu_time = Some(Duration::from_secs(2));
        spec.limits.file_size = Some(1024);
        for (status, says) in [
            (24, "signal 24: limits.cpu_time of 2s"),
            ((128 + 25) << 8, "exit code 153 (signal 25: a file would be longer"),
        ] {
            let ExitVerdict::Retry(text) = of(ExitStatus::from_raw(status), &spec) else {
                panic!("{says}");
            };
            assert!(text.starts_with(says), "{text}");
        }
    }

    #[test]
    fn a_manifest_can_override_the_conventions() {
        let mut spec = ExecSpec::new(["x"]);
        spec.exit_codes.success = vec![0, 3, 127];
        for code in [0, 3, 127] {
            assert_eq!(of(ExitStatus::from_raw(code << 8), &spec), ExitVerdict::Success);
        }
    }
}
