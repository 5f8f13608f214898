//! What is in force of each manifest file, given one look at the directory after another. No I/O.
//!
//! A file with any error keeps its last good version. A text that may still be being written, and a
//! file that is gone, are given a moment before they count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use runner_core::duration;
use runner_core::schedule::{Definition, Origin, Problem, Severity, Source};
use runner_sdk::Function;

use super::scan::{Found, Hash, Snapshot};
use crate::source::manifest::{self, Context, Entry, Reading};
use crate::source::settings::DEFAULT_MASS_DELETE;
use crate::source::status::Rejected;

/// When a text that does not parse is looked at again; after the last one it is an error.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// How long a file may be gone before its functions are: a rename over it takes less.
const GRACE: Duration = Duration::from_millis(500);

/// How long most of the functions must be gone before they are: a swapped or emptied directory takes less.
const MASS_GRACE: Duration = Duration::from_secs(2);

/// Up to this many functions may go at once without doubt, unless they are those of several files and none is left.
const FEW: usize = 3;

/// All files that are or were in the directory.
pub struct Files {
    /// The directory as people know it.
    dir: String,
    context: Context,
    files: BTreeMap<String, File>,
    mass: Option<(Instant, BTreeSet<String>)>,
    /// How long all files must be gone before their functions are.
    guard: Duration,
    emptied: Option<Emptied>,
}

/// The directory has lost all its files.
#[derive(Debug, Clone, Copy)]
struct Emptied {
    files: usize,
    /// Whether they are still in force.
    held: bool,
}

#[derive(Default)]
struct File {
    good: Option<Good>,
    bad: Option<Bad>,
    doubtful: Option<Instant>,
    gone: Option<Instant>,
}

struct Good {
    hash: Hash,
    /// Wall-clock text of when it was applied, for people.
    since: String,
    entries: Vec<Entry>,
    warnings: Vec<Problem>,
}

struct Bad {
    hash: Hash,
    names: Vec<String>,
    problems: Vec<Problem>,
}

/// Something that happened to a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new version is in force.
    Applied {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
        /// How many schedules it has.
        schedules: usize,
    },
    /// A new version is not in force.
    Rejected {
        /// The file.
        place: String,
        /// The error that explains most.
        telling: Problem,
        /// How many errors there are.
        errors: usize,
        /// Whether an older version stays in force.
        kept: bool,
    },
    /// The file is gone, and so are its functions.
    Removed {
        /// The file.
        place: String,
        /// Its functions.
        functions: Vec<String>,
    },
    /// All files are gone; what they define stays in force for a while.
    Emptied {
        /// The directory.
        place: String,
        /// How many.
        files: usize,
        /// How long they stay.
        guard: Duration,
    },
    /// None came back; no manifest is in force.
    AllGone {
        /// The directory.
        place: String,
        /// How many.
        files: usize,
    },
}

impl Change {
    /// The file.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Applied { place, .. }
            | Self::Rejected { place, .. }
            | Self::Removed { place, .. }
            | Self::Emptied { place, .. }
            | Self::AllGone { place, .. } => place,
        }
    }
}

/// What one look led to.
#[derive(Debug, Default)]
pub struct Step {
    /// In the order of the paths.
    pub changes: Vec<Change>,
    /// When to look again at the latest.
    pub again: Option<Duration>,
}

impl Step {
    fn look_again(&mut self, after: Duration) {
        // Just after the moment, so that the next look finds it has come.
        let after = after + Duration::from_millis(5);
        self.again = Some(self.again.map_or(after, |a| a.min(after)));
    }
}

/// What all files together say.
#[derive(Debug, Default)]
pub struct Contents {
    /// In the order of the paths.
    pub functions: Vec<Function>,
    /// In the order of the paths.
    pub definitions: Vec<Definition>,
    /// Files that are in order and not in force, as another one defines a function of the same name.
    pub clashing: BTreeSet<String>,
    /// Functions of files that are not in force in any version.
    pub rejected: Vec<Rejected>,
    /// In the order of the paths.
    pub problems: Vec<Problem>,
}

/// The moment of a look: one for waiting, one for people.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// For measuring.
    pub instant: Instant,
    /// For people.
    pub shown: &'a str,
}

impl Files {
    /// No files yet.
    #[must_use]
    pub fn new(dir: impl Into<String>, context: Context) -> Self {
        Self {
            dir: dir.into(),
            context,
            files: BTreeMap::new(),
            mass: None,
            guard: DEFAULT_MASS_DELETE,
            emptied: None,
        }
    }

    /// Holds all files for so long when none is left.
    pub fn set_guard(&mut self, guard: Duration) {
        self.guard = guard;
    }

    /// Takes in one look. Without patience nothing is given a moment: what is wrong is wrong at once.
    pub fn apply(&mut self, snapshot: Snapshot, now: Moment<'_>, patient: bool) -> Step {
        let mut step = Step::default();
        let missing: BTreeSet<String> = self
            .files
            .keys()
            .filter(|k| !snapshot.contains_key(*k))
            .cloned()
            .collect();
        for (path, found) in snapshot {
            let place = self.place(&path);
            let file = self.files.entry(path).or_default();
            file.gone = None;
            file.take(found, &place, &self.context, now, patient, &mut step);
        }
        self.forget(missing, now.instant, &mut step);
        step
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.dir)
    }

    /// Drops files that have been gone for long enough.
    fn forget(&mut self, missing: BTreeSet<String>, now: Instant, step: &mut Step) {
        let count = |names: &mut dyn Iterator<Item = &File>| -> usize {
            names.filter_map(|f| f.good.as_ref()).map(|g| g.entries.len()).sum()
        };
        let all = count(&mut self.files.values());
        let lost = count(&mut missing.iter().filter_map(|path| self.files.get(path)));
        let good = |path: &&String| self.files.get(*path).is_some_and(|f| f.good.is_some());
        let files = missing.iter().filter(good).count();
        let emptied = lost > 0 && lost == all && (files > 1 || lost > FEW);
        let mass = emptied || lost > FEW && lost * 2 > all;
        self.mass = match self.mass.take() {
            Some((since, set)) if mass && set == missing => Some((since, set)),
            _ => mass.then(|| (now, missing.clone())),
        };
        let news = self.mass.as_ref().is_some_and(|(since, _)| *since == now);
        if emptied && news {
            let (place, guard) = (self.dir.clone(), self.guard);
            step.changes.push(Change::Emptied { place, files, guard });
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
            if let Some(good) = self.files.remove(&path).and_then(|f| f.good) {
                let place = self.place(&path);
                step.changes.push(Change::Removed {
                    place,
                    functions: good.names(),
                });
            }
        }
        if emptied {
            self.emptied = Some(Emptied { files, held });
            if !held {
                let place = self.dir.clone();
                step.changes.push(Change::AllGone { place, files });
            }
        } else if all > lost {
            self.emptied = None;
        }
    }

    fn emptied_problem(&self, emptied: Emptied) -> Problem {
        let files = emptied.files;
        let origin = Origin {
            source: Source::Manifest,
            place: self.dir.clone(),
        };
        if !emptied.held {
            let text = format!("all {files} files were removed; no manifest is in force");
            return Problem::warning("W410", text, origin);
        }
        let guard = duration::format(self.guard);
        let text = format!("all {files} files are gone; what they define stays in force for {guard}");
        let mut problem = Problem::error("E410", text, origin);
        problem.hint = Some("put them back, or let them go; source.mass_delete says how long they stay".to_owned());
        problem
    }

    /// What is in force, and what is wrong.
    ///
    /// Of files that define the same function the first path in byte order wins, the same on every
    /// instance; files that are about to be forgotten come last, so that a renamed one wins at once.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::default();
        contents
            .problems
            .extend(self.emptied.map(|emptied| self.emptied_problem(emptied)));
        let mut taken: BTreeMap<&str, &Origin> = BTreeMap::new();
        let present = self.files.iter().filter(|(_, f)| f.gone.is_none());
        let leaving = self.files.iter().filter(|(_, f)| f.gone.is_some());
        for (path, file) in present.chain(leaving) {
            contents
                .problems
                .extend(file.bad.iter().flat_map(|b| b.problems.iter().cloned()));
            let Some(good) = &file.good else {
                let bad = file.bad.iter();
                let rejected = bad.flat_map(|b| rejected_of(&b.names, &self.place(path), &b.problems));
                contents.rejected.extend(rejected);
                continue;
            };
            let clash = good
                .entries
                .iter()
                .find_map(|entry| taken.get(entry.function.name.as_str()).map(|first| (entry, *first)));
            if let Some((entry, first)) = clash {
                if file.gone.is_none() {
                    let problem = clash_problem(entry, first);
                    let rejected = rejected_of(&good.names(), &self.place(path), std::slice::from_ref(&problem));
                    contents.rejected.extend(rejected);
                    contents.problems.push(problem);
                    contents.clashing.insert(self.place(path));
                }
                continue;
            }
            for entry in &good.entries {
                taken.insert(&entry.function.name, &entry.origin);
                contents.functions.push(entry.function.clone());
                contents.definitions.extend(entry.schedules.iter().cloned());
            }
            contents.problems.extend(good.warnings.iter().cloned());
            if file.bad.is_some() {
                contents.problems.extend(good.outdated(&self.place(path)));
            }
        }
        contents
    }
}

/// A rank, low for errors that explain others: what is misspelt is missed as well.
fn told_last(problem: &Problem) -> u8 {
    match problem.code.as_str() {
        "E110" if problem.message.contains("did you mean") => 0,
        "E130" => 2,
        _ => 1,
    }
}

/// The functions of a file that is not in force.
fn rejected_of(names: &[String], place: &str, problems: &[Problem]) -> Vec<Rejected> {
    let one = |name: &String| Rejected {
        id: None,
        name: name.clone(),
        origin: Origin {
            source: Source::Manifest,
            place: place.to_owned(),
        },
        problems: problems.to_vec(),
    };
    names.iter().map(one).collect()
}

fn clash_problem(entry: &Entry, first: &Origin) -> Problem {
    let name = &entry.function.name;
    let text = format!(
        "name \"{name}\" is already defined in {}; this file is not applied",
        first.place
    );
    Problem::error("E401", text, entry.origin.clone())
}

impl Good {
    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|e| e.function.name.clone()).collect()
    }

    /// Says of each schedule that it runs as an older version of its file says.
    fn outdated(&self, place: &str) -> Vec<Problem> {
        let text = format!("the file has errors; its version of {} stays in force", self.since);
        let warning = || {
            let origin = Origin {
                source: Source::Manifest,
                place: place.to_owned(),
            };
            Problem::warning("W104", text.clone(), origin)
        };
        let ids = self
            .entries
            .iter()
            .flat_map(|e| e.schedules.iter().map(|s| s.id.clone()));
        let mut all: Vec<Problem> = ids.map(|id| warning().about(id)).collect();
        if all.is_empty() {
            all.push(warning());
        }
        all
    }
}

impl File {
    fn take(&mut self, found: Found, place: &str, context: &Context, now: Moment<'_>, patient: bool, step: &mut Step) {
        if self.good.as_ref().is_some_and(|g| g.hash == found.hash) {
            (self.bad, self.doubtful) = (None, None);
            return;
        }
        if self.bad.as_ref().is_some_and(|b| b.hash == found.hash) {
            return;
        }
        let reading = match &found.content {
            Ok(text) => manifest::read(text, place, context),
            Err((code, reason)) => {
                // A link whose target is missing is mostly one that is being swapped.
                Reading {
                    unfinished: true,
                    ..Reading::failed(place, code, reason.clone())
                }
            }
        };
        if reading.is_good() {
            self.accept(found.hash, reading, place, now, step);
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

    fn accept(&mut self, hash: Hash, reading: Reading, place: &str, now: Moment<'_>, step: &mut Step) {
        let Reading {
            entries,
            problems: warnings,
            ..
        } = reading;
        let good = Good {
            hash,
            since: now.shown.to_owned(),
            entries,
            warnings,
        };
        step.changes.push(Change::Applied {
            place: place.to_owned(),
            functions: good.names(),
            schedules: good.entries.iter().map(|e| e.schedules.len()).sum(),
        });
        (self.good, self.bad, self.doubtful) = (Some(good), None, None);
    }

    fn reject(&mut self, hash: Hash, reading: Reading, place: &str, step: &mut Step) {
        let Reading { problems, names, .. } = reading;
        let errors = || problems.iter().filter(|p| p.severity == Severity::Error);
        if let Some(telling) = errors().min_by_key(|p| told_last(p)).cloned() {
            let (place, errors) = (place.to_owned(), errors().count());
            let kept = self.good.is_some();
            step.changes.push(Change::Rejected {
                place,
                telling,
                errors,
                kept,
            });
        }
        (self.bad, self.doubtful) = (Some(Bad { hash, names, problems }), None);
    }
}
