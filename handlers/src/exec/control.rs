//! The control file: how a command reports details of its end besides the exit code, leaving its output free.
//!
//! Lines of `key=value`: `retry_after=30s`, `outcome=revoke`, `summary=12 invoices`, `progress=0.4`.

use std::path::Path;
use std::time::Duration;

use runner_core::duration;
use runner_sdk::Ctx;

use super::output::read_file;
use crate::MAX_RETRY_AFTER;
use crate::secret::Secrets;

/// Maximum bytes read: it holds a handful of short lines.
const MAX_BYTES: usize = 64 * 1024;

/// The content of a control file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// How long to wait before the next attempt; at most [`MAX_RETRY_AFTER`].
    pub(super) retry_after: Option<Duration>,
    /// There is nothing left to do.
    pub(super) revoke: bool,
    /// One line for people.
    pub(super) summary: Option<String>,
}

impl Control {
    /// Reads the file, if the command left one. Unusable lines are reported in the log.
    pub(super) fn read(path: &Path, secrets: &Secrets, cx: &Ctx) -> Self {
        let Some(bytes) = read_file(path, MAX_BYTES, cx) else {
            return Self::default();
        };
        let text = String::from_utf8_lossy(&secrets.redact(&bytes)).into_owned();
        let (control, problems) = Self::parse(&text);
        for problem in problems {
            cx.log().push("log", &format!("control file: {problem}"));
        }
        if let Some(summary) = &control.summary {
            cx.log().push("log", &format!("summary: {summary}"));
        }
        control
    }

    fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut control, mut problems) = (Self::default(), Vec::new());
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            match (key.trim(), value.trim()) {
                ("retry_after", value) => match duration::parse(value) {
                    Ok(after) => control.retry_after = Some(after.min(MAX_RETRY_AFTER)),
                    Err(error) => problems.push(format!("retry_after: {error}")),
                },
                ("outcome", "revoke") => control.revoke = true,
                ("outcome", value) => {
                    problems.push(format!("outcome `{value}` is not known; only revoke is"));
                }
                ("summary", value) => control.summary = Some(value.to_owned()),
                ("progress", _) => {}
                (key, _) => problems.push(format!(
                    "`{key}` is not known; known: retry_after, outcome, summary, progress"
                )),
            }
        }
        (control, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_how_the_run_ends_and_reports_unusable_lines() {
        let text = "retry_after = 30s\n\noutcome=revoke\nsummary=a=b\nprogress=0.5\n";
        let (control, problems) = Control::parse(text);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(control.retry_after, Some(Duration::from_secs(30)));
        assert!(control.revoke);
        assert_eq!(control.summary.as_deref(), Some("a=b"));
        let (control, problems) = Control::parse("retry_after=soon\noutcome=ok\nx\n");
        assert_eq!(control, Control::default());
        assert_eq!(problems.len(), 3);
        let (control, _) = Control::parse("retry_after=400w");
        assert_eq!(control.retry_after, Some(MAX_RETRY_AFTER));
    }
}
