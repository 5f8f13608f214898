//! Operations of the property test, as plain data, with few names and small numbers.
//!
//! Everything is an index or a number of seconds, so that a failing run shrinks well and can be pasted into `regressions` as
//! it is printed. Tasks and claims are identified by their position at the time of the operation. Frequencies are in `draw`,
//! effects in `step`.

use runner_core::task::TaskState;
use runner_queue::Action;

/// Queues: few, so that operations meet. One has a name that shortens the hash tag of its keys.
pub const QUEUES: [&str; 3] = ["default", "low", "a}b c"];

/// Ids chosen by producers.
pub const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Task types.
pub const KINDS: [&str; 3] = ["mail:send", "mail:bulk", "sms"];

/// Payloads, and the MD5 that a uniqueness lock names them by.
pub const PAYLOADS: [(Option<&str>, &str); 3] = [
    (None, ""),
    (Some(""), "d41d8cd98f00b204e9800998ecf8427e"),
    (Some("p"), "83878c91171338902e0fe0fb97a8c47a"),
];

/// Groups.
pub const GROUPS: [&str; 2] = ["g", "h:1"];

/// Names that a worker may have handlers for.
pub const HANDLERS: [&str; 4] = ["mail:*", "sms", "mail", "*"];

/// When a task is to run.
#[derive(Debug, Clone, Copy)]
pub enum When {
    Now,
    /// Seconds from now, by the broker.
    In(u64),
    /// Seconds from now, as an instant; may be in the past.
    At(i64),
}

/// A task to enqueue. Indexes into the lists above.
#[derive(Debug, Clone)]
pub struct New {
    pub queue: usize,
    pub id: Option<usize>,
    pub kind: usize,
    pub payload: usize,
    pub run: When,
    /// Seconds.
    pub unique: Option<u64>,
    pub group: Option<usize>,
    /// Seconds.
    pub retention: u64,
    pub max_retry: u32,
    /// Whether it has a timeout, a deadline and a header.
    pub dressed: bool,
}

/// How a claim ends.
#[derive(Debug, Clone, Copy)]
pub enum How {
    Done,
    /// After this many seconds; whether it counts.
    Retry(u64, bool),
    Archive,
    HandBack,
    /// For this many seconds; whether it waits for something.
    Snooze(u64, bool),
    Revoke,
}

/// One settlement.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Which claim: 0 is the newest ever made; most old ones are stale.
    pub claim: usize,
    pub how: How,
    /// The handler's result: none, an empty one, or some bytes.
    pub result: Option<&'static str>,
    /// Whether the attempt is recorded.
    pub attempt: bool,
}

/// One task of a queue: the n-th by arrival; beyond the last, one that does not exist.
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    pub queue: usize,
    pub nth: usize,
}

/// One step of a run.
#[derive(Debug, Clone)]
pub enum Op {
    Enqueue(Vec<New>),
    /// Queues, how many, seconds of the lease.
    Claim(Vec<usize>, usize, u64),
    Settle(Vec<End>),
    /// Both in one call: what ends; queues, how many, seconds of the lease.
    Exchange(Vec<End>, Vec<usize>, usize, u64),
    /// Claims as in [`End`], seconds of the lease.
    Extend(Vec<usize>, u64),
    /// Queues, limit.
    Forward(Vec<usize>, usize),
    /// Queues, seconds of grace, limit, how many lost runs are poison.
    Recover(Vec<usize>, u64, usize, u32),
    /// Queues, limit, how many tasks the archive keeps, for how many seconds.
    Sweep(Vec<usize>, usize, usize, u64),
    /// Queues, names of handlers.
    Release(Vec<usize>, Vec<usize>),
    Act(Pick, Action),
    ActAll(usize, TaskState, Action),
    /// The payload as an index.
    Edit(Pick, usize),
    Pause(usize),
    Resume(usize),
    /// Queue, force.
    Remove(usize, bool),
    /// Seconds.
    Advance(u64),
    Look(Pick),
    Attempts(Pick),
    /// An id as an index.
    Find(usize),
    /// Queue, state, number and size of the page.
    Page(usize, TaskState, usize, usize),
    /// Queue, days.
    History(usize, usize),
}

impl Op {
    /// A word for the statistics of a whole run.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Enqueue(_) => "enqueue",
            Self::Claim(..) => "claim",
            Self::Settle(_) => "settle",
            Self::Exchange(..) => "exchange",
            Self::Extend(..) => "extend",
            Self::Forward(..) => "forward",
            Self::Recover(..) => "recover",
            Self::Sweep(..) => "sweep",
            Self::Release(..) => "release",
            Self::Act(..) => "act",
            Self::ActAll(..) => "act_all",
            Self::Edit(..) => "edit",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Remove(..) => "remove",
            Self::Advance(_) => "advance",
            Self::Look(_) | Self::Attempts(_) | Self::Find(_) | Self::Page(..) | Self::History(..) => "ask",
        }
    }
}
