//! The rates that can be measured. How they are measured is in `rates` and `bare_store`.

/// What is measured in operations a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// Enqueueing in batches.
    Batches,
    /// Enqueueing one by one; a twentieth of the tasks.
    Singly,
    /// From the worker's start until every waiting task has been handled and its verdict is in the store.
    Drain,
    /// Enqueueing and running at the same time, until all have run and are settled.
    Steady,
}

impl Rate {
    /// In the first column of the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Batches => "enqueue, batches of 256",
            Self::Singly => "enqueue, one by one",
            Self::Drain => "drain",
            Self::Steady => "steady, enqueue and run",
        }
    }

    /// How many tasks are used when the measurement was asked for `all`.
    pub(super) fn tasks(self, all: usize) -> usize {
        match self {
            Self::Singly => (all / 20).max(1),
            _ => all,
        }
    }
}
