//! Passes the known task types to the claiming script, without thousands of names in each call.
//!
//! A short list of names travels with the call. A long one is kept in Redis as a set, under a key that follows from the
//! names, and the call carries that key. The set is written before the first claim that needs it and again before it
//! expires; a script that does not find all of it claims nothing and says so, and the next claim writes it again. If it
//! cannot be written (the server is full, or its ACL allows only asynq's keys) the list travels with each call.
//! Not here: what is passed over (`passed_over`), and how the script uses a list (`types.lua`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::redis::format::keys;
use crate::redis::net::conn::{Conn, RoundTrip};
use crate::{BrokerError, BrokerResult, KnownTypes};

/// Bytes of a list that travels with each call: copied twice for each claim, they cost about a microsecond.
const TRAVELS: usize = 2048;

/// How long a set stays after it was written, and after how long it is written again.
const KEPT: Duration = Duration::from_secs(3600);
const WRITTEN_AGAIN: Duration = Duration::from_secs(3000);

/// How long a list travels with each call after it could not be written.
const REFUSED: Duration = Duration::from_secs(60);

/// Names in one command.
const CHUNK: usize = 1000;

/// Sets of one list at most: in a cluster each queue has its own, in its slot. For more queues the list travels.
const SETS: usize = 64;

/// The last member of a set to be written; no type has this name.
const WHOLE: &[u8] = b"\xff";

/// The part of a call that says which types are known.
#[derive(Debug, Default)]
pub(in crate::redis) struct TypeFilter {
    all: bool,
    names: NameList,
    exceptions: NameList,
    prefixes: Vec<String>,
}

impl TypeFilter {
    pub(in crate::redis) fn of(types: &KnownTypes) -> Self {
        Self {
            all: types.is_all(),
            names: NameList::of(types.names()),
            exceptions: NameList::of(types.exceptions()),
            prefixes: types.prefixes().map(str::to_owned).collect(),
        }
    }

    /// Writes it into a call that takes from these queues.
    pub(in crate::redis) fn add(&self, trip: &mut RoundTrip<'_>, place: Option<&QueueName>) {
        if self.all {
            trip.arg("").arg("").arg(0);
            return;
        }
        self.names.add(trip, place);
        self.exceptions.add(trip, place);
        trip.arg(self.prefixes.len());
        for prefix in &self.prefixes {
            trip.arg(prefix);
        }
    }

    /// Whether the call needs a set that is not written.
    pub(in crate::redis) fn lacks(&self, place: Option<&QueueName>) -> bool {
        [&self.names, &self.exceptions].iter().any(|list| list.lacks(place))
    }

    /// Writes the sets that the call needs. A failure costs time only.
    pub(in crate::redis) async fn keep(&self, conn: &Conn, place: Option<&QueueName>) {
        for list in [&self.names, &self.exceptions] {
            if list.lacks(place) {
                list.write(conn, place).await;
            }
        }
    }

    /// A script did not find all of a list.
    pub(in crate::redis) fn forgotten(&self, place: Option<&QueueName>) {
        for list in [&self.names, &self.exceptions] {
            list.sets().remove(&place.cloned());
        }
    }
}

/// Exact names.
#[derive(Debug, Default)]
struct NameList {
    /// Each name between zero bytes.
    text: Vec<u8>,
    /// The name of its sets, if it is long.
    digest: Option<String>,
    sets: Mutex<HashMap<Option<QueueName>, StoredSet>>,
}

/// The result of writing a set.
#[derive(Debug)]
struct StoredSet {
    written: bool,
    until: Instant,
}

impl NameList {
    fn of<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut text = vec![0];
        for word in words {
            text.extend_from_slice(word.as_bytes());
            text.push(0);
        }
        let digest = (text.len() > TRAVELS).then(|| keys::digest(&text));
        Self {
            text,
            digest,
            sets: Mutex::default(),
        }
    }

    fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == 0).filter(|word| !word.is_empty())
    }

    fn add(&self, trip: &mut RoundTrip<'_>, place: Option<&QueueName>) {
        match &self.digest {
            // Checked when the call is built, not when it arrives: if the set expires in between, the script finds it
            // incomplete and claims nothing, which costs one call.
            Some(digest) if self.is_kept(place) => trip.arg(keys::types(digest, place.map(QueueName::as_str))),
            _ => trip.arg(&self.text[..]),
        };
    }

    fn is_kept(&self, place: Option<&QueueName>) -> bool {
        let now = Instant::now();
        let sets = self.sets();
        sets.get(&place.cloned())
            .is_some_and(|set| set.written && set.until > now)
    }

    fn lacks(&self, place: Option<&QueueName>) -> bool {
        if self.digest.is_none() {
            return false;
        }
        let now = Instant::now();
        let mut sets = self.sets();
        sets.retain(|_, set| set.until > now);
        // One that could not be written counts as present until its pause ends: then the list travels, and it is tried
        // again.
        sets.len() < SETS && !sets.contains_key(&place.cloned())
    }

    async fn write(&self, conn: &Conn, place: Option<&QueueName>) {
        let Some(digest) = &self.digest else { return };
        let key = keys::types(digest, place.map(QueueName::as_str));
        let written = self.try_write(conn, &key).await;
        if let Err(error) = &written {
            tracing::debug!(%error, key, "the known types travel with each claim");
        }
        let lasts = if written.is_ok() { WRITTEN_AGAIN } else { REFUSED };
        let set = StoredSet {
            written: written.is_ok(),
            until: Instant::now() + lasts,
        };
        self.sets().insert(place.cloned(), set);
    }

    async fn try_write(&self, conn: &Conn, key: &str) -> BrokerResult<()> {
        match self.fill(conn, key).await {
            // A key of another type; nothing else uses this name.
            Err(BrokerError::Corrupt { .. }) => {
                let mut trip = conn.trip(KEEPING).await?;
                trip.command("DEL").arg(key);
                trip.one().await?;
                self.fill(conn, key).await
            }
            filled => filled,
        }
    }

    async fn fill(&self, conn: &Conn, key: &str) -> BrokerResult<()> {
        let words: Vec<&[u8]> = self.words().collect();
        let mut trip = conn.trip(KEEPING).await?;
        for chunk in words.chunks(CHUNK) {
            trip.command("SADD").arg(key).arg(chunk);
        }
        // Last, as the mark that all names are there: the script takes a set without it for incomplete.
        trip.command("SADD").arg(key).arg(WHOLE);
        trip.command("EXPIRE").arg(key).arg(KEPT.as_secs());
        trip.send().await.map(drop)
    }

    fn sets(&self) -> std::sync::MutexGuard<'_, HashMap<Option<QueueName>, StoredSet>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const KEEPING: &str = "keep the names of known task types";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_sets_only_if_it_is_long_and_not_for_every_queue() {
        let none: [&str; 0] = [];
        let few = TypeFilter::of(&KnownTypes::new(["a", "b"], none));
        assert!(!few.lacks(None));
        assert_eq!(few.names.text, b"\0a\0b\0");
        let many = TypeFilter::of(&KnownTypes::new((0..500).map(|n| format!("fn:{n}")), none));
        assert!(many.lacks(None));
        assert_eq!(many.names.words().count(), 500);
        for n in 0..SETS {
            let set = StoredSet {
                written: true,
                until: Instant::now() + KEPT,
            };
            many.names.sets().insert(QueueName::new(format!("q{n}")).ok(), set);
        }
        assert!(!many.lacks(None));
        let last = QueueName::new("q0").ok();
        assert!(many.names.is_kept(last.as_ref()));
        many.forgotten(last.as_ref());
        assert!(many.lacks(last.as_ref()));
    }
}
