//! Where the seam leaves a broker free, and what each of the two does there. Everything else is the same for both.

use super::world::Entry;

/// Which broker a world is modelled after.
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

    /// asynq writes no time when a task is handed back, so nobody knows since when it is pending.
    pub fn times_what_is_handed_back(self) -> bool {
        self == Self::Embedded
    }

    /// asynq trims the archive whenever somebody archives, the embedded broker when it sweeps.
    pub fn trims_at_once(self) -> bool {
        self == Self::Redis
    }

    /// The limit of a sweep: one for both of its parts, or one for each.
    pub fn sweeps_under_one_limit(self) -> bool {
        self == Self::Redis
    }

    /// Whether a queue that was only ever paused is on the list; asynq's mark of a pause does not list it.
    pub fn lists_what_is_paused(self) -> bool {
        self == Self::Embedded
    }
}
