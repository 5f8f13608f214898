//! All manifest files and the versions in force, updated by one scan after another. No I/O.
//!
//! A file with any error keeps its last good version, and so does an unreadable one. A text that may still be being
//! written, and a missing file, take effect only after a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use runner_core::duration;
use runner_core::function::Function;
use runner_core::schedule::{Definition, Problem};
use runner_core::trigger::TriggerDefinition;

use super::change::{FileChange, FileStep, ScanTime};
use super::claims::{self, NameVerdict};
use super::file::{LOOKS, ManifestFile};
use super::saved_files::{FilesToSave, SavedFiles};
use super::scan::{NameWarning, ScanError, Snapshot};
use super::version::origin;
use crate::source::manifest::{FunctionEntry, ScheduleContext};
use crate::source::settings::DEFAULT_MASS_DELETE;
use crate::source::status::Rejected;
use crate::source::types::is_about_type;

/// How long a file may be missing before its functions are removed: a rename over it takes less.
const GRACE: Duration = Duration::from_millis(500);

/// How long most of the functions must be missing before they are removed: swapping or emptying a directory takes less.
const MASS_GRACE: Duration = Duration::from_secs(2);

/// The code of the error that all files are gone while their definitions are still in force.
pub const ALL_FILES_GONE: &str = "E410";

/// Up to this many functions are removed at once without delay, unless they are those of several files and none is
/// left.
const FEW: usize = 3;

/// All files that are or were in the directory.
pub struct Files {
    /// The directory as shown to people.
    dir: String,
    context: ScheduleContext,
    files: BTreeMap<String, ManifestFile>,
    mass: Option<(Instant, BTreeSet<String>)>,
    /// How long all files must be missing before their functions are removed.
    guard: Duration,
    emptied: Option<Emptied>,
    unreadable: BTreeMap<String, Known>,
    remarks: BTreeMap<String, NameWarning>,
    /// The files in force before the start, until the first scan.
    saved: Option<SavedFiles>,
}

/// The directory has lost all its files.
#[derive(Debug, Clone, Copy)]
struct Emptied {
    files: usize,
    /// Whether their definitions are still in force.
    held: bool,
}

/// An unreadable entry.
struct Known {
    error: ScanError,
    since: Instant,
    /// Whether it has lasted long enough to be reported.
    reported: bool,
}

/// The combined content of all files.
#[derive(Debug, Default)]
pub struct Contents {
    /// In the order of their paths.
    pub functions: Vec<Function>,
    /// In the order of their paths.
    pub definitions: Vec<Definition>,
    /// In the order of their paths.
    pub triggers: Vec<TriggerDefinition>,
    /// Where each function is, by name.
    pub places: BTreeMap<String, String>,
    /// Functions of files of which no version is in force.
    pub rejected: Vec<Rejected>,
    /// In the order of their paths.
    pub problems: Vec<Problem>,
    /// Whether there may be files that cannot be read.
    pub incomplete: bool,
}

impl Files {
    /// No files yet.
    #[must_use]
    pub fn new(dir: impl Into<String>, context: ScheduleContext) -> Self {
        Self {
            dir: dir.into(),
            context,
            files: BTreeMap::new(),
            mass: None,
            guard: DEFAULT_MASS_DELETE,
            emptied: None,
            unreadable: BTreeMap::new(),
            remarks: BTreeMap::new(),
            saved: None,
        }
    }

    /// Sets the files that were in force before the start. The next scan uses them for files that exist, or may exist,
    /// and of which no version is in force: so the last good version stays in force, and files keep their names. If no
    /// file is left, it uses them for all, as if they had just disappeared.
    pub fn remember(&mut self, saved: SavedFiles) {
        self.saved = Some(saved);
    }

    /// When the files from before the start were in force, until a scan has used them.
    #[must_use]
    pub fn remembered(&self) -> Option<Timestamp> {
        self.saved.as_ref().map(|saved| saved.at)
    }

    fn restore(&mut self, snapshot: &Snapshot, now: ScanTime<'_>) -> bool {
        let Some(saved) = self.saved.take() else { return false };
        // A single missing file is removed at once: a person deleted it.
        let emptied = snapshot.files.is_empty() && self.files.is_empty() && saved.files.len() > 1;
        for file in saved.files {
            if emptied || snapshot.files.contains_key(&file.path) || snapshot.hides(&file.path) {
                let place = self.place(&file.path);
                let known = self.files.entry(file.path.clone()).or_default();
                known.restore(file, &place, &self.context, now);
            }
        }
        true
    }

    /// The files in force, to be saved for a restart.
    #[must_use]
    pub fn to_save(&self) -> FilesToSave<'_> {
        let files = self.files.iter();
        FilesToSave::of(files.filter_map(|(path, file)| Some((path.as_str(), file.good.as_ref()?))))
    }

    /// Sets how long definitions stay in force when no file is left.
    pub fn set_guard(&mut self, guard: Duration) {
        self.guard = guard;
    }

    /// Processes one scan. Without patience nothing is delayed: every error counts at once.
    pub fn apply(&mut self, snapshot: Snapshot, now: ScanTime<'_>, patient: bool) -> FileStep {
        let mut step = FileStep::default();
        let restored = self.restore(&snapshot, now);
        let mut missing = BTreeSet::new();
        for (path, file) in &mut self.files {
            let absent = !snapshot.files.contains_key(path);
            file.hidden = absent && snapshot.hides(path);
            if absent && !file.hidden {
                missing.insert(path.clone());
            }
        }
        for (path, found) in snapshot.files {
            let place = self.place(&path);
            let file = self.files.entry(path).or_default();
            file.gone = None;
            file.take(found, &place, &self.context, now, patient, &mut step);
        }
        self.forget(missing, now.instant, &mut step);
        self.settle(&mut step);
        self.record_unreadable(snapshot.unreadable, now.instant, patient, &mut step);
        self.remarks = snapshot.remarks;
        if restored {
            step.restored = self.files.values().filter(|file| file.is_restored()).count();
        }
        step
    }

    /// Puts newer versions in force, unless another file has one of their names.
    fn settle(&mut self, step: &mut FileStep) {
        let paths: Vec<String> = self.files.keys().cloned().collect();
        let claimants: Vec<_> = self.files.values().map(ManifestFile::claimant).collect();
        let verdicts = claims::settle(&claimants);
        let mut applied = Vec::new();
        for (path, verdict) in paths.iter().zip(&verdicts) {
            let place = self.place(path);
            let Some(file) = self.files.get_mut(path) else { continue };
            match verdict {
                NameVerdict::Newer => applied.extend(file.promote(&place)),
                NameVerdict::Superseded => step.changes.extend(file.drop_version(&place)),
                NameVerdict::Same => file.clash = None,
                NameVerdict::Refused { .. } => (),
            }
        }
        step.changes.extend(applied);
        for (path, verdict) in paths.iter().zip(&verdicts) {
            let NameVerdict::Refused { by } = verdict else { continue };
            if let Some(mut file) = self.files.remove(path) {
                file.refuse(paths.get(*by).and_then(|other| self.files.get(other)));
                self.files.insert(path.clone(), file);
            }
        }
    }

    /// Records unreadable entries. Errors that may pass are reported only after a moment.
    fn record_unreadable(
        &mut self,
        found: BTreeMap<String, ScanError>,
        now: Instant,
        patient: bool,
        step: &mut FileStep,
    ) {
        let mut before = std::mem::take(&mut self.unreadable);
        for (path, error) in found {
            let old = before.remove(&path).filter(|known| known.error == error);
            let mut known = old.unwrap_or(Known {
                error,
                since: now,
                reported: false,
            });
            let moment = LOOKS.last().copied().unwrap_or_default();
            let waited = now.duration_since(known.since);
            if !known.reported && known.error.passing && patient && waited < moment {
                step.look_again(moment - waited);
            } else if !known.reported {
                known.reported = true;
                let ScanError { code, reason, .. } = known.error.clone();
                let place = self.place(&path);
                step.changes.push(FileChange::Unreadable { place, code, reason });
            }
            self.unreadable.insert(path, known);
        }
        for (path, _) in before.into_iter().filter(|(_, known)| known.reported) {
            if !self.unreadable.contains_key(&path) {
                let place = self.place(&path);
                step.changes.push(FileChange::Readable { place });
            }
        }
    }

    fn place(&self, path: &str) -> String {
        match path {
            "" => self.dir.clone(),
            path => format!("{}/{path}", self.dir),
        }
    }

    /// Removes files that have been missing for long enough.
    fn forget(&mut self, missing: BTreeSet<String>, now: Instant, step: &mut FileStep) {
        let all: usize = self.files.values().map(ManifestFile::functions).sum();
        let leaving = || missing.iter().filter_map(|path| self.files.get(path));
        let lost: usize = leaving().map(ManifestFile::functions).sum();
        let files = leaving().filter(|file| file.good.is_some()).count();
        let emptied = lost > 0 && lost == all && (files > 1 || lost > FEW);
        let mass = emptied || lost > FEW && lost * 2 > all;
        self.mass = match self.mass.take() {
            Some((since, set)) if mass && set == missing => Some((since, set)),
            _ => mass.then(|| (now, missing.clone())),
        };
        let news = self.mass.as_ref().is_some_and(|(since, _)| *since == now);
        if emptied && news {
            let (place, guard) = (self.dir.clone(), self.guard);
            step.changes.push(FileChange::Emptied { place, files, guard });
        }
        let mass_grace = if emptied { self.guard } else { MASS_GRACE };
        let mut held = false;
        for path in missing {
            let Some(file) = self.files.get_mut(&path) else {
                continue;
            };
            let own = *file.gone.get_or_insert(now);
            let (since, grace) = match &self.mass {
                Some((since, _)) => (*since, mass_grace),
                None => (own, GRACE),
            };
            let waited = now.duration_since(since);
            if waited < grace && file.good.is_some() {
                step.look_again(grace - waited);
                held = true;
                continue;
            }
            let place = self.place(&path);
            let removed = self.files.remove(&path);
            step.changes
                .extend(removed.and_then(|mut file| file.drop_version(&place)));
        }
        if emptied {
            self.emptied = Some(Emptied { files, held });
            if !held {
                let place = self.dir.clone();
                step.changes.push(FileChange::AllGone { place, files });
            }
        } else if all > lost {
            self.emptied = None;
        }
    }

    fn emptied_problem(&self, emptied: Emptied) -> Problem {
        let files = emptied.files;
        let origin = origin(&self.dir);
        if !emptied.held {
            let text = format!("all {files} files were removed; no manifest is in force");
            return Problem::warning("W410", text, origin);
        }
        let guard = duration::format(self.guard);
        let text = format!("all {files} files are gone; what they define stays in force for {guard}");
        let mut problem = Problem::error(ALL_FILES_GONE, text, origin);
        problem.hint = Some("put them back, or wait; source.mass_delete says how long they stay".to_owned());
        problem
    }

    /// The content in force, and its problems.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = Contents {
            incomplete: !self.unreadable.is_empty(),
            ..Contents::default()
        };
        let emptied = self.emptied.map(|emptied| self.emptied_problem(emptied));
        contents.problems.extend(emptied);
        for (path, known) in self.unreadable.iter().filter(|(_, known)| known.reported) {
            let ScanError { code, reason, .. } = &known.error;
            let problem = Problem::error(*code, reason.clone(), origin(&self.place(path)));
            contents.problems.push(problem);
        }
        for (path, file) in &self.files {
            let place = self.place(path);
            contents.rejected.extend(file.rejected(&place));
            contents.problems.extend(file.problems(&place, &self.context));
            for entry in file.good.iter().flat_map(|good| &good.entries) {
                let (name, place) = (entry.function.name.clone(), entry.origin.place.clone());
                contents.places.insert(name, place);
                contents.functions.push(entry.function.clone());
                contents.definitions.extend(entry.schedules.iter().cloned());
                contents.triggers.extend(entry.triggers.iter().cloned());
            }
        }
        contents.problems.extend(self.rivals());
        let remarks = self.remarks.iter();
        contents
            .problems
            .extend(remarks.map(|(path, remark)| self.remark(path, *remark)));
        contents
    }

    /// Warns about functions that state other options for a task type than those in effect.
    fn rivals(&self) -> Vec<Problem> {
        let good = self.files.values().filter_map(|file| file.good.as_ref());
        let entries = good.flat_map(|good| &good.entries);
        let mut about: Vec<&FunctionEntry> = entries
            .filter(|entry| is_about_type(&entry.function, !entry.schedules.is_empty()))
            .collect();
        about.sort_by(|a, b| a.function.name.cmp(&b.function.name));
        let mut first: BTreeMap<String, &FunctionEntry> = BTreeMap::new();
        let mut rivals = Vec::new();
        for entry in about {
            let kind = entry.function.task_type();
            let holder = *first.entry(kind.clone()).or_insert(entry);
            if holder.function.options == entry.function.options {
                continue;
            }
            let (a, b) = (&holder.function.name, &entry.function.name);
            let (there, here) = (&holder.origin.place, &entry.origin.place);
            let text = format!(
                "{a:?} ({there}) and {b:?} ({here}) state different options for tasks of the type {kind:?}; those of {a:?} \
                 hold"
            );
            let mut problem = Problem::error("E402", text, entry.origin.clone());
            problem.hint = Some("state them in one file, or give the other function a schedule".to_owned());
            rivals.push(problem);
        }
        rivals
    }

    fn remark(&self, path: &str, remark: NameWarning) -> Problem {
        let (code, text, hint) = match remark {
            NameWarning::NotRead => (
                "W106",
                "the file looks like a manifest, and is not read: its name does not end in .yaml or .yml",
                "rename it if it is one",
            ),
            NameWarning::NotUtf8 => (
                "W105",
                "the name of the file is not UTF-8; the invalid bytes are shown as \\x..",
                "rename the file",
            ),
        };
        let mut problem = Problem::warning(code, text, origin(&self.place(path)));
        problem.hint = Some(hint.to_owned());
        problem
    }
}
