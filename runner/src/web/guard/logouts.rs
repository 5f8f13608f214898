//! Sessions that were logged out before they expired. Which sessions are valid otherwise is in `session`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Logouts remembered; when full, the one that would expire first is dropped. About 400 kB.
const LOGOUTS: usize = 2048;

/// Sessions that were logged out, so that a copied cookie is worthless afterwards.
///
/// Per process: a restart forgets them, and other instances do not learn of them.
#[derive(Debug, Default)]
pub struct Logouts(Mutex<HashMap<String, Timestamp>>);

impl Logouts {
    /// Ends the session of this cookie, which would have expired by itself at `ends` at the latest.
    pub fn add(&self, cookie: &str, ends: Timestamp, now: Timestamp) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|_, ends| *ends > now);
        let first = left.iter().min_by_key(|(_, ends)| **ends).map(|(c, _)| c.clone());
        if let Some(first) = first.filter(|_| left.len() >= LOGOUTS) {
            left.remove(&first);
        }
        left.insert(cookie.to_owned(), ends);
    }

    /// Whether this session was logged out.
    pub fn has(&self, cookie: &str) -> bool {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.contains_key(cookie)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_logout_is_forgotten_once_its_session_is_over() {
        let logouts = Logouts::default();
        logouts.add("a", at(10), at(0));
        assert!(logouts.has("a") && !logouts.has("b"));
        logouts.add("b", at(20), at(9));
        assert!(logouts.has("a"), "its session would still be valid");
        logouts.add("c", at(20), at(10));
        assert!(!logouts.has("a") && logouts.has("b"));
    }

    #[test]
    fn a_full_list_forgets_the_session_that_ends_first() {
        let logouts = Logouts::default();
        for number in 0..LOGOUTS {
            let ends = if number == 7 { 50 } else { 100 };
            logouts.add(&number.to_string(), at(ends), at(0));
        }
        logouts.add("one more", at(100), at(0));
        assert!(!logouts.has("7") && logouts.has("0") && logouts.has("one more"));
    }
}
