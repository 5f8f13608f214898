//! Points on which the seam leaves brokers free, and the behaviour of each. Everything else is the same for both.

use super::world::Entry;

/// The broker that a world models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Embedded,
}

/// The order of tasks of the same instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    Group(String, jiff::Timestamp, String),
    Id(String),
    Arrival(u64),
}

impl Dialect {
    /// A word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Embedded => "embedded",
        }
    }

    /// Redis orders equal scores by id; the embedded broker by arrival.
    pub fn tie(self, entry: &Entry) -> Tie {
        match self {
            Self::Redis => Tie::Id(entry.record.id.to_string()),
            Self::Embedded => Tie::Arrival(entry.arrival),
        }
    }

    /// Grouped tasks: Redis lists group by group, the embedded broker all by the time they were added.
    pub fn grouped(self, entry: &Entry) -> (jiff::Timestamp, Tie) {
        match self {
            Self::Redis => {
                let group = entry.record.group.clone().unwrap_or_default();
                let id = entry.record.id.to_string();
                // The instant of the pair is the same for all, so that the group comes first.
                (jiff::Timestamp::MIN, Tie::Group(group, entry.at, id))
            }
            Self::Embedded => (entry.at, self.tie(entry)),
        }
    }

    /// asynq stores no time when a task is handed back, so its `pending_since` is unknown.
    pub fn times_returned_tasks(self) -> bool {
        self == Self::Embedded
    }

    /// asynq trims the archive at each archiving, the embedded broker when it sweeps.
    pub fn trims_at_once(self) -> bool {
        self == Self::Redis
    }

    /// The limit of a sweep: one for both of its parts, or one for each.
    pub fn sweeps_under_one_limit(self) -> bool {
        self == Self::Redis
    }

    /// Whether a queue that was only ever paused is listed; asynq's mark of a pause does not list it.
    pub fn lists_paused_queues(self) -> bool {
        self == Self::Embedded
    }
}
