//! What is doubtful about schedules that are well formed: they may never fire, or their tasks never run.
//!
//! Pure: who serves which queue, and what time it is, is handed in.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Definition, Origin, Problem, When};
use crate::task::{QueueName, covers};

/// Which queues are served, as far as it is known. Names or patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// By the worker of the settings at hand; other instances may serve others.
    Here(BTreeSet<String>),
    /// By the servers that are alive.
    Live(BTreeSet<String>),
}

impl Served {
    /// Whether tasks of this queue are taken.
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
        let text = format!("{} lies in the past; the schedule does not fire", d.timing.text);
        let mut problem = Problem::warning("W209", text, d.origin.clone()).about(d.id.clone());
        problem.hint = Some("give it an instant to come, or remove it".to_owned());
        problem
    };
    definitions.into_iter().filter(past).map(warning).collect()
}

/// Warnings about enabled schedules whose tasks go to queues that nothing takes from.
#[must_use]
pub fn not_served<'a>(definitions: impl IntoIterator<Item = &'a Definition>, served: &Served) -> Vec<Problem> {
    let enabled = definitions.into_iter().filter(|d| d.enabled);
    let warning = |d: &Definition| Some(queue_not_served(&d.task.queue, &d.origin, served)?.about(d.id.clone()));
    enabled.filter_map(warning).collect()
}

/// A warning about what `origin` defines, if nothing takes from the queue that its tasks go to.
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
