//! Which bad events are kept, by the names of their documents: how many, of which trigger, since when, and where the next one
//! goes. Their content is in `kept`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_queue::{Broker, BrokerResult, MAX_DOCUMENT_NAMES};

/// The kind of their documents.
pub(super) const KIND: &str = "bad-messages";

/// How many are kept of a trigger and host; the oldest make way.
const KEPT: u64 = 32;

/// For how long.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The name of one.
pub(super) fn name(trigger: &str, host: &str, place: u64) -> String {
    format!("{trigger}@{host}#{place}")
}

/// The trigger, host and place in a name. No host has an `@`.
fn parts(name: &str) -> Option<(&str, &str, u64)> {
    let (trigger, rest) = name.rsplit_once('@')?;
    let (host, place) = rest.rsplit_once('#')?;
    let place = place.parse().ok().filter(|place| *place < KEPT)?;
    Some((trigger, host, place))
}

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SavedName {
    name: String,
    /// When it was kept, to the second at least.
    at: Timestamp,
}

/// Names of events that are kept, the newest first.
#[derive(Debug, Clone, Default)]
pub struct SavedNames(Vec<SavedName>);

/// How many events of one trigger are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedOfTrigger {
    /// Its id.
    pub trigger: String,
    /// How many.
    pub count: usize,
    /// When the newest was kept.
    pub newest: Timestamp,
}

impl SavedNames {
    /// Those of the last `span` before `now`.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn of_last(broker: &dyn Broker, span: Duration, now: Timestamp) -> BrokerResult<Self> {
        let begin = now.checked_sub(span).unwrap_or(Timestamp::MIN);
        Self::read(broker, begin.checked_add(KEPT_FOR).unwrap_or(Timestamp::MAX)).await
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn all(broker: &dyn Broker) -> BrokerResult<Self> {
        Self::read(broker, broker.now().await?).await
    }

    async fn read(broker: &dyn Broker, after: Timestamp) -> BrokerResult<Self> {
        let names = broker.document_names(KIND, after).await?.into_iter();
        let kept_at = |expires: Timestamp| expires.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN);
        let all = names.map(|one| SavedName {
            at: kept_at(one.expires),
            name: one.name,
        });
        Ok(Self(all.collect()))
    }

    /// Whether there may be more than these.
    #[must_use]
    pub fn are_cut(&self) -> bool {
        self.0.len() >= MAX_DOCUMENT_NAMES
    }

    /// The names of one trigger, or of all, the newest first.
    #[must_use]
    pub fn of(&self, trigger: Option<&str>) -> Vec<String> {
        let wanted =
            |one: &&SavedName| trigger.is_none_or(|wanted| parts(&one.name).is_some_and(|(of, ..)| of == wanted));
        self.0.iter().filter(wanted).map(|one| one.name.clone()).collect()
    }

    /// How many there are of each trigger, in the order of their ids.
    #[must_use]
    pub fn by_trigger(&self) -> Vec<SavedOfTrigger> {
        let mut found: BTreeMap<&str, SavedOfTrigger> = BTreeMap::new();
        for one in &self.0 {
            let Some((trigger, ..)) = parts(&one.name) else {
                continue;
            };
            let counted = found.entry(trigger).or_insert_with(|| SavedOfTrigger {
                trigger: trigger.to_owned(),
                count: 0,
                newest: one.at,
            });
            counted.count += 1;
            counted.newest = counted.newest.max(one.at);
        }
        found.into_values().collect()
    }

    /// Where the next one of this trigger and host goes: behind the newest, so that it takes the place of the oldest.
    fn next_place(&self, trigger: &str, host: &str) -> u64 {
        let own = self.0.iter().filter_map(|one| match parts(&one.name) {
            Some((of, on, place)) if (of, on) == (trigger, host) => Some((place, one.at)),
            _ => None,
        });
        place_behind(&own.collect())
    }
}

/// The place behind the newest of these. Several may be of the same second: then behind the last of them.
fn place_behind(kept: &BTreeMap<u64, Timestamp>) -> u64 {
    let newest = kept.values().max();
    let of_newest = kept.iter().filter(|(_, at)| Some(*at) == newest);
    let behind = of_newest.map(|(place, _)| behind(*place));
    let mut free = behind.filter(|place| kept.get(place) != newest);
    free.next_back().unwrap_or(0)
}

/// The place after this one.
fn behind(place: u64) -> u64 {
    (place + 1) % KEPT
}

/// Where the next one of each trigger goes. What is not here is asked of the broker.
#[derive(Debug, Default)]
pub(super) struct NextPlaces(Mutex<BTreeMap<String, u64>>);

impl NextPlaces {
    /// The place of the next one, which from now on is taken.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub(super) async fn take(&self, broker: &dyn Broker, trigger: &str, host: &str) -> BrokerResult<u64> {
        if let Some(next) = self.places().get_mut(trigger) {
            let place = *next;
            *next = behind(place);
            return Ok(place);
        }
        let place = SavedNames::all(broker).await?.next_place(trigger, host);
        self.places().insert(trigger.to_owned(), behind(place));
        Ok(place)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn saved(names: &[(&str, i64)]) -> SavedNames {
        let one = |(name, seconds): &(&str, i64)| SavedName {
            name: (*name).to_owned(),
            at: at(*seconds),
        };
        SavedNames(names.iter().map(one).collect())
    }

    #[test]
    fn the_next_one_goes_behind_the_newest() {
        let place = |kept: &[(u64, i64)]| place_behind(&kept.iter().map(|(place, s)| (*place, at(*s))).collect());
        assert_eq!(place(&[]), 0);
        assert_eq!(place(&[(0, 1)]), 1);
        assert_eq!(place(&[(0, 1), (1, 2), (2, 3)]), 3);
        // All at once, also around the end.
        assert_eq!(place(&[(3, 5), (4, 5), (5, 5)]), 6);
        assert_eq!(place(&[(30, 5), (31, 5), (0, 5), (1, 5)]), 2);
        // After a round the oldest makes way.
        let full: Vec<(u64, i64)> = (0..32).map(|n| (n, if n < 7 { 100 + n } else { n } as i64)).collect();
        assert_eq!(place(&full), 7);
        let of_a_second: Vec<(u64, i64)> = (0..32).map(|n| (n, 5)).collect();
        assert_eq!(place(&of_a_second), 0);
        // One that was deleted leaves a place free.
        assert_eq!(place(&[(0, 1), (2, 3)]), 3);
    }

    #[test]
    fn a_name_has_trigger_and_host() {
        let names = saved(&[
            ("a:x@h1#4", 9),
            ("a@b:x@h1#0", 8),
            ("a:x@h2#31", 7),
            ("a:x@h1#3", 6),
            ("odd", 5),
            ("a:x@h#99", 4),
        ]);
        assert_eq!(names.next_place("a:x", "h1"), 5);
        assert_eq!(names.next_place("a:x", "h2"), 0);
        assert_eq!(names.next_place("a:x", "h3"), 0);
        assert_eq!(names.of(Some("a:x")), ["a:x@h1#4", "a:x@h2#31", "a:x@h1#3"]);
        assert_eq!(names.of(None).len(), 6);
        let counts: Vec<(String, usize, Timestamp)> = names
            .by_trigger()
            .into_iter()
            .map(|one| (one.trigger, one.count, one.newest))
            .collect();
        assert_eq!(counts, [("a:x".to_owned(), 3, at(9)), ("a@b:x".to_owned(), 1, at(8))]);
        assert!(!names.are_cut());
    }
}
