//! One manifest file: the version in force, a newer one that is held back, and the errors of its present text. No I/O, and no
//! knowledge of the other files.

use std::time::Duration;

use tokio::time::Instant;

use runner_core::schedule::{Problem, Severity};

use super::change::{FileChange, FileStep, ScanTime};
use super::claims::Claimant;
use super::entry::{FileContent, Hash};
use super::saved_files::SavedFile;
use super::version::{VersionInForce, origin};
use crate::source::manifest::{self, FunctionEntry, Reading, ScheduleContext};
use crate::source::status::Rejected;

/// When a text that does not parse is read again; after the last time it is an error.
pub const LOOKS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The versions of one file.
#[derive(Default)]
pub struct ManifestFile {
    /// In force.
    pub good: Option<VersionInForce>,
    /// Valid, and not in force yet.
    pub next: Option<VersionInForce>,
    /// Why `next` is not in force.
    pub clash: Option<Problem>,
    /// The present text, if it has errors.
    pub bad: Option<RejectedVersion>,
    /// Since when the file may still be being written.
    doubtful: Option<Instant>,
    /// Since when it has been gone.
    pub gone: Option<Instant>,
    /// Whether it is unreadable.
    pub hidden: bool,
}

/// A text with errors.
pub struct RejectedVersion {
    hash: Hash,
    names: Vec<String>,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

/// The functions of a file that is not in force.
fn rejected(names: &[String], place: &str, problems: &[Problem]) -> Vec<Rejected> {
    let one = |name: &String| Rejected {
        id: None,
        name: name.clone(),
        origin: origin(place),
        problems: problems.to_vec(),
    };
    names.iter().map(one).collect()
}

/// Sort key: low for errors that explain others. An unknown key is mostly a misspelt one, and what it was to set is then
/// reported as missing.
fn rank(problem: &Problem) -> u8 {
    match problem.code.as_str() {
        "E110" => 0,
        "E130" => 2,
        _ => 1,
    }
}

impl ManifestFile {
    /// Restores the version that was in force before the start, if it is valid under the present settings.
    pub fn restore(&mut self, saved: SavedFile, place: &str, context: &ScheduleContext, now: ScanTime<'_>) {
        let reading = manifest::read(&saved.text, place, context);
        if self.good.is_some() || !reading.is_good() {
            return;
        }
        self.good = Some(VersionInForce {
            hash: FileContent::text(saved.text.clone()).hash,
            found: now.instant,
            since: saved.since,
            text: saved.text,
            restored: true,
            entries: reading.entries,
            warnings: reading.problems,
        });
    }

    /// Whether the version in force is known only from before the start.
    pub fn is_restored(&self) -> bool {
        self.good.as_ref().is_some_and(|good| good.restored)
    }

    /// Processes the content of the file.
    pub fn take(
        &mut self,
        found: FileContent,
        place: &str,
        context: &ScheduleContext,
        now: ScanTime<'_>,
        patient: bool,
        step: &mut FileStep,
    ) {
        let is = |version: &Option<VersionInForce>| version.as_ref().is_some_and(|v| v.hash == found.hash);
        if is(&self.good) {
            (self.next, self.bad, self.doubtful) = (None, None, None);
            step.changes
                .extend(self.good.as_mut().and_then(|good| good.confirm(place)));
            return;
        }
        if is(&self.next) {
            (self.bad, self.doubtful) = (None, None);
            return;
        }
        if self.bad.as_ref().is_some_and(|b| b.hash == found.hash) {
            return;
        }
        let reading = match &found.content {
            Ok(text) => manifest::read(text, place, context),
            Err((code, reason)) => {
                // A link without a target is usually one that is being swapped.
                Reading {
                    unfinished: true,
                    ..Reading::failed(place, code, reason.clone())
                }
            }
        };
        if reading.is_good() {
            self.accept(found, reading, now);
            return;
        }
        if patient && reading.unfinished {
            let since = *self.doubtful.get_or_insert(now.instant);
            let waited = now.instant.duration_since(since);
            if let Some(look) = LOOKS.iter().find(|look| **look > waited) {
                step.look_again(*look - waited);
                return;
            }
        }
        self.reject(found.hash, reading, place, step);
    }

    fn accept(&mut self, found: FileContent, reading: Reading, now: ScanTime<'_>) {
        let next = VersionInForce {
            hash: found.hash,
            found: now.instant,
            since: now.shown.to_owned(),
            text: found.content.unwrap_or_default(),
            restored: false,
            entries: reading.entries,
            warnings: reading.problems,
        };
        (self.next, self.bad, self.doubtful) = (Some(next), None, None);
    }

    fn reject(&mut self, hash: Hash, reading: Reading, place: &str, step: &mut FileStep) {
        let Reading { problems, names, .. } = reading;
        let errors = || problems.iter().filter(|p| p.severity == Severity::Error);
        if let Some(telling) = errors().min_by_key(|p| rank(p)).cloned() {
            let (place, errors) = (place.to_owned(), errors().count());
            let last_good = self.good.as_ref().map(|good| good.since.clone());
            step.changes.push(FileChange::Rejected {
                place,
                telling,
                errors,
                last_good,
            });
        }
        let bad = RejectedVersion { hash, names, problems };
        (self.next, self.bad, self.doubtful) = (None, Some(bad), None);
    }

    /// Its names, in force and claimed.
    pub fn claimant(&self) -> Claimant<'_> {
        Claimant {
            held: self.good.as_ref().map(VersionInForce::name_texts),
            wanted: self.next.as_ref().map(|next| (next.name_texts(), next.found)),
            gone: self.gone,
        }
    }

    /// Puts the newer version in force.
    pub fn promote(&mut self, place: &str) -> Option<FileChange> {
        let next = self.next.take()?;
        let change = next.applied(place);
        (self.good, self.clash) = (Some(next), None);
        Some(change)
    }

    /// Takes everything out of force.
    pub fn drop_version(&mut self, place: &str) -> Option<FileChange> {
        let functions = self.good.take()?.names();
        let place = place.to_owned();
        Some(FileChange::Removed { place, functions })
    }

    /// Records that the newer version defines a name of another file.
    pub fn refuse(&mut self, other: Option<&Self>) {
        let Some(next) = &self.next else { return };
        let good = other.and_then(|other| other.good.as_ref());
        let others: Vec<&FunctionEntry> = good.iter().flat_map(|v| &v.entries).collect();
        let clash = next.entries.iter().find_map(|entry| {
            let same = |other: &&&FunctionEntry| other.function.name == entry.function.name;
            Some((entry, *others.iter().find(same)?))
        });
        self.clash = clash.map(|(entry, first)| {
            let (name, place) = (&entry.function.name, &first.origin.place);
            let text = format!("name \"{name}\" is already defined in {place}; this file is not applied");
            let mut problem = Problem::error("E401", text, entry.origin.clone());
            problem.hint =
                Some("a file in force keeps its names; rename the function, or remove one of the two".to_owned());
            problem
        });
    }

    /// Number of functions it has, or would have.
    pub fn functions(&self) -> usize {
        self.next.as_ref().or(self.good.as_ref()).map_or(0, |v| v.entries.len())
    }

    /// The problems of its present text.
    pub fn problems(&self, place: &str, context: &ScheduleContext) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.bad.iter().flat_map(|b| b.problems.clone()).collect();
        problems.extend(self.clash.clone());
        let Some(good) = &self.good else { return problems };
        problems.extend(good.warnings.iter().cloned());
        if self.bad.is_some() {
            problems.extend(good.outdated(place, "the file has errors", context));
        } else if self.clash.is_some() {
            problems.extend(good.outdated(place, "the file is not applied", context));
        } else if self.hidden {
            problems.extend(good.outdated(place, "the file cannot be looked at", context));
        }
        problems
    }

    /// Its functions, if no version of it is in force.
    pub fn rejected(&self, place: &str) -> Vec<Rejected> {
        if self.good.is_some() {
            return Vec::new();
        }
        let bad = self.bad.iter().flat_map(|b| rejected(&b.names, place, &b.problems));
        let next = self.next.as_ref().zip(self.clash.as_ref());
        let held_back = next.map(|(next, clash)| rejected(&next.names(), place, std::slice::from_ref(clash)));
        bad.chain(held_back.into_iter().flatten()).collect()
    }
}
