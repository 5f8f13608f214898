//! Warnings about well-formed schedules that may never fire, or whose tasks may never run.
//!
//! Pure: the caller passes in the served queues and the time.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Definition, Origin, Problem, When};
use crate::task::{QueueName, covers};

/// The served queues, as far as known. Names or patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// Those of the worker in these settings; other instances may serve others.
    Here(BTreeSet<String>),
    /// Those of live servers.
    Live(BTreeSet<String>),
}

impl Served {
    /// Whether the queue is served.
    #[must_use]
    pub fn covers(&self, queue: &str) -> bool {
        let (Self::Here(patterns) | Self::Live(patterns)) = self;
        patterns.iter().any(|pattern| covers(pattern, queue))
    }
}

/// Warnings about schedules whose instants have all passed by `now`.
#[must_use]
pub fn no_occurrence_left<'a>(definitions: impl IntoIterator<Item = &'a Definition>, now: Timestamp) -> Vec<Problem> {
    let past = |d: &&Definition| d.enabled && matches!(&d.timing.when, When::At(at) if at.iter().all(|at| *at <= now));
    let warning = |d: &Definition| {
        let text = format!("{} is in the past; the schedule does not fire", d.timing.text);
        let mut problem = Problem::warning("W209", text, d.origin.clone()).about(d.id.clone());
        problem.hint = Some("give it an instant to come, or remove it".to_owned());
        problem
    };
    definitions.into_iter().filter(past).map(warning).collect()
}

/// Warnings about enabled schedules whose tasks go to unserved queues.
#[must_use]
pub fn not_served<'a>(definitions: impl IntoIterator<Item = &'a Definition>, served: &Served) -> Vec<Problem> {
    let enabled = definitions.into_iter().filter(|d| d.enabled);
    let warning = |d: &Definition| Some(queue_not_served(&d.task.queue, &d.origin, served)?.about(d.id.clone()));
    enabled.filter_map(warning).collect()
}

/// The warning about a definition at `origin`, if the queue of its tasks is not served.
#[must_use]
pub fn queue_not_served(queue: &QueueName, origin: &Origin, served: &Served) -> Option<Problem> {
    if served.covers(queue.as_str()) {
        return None;
    }
    let (text, hint) = match served {
        Served::Here(_) => (
            format!("the queue \"{queue}\" is not in worker.queues of these settings"),
            "add it there, unless another instance serves it",
        ),
        Served::Live(_) => (
            format!("no live server serves the queue \"{queue}\"; its tasks wait for one"),
            "add it to worker.queues of a worker, or correct its name",
        ),
    };
    let mut problem = Problem::warning("W211", text, origin.clone());
    problem.hint = Some(hint.to_owned());
    Some(problem)
}
