//! The intent of a commit in a cluster: everything it is about to do, stored beside the cursor until it is done.
//!
//! Any instance may finish the commit of another one from it, so everything that the later steps need is inside.

use prost::Message;
use runner_core::schedule::Overlap;
use runner_core::task::Unique;

use crate::Commit;
use crate::redis::format::convert;
use crate::redis::ops::produce;
use crate::redis::ops::schedule::{task_id, unbroken_since};

/// What is stored beside the cursor until the commit is finished.
#[derive(Clone, PartialEq, Message)]
pub(in crate::redis) struct Intent {
    /// Differs for each commit ever made.
    #[prost(string, tag = "1")]
    pub token: String,
    #[prost(int64, tag = "2")]
    pub to: i64,
    #[prost(bool, tag = "3")]
    pub skip: bool,
    #[prost(string, tag = "4")]
    pub instance: String,
    #[prost(uint32, tag = "5")]
    pub missed: u32,
    #[prost(int64, tag = "6")]
    pub missed_last: i64,
    #[prost(string, tag = "7")]
    pub missed_first: String,
    #[prost(message, repeated, tag = "9")]
    pub fires: Vec<IntendedFire>,
    #[prost(bool, tag = "10")]
    pub unserved: bool,
    /// A note that is added to the reason. Tag 8 was a flag for one such note.
    #[prost(string, tag = "11")]
    pub missed_note: String,
    /// See [`Commit::unbroken_since`].
    #[prost(string, tag = "12")]
    pub unbroken_since: String,
    /// Whether tasks that wait for a retry do not block occurrences.
    #[prost(bool, tag = "13")]
    pub ignores_retries: bool,
}

/// One occurrence with its task.
#[derive(Clone, PartialEq, Message)]
pub(in crate::redis) struct IntendedFire {
    #[prost(string, tag = "1")]
    pub queue: String,
    #[prost(int64, tag = "2")]
    pub nominal: i64,
    #[prost(bool, tag = "3")]
    pub late: bool,
    #[prost(string, tag = "4")]
    pub task: String,
    #[prost(bytes = "vec", tag = "5")]
    pub message: Vec<u8>,
    #[prost(string, tag = "6")]
    pub lock: String,
    /// Milliseconds.
    #[prost(uint64, tag = "7")]
    pub lock_ttl: u64,
    /// See `put.lua`.
    #[prost(string, tag = "8")]
    pub when: String,
    #[prost(string, tag = "9")]
    pub group: String,
    /// To be stored beside the message.
    #[prost(bytes = "vec", tag = "10")]
    pub headers: Vec<u8>,
    /// What happens to a second task: see `put.lua`.
    #[prost(string, tag = "11")]
    pub lock_policy: String,
}

impl Intent {
    pub(in crate::redis) fn overlap(&self) -> Overlap {
        match (self.skip, self.ignores_retries) {
            (false, _) => Overlap::Allow,
            (true, false) => Overlap::Skip,
            (true, true) => Overlap::SkipIgnoringRetries,
        }
    }

    /// The intent of a commit that found no unfinished predecessor.
    pub(in crate::redis) fn of(commit: &Commit) -> Self {
        let missed = commit.missed;
        let fires = commit.fires.iter().map(|fire| {
            let task = task_id(commit, fire);
            let message = convert::message_of(&fire.task, &task);
            let unique = fire.task.unique.as_ref();
            IntendedFire {
                queue: fire.task.queue.to_string(),
                nominal: fire.nominal.as_second(),
                late: fire.catch_up,
                task: task.to_string(),
                message: message.encode_to_vec(),
                lock: message.unique_key,
                lock_ttl: unique.map_or(0, |unique| convert::millis(unique.ttl)),
                lock_policy: unique.map_or("", Unique::letters).to_owned(),
                when: produce::when(fire.task.run),
                group: message.group_key,
                headers: convert::kept_headers(&fire.task),
            }
        });
        Self {
            token: uuid::Uuid::new_v4().to_string(),
            to: commit.to.as_second(),
            skip: commit.overlap.skips(),
            ignores_retries: commit.overlap == Overlap::SkipIgnoringRetries,
            instance: commit.instance.clone(),
            missed: missed.map_or(0, |m| m.count),
            missed_last: missed.map_or(0, |m| m.last.as_second()),
            missed_first: missed.map_or(String::new(), |m| m.first.to_string()),
            missed_note: missed.map_or(String::new(), |m| m.note()),
            fires: fires.collect(),
            unserved: commit.unserved,
            unbroken_since: unbroken_since(commit),
        }
    }
}
