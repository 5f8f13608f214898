//! Open connections: a bounded number, and the choice of the one to close for a new one.
//!
//! Knows neither sockets nor HTTP: the listener asks for a slot; the stream and the request limits report progress.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once. With the socket buffers of `serve` they cost the kernel at most 100 MB.
pub const MAX_CONNECTIONS: usize = 512;
/// Connections at once from one address: far more than a browser or a reverse proxy needs, yet no single address can take
/// the last quarter.
pub const PER_PEER: usize = 384;
/// Pages at once. Fewer than the connections of one address, so that one of these always waits for its client and can be
/// evicted.
pub const PAGES: usize = 256;
/// Requests to `/metrics` at once, in addition to the pages. `/healthz` and `/readyz` have no limit: the former waits for
/// nothing, and all requests for the latter share one answer of the broker and wait for it two seconds at most.
pub const SCRAPES: usize = 64;
/// Calls of hooks at once, in addition to the pages.
pub const HOOKS: usize = 60;
/// Calls of hooks that wait for a result, in addition to those.
pub const WAITING: usize = 128;
/// Bodies of calls that are long and held at once: 32 MiB of the default size.
pub const LARGE_BODIES: usize = 32;
/// The share of one address; its further requests wait for each other. Enough for all people behind one reverse proxy, few
/// enough that a flood from one address leaves room for others.
const PAGES_OF_PEER: usize = 32;
const SCRAPES_OF_PEER: usize = 16;
const HOOKS_OF_PEER: usize = 15;
const WAITING_OF_PEER: usize = 64;
const LARGE_BODIES_OF_PEER: usize = 8;

const _: () = assert!(PAGES + SCRAPES + HOOKS < PER_PEER && PER_PEER < MAX_CONNECTIONS);
// Requests that run are never evicted: they must leave connections for others.
const _: () = assert!(PAGES + SCRAPES + HOOKS + WAITING < MAX_CONNECTIONS);
const _: () = assert!(PAGES_OF_PEER + SCRAPES_OF_PEER + HOOKS_OF_PEER + WAITING_OF_PEER < PER_PEER);
const _: () = assert!(PAGES_OF_PEER * 4 <= PAGES && SCRAPES_OF_PEER * 4 <= SCRAPES && HOOKS_OF_PEER * 4 <= HOOKS);

/// The origin of connections: one IPv4 address, or one IPv6 network of the size that a customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PeerAddress(IpAddr);

impl PeerAddress {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            // The lower 64 bits are the customer's own to vary.
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    began: Instant,
    taken: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
}

/// The request permits of one address, shared by its connections.
#[derive(Debug)]
pub struct Share {
    /// Pages.
    pub pages: Semaphore,
    /// `/metrics`.
    pub scrapes: Semaphore,
    /// Calls of hooks.
    pub hooks: Semaphore,
    /// Calls of hooks that wait for a result.
    pub waiting: Semaphore,
    /// Long bodies of calls.
    pub large_bodies: Semaphore,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            pages: Semaphore::new(PAGES_OF_PEER),
            scrapes: Semaphore::new(SCRAPES_OF_PEER),
            hooks: Semaphore::new(HOOKS_OF_PEER),
            waiting: Semaphore::new(WAITING_OF_PEER),
            large_bodies: Semaphore::new(LARGE_BODIES_OF_PEER),
        }
    }
}

/// The state of one connection, shared by its stream and its requests.
#[derive(Debug)]
pub struct ConnectionState {
    began: Instant,
    peer: PeerAddress,
    share: Arc<Share>,
    /// Milliseconds after `began` of the last progress: accepted, a request read, a part of an answer taken.
    progress: AtomicU64,
    /// Requests of this connection that are running.
    answering: AtomicUsize,
    /// Whether the client has not yet taken all of an answer.
    owed: AtomicBool,
    evicted: CancellationToken,
}

/// An open connection; dropping it frees its slot.
#[derive(Debug)]
pub struct OpenConnection {
    open: Arc<Connections>,
    number: u64,
    state: Arc<ConnectionState>,
}

impl Connections {
    /// Without connections.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            taken: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// A slot for a connection from `address`.
    ///
    /// If all slots, or all of this address, are taken, the connection among them with the least recent progress is evicted:
    /// clients that read an answer or send a request stay, idle ones go. Connections with a running request are never
    /// evicted. `None` if none can be.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<OpenConnection> {
        let peer = PeerAddress::of(address);
        let mut taken = self.lock();
        // All connections of an address share their permits; the first one creates them, and the last one frees them.
        let of_peer: Vec<&Arc<ConnectionState>> = taken.values().filter(|state| state.peer == peer).collect();
        let share = of_peer
            .first()
            .map(|state| Arc::clone(&state.share))
            .unwrap_or_default();
        // An address beyond its own limit pays with its own connections, never with those of others.
        let only = (of_peer.len() >= PER_PEER).then_some(peer);
        if only.is_some() || taken.len() >= MAX_CONNECTIONS {
            let number = least_progress(&taken, only)?;
            // Removed at once, not when its stream notices: the limits must hold at every moment. Its `drop` then finds
            // nothing under its number, which is never reused.
            if let Some(state) = taken.remove(&number) {
                state.evicted.cancel();
            }
        }
        let state = Arc::new(ConnectionState {
            began: self.began,
            peer,
            share,
            progress: AtomicU64::new(since(self.began)),
            answering: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        taken.insert(number, Arc::clone(&state));
        Some(OpenConnection {
            open: Arc::clone(self),
            number,
            state,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scans all connections: a few microseconds, and only when a limit is reached.
fn least_progress(taken: &HashMap<u64, Arc<ConnectionState>>, only: Option<PeerAddress>) -> Option<u64> {
    let waiting = taken.iter().filter(|(_, state)| {
        only.is_none_or(|peer| state.peer == peer) && state.answering.load(Ordering::Relaxed) == 0
    });
    waiting
        // The number breaks ties: the oldest goes.
        .min_by_key(|(number, state)| (state.progress.load(Ordering::Relaxed), **number))
        .map(|(number, _)| *number)
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl ConnectionState {
    /// The permits of its address.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Records progress.
    pub fn progressed(&self) {
        self.progress.store(since(self.began), Ordering::Relaxed);
    }

    /// Records whether the client has not yet taken all of an answer.
    pub fn owes(&self, owed: bool) {
        self.owed.store(owed, Ordering::Relaxed);
    }

    /// Whether closing the connection would leave unsent data behind.
    pub fn leaves_data(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// Protects the connection from eviction while one of its requests runs.
    pub fn answering(self: &Arc<Self>) -> ActiveRequest {
        // Progress first: a thread that sees the counter fall to 0 again must not see the progress from before.
        self.progressed();
        self.answering.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Returns when the connection was evicted.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

/// A running request.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ConnectionState>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenConnection {
    /// The state of the connection.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn is_evicted(taken: &OpenConnection) -> bool {
        taken.state.evicted.is_cancelled()
    }

    async fn a_moment() {
        tokio::time::advance(Duration::from_millis(5)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_with_the_least_progress_makes_room() {
        let open = Connections::new();
        let mut held = Vec::new();
        for n in 0..MAX_CONNECTIONS {
            held.push(open.take(v4(u32::try_from(n).unwrap())).unwrap());
            a_moment().await;
        }
        held[0].state().progressed();
        let busy = held[1].state().answering();
        let _late = open.take(v4(9_999)).unwrap();
        assert!(!is_evicted(&held[0]) && !is_evicted(&held[1]) && is_evicted(&held[2]));
        drop(busy);
        let _later = open.take(v4(9_998)).unwrap();
        assert!(!is_evicted(&held[1]) && is_evicted(&held[3]), "a request is progress");
        assert_eq!(open.lock().len(), MAX_CONNECTIONS);
        drop(held);
        assert_eq!(open.lock().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_evicts_its_own_connections_only() {
        let open = Connections::new();
        let other = open.take(v4(2)).unwrap();
        a_moment().await;
        let mut held: Vec<_> = (0..PER_PEER).map(|_| open.take(v4(1)).unwrap()).collect();
        a_moment().await;
        held.push(open.take(v4(1)).unwrap());
        assert!(!is_evicted(&other) && is_evicted(&held[0]));
        assert_eq!(held.iter().filter(|taken| is_evicted(taken)).count(), 1);
        assert_eq!(open.lock().len(), PER_PEER + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_have_all_places_for_requests() {
        let open = Connections::new();
        let held: Vec<_> = (0..PER_PEER).map(|_| open.take(v4(1)).unwrap()).collect();
        let other = open.take(v4(2)).unwrap();
        let at_work = |of: &Semaphore| -> usize { of.available_permits() };
        let first = &held[0].state().share().pages;
        let all = first.try_acquire_many(u32::try_from(PAGES_OF_PEER).unwrap()).unwrap();
        assert_eq!(at_work(&held[PER_PEER - 1].state().share().pages), 0, "they share");
        assert_eq!(at_work(&held[0].state().share().scrapes), SCRAPES_OF_PEER);
        assert_eq!(at_work(&other.state().share().pages), PAGES_OF_PEER);
        drop(all);
        assert_eq!(at_work(first), PAGES_OF_PEER);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_counts_as_one_address() {
        let open = Connections::new();
        let of = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | n));
        let held: Vec<_> = (0..=PER_PEER).map(|n| open.take(of(n as u128)).unwrap()).collect();
        assert!(is_evicted(&held[0]));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(PeerAddress::of(mapped), PeerAddress::of("10.0.0.1".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_with_a_running_request_are_never_evicted() {
        let open = Connections::new();
        let held: Vec<_> = (0..PER_PEER).map(|_| open.take(v4(1)).unwrap()).collect();
        let busy: Vec<_> = held.iter().map(|taken| taken.state().answering()).collect();
        assert!(open.take(v4(1)).is_none());
        drop(busy);
        assert!(open.take(v4(1)).is_some());
    }
}
