//! What is in force of all manifest files, given one look at the directory after another. No I/O.
//!
//! A file with any error keeps its last good version, and so does one that cannot be looked at. A text that may still be
//! being written, and a file that is gone, are given a moment before they count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use runner_core::duration;
use runner_core::function::Function;
use runner_core::schedule::{Definition, Problem};

use super::change::{FileChange, FileStep, ScanTime};
use super::claims::{self, NameVerdict};
use super::file::{LOOKS, ManifestFile, origin};
use super::saved_files::{FilesToSave, SavedFiles};
use super::scan::{NameWarning, ScanError, Snapshot};
use crate::source::manifest::{FunctionEntry, ScheduleContext};
use crate::source::settings::DEFAULT_MASS_DELETE;
use crate::source::status::Rejected;
use crate::source::types::is_about_type;

/// How long a file may be gone before its functions are: a rename over it takes less.
const GRACE: Duration = Duration::from_millis(500);

/// How long most of the functions must be gone before they are: a swapped or emptied directory takes less.
const MASS_GRACE: Duration = Duration::from_secs(2);

/// The code of the error that all files are gone, while what they said is in force.
pub const ALL_FILES_GONE: &str = "E410";

/// Up to this many functions may go at once without doubt, unless they are those of several files and none is left.
const FEW: usize = 3;

/// All files that are or were in the directory.
pub struct Files {
    /// The directory as people know it.
    dir: String,
    context: ScheduleContext,
    files: BTreeMap<String, ManifestFile>,
    mass: Option<(Instant, BTreeSet<String>)>,
    /// How long all files must be gone before their functions are.
    guard: Duration,
    emptied: Option<Emptied>,
    troubles: BTreeMap<String, Known>,
    remarks: BTreeMap<String, NameWarning>,
    /// What was in force before the start, until the first look.
    kept: Option<SavedFiles>,
}

/// The directory has lost all its files.
#[derive(Debug, Clone, Copy)]
struct Emptied {
    files: usize,
    /// Whether they are still in force.
    held: bool,
}

/// An entry that cannot be looked at.
struct Known {
    trouble: ScanError,
    since: Instant,
    /// Whether it has lasted long enough to be reported.
    told: bool,
}

/// What all files together say.
#[derive(Debug, Default)]
pub struct Contents {
    /// In the order of the paths.
    pub functions: Vec<Function>,
    /// In the order of the paths.
    pub definitions: Vec<Definition>,
    /// Functions of files that are not in force in any version.
    pub rejected: Vec<Rejected>,
    /// In the order of the paths.
    pub problems: Vec<Problem>,
    /// Whether there may be files of which nothing is known.
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
            troubles: BTreeMap::new(),
            remarks: BTreeMap::new(),
            kept: None,
        }
    }

    /// Says what was in force before the start. At the next look it counts for files that are there, or may be, and of
    /// which nothing is in force: so the last good version stays in force, and whoever has a name keeps it. If no file is
    /// left, it counts for all, as if they had been seen to go.
    pub fn remember(&mut self, kept: SavedFiles) {
        self.kept = Some(kept);
    }

    /// When it was known what was in force before the start, until a look has used that.
    #[must_use]
    pub fn remembered(&self) -> Option<Timestamp> {
        self.kept.as_ref().map(|kept| kept.at)
    }

    fn restore(&mut self, snapshot: &Snapshot, now: ScanTime<'_>) -> bool {
        let Some(kept) = self.kept.take() else { return false };
        // One file alone goes at once: that is how a person ends it.
        let emptied = snapshot.files.is_empty() && self.files.is_empty() && kept.files.len() > 1;
        for file in kept.files {
            if emptied || snapshot.files.contains_key(&file.path) || snapshot.hides(&file.path) {
                let place = self.place(&file.path);
                let known = self.files.entry(file.path.clone()).or_default();
                known.restore(file, &place, &self.context, now);
            }
        }
        true
    }

    /// What is in force, to be known after a restart.
    #[must_use]
    pub fn to_keep(&self) -> FilesToSave<'_> {
        let files = self.files.iter();
        FilesToSave::of(files.filter_map(|(path, file)| Some((path.as_str(), file.good.as_ref()?))))
    }

    /// Holds all files for so long when none is left.
    pub fn set_guard(&mut self, guard: Duration) {
        self.guard = guard;
    }

    /// Takes in one look. Without patience nothing is given a moment: what is wrong is wrong at once.
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
        self.trouble(snapshot.troubles, now.instant, patient, &mut step);
        self.remarks = snapshot.remarks;
        if restored {
            step.restored = self.files.values().filter(|file| file.is_restored()).count();
        }
        step
    }

    /// Brings newer versions into force, unless another file has a name that they want.
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

    /// Notes what cannot be looked at. What may be over in a moment is reported after that moment.
    fn trouble(&mut self, found: BTreeMap<String, ScanError>, now: Instant, patient: bool, step: &mut FileStep) {
        let mut before = std::mem::take(&mut self.troubles);
        for (path, trouble) in found {
            let old = before.remove(&path).filter(|known| known.trouble == trouble);
            let mut known = old.unwrap_or(Known {
                trouble,
                since: now,
                told: false,
            });
            let moment = LOOKS.last().copied().unwrap_or_default();
            let waited = now.duration_since(known.since);
            if !known.told && known.trouble.passing && patient && waited < moment {
                step.look_again(moment - waited);
            } else if !known.told {
                known.told = true;
                let ScanError { code, reason, .. } = known.trouble.clone();
                let place = self.place(&path);
                step.changes.push(FileChange::Unreadable { place, code, reason });
            }
            self.troubles.insert(path, known);
        }
        for (path, _) in before.into_iter().filter(|(_, known)| known.told) {
            if !self.troubles.contains_key(&path) {
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

    /// Drops files that have been gone for long enough.
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
        problem.hint = Some("put them back, or let them go; source.mass_delete says how long they stay".to_owned());
        problem
    }

    /// What is in force, and what is wrong.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = Contents {
            incomplete: !self.troubles.is_empty(),
            ..Contents::default()
        };
        let emptied = self.emptied.map(|emptied| self.emptied_problem(emptied));
        contents.problems.extend(emptied);
        for (path, known) in self.troubles.iter().filter(|(_, known)| known.told) {
            let ScanError { code, reason, .. } = &known.trouble;
            let problem = Problem::error(*code, reason.clone(), origin(&self.place(path)));
            contents.problems.push(problem);
        }
        for (path, file) in &self.files {
            let place = self.place(path);
            contents.rejected.extend(file.rejected(&place));
            contents.problems.extend(file.problems(&place, &self.context));
            for entry in file.good.iter().flat_map(|good| &good.entries) {
                contents.functions.push(entry.function.clone());
                contents.definitions.extend(entry.schedules.iter().cloned());
            }
        }
        contents.problems.extend(self.rivals());
        let remarks = self.remarks.iter();
        contents
            .problems
            .extend(remarks.map(|(path, remark)| self.remark(path, *remark)));
        contents
    }

    /// Functions that state other options for a type of tasks than the one whose options hold.
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
                "the name of the file is not UTF-8; the bytes in question are shown as \\x..",
                "rename the file",
            ),
        };
        let mut problem = Problem::warning(code, text, origin(&self.place(path)));
        problem.hint = Some(hint.to_owned());
        problem
    }
}
