//! Searches the tasks of all queues in one state for a type, a text or an error, within a budget: a part of the tasks at a
//! time, and the answer says which part.
//!
//! Not here: what a page shows of a task, and what is done with those that were found.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Broker, BrokerResult, Page, QueueInfo, TaskInfo};
use serde::Serialize;

/// Tasks that are read with one call.
const PORTION: usize = 250;
/// Portions read for one part: 5,000 tasks, with up to 2 KB of the payload of each.
const PORTIONS: usize = 20;
/// Calls at once: each keeps a server busy for some milliseconds.
const AT_ONCE: usize = 4;
/// The most parts of a search; a number beyond it is a mistake.
pub const LAST_PART: usize = 1_000_000;
/// Error groups that are named.
const GROUPS: usize = 8;
/// Characters of an error that tell it from others.
const LONGEST_ERROR: usize = 120;

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only in this queue.
    pub queue: Option<QueueName>,
    /// A part of the type, in any case of letters.
    pub kind: String,
    /// A part of the id, the type, the payload or the error, in any case of letters.
    pub text: String,
    /// An error without its numbers, see [`error_group`].
    pub error: String,
    /// Only those that ended, failed or are due at or after this instant.
    pub from: Option<Timestamp>,
    /// The same, before this one.
    pub to: Option<Timestamp>,
}

impl TaskFilter {
    /// Whether every task fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Self {
            queue: None,
            ..self.clone()
        } == Self::default()
    }

    /// Whether this task is looked for.
    #[must_use]
    pub fn fits(&self, task: &TaskInfo) -> bool {
        let record = &task.record;
        let within = |at: Option<Timestamp>| {
            self.from.is_none_or(|from| at.is_some_and(|at| at >= from))
                && self.to.is_none_or(|to| at.is_some_and(|at| at < to))
        };
        contains(&record.kind, &self.kind)
            && within(instant_of(task))
            && (self.error.is_empty() || error_group(&record.last_error) == self.error)
            && self.has_text(task)
    }

    fn has_text(&self, task: &TaskInfo) -> bool {
        let record = &task.record;
        if self.text.is_empty() {
            return true;
        }
        let payload = || {
            let payload = String::from_utf8_lossy(&record.payload);
            // Many programs write JSON with everything but ASCII escaped.
            contains(&payload, &self.text) || payload.contains("\\u") && contains(&payload, &escaped(&self.text))
        };
        [record.id.as_str(), &record.kind, &record.last_error]
            .iter()
            .any(|text| contains(text, &self.text))
            || payload()
    }
}

fn contains(text: &str, needle: &str) -> bool {
    needle.is_empty() || text.to_lowercase().contains(&needle.to_lowercase())
}

/// A text as JSON escapes what is not ASCII.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out += &format!("\\u{unit:04x}");
        }
    }
    out
}

/// The instant that matters in the state of a task.
#[must_use]
pub fn instant_of(task: &TaskInfo) -> Option<Timestamp> {
    match task.state {
        TaskState::Scheduled | TaskState::Retry => task.next_run,
        TaskState::Pending => task.pending_since,
        TaskState::Active => task.lease_until,
        TaskState::Archived => task.filed_at.or(task.record.last_failed_at),
        TaskState::Completed => task.record.completed_at,
        TaskState::Aggregating => None,
    }
}

/// An error without what differs from task to task: its first line, with `#` for numbers and ids and `…` for what is quoted.
#[must_use]
pub fn error_group(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let mut out = String::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' || c == '\'' {
            let mut inside = String::new();
            let mut closed = false;
            for next in rest.by_ref() {
                if next == c {
                    closed = true;
                    break;
                }
                inside.push(next);
            }
            out.push(c);
            if closed {
                out.push('…');
                out.push(c);
            } else {
                out.push_str(&inside);
            }
        } else if c.is_ascii_alphanumeric() {
            let mut word = String::from(c);
            while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric()) {
                word.push(next);
            }
            let number = word.bytes().all(|b| b.is_ascii_digit());
            let hex = word.len() >= 4 && word.bytes().all(|b| b.is_ascii_hexdigit());
            if number || hex && word.bytes().any(|b| b.is_ascii_digit()) {
                out.push('#');
            } else {
                out.push_str(&word);
            }
        } else {
            out.push(c);
        }
    }
    out.chars().take(LONGEST_ERROR).collect::<String>().trim().to_owned()
}

/// Tasks with the same error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorGroup {
    /// See [`error_group`].
    pub error: String,
    /// How many of the tasks that were searched.
    pub n: usize,
}

/// One part of a search.
#[derive(Debug, Default)]
pub struct TasksFound {
    /// Those that fit, in no order.
    pub tasks: Vec<TaskInfo>,
    /// How many were searched in this part and those before it.
    pub searched: u64,
    /// How many there are in this state.
    pub all: u64,
    /// Whether there are further parts.
    pub more: bool,
    /// Stored tasks that cannot be read.
    pub unreadable: usize,
    /// The most frequent errors of those that were searched in this part.
    pub errors: Vec<ErrorGroup>,
}

/// Searches part `part` (counted from 1) of the tasks in `state`. Parts take turns among the queues, so that the first one
/// has the beginning of each list.
///
/// # Errors
///
/// Those of the broker.
pub async fn search(
    broker: &dyn Broker,
    queues: &[QueueInfo],
    state: TaskState,
    filter: &TaskFilter,
    part: usize,
) -> BrokerResult<TasksFound> {
    let count = |queue: &QueueInfo| queue.counts.get(&state).copied().unwrap_or_default();
    let chosen: Vec<(&QueueInfo, u64)> = queues
        .iter()
        .filter(|queue| filter.queue.as_ref().is_none_or(|name| *name == queue.name))
        .map(|queue| (queue, count(queue)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let portions = portions(&chosen);
    let first = (part - 1).saturating_mul(PORTIONS);
    let size_of = |portions: &[Portion]| portions.iter().map(|portion| portion.tasks).sum::<u64>();
    let end = first.saturating_add(PORTIONS).min(portions.len());
    let mut found = TasksFound {
        searched: size_of(&portions[..end]),
        all: chosen.iter().map(|(_, n)| n).sum(),
        more: end < portions.len(),
        ..TasksFound::default()
    };
    let reads: Vec<_> = portions
        .get(first..end)
        .unwrap_or_default()
        .iter()
        .map(|portion| read(broker, chosen[portion.queue].0.name.clone(), state, portion.number))
        .collect();
    let mut pages = stream::iter(reads).buffered(AT_ONCE);
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(page) = pages.next().await {
        let page = page?;
        found.unreadable += page.unreadable.len();
        for task in page.tasks {
            if !task.record.last_error.is_empty() {
                *errors.entry(error_group(&task.record.last_error)).or_default() += 1;
            }
            if filter.fits(&task) {
                found.tasks.push(task);
            }
        }
    }
    let mut errors: Vec<ErrorGroup> = errors.into_iter().map(|(error, n)| ErrorGroup { error, n }).collect();
    errors.sort_by_key(|group| std::cmp::Reverse(group.n));
    errors.truncate(GROUPS);
    found.errors = errors;
    Ok(found)
}

async fn read(
    broker: &dyn Broker,
    queue: QueueName,
    state: TaskState,
    number: usize,
) -> BrokerResult<runner_queue::TaskPage> {
    let page = Page { number, size: PORTION };
    broker.tasks(&queue, state, page).await
}

/// A part of the list of one queue.
struct Portion {
    /// Its place among the queues.
    queue: usize,
    /// Counted from 1.
    number: usize,
    tasks: u64,
}

/// The lists of the queues, a portion of each in turn, as many as parts can have.
fn portions(queues: &[(&QueueInfo, u64)]) -> Vec<Portion> {
    let size = PORTION as u64;
    let mut all = Vec::new();
    let mut number = 1;
    while all.len() < LAST_PART {
        let skipped = (number as u64 - 1) * size;
        let before = all.len();
        for (queue, (_, n)) in queues.iter().enumerate().filter(|(_, (_, n))| *n > skipped) {
            let tasks = (n - skipped).min(size);
            all.push(Portion { queue, number, tasks });
        }
        if all.len() == before {
            break;
        }
        number += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_and_names_are_one_group() {
        for (error, group) in [
            ("exit code 3", "exit code #"),
            ("timed out after 30s\nat line 4", "timed out after 30s"),
            ("no user \"ann\" in 'eu-1'", "no user \"…\" in '…'"),
            ("task 5f2b90aa-77 failed", "task #-# failed"),
            ("it's odd", "it's odd"),
            ("", ""),
        ] {
            assert_eq!(error_group(error), group, "{error}");
        }
        assert!(error_group(&"x".repeat(10_000)).len() <= LONGEST_ERROR);
    }

    #[test]
    fn chinese_is_found_raw_and_escaped() {
        assert_eq!(escaped("订单 7😀"), "\\u8ba2\\u5355 7\\ud83d\\ude00");
        assert!(contains("Order-SHIP", "order-s") && contains("x", "") && !contains("x", "y"));
    }
}
