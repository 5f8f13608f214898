//! Follows a run: prints what it prints, each attempt once, until its task has ended for good.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState};
use runner_queue::{Broker, BrokerError, LiveRun, TaskInfo};
use tokio::time::Instant;

use super::print;
use crate::run_output;

/// How often a run that continues is looked at; its worker writes its view once a second.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a broker that does not answer is asked again: the run continues meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints until the task has ended for good; returns how, unless nothing is known of it.
///
/// # Errors
///
/// Those of a broker that stays away, and an output that cannot be written.
#[allow(clippy::disallowed_methods)] // pauses between looks: brokers do not announce output
pub(super) async fn follow(
    broker: &dyn Broker,
    queue: &QueueName,
    id: &TaskId,
) -> anyhow::Result<Option<AttemptOutcome>> {
    let mut follower = Follower {
        broker,
        queue,
        id,
        shown: Shown::default(),
    };
    let mut failing: Option<Instant> = None;
    loop {
        match follower.look().await {
            Ok(Look::Ended(outcome)) => return Ok(outcome),
            Ok(Look::Continues) => failing = None,
            Err(error) if error.is::<BrokerError>() => match failing {
                Some(since) if since.elapsed() > PATIENCE => return Err(error),
                Some(_) => {}
                None => {
                    print::note(&format!("{error}; it is asked again"));
                    failing = Some(Instant::now());
                }
            },
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What a look has found.
enum Look {
    Continues,
    /// How, if it is known.
    Ended(Option<AttemptOutcome>),
}

struct Follower<'a> {
    broker: &'a dyn Broker,
    queue: &'a QueueName,
    id: &'a TaskId,
    shown: Shown,
}

impl Follower<'_> {
    async fn look(&mut self) -> anyhow::Result<Look> {
        let Some(task) = self.broker.glance(self.queue, self.id).await? else {
            return self.gone().await;
        };
        let has_log = self.print_attempts().await?;
        // The state says how it ended: a successful attempt is not always kept.
        let outcome = match task.state {
            TaskState::Completed => AttemptOutcome::Success,
            TaskState::Archived => AttemptOutcome::Archived,
            _ => {
                if let Some(live) = LiveRun::of(self.broker, &task).await? {
                    print_rest(&self.shown.window, &live.output)?;
                    self.shown.window = live.output;
                }
                return Ok(Look::Continues);
            }
        };
        if !has_log {
            print_text(&result_of(&task))?;
        }
        Ok(Look::Ended(Some(outcome)))
    }

    /// Prints what is left of the attempts that have ended; whether the last one has a log.
    async fn print_attempts(&mut self) -> anyhow::Result<bool> {
        let attempts = self.broker.attempts(self.queue, self.id).await?;
        for attempt in &attempts {
            // Not by their numbers: one that was handed back or snoozed has the number of the next.
            if self.shown.until.is_some_and(|until| attempt.started_at <= until) {
                continue;
            }
            print_rest(&self.shown.window, attempt.log.as_deref().unwrap_or_default())?;
            ended(attempt.number, attempt.outcome, attempt.error.as_deref());
            self.shown = Shown {
                until: Some(attempt.started_at),
                window: String::new(),
            };
        }
        Ok(attempts.last().is_some_and(|last| last.log.is_some()))
    }

    /// The record of a task that is gone, if there is one.
    async fn gone(&mut self) -> anyhow::Result<Look> {
        let Some(record) = self.broker.run(self.queue, self.id).await? else {
            return Ok(Look::Ended(None));
        };
        if self.shown.until.is_none_or(|until| record.started_at > until) {
            let output = run_output::of(self.broker, &record).await?;
            print_rest(&self.shown.window, output.as_deref().unwrap_or_default())?;
            ended(record.attempt, record.outcome, record.error.as_deref());
        }
        Ok(Look::Ended(Some(record.outcome)))
    }
}

/// What was printed.
#[derive(Default)]
struct Shown {
    /// When the last attempt began that was printed whole.
    until: Option<Timestamp>,
    /// What the last look at the next one showed: the end of its output.
    window: String,
}

/// What a task returned, which is the output of functions that print nothing.
pub(super) fn result_of(task: &TaskInfo) -> String {
    let result = task.result.as_deref().unwrap_or_default();
    String::from_utf8_lossy(result).into_owned()
}

fn print_rest(window: &str, text: &str) -> anyhow::Result<()> {
    match rest(window, text) {
        Some(rest) => print_text(rest),
        None => {
            print::note("more was printed than is kept: what follows is not all");
            print_text(text)
        }
    }
}

/// The part of an output that comes after what was printed of it, `window`. Both are ends of one growing text, of which the
/// middle may be left out; `None` if they have nothing in common.
fn rest<'a>(window: &str, text: &'a str) -> Option<&'a str> {
    if let Some(at) = text.find(window) {
        return Some(&text[at + window.len()..]);
    }
    let mut ends = window.char_indices().map(|(at, _)| &window[at..]);
    if let Some(rest) = ends.find_map(|end| text.strip_prefix(end)) {
        return Some(rest);
    }
    // The beginning of the text is older than the window: its last line is searched.
    let line = window
        .trim_end_matches('\n')
        .rfind('\n')
        .map_or(window, |at| &window[at + 1..]);
    let at = text.rfind(line).filter(|_| !line.trim().is_empty())?;
    Some(&text[at + line.len()..])
}

/// Prints an output, with a line feed at its end.
pub(super) fn print_text(text: &str) -> anyhow::Result<()> {
    match text {
        "" => Ok(()),
        text if text.ends_with('\n') => Ok(print::text(text)?),
        text => Ok(print::text(&format!("{text}\n"))?),
    }
}

/// Says on standard error how an attempt ended.
pub(super) fn ended(attempt: u32, outcome: AttemptOutcome, error: Option<&str>) {
    let error = error.map_or_else(String::new, |error| format!(": {error}"));
    print::note(&format!("attempt {attempt} ended: {outcome}{error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_output_is_printed_once() {
        assert_eq!(rest("", "a\nb\n"), Some("a\nb\n"));
        assert_eq!(rest("a\n", "a\nb\n"), Some("b\n"));
        assert_eq!(rest("a\nb\n", "a\nb\n"), Some(""));
        // The window has moved on.
        assert_eq!(rest("a\nb\nc\n", "b\nc\nd\n"), Some("d\n"));
        assert_eq!(rest("é\nü\n", "ü\nd\n"), Some("d\n"));
        // The middle is left out of the whole.
        assert_eq!(
            rest("line 8\nline 9\n", "line 1\n[50 bytes left out]\nline 9\nline 10\n"),
            Some("line 10\n")
        );
        // Nothing in common: more was printed between two looks than a window holds.
        assert_eq!(rest("a1\n", "x\ny\n"), None);
    }
}
