//! Which types this broker claims, and the stretch of each queue with tasks of other types that it passes over.
//!
//! Such tasks stay at the head of a pending list, for a worker that knows them. The length of that stretch is
//! remembered from claim to claim, so that a claim does not read all of it again; the script checks it each time,
//! because others may have taken some of it. Tasks that others hand back to the head are within the stretch: a claim
//! sees that the first task is another one and checks a few, and at increasing intervals more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::KnownTypes;
use crate::redis::format::reply;
use crate::redis::net::conn::{Conn, RoundTrip};
use crate::redis::ops::type_filter::TypeFilter;

/// The first pause until the head of a stretch is read again; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tasks that such a look reads: about a millisecond of the server's time.
const LOOKED_AT: usize = 1_000;

/// Tasks of unknown types at the head of one queue.
struct PassedRange {
    depth: u64,
    /// Of the whole list when it was last looked at.
    length: u64,
    /// The first and the last id of the stretch, and when the last became pending.
    front: Vec<u8>,
    anchor: Vec<u8>,
    since: Vec<u8>,
    /// The id at the other end of the list.
    newest: Vec<u8>,
    look_again: Instant,
    pause: Duration,
}

struct PassedState {
    filter: Arc<TypeFilter>,
    types: KnownTypes,
    stretches: HashMap<QueueName, PassedRange>,
}

/// The state of all queues.
pub(in crate::redis) struct PassedOver(Mutex<PassedState>);

impl Default for PassedOver {
    fn default() -> Self {
        let types = KnownTypes::all();
        let memory = PassedState {
            filter: Arc::new(TypeFilter::of(&types)),
            types,
            stretches: HashMap::new(),
        };
        Self(Mutex::new(memory))
    }
}

/// What a call was sent with, to compare with when it returns: types may have changed meanwhile.
pub(in crate::redis) struct CallContext {
    filter: Arc<TypeFilter>,
    /// The queue by which long lists of types are found, in a cluster.
    place: Option<QueueName>,
    /// Whether the call looks at more of the head than usual, by queue.
    again: Vec<bool>,
}

impl PassedOver {
    /// Sets the types that are claimed from now on.
    pub(in crate::redis) fn know(&self, types: &KnownTypes) {
        let mut memory = self.lock();
        if memory.types == *types {
            return;
        }
        memory.filter = Arc::new(TypeFilter::of(types));
        memory.types = types.clone();
        // A stretch is only valid for the types it was found with: one of its tasks may be known now.
        memory.stretches.clear();
    }

    /// Makes sure that the sets a claim from these queues refers to exist in Redis; mostly there is nothing to do.
    pub(in crate::redis) async fn prepare(&self, conn: &Conn, queues: &[QueueName]) {
        // The lock is never held across an await: calls of the same broker would wait for each other's network.
        let filter = Arc::clone(&self.lock().filter);
        let place = place_of(conn, queues);
        if filter.lacks(place) {
            filter.keep(conn, place).await;
        }
    }

    /// The script did not find what the call referred to.
    pub(in crate::redis) fn forgotten(&self, context: &CallContext) {
        context.filter.forgotten(context.place.as_ref());
    }

    /// Writes into a call which types are known and, with each queue, its stretch.
    pub(in crate::redis) fn add(
        &self,
        conn: &Conn,
        trip: &mut RoundTrip<'_>,
        queues: &[QueueName],
        mut name: impl FnMut(&mut RoundTrip<'_>, &QueueName),
    ) -> CallContext {
        let memory = self.lock();
        let now = Instant::now();
        let place = place_of(conn, queues);
        memory.filter.add(trip, place);
        let mut again = Vec::with_capacity(queues.len());
        for queue in queues {
            name(trip, queue);
            let Some(stretch) = memory.stretches.get(queue) else {
                trip.arg("");
                again.push(false);
                continue;
            };
            let due = stretch.look_again <= now;
            trip.arg(stretch.depth)
                .arg(if due { LOOKED_AT } else { 0 })
                .arg(&stretch.front[..])
                .arg(&stretch.anchor[..])
                .arg(&stretch.since[..]);
            again.push(due);
        }
        CallContext {
            filter: Arc::clone(&memory.filter),
            place: place.cloned(),
            again,
        }
    }

    /// Remembers what the script says remains.
    pub(in crate::redis) fn learn(&self, context: &CallContext, queues: &[QueueName], answer: Value) {
        let mut rows = reply::list(answer).into_iter();
        let mut memory = self.lock();
        // The types changed while the call was under way, so its stretches may hide tasks that are known now.
        if !Arc::ptr_eq(&memory.filter, &context.filter) {
            return;
        }
        while let Some((number, stretch)) = next_stretch(&mut rows) {
            let Some(place) = number.checked_sub(1) else { continue };
            let Some(queue) = queues.get(place) else { continue };
            // Of several calls under way the last answer wins. An older one may describe a longer stretch than exists;
            // the script compares the ids at both ends, so that costs a search and hides nothing.
            let before = memory.stretches.remove(queue);
            if stretch.depth == 0 {
                continue;
            }
            let mut stretch = stretch;
            if let Some(before) = before {
                stretch.pause = before.pause;
                stretch.look_again = before.look_again;
                // Only the call that looked at the head again moves the next look: others report the stretch without
                // having looked.
                if context.again.get(place) == Some(&true) {
                    stretch.pause = (before.pause * 2).min(LONGEST_PAUSE);
                    stretch.look_again = Instant::now() + stretch.pause;
                }
            }
            memory.stretches.insert(queue.clone(), stretch);
        }
    }

    /// Whether a stretch is known at the head of this queue.
    pub(in crate::redis) fn has(&self, queue: &QueueName) -> bool {
        self.lock().stretches.contains_key(queue)
    }

    /// Whether there is nothing to claim in a list of this length with these ids at its ends, as far as is known.
    pub(in crate::redis) fn is_all(&self, queue: &QueueName, length: u64, newest: &[u8], front: &[u8]) -> bool {
        self.lock().stretches.get(queue).is_some_and(|stretch| {
            let same = stretch.newest == newest && stretch.front == front && stretch.length == length;
            // When the head must be looked at again, a claim has to run even if nothing seems to have changed.
            same && stretch.depth == length && stretch.look_again > Instant::now()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PassedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In whose slot a list of types must lie that a call with these queues refers to; of a cluster's calls each has one
/// queue.
fn place_of<'a>(conn: &Conn, queues: &'a [QueueName]) -> Option<&'a QueueName> {
    queues.first().filter(|_| conn.is_cluster())
}

/// The number of the queue (from 1) and its stretch.
fn next_stretch(rows: &mut impl Iterator<Item = Value>) -> Option<(usize, PassedRange)> {
    let number = usize::try_from(reply::number(rows.next()?)?).ok()?;
    let (depth, length) = (reply::count(rows.next()?), reply::count(rows.next()?));
    let mut text = || rows.next().and_then(reply::bytes);
    let stretch = PassedRange {
        depth,
        length,
        front: text()?,
        anchor: text()?,
        since: text()?,
        newest: text()?,
        look_again: Instant::now() + FIRST_PAUSE,
        pause: FIRST_PAUSE,
    };
    Some((number, stretch))
}
