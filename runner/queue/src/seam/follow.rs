//! Tasks that follow others: enqueued in the same step in which the one before ends.
//!
//! Who knows which task follows which gives that to the broker once; the broker asks whenever it writes that a task has ended
//! for good. Not here: what an operator deletes or archives, and what a worker in Go ends. Nothing follows those.

use std::sync::Arc;

use super::{Delivery, TaskRecord};

/// How a task ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It succeeded.
    Succeeded,
    /// It failed and is not tried again.
    Failed,
    /// There was nothing left to do.
    Revoked,
}

impl TaskEnd {
    /// A stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "success",
            Self::Failed => "failure",
            Self::Revoked => "revoked",
        }
    }
}

/// A task that has ended for good.
#[derive(Debug, Clone, Copy)]
pub struct EndedTask<'a> {
    /// As it was claimed.
    pub task: &'a TaskRecord,
    /// The run that ended it; a task that an operator runs again has another one.
    pub run: u64,
    /// How.
    pub end: TaskEnd,
    /// What its handler returned.
    pub result: Option<&'a [u8]>,
    /// Why it failed, or why there was nothing to do.
    pub error: Option<&'a str>,
}

/// Knows which tasks follow others. Asked on the way of every verdict, so it must answer at once and never wait.
pub trait FollowUps: Send + Sync {
    /// Whether any task follows any other.
    fn any(&self) -> bool;

    /// Whether a task of this type may be followed by one.
    fn follow(&self, kind: &str) -> bool;

    /// The tasks that follow this one, each with an id that follows from the task and its run.
    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery>;
}

/// Several of them as one.
pub struct AllFollowUps(pub Vec<Arc<dyn FollowUps>>);

impl FollowUps for AllFollowUps {
    fn any(&self) -> bool {
        self.0.iter().any(|each| each.any())
    }

    fn follow(&self, kind: &str) -> bool {
        self.0.iter().any(|each| each.follow(kind))
    }

    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        let asked = self.0.iter().filter(|each| each.follow(&ended.task.kind));
        asked.flat_map(|each| each.after(ended)).collect()
    }
}
