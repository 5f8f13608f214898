//! The control file: how a command reports details of its end besides the exit code, leaving its output free.
//!
//! Lines of `key=value`: `retry_after=30s`, `outcome=revoke`, `summary=12 invoices`, `progress=0.4`.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use runner_core::duration;
use runner_sdk::Ctx;
use tokio::time::MissedTickBehavior;

use super::output::{read_file, read_plain};
use crate::MAX_RETRY_AFTER;
use crate::secret::Secrets;

/// Maximum bytes read: it holds a handful of short lines.
const MAX_BYTES: usize = 64 * 1024;

/// Maximum bytes of the words beside a progress.
const MAX_NOTE: usize = 200;

/// The content of a control file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Control {
    /// How long to wait before the next attempt; at most [`MAX_RETRY_AFTER`].
    pub(super) retry_after: Option<Duration>,
    /// There is nothing left to do.
    pub(super) revoke: bool,
    /// One line for people.
    pub(super) summary: Option<String>,
    /// How far it is, from 0 to 1, and that in words.
    progress: Option<(f64, String)>,
}

/// How often the file of a running command is looked at for its progress.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reports the progress that a running command writes, until this is dropped.
pub(super) async fn follow(path: &Path, secrets: &Secrets, cx: &Ctx) -> Infallible {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        ticks.tick().await;
        let found = path.symlink_metadata().ok();
        let state = found.map(|found| (found.len(), found.modified().ok()));
        if state == seen {
            continue;
        }
        seen = state;
        // What cannot be read now is reported at the end.
        if let Ok(Some(bytes)) = read_plain(path, MAX_BYTES) {
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
            let text = String::from_utf8_lossy(&secrets.redact(&bytes[..whole])).into_owned();
            Control::parse(&text).0.report_progress(cx);
        }
    }
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
        control.report_progress(cx);
        if let Some(summary) = &control.summary {
            cx.log().push("log", &format!("summary: {summary}"));
        }
        control
    }

    /// Reports its progress, unless that is known.
    fn report_progress(&self, cx: &Ctx) {
        if let Some((done, note)) = &self.progress {
            let known = cx.last_progress();
            if known.is_none_or(|known| known.done != *done || known.note != *note) {
                cx.progress(*done, note);
            }
        }
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
                ("progress", value) => match progress(value) {
                    Some(progress) => control.progress = Some(progress),
                    None => problems.push(format!(
                        "progress must be a number from 0 to 1 or a percentage, and a note after it if you like, found `{value}`"
                    )),
                },
                (key, _) => problems.push(format!(
                    "`{key}` is not known; known: retry_after, outcome, summary, progress"
                )),
            }
        }
        (control, problems)
    }
}

/// `0.4`, `40%`, `0.4 third of five files`.
fn progress(value: &str) -> Option<(f64, String)> {
    let (number, note) = value.split_once(' ').unwrap_or((value, ""));
    let done: f64 = match number.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => number.parse().ok()?,
    };
    let note = note.trim();
    let note = &note[..note.floor_char_boundary(MAX_NOTE)];
    (0.0..=1.0).contains(&done).then(|| (done, note.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_sdk::Registry;
    use runner_sdk::testing::Trial;

    use super::*;

    #[tokio::test]
    async fn the_progress_of_a_running_command_is_seen() {
        async fn command(cx: Ctx) {
            let file = tempfile::NamedTempFile::new().unwrap();
            // The last line is being written.
            std::fs::write(file.path(), "progress=25% first\nprogress=0.9").unwrap();
            let secrets = Secrets::default();
            let seen = async {
                while cx.last_progress().is_none() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                never = follow(file.path(), &secrets, &cx) => match never {},
                in_time = tokio::time::timeout(Duration::from_secs(20), seen) => in_time.unwrap(),
            }
        }
        let report = Trial::of("it").run(Registry::new().on("it", command)).await.unwrap();
        let progress = report.progress.unwrap();
        assert_eq!((progress.done, progress.note.as_str()), (0.25, "first"));
    }

    #[test]
    fn progress_is_a_part_or_a_percentage() {
        for (text, expected) in [
            ("0.25", Some((0.25, ""))),
            ("25%", Some((0.25, ""))),
            ("1 done", Some((1.0, "done"))),
            ("50%  two of four", Some((0.5, "two of four"))),
            ("1.5", None),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            assert_eq!(
                progress(text),
                expected.map(|(done, note)| (done, note.to_owned())),
                "{text}"
            );
        }
    }

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
