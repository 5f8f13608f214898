//! Limits wrong passwords per minute, by address and by address and name.
//!
//! Never locks an account for good, so that a colleague cannot be locked out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// The window in which wrong passwords are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Wrong passwords for one name from one address per window.
const PER_NAME: u32 = 5;
/// Wrong passwords from one address per window.
const PER_ADDRESS: u32 = 20;
/// Maximum number of counters; when full, the oldest is dropped. About 200 kB.
const MAX_COUNTERS: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(IpAddr, String),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Timestamp,
    wrong: u32,
}

/// Counts wrong passwords.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<Key, Count>>);

impl Attempts {
    /// Counts an attempt before it is checked, so that parallel attempts all count; [`Attempts::forgive`] undoes it when the
    /// password was right.
    ///
    /// # Errors
    ///
    /// How long to wait after too many.
    pub fn count(&self, from: IpAddr, name: &str, now: Timestamp) -> Result<(), Duration> {
        let keys = keys(from, name);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, most) in &keys {
            if let Some(count) = counts.get(key)
                && count.wrong >= *most
                && let Some(rest) = rest(count.since, now)
            {
                return Err(rest);
            }
        }
        for (key, _) in keys {
            make_room(&mut counts);
            let count = counts.entry(key).or_insert(Count { since: now, wrong: 0 });
            if rest(count.since, now).is_none() {
                *count = Count { since: now, wrong: 0 };
            }
            count.wrong += 1;
        }
        Ok(())
    }

    /// Drops the counters of a successful login.
    pub fn forgive(&self, from: IpAddr, name: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [(by_name, _), (by_address, _)] = keys(from, name);
        counts.remove(&by_name);
        if let Some(count) = counts.get_mut(&by_address) {
            count.wrong = count.wrong.saturating_sub(1);
        }
    }
}

fn keys(from: IpAddr, name: &str) -> [(Key, u32); 2] {
    // A name longer than any real one must not fill the table.
    let name: String = name.chars().take(64).collect();
    [(Key::Name(from, name), PER_NAME), (Key::Address(from), PER_ADDRESS)]
}

/// The rest of the window that began at `since`.
fn rest(since: Timestamp, now: Timestamp) -> Option<Duration> {
    let gone = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    WINDOW.checked_sub(gone).filter(|rest| !rest.is_zero())
}

fn make_room(counts: &mut HashMap<Key, Count>) {
    if counts.len() < MAX_COUNTERS {
        return;
    }
    let oldest = counts.iter().min_by_key(|(_, c)| c.since).map(|(k, _)| k.clone());
    if let Some(oldest) = oldest {
        counts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_sixth_wrong_password_waits_for_the_window_to_end() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            assert!(attempts.count(HOME, "li", at(0)).is_ok());
        }
        assert_eq!(attempts.count(HOME, "li", at(20)), Err(Duration::from_secs(40)));
        assert!(attempts.count(HOME, "wang", at(20)).is_ok());
        assert!(attempts.count(HOME, "li", at(60)).is_ok());
    }

    #[test]
    fn one_address_cannot_go_through_many_names_nor_fill_the_table() {
        let attempts = Attempts::default();
        for n in 0..20 {
            assert!(attempts.count(HOME, &n.to_string(), at(0)).is_ok());
        }
        assert!(attempts.count(HOME, "fresh", at(0)).is_err());
        for n in 0..3000_u32 {
            let from = IpAddr::from(n.to_be_bytes());
            assert!(attempts.count(from, "li", at(i64::from(n))).is_ok());
        }
        assert!(attempts.0.lock().unwrap().len() <= MAX_COUNTERS);
    }

    #[test]
    fn a_right_password_clears_the_count() {
        let attempts = Attempts::default();
        for _ in 0..50 {
            assert!(attempts.count(HOME, "li", at(0)).is_ok());
            attempts.forgive(HOME, "li");
        }
    }
}
