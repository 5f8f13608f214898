//! Problems of sources: which ones last, and are reported. Where they are found is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::notification::{Notification, NotifyOn};

use super::identity::joined;

/// Shorter ones are no news: files are written in steps, and servers start again.
const LASTS: Duration = Duration::from_secs(30);

/// A source that cannot be read, or something in it that is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceProblem {
    /// The directory or database, or the file or row.
    pub place: String,
    /// In a few words for a title.
    pub title: String,
    /// Why; empty if nothing is known.
    pub why: String,
}

/// The problems that there were at the last look, and since when.
#[derive(Default)]
pub(super) struct KnownProblems(BTreeMap<(String, String), Timestamp>);

impl KnownProblems {
    /// Those that last, each with what identifies it: on every instance the same, and each day another one, so that what lasts is
    /// reported each day.
    pub(super) fn look(&mut self, problems: Vec<SourceProblem>, now: Timestamp) -> Vec<(Notification, String)> {
        let mut seen = BTreeMap::new();
        let mut found = Vec::new();
        for SourceProblem { place, title, why } in problems {
            let key = (place.clone(), title.clone());
            let since = self.0.get(&key).copied().unwrap_or(now);
            seen.insert(key, since);
            if Duration::try_from(now.duration_since(since)).unwrap_or_default() < LASTS {
                continue;
            }
            let day = now.as_second().div_euclid(86_400).to_string();
            let what = joined([&place, &title, &day]);
            let mut notification = Notification::new("", NotifyOn::Problem, now, title).error(&why);
            let error = notification.error.as_deref().unwrap_or_default();
            notification.text = format!("{}: {error}\n{place}", notification.title);
            found.push((notification, what));
        }
        self.0 = seen;
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_lasts_is_reported_once_a_day() {
        let mut seen = KnownProblems::default();
        let problem = SourceProblem {
            place: "manifests/a.yaml".to_owned(),
            title: "a is refused".to_owned(),
            why: "E101 x".to_owned(),
        };
        let mut ids = |problems: &[&SourceProblem], second| -> Vec<String> {
            let now = Timestamp::from_second(second).unwrap();
            let found = seen.look(problems.iter().map(|one| (*one).clone()).collect(), now);
            found.into_iter().map(|(_, what)| what).collect()
        };
        assert!(ids(&[&problem], 0).is_empty());
        assert_eq!(ids(&[&problem], 30), ["manifests/a.yaml~a is refused~0"]);
        assert_eq!(ids(&[&problem], 86_399), ["manifests/a.yaml~a is refused~0"]);
        assert_eq!(ids(&[&problem], 86_400), ["manifests/a.yaml~a is refused~1"]);
        assert!(ids(&[], 86_410).is_empty());
        assert!(ids(&[&problem], 86_420).is_empty(), "it began again");
    }
}
