//! Follows a run: prints what it prints, each attempt once, until its task has ended for good.

use std::time::Duration;

use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState};
use runner_queue::{Broker, LiveRun};

use super::print;

/// How often a run that continues is looked at; its worker writes its view once a second.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Prints until the task has ended for good; returns how, unless it was deleted.
///
/// # Errors
///
/// Those of the broker, and an output that cannot be written.
#[allow(clippy::disallowed_methods)] // pauses between looks: brokers do not announce output
pub(super) async fn follow(
    broker: &dyn Broker,
    queue: &QueueName,
    id: &TaskId,
) -> anyhow::Result<Option<AttemptOutcome>> {
    let mut shown = Shown::default();
    loop {
        let Some(task) = broker.glance(queue, id).await? else {
            return match broker.run(queue, id).await? {
                Some(record) if record.attempt > shown.ended => {
                    print_text(shown.rest(record.output.as_deref().unwrap_or_default()))?;
                    ended(record.attempt, record.outcome, record.error.as_deref());
                    Ok(Some(record.outcome))
                }
                Some(record) => Ok(Some(record.outcome)),
                None => Ok(shown.outcome),
            };
        };
        for attempt in broker.attempts(queue, id).await? {
            if attempt.number > shown.ended {
                print_text(shown.rest(attempt.log.as_deref().unwrap_or_default()))?;
                ended(attempt.number, attempt.outcome, attempt.error.as_deref());
                shown = Shown {
                    ended: attempt.number,
                    outcome: Some(attempt.outcome),
                    window: String::new(),
                };
            }
        }
        if matches!(task.state, TaskState::Completed | TaskState::Archived) {
            return Ok(shown.outcome);
        }
        if let Some(live) = LiveRun::of(broker, &task).await? {
            print_text(shown.rest(&live.output))?;
            shown.window = live.output;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What was printed of a run that continues.
#[derive(Default)]
struct Shown {
    /// The last attempt that has ended and was printed whole.
    ended: u32,
    /// How it ended.
    outcome: Option<AttemptOutcome>,
    /// What the last look at the next one showed: the end of its output.
    window: String,
}

impl Shown {
    /// The part of `text` that comes after what was printed. Both are ends of one growing text, so the longest overlap is right
    /// unless the text repeats itself for longer than a window.
    fn rest<'a>(&self, text: &'a str) -> &'a str {
        if let Some(at) = text.find(&self.window) {
            return &text[at + self.window.len()..];
        }
        let starts = self.window.char_indices().map(|(at, _)| &self.window[at..]);
        starts
            .into_iter()
            .find_map(|end| text.strip_prefix(end))
            .unwrap_or(text)
    }
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
        let rest = |window: &str, text: &'static str| {
            let window = window.to_owned();
            Shown {
                window,
                ..Shown::default()
            }
            .rest(text)
        };
        assert_eq!(rest("", "a\nb\n"), "a\nb\n");
        assert_eq!(rest("a\n", "a\nb\n"), "b\n");
        assert_eq!(rest("a\nb\n", "a\nb\n"), "");
        // The window has moved on.
        assert_eq!(rest("a\nb\nc\n", "b\nc\nd\n"), "d\n");
        assert_eq!(rest("é\nü\n", "ü\nd\n"), "d\n");
        // Nothing in common: more was printed between two looks than a window holds.
        assert_eq!(rest("a\n", "x\ny\n"), "x\ny\n");
    }
}
