//! What the log is told of the manifest directory: each thing once, and nothing that is not so.

use std::collections::BTreeSet;

use runner_core::duration;
use runner_core::schedule::Problem;

use super::files::{Change, Contents};

/// What was told, and what waits to be told.
#[derive(Default)]
pub struct Log {
    clashes: BTreeSet<String>,
    /// Of files that are in order and kept out by another one.
    held: Vec<Change>,
}

impl Log {
    /// Tells what happened in one look.
    pub fn tell(&mut self, changes: Vec<Change>, contents: &Contents) {
        for change in self.true_now(changes, contents) {
            log_change(&change);
        }
        // Files that define what another one defines are no fault of one file, and so no change of one.
        let clashes = contents.problems.iter().filter(|p| p.code == "E401");
        let clashes: BTreeSet<String> = clashes.map(Problem::one_line).collect();
        for problem in clashes.difference(&self.clashes) {
            tracing::error!(problem, "manifest rejected");
        }
        self.clashes = clashes;
    }

    /// The changes without those that are not in force; these are held until they are.
    fn true_now(&mut self, changes: Vec<Change>, contents: &Contents) -> Vec<Change> {
        for change in &changes {
            self.held.retain(|held| held.place() != change.place());
        }
        let all = self.held.drain(..).chain(changes);
        let waits = |c: &Change| matches!(c, Change::Applied { .. }) && contents.clashing.contains(c.place());
        let (held, told) = all.partition(waits);
        self.held = held;
        told
    }
}

fn log_change(change: &Change) {
    match change {
        Change::Applied {
            place,
            functions,
            schedules,
        } => {
            tracing::info!(file = %place, functions = %functions.join(","), schedules, "manifest applied");
        }
        Change::Rejected {
            place,
            telling,
            errors,
            kept,
        } => {
            let in_force = if *kept {
                "the last good version"
            } else {
                "nothing of this file"
            };
            let problem = match errors.saturating_sub(1) {
                0 => telling.one_line(),
                1 => format!("{}; and 1 more error", telling.one_line()),
                more => format!("{}; and {more} more errors", telling.one_line()),
            };
            tracing::error!(file = %place, errors, in_force, %problem, "manifest rejected");
        }
        Change::Emptied { place, files, guard } => tracing::error!(
            code = "E410", dir = %place, files, guard = %duration::format(*guard),
            "all manifests are gone; what they define stays in force for a while (source.mass_delete)"
        ),
        Change::AllGone { place, files } => tracing::error!(
            code = "W410", dir = %place, files, "all manifests were removed; none is in force"
        ),
        Change::Removed { place, functions } => {
            tracing::info!(file = %place, functions = %functions.join(","), "manifest removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(place: &str) -> Change {
        Change::Applied {
            place: place.to_owned(),
            functions: vec!["a".to_owned()],
            schedules: 0,
        }
    }

    #[test]
    fn a_file_that_another_one_keeps_out_is_applied_when_that_one_is_gone() {
        let mut log = Log::default();
        let clash = Contents {
            clashing: BTreeSet::from(["b".to_owned()]),
            ..Contents::default()
        };
        assert_eq!(log.true_now(vec![applied("a"), applied("b")], &clash), [applied("a")]);
        assert_eq!(log.true_now(Vec::new(), &clash), []);
        assert_eq!(log.true_now(Vec::new(), &Contents::default()), [applied("b")]);
        assert_eq!(log.true_now(Vec::new(), &Contents::default()), []);
    }
}
