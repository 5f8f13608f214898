//! Task types whose runs are recorded although no manifest defines them, and how often they run: one that runs very often has
//! its runs counted instead, until it runs less often.
//!
//! Each process measures what it ran itself. Functions of manifests are recorded at any rate and are not known here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, FUNCTION_PREFIX, TypePattern};
use serde::{Deserialize, Serialize};

use super::{BrokerResult, Documents, Presence};

/// Runs of a type a second, in one process, above which they are counted instead of recorded.
pub const MOST_RECORDED_RUNS: u32 = 100;

/// Before the name of a type where names of functions stand, which have no colon.
pub(crate) const OF_TYPE: &str = "type:";

/// The kind of the documents in which instances say what their types do.
pub const TYPE_RUNS_KIND: &str = "type-runs";

/// Rates are measured over this many seconds.
const WINDOW_SECONDS: i64 = 5;

/// A type is recorded again after this many windows with at most four fifths of the bound, so that one at the bound does not
/// change every few seconds.
const QUIET_WINDOWS: u32 = 4;

/// Types that one process follows; further ones leave no records, as every type does by default.
const MAX_TYPES: usize = 200;

/// Bytes of a type that is recorded: it is part of keys.
const MAX_TYPE_BYTES: usize = 256;

/// What one process knows of the runs of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeRuns {
    /// The task type.
    pub kind: String,
    /// Runs a second in the last whole window.
    pub per_second: u32,
    /// When the last one ended.
    pub last_at: Timestamp,
    /// The last time during which runs were only counted, which may continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<CountedRuns>,
}

impl TypeRuns {
    /// The runs that are being counted instead of recorded.
    #[must_use]
    pub fn counting(&self) -> Option<CountedRuns> {
        self.counted.filter(|counted| counted.until.is_none())
    }
}

/// Runs that were counted, not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedRuns {
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` while that continues.
    pub until: Option<Timestamp>,
    /// How many.
    pub runs: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// Which types have records, by name or by prefix and `*`; shared by a worker and its broker. They may change at any time.
#[derive(Debug, Default)]
pub struct RecordedTypes {
    /// Whether there are patterns, for the hot path: where there are none, it takes no lock.
    any: AtomicBool,
    patterns: RwLock<Vec<String>>,
    types: Mutex<HashMap<String, TypeState>>,
}

#[derive(Debug)]
struct TypeState {
    window_began: Timestamp,
    in_window: u32,
    per_second: u32,
    quiet: u32,
    last_at: Timestamp,
    counted: Option<CountedRuns>,
}

impl TypeState {
    fn new(now: Timestamp) -> Self {
        Self {
            window_began: now,
            in_window: 0,
            per_second: 0,
            quiet: 0,
            last_at: now,
            counted: None,
        }
    }

    fn is_counting(&self) -> bool {
        self.counted.is_some_and(|counted| counted.until.is_none())
    }

    /// Ends the window if it is over. A clock that was set back begins a new one.
    fn look(&mut self, kind: &str, now: Timestamp) {
        let seconds = now.duration_since(self.window_began).as_secs();
        if (0..WINDOW_SECONDS).contains(&seconds) {
            return;
        }
        let windows = u32::try_from(seconds.max(1) / WINDOW_SECONDS).unwrap_or(u32::MAX);
        self.per_second = u32::try_from(i64::from(self.in_window) / seconds.max(1)).unwrap_or(u32::MAX);
        (self.window_began, self.in_window) = (now, 0);
        if self.per_second > MOST_RECORDED_RUNS / 5 * 4 {
            self.quiet = 0;
            return;
        }
        self.quiet = self.quiet.saturating_add(windows.max(1));
        if let Some(counted) = self.counted.as_mut().filter(|counted| counted.until.is_none())
            && self.quiet >= QUIET_WINDOWS
        {
            counted.until = Some(now);
            let runs = counted.runs;
            tracing::info!(
                code = "runs_recorded",
                kind,
                runs,
                "runs of this type are recorded again"
            );
        }
    }

    /// Counts one; returns whether it is to be recorded.
    fn add(&mut self, kind: &str, failed: bool, now: Timestamp) -> bool {
        self.look(kind, now);
        self.in_window = self.in_window.saturating_add(1);
        self.last_at = now;
        let most = MOST_RECORDED_RUNS.saturating_mul(u32::try_from(WINDOW_SECONDS).unwrap_or(1));
        if !self.is_counting() && self.in_window > most {
            self.quiet = 0;
            self.counted = Some(CountedRuns {
                since: now,
                until: None,
                runs: 0,
                failed: 0,
            });
            tracing::warn!(
                code = "runs_counted",
                kind,
                most = MOST_RECORDED_RUNS,
                "more runs of this type a second than are recorded; they are counted until there are fewer"
            );
        }
        match self.counted.as_mut().filter(|counted| counted.until.is_none()) {
            Some(counted) => {
                counted.runs += 1;
                counted.failed += u64::from(failed);
                false
            }
            None => true,
        }
    }
}

impl RecordedTypes {
    /// The types of these patterns: names, or prefixes and `*`. Those of functions have records anyway and are left out.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Self {
            any: AtomicBool::new(!patterns.is_empty()),
            patterns: RwLock::new(patterns),
            types: Mutex::default(),
        }
    }

    /// Means other types from now on. What was measured of those that are meant no more stays, as facts about their past; of
    /// them no run is counted any longer.
    pub fn set(&self, patterns: &[String]) {
        if *self.patterns.read().unwrap_or_else(PoisonError::into_inner) == patterns {
            return;
        }
        let mut current = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        patterns.clone_into(&mut current);
        self.any.store(!patterns.is_empty(), Ordering::Relaxed);
        // Two changes at once must not leave the flag of one with the patterns of the other.
        drop(current);
    }

    /// Whether any type is meant.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn means(&self, kind: &str) -> bool {
        let fits = |pattern: &String| TypePattern::parse(pattern).matches(kind);
        let patterns = || self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        self.any()
            && patterns().iter().any(fits)
            && !kind.starts_with(FUNCTION_PREFIX)
            && kind.len() <= MAX_TYPE_BYTES
            && !kind.chars().any(char::is_control)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TypeState>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a run of this type is recorded now.
    #[must_use]
    pub fn records(&self, kind: &str) -> bool {
        if !self.means(kind) {
            return false;
        }
        let types = self.lock();
        match types.get(kind) {
            Some(state) => !state.is_counting(),
            None => types.len() < MAX_TYPES,
        }
    }

    /// Counts a run that has ended, and returns whether it is to be recorded. One that only put the task back has ended no run.
    pub fn note(&self, kind: &str, outcome: AttemptOutcome, now: Timestamp) -> bool {
        if !self.means(kind) || !ends_a_run(outcome) {
            return false;
        }
        let (mut types, failed) = (self.lock(), outcome.is_failure());
        let is_full = types.len() >= MAX_TYPES;
        match types.get_mut(kind) {
            Some(state) => state.add(kind, failed, now),
            None if is_full => false,
            None => {
                let state = types.entry(kind.to_owned()).or_insert_with(|| TypeState::new(now));
                state.add(kind, failed, now)
            }
        }
    }

    /// What is known of each type that has run, by name; ends windows that are over.
    #[must_use]
    pub fn look(&self, now: Timestamp) -> Vec<TypeRuns> {
        let mut types = self.lock();
        let mut all: Vec<TypeRuns> = types
            .iter_mut()
            .map(|(kind, state)| {
                state.look(kind, now);
                TypeRuns {
                    kind: kind.clone(),
                    per_second: state.per_second,
                    last_at: state.last_at,
                    counted: state.counted,
                }
            })
            .collect();
        all.sort_by(|a, b| a.kind.cmp(&b.kind));
        all
    }
}

/// Whether an attempt that ended like this is a run, or the end of one.
pub(crate) fn ends_a_run(outcome: AttemptOutcome) -> bool {
    !matches!(
        outcome,
        AttemptOutcome::Snoozed | AttemptOutcome::Requeued | AttemptOutcome::NoHandler
    )
}

/// The name under which [`Runs::runs`](super::Runs::runs) has the runs of a type that no manifest defines.
#[must_use]
pub fn runs_of_type(kind: &str) -> String {
    format!("{OF_TYPE}{kind}")
}

/// What instances say of the runs of types: each with the name of the instance, by type. One that is on the list of servers no more
/// has ended, and has stopped counting with its last run.
///
/// # Errors
///
/// Those of the broker.
pub async fn type_runs<B: Documents + Presence + ?Sized>(broker: &B) -> BrokerResult<Vec<(String, TypeRuns)>> {
    let documents = broker.documents(TYPE_RUNS_KIND).await?;
    let mut all: Vec<(String, TypeRuns)> = Vec::new();
    for (instance, body) in documents {
        let of_it: Vec<TypeRuns> = serde_json::from_slice(&body).unwrap_or_default();
        all.extend(of_it.into_iter().map(|runs| (instance.clone(), runs)));
    }
    all.sort_by(|a, b| (&a.1.kind, &a.0).cmp(&(&b.1.kind, &b.0)));
    if all.iter().any(|(_, runs)| runs.counting().is_some()) {
        let servers = broker.servers().await?.into_iter();
        let live: Vec<String> = servers.map(|server| server.info.name()).collect();
        for (_, runs) in all.iter_mut().filter(|(instance, _)| !live.contains(instance)) {
            let last = runs.last_at;
            if let Some(counted) = &mut runs.counted {
                counted.until.get_or_insert(last);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn only_named_types_are_recorded() {
        let types = RecordedTypes::new(vec!["mail:*".to_owned(), "report".to_owned(), "fn:*".to_owned()]);
        for kind in ["mail:send", "report"] {
            assert!(
                types.records(kind) && types.note(kind, AttemptOutcome::Success, at(0)),
                "{kind}"
            );
        }
        for kind in ["reports", "other", "fn:backup", "mail:a\nb"] {
            assert!(
                !types.records(kind) && !types.note(kind, AttemptOutcome::Success, at(0)),
                "{kind}"
            );
        }
        assert!(
            !types.note("report", AttemptOutcome::Snoozed, at(0)),
            "no run has ended"
        );
        assert!(!RecordedTypes::default().any());
        let seen: Vec<String> = types.look(at(1)).into_iter().map(|runs| runs.kind).collect();
        assert_eq!(seen, ["mail:send", "report"]);
    }

    #[test]
    fn a_type_that_runs_too_often_is_counted_and_comes_back() {
        let types = RecordedTypes::new(vec!["*".to_owned()]);
        let run = |second| types.note("often", AttemptOutcome::Success, at(second));
        // 100 a second are recorded; one more in the window is not.
        assert!((0..500).all(|n| run(n / 100)));
        assert!(!run(4) && !types.records("often"));
        assert!(types.records("rare"));
        let known = types.look(at(4)).remove(0);
        assert_eq!(
            known.counting().map(|counted| (counted.since, counted.runs)),
            Some((at(4), 1))
        );
        // It continues a little slower, which is not slow enough.
        for second in 5..60 {
            assert!((0..90).all(|_| !run(second)), "{second}");
        }
        assert_eq!(types.look(at(60)).remove(0).per_second, 90);
        types.note("often", AttemptOutcome::Archived, at(60));
        // Four quiet windows.
        for second in [65, 70, 75] {
            let _known = types.look(at(second));
            assert!(!types.records("often"), "{second}");
        }
        let known = types.look(at(81)).remove(0);
        let counted = known.counted.unwrap();
        assert_eq!(
            (counted.runs, counted.failed, counted.until),
            (2 + 55 * 90, 1, Some(at(81)))
        );
        assert!(types.records("often") && run(82));
    }

    #[test]
    fn other_types_are_meant_after_a_change() {
        let types = RecordedTypes::default();
        let run = |kind: &str, second| types.note(kind, AttemptOutcome::Success, at(second));
        assert!(!types.any() && !run("report", 0));
        types.set(&["report".to_owned()]);
        assert!(types.any() && types.records("report"));
        assert_eq!((0..501).filter(|_| run("report", 0)).count(), 500);
        assert!(types.look(at(0))[0].counting().is_some());
        types.set(&["mail:*".to_owned()]);
        assert!(run("mail:send", 1) && !run("report", 1) && !types.records("report"));
        // That it was counted has ended, although it did not run again.
        let known = types.look(at(60));
        let report = known.iter().find(|runs| runs.kind == "report").unwrap();
        assert!(report.counting().is_none() && report.counted.is_some(), "{report:?}");
        types.set(&[]);
        assert!(!types.any() && !run("mail:send", 61));
    }

    #[test]
    fn a_long_silence_is_quiet_and_a_clock_set_back_harms_nothing() {
        let types = RecordedTypes::new(vec!["often".to_owned()]);
        let run = |second| types.note("often", AttemptOutcome::Success, at(second));
        assert_eq!((0..501).filter(|_| run(0)).count(), 500);
        assert!(run(600), "recorded again with the first run");
        assert!(run(-600) && run(-599));
    }

    #[test]
    fn a_process_follows_a_bounded_number_of_types() {
        let types = RecordedTypes::new(vec!["*".to_owned()]);
        let recorded = (0..MAX_TYPES + 50).filter(|n| types.note(&format!("t{n}"), AttemptOutcome::Success, at(0)));
        assert_eq!(recorded.count(), MAX_TYPES);
        assert!(!types.records("one-more"));
    }
}
