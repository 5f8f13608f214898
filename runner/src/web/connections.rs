//! Who is connected: a bounded number of seats, and which connection is closed when a new one needs one.
//!
//! Knows nothing of sockets or HTTP; the listener asks it, and the stream and the gate tell it what happens.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once. With the socket buffers of `serve` they cost the kernel at most 100 MB.
pub const SEATS: usize = 512;
/// Connections at once from one address. Far more than a browser or a reverse proxy needs at the same time, and yet no
/// single address can take the last quarter of the seats.
pub const PER_PEER: usize = 384;
/// Pages at once. Less than the seats of one address, so that among these there is always a connection which waits for
/// its client and can be closed.
pub const PAGES: usize = 256;
/// Answers at once to `/metrics`, apart from the pages. `/healthz` and `/readyz` have no limit: the one waits for nothing,
/// and all requests for the other wait for one answer of the broker.
pub const SCRAPES: usize = 64;
/// Of these, how many one address may have at once; its further requests wait for each other. Enough for all people
/// behind one reverse proxy, and so few that a flood from one address leaves room for others.
const PAGES_OF_PEER: usize = 32;
const SCRAPES_OF_PEER: usize = 16;

const _: () = assert!(PAGES + SCRAPES < PER_PEER && PER_PEER < SEATS);
const _: () = assert!(PAGES_OF_PEER * 4 <= PAGES && SCRAPES_OF_PEER * 4 <= SCRAPES);

/// Where connections come from: one IPv4 address, or one IPv6 network of the size that one customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PeerAddress(IpAddr);

impl PeerAddress {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// All seats.
#[derive(Debug)]
pub struct Connections {
    began: Instant,
    taken: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
}

/// The part of the places for requests that one address may have, shared by its connections.
#[derive(Debug)]
pub struct Share {
    /// Pages.
    pub pages: Semaphore,
    /// `/metrics`.
    pub scrapes: Semaphore,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            pages: Semaphore::new(PAGES_OF_PEER),
            scrapes: Semaphore::new(SCRAPES_OF_PEER),
        }
    }
}

/// One connection's place, shared by its stream and its requests.
#[derive(Debug)]
pub struct ConnectionState {
    began: Instant,
    peer: PeerAddress,
    share: Arc<Share>,
    /// Milliseconds after `began` at which the connection last got somewhere: accepted, a request read, an answer taken.
    progress: AtomicU64,
    /// Requests that this process works on.
    answering: AtomicUsize,
    /// Whether the client has yet to take a part of an answer.
    owed: AtomicBool,
    evicted: CancellationToken,
}

/// A seat that is free again once this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    seats: Arc<Connections>,
    number: u64,
    seat: Arc<ConnectionState>,
}

impl Connections {
    /// All free.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            taken: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// A seat for a connection from `address`.
    ///
    /// When all are taken, or all that one address may have, the one of them that made the least progress is evicted:
    /// whoever reads an answer or asks for something new stays, whoever only holds a connection open goes. Requests that
    /// this process works on do not count against their client. `None` if nothing can be evicted.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<OpenConnection> {
        let peer = PeerAddress::of(address);
        let mut taken = self.lock();
        let of_peer: Vec<&Arc<ConnectionState>> = taken.values().filter(|seat| seat.peer == peer).collect();
        let share = of_peer.first().map(|seat| Arc::clone(&seat.share)).unwrap_or_default();
        let only = (of_peer.len() >= PER_PEER).then_some(peer);
        if only.is_some() || taken.len() >= SEATS {
            let number = least_progress(&taken, only)?;
            if let Some(seat) = taken.remove(&number) {
                seat.evicted.cancel();
            }
        }
        let seat = Arc::new(ConnectionState {
            began: self.began,
            peer,
            share,
            progress: AtomicU64::new(since(self.began)),
            answering: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        taken.insert(number, Arc::clone(&seat));
        Some(OpenConnection {
            seats: Arc::clone(self),
            number,
            seat,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at each seat: a few microseconds, and only when there is none left.
fn least_progress(taken: &HashMap<u64, Arc<ConnectionState>>, only: Option<PeerAddress>) -> Option<u64> {
    let waiting = taken
        .iter()
        .filter(|(_, seat)| only.is_none_or(|peer| seat.peer == peer) && seat.answering.load(Ordering::Relaxed) == 0);
    waiting
        .min_by_key(|(number, seat)| (seat.progress.load(Ordering::Relaxed), **number))
        .map(|(number, _)| *number)
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl ConnectionState {
    /// The places that its address may have.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// The connection got somewhere.
    pub fn progressed(&self) {
        self.progress.store(since(self.began), Ordering::Relaxed);
    }

    /// Notes whether the client has yet to take a part of an answer.
    pub fn owes(&self, owed: bool) {
        self.owed.store(owed, Ordering::Relaxed);
    }

    /// Whether closing the connection leaves data behind that nobody will fetch.
    pub fn leaves_data(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// Keeps the seat while this process works on a request of its connection.
    pub fn answering(self: &Arc<Self>) -> ActiveRequest {
        self.progressed();
        self.answering.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Returns when the seat was given to somebody else.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ConnectionState>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenConnection {
    /// The seat itself.
    pub fn seat(&self) -> &Arc<ConnectionState> {
        &self.seat
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.seats.lock().remove(&self.number);
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
        taken.seat.evicted.is_cancelled()
    }

    async fn a_moment() {
        tokio::time::advance(Duration::from_millis(5)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_with_the_least_progress_makes_room() {
        let seats = Connections::new();
        let mut held = Vec::new();
        for n in 0..SEATS {
            held.push(seats.take(v4(u32::try_from(n).unwrap())).unwrap());
            a_moment().await;
        }
        held[0].seat().progressed();
        let busy = held[1].seat().answering();
        let _late = seats.take(v4(9_999)).unwrap();
        assert!(!is_evicted(&held[0]) && !is_evicted(&held[1]) && is_evicted(&held[2]));
        drop(busy);
        let _later = seats.take(v4(9_998)).unwrap();
        assert!(!is_evicted(&held[1]) && is_evicted(&held[3]), "a request is progress");
        assert_eq!(seats.lock().len(), SEATS);
        drop(held);
        assert_eq!(seats.lock().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_evicts_its_own_connections_only() {
        let seats = Connections::new();
        let other = seats.take(v4(2)).unwrap();
        a_moment().await;
        let mut held: Vec<_> = (0..PER_PEER).map(|_| seats.take(v4(1)).unwrap()).collect();
        a_moment().await;
        held.push(seats.take(v4(1)).unwrap());
        assert!(!is_evicted(&other) && is_evicted(&held[0]));
        assert_eq!(held.iter().filter(|taken| is_evicted(taken)).count(), 1);
        assert_eq!(seats.lock().len(), PER_PEER + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_have_all_places_for_requests() {
        let seats = Connections::new();
        let held: Vec<_> = (0..PER_PEER).map(|_| seats.take(v4(1)).unwrap()).collect();
        let other = seats.take(v4(2)).unwrap();
        let at_work = |of: &Semaphore| -> usize { of.available_permits() };
        let first = &held[0].seat().share().pages;
        let all = first.try_acquire_many(u32::try_from(PAGES_OF_PEER).unwrap()).unwrap();
        assert_eq!(at_work(&held[PER_PEER - 1].seat().share().pages), 0, "they share");
        assert_eq!(at_work(&held[0].seat().share().scrapes), SCRAPES_OF_PEER);
        assert_eq!(at_work(&other.seat().share().pages), PAGES_OF_PEER);
        drop(all);
        assert_eq!(at_work(first), PAGES_OF_PEER);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_counts_as_one_address() {
        let seats = Connections::new();
        let of = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | n));
        let held: Vec<_> = (0..=PER_PEER).map(|n| seats.take(of(n as u128)).unwrap()).collect();
        assert!(is_evicted(&held[0]));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(PeerAddress::of(mapped), PeerAddress::of("10.0.0.1".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_evicted_that_this_process_works_on() {
        let seats = Connections::new();
        let held: Vec<_> = (0..PER_PEER).map(|_| seats.take(v4(1)).unwrap()).collect();
        let busy: Vec<_> = held.iter().map(|taken| taken.seat().answering()).collect();
        assert!(seats.take(v4(1)).is_none());
        drop(busy);
        assert!(seats.take(v4(1)).is_some());
    }
}
