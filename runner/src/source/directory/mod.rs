//! The manifest directory: scanned when changes are reported, and periodically.

mod change;
mod claims;
mod entry;
mod file;
mod files;
mod fingerprint;
mod log;
mod saved_files;
mod scan;
mod version;
mod watch;

#[cfg(test)]
mod odd_tests;
#[cfg(test)]
mod replaced_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use runner_core::duration;
use runner_core::function::{Function, Functions};
use runner_core::schedule::{Definition, Problem, Source};

use super::after;
use super::calls;
use super::manifest::{self, ScheduleContext};
use super::saved_state::{SavedState, SavedText};
use super::settings::ManifestSettings;
use super::shared::{Refresh, Shared, SourcePart};
use super::state_store::StateStore;
use super::status::{SourceError, SourceState};
use crate::background::BackgroundLoop;

pub use files::ALL_FILES_GONE;

use change::{FileStep, ScanTime};
use files::{Contents, Files};
use log::DirectoryLog;
use saved_files::SavedFiles;
use scan::Snapshot;
use watch::DirectoryWatcher;

/// The kind under which the files in force are saved.
const KIND: &str = "manifests";

/// The background loop for the manifest directory.
pub struct Directory {
    settings: ManifestSettings,
    files: Arc<Mutex<Files>>,
    watcher: Option<DirectoryWatcher>,
    shared: Arc<Shared>,
    trigger: Arc<Refresh>,
    log: DirectoryLog,
    memory: SavedState,
    patient: bool,
}

/// The result of one scan.
struct LookResult {
    step: FileStep,
    contents: Contents,
    fingerprint: u64,
}

impl Directory {
    /// Reads nothing yet.
    pub fn new(
        settings: ManifestSettings,
        context: ScheduleContext,
        shared: Arc<Shared>,
        trigger: Arc<Refresh>,
        patient: bool,
    ) -> Self {
        let place = settings.dir.display().to_string();
        let files = Files::new(place.trim_end_matches('/'), context);
        Self {
            files: Arc::new(Mutex::new(files)),
            watcher: None,
            settings,
            shared,
            trigger,
            log: DirectoryLog::default(),
            memory: SavedState::new(None, KIND, ""),
            patient,
        }
    }

    /// Saves the files in force in `keep`, for a restart while a file is broken or the directory is unreadable.
    #[must_use]
    pub fn keeping(mut self, keep: Option<Arc<dyn StateStore>>) -> Self {
        // By absolute path: directories of the same name in different places are different.
        let dir = std::path::absolute(&self.settings.dir).unwrap_or_else(|_| self.settings.dir.clone());
        self.memory = SavedState::new(keep, KIND, &dir.display().to_string());
        self
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how long definitions stay in force when no file is left.
    #[must_use]
    pub fn guarded(self, guard: Duration) -> Self {
        self.files().set_guard(guard);
        self
    }

    /// Scans once. Returns when to scan again, if sooner than usual.
    pub async fn look(&mut self) -> Option<Duration> {
        if let Some(saved) = self.memory.recall::<SavedFiles>().await {
            self.files().remember(saved);
        }
        let now = self.shared.now();
        let shown = show(now);
        let (files, dir, patient) = (Arc::clone(&self.files), self.settings.dir.clone(), self.patient);
        let watcher = self.watcher.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            let snapshot = scan_watched(&dir, watcher.as_ref())?;
            Ok(take(&files, snapshot, &shown, patient))
        });
        let scanned = scanned.await;
        let scanned =
            scanned.unwrap_or_else(|e| Err(SourceError::Failed(format!("reading the directory failed: {e}"))));
        match scanned {
            Ok(scanned) => {
                let (again, fingerprint) = (scanned.step.again, scanned.fingerprint);
                let part = self.adopt(scanned);
                if self.shared.recovered(Source::Manifest) {
                    tracing::info!(dir = %self.settings.dir.display(), "manifest directory can be read again");
                }
                self.shared.publish(Source::Manifest, part, now);
                self.keep(fingerprint, now).await;
                again
            }
            Err(error) => {
                self.fall_back(&error, now);
                self.unavailable(&error);
                None
            }
        }
    }

    /// Logs the changes and replaces the functions; the caller publishes the rest.
    fn adopt(&mut self, scanned: LookResult) -> SourcePart {
        let LookResult { step, contents, .. } = scanned;
        self.log.log_changes(&step.changes, &contents);
        if step.restored > 0 {
            tracing::warn!(
                code = "manifests_restored", dir = %self.settings.dir.display(), files = step.restored,
                "files that have errors or cannot be read are in force as they were before the start"
            );
        }
        self.shared.functions().replace(contents.functions);
        SourcePart {
            definitions: contents.definitions,
            triggers: contents.triggers,
            places: Arc::new(contents.places),
            rejected: contents.rejected,
            problems: contents.problems,
            incomplete: contents.incomplete,
            ..SourcePart::default()
        }
    }

    async fn keep(&mut self, fingerprint: u64, now: Timestamp) {
        if !self.memory.wants(fingerprint) {
            return;
        }
        let files = Arc::clone(&self.files);
        let body = tokio::task::spawn_blocking(move || -> SavedText {
            let files = files.lock().unwrap_or_else(PoisonError::into_inner);
            files.to_save().body(now)
        });
        if let Ok(body) = body.await {
            self.memory.save(fingerprint, body).await;
        }
    }

    /// Restores the files from before the start, if the directory exists and could not be read since.
    fn fall_back(&mut self, error: &SourceError, now: Timestamp) {
        if matches!(error, SourceError::Absent(_)) {
            return;
        }
        let Some(at) = self.files().remembered() else { return };
        let scanned = take(&self.files, Snapshot::unreadable(&error.to_string()), &show(now), false);
        let part = self.adopt(scanned);
        self.shared.restore(Source::Manifest, part, at);
    }

    fn unavailable(&self, error: &SourceError) {
        if !self.shared.fail(Source::Manifest, error) {
            return;
        }
        match self.shared.state_of(Source::Manifest) {
            Some(SourceState::Stale { .. }) => tracing::error!(
                reason = %error,
                "manifest directory cannot be read; its last known schedules stay in force"
            ),
            // Not a problem: there are no manifests yet.
            _ if matches!(error, SourceError::Absent(_)) => tracing::warn!(
                code = "W107",
                dir = %self.settings.dir.display(),
                "there is no manifest directory yet; `runner init` makes one with a sample (see also manifests.dir)"
            ),
            _ => tracing::error!(reason = %error, "manifest directory cannot be read; no manifest is in force"),
        }
    }

    /// Watches the directory from the next scan on, and reports changes until stopped.
    pub fn listen(&mut self, stop: CancellationToken) {
        let dir = &self.settings.dir;
        if let Some(system) = watch::silent_system(dir) {
            let rescan = duration::format(self.settings.rescan);
            tracing::info!(
                code = "manifests_on_silent_system", dir = %dir.display(), file_system = system, rescan,
                "this file system does not report changes by other machines; they are found by the next periodic scan (manifests.rescan)"
            );
        }
        let watcher = DirectoryWatcher::new();
        let trigger = Arc::clone(&self.trigger);
        let wake = move || trigger.wake.notify_one();
        tokio::spawn(watcher.clone().pass_on(wake, stop));
        self.watcher = Some(watcher);
    }
}

/// One scan, between the steps before and after it that ensure that no change is missed.
fn scan_watched(dir: &Path, watcher: Option<&DirectoryWatcher>) -> Result<Snapshot, SourceError> {
    let Some(watcher) = watcher else {
        return scan::scan(dir).map_err(|(error, _)| error);
    };
    watcher.renew();
    match scan::scan(dir) {
        Ok(mut snapshot) => {
            watcher.follow(std::mem::take(&mut snapshot.seen));
            Ok(snapshot)
        }
        Err((error, seen)) => {
            watcher.follow(seen);
            Err(error)
        }
    }
}

fn show(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn take(files: &Mutex<Files>, snapshot: Snapshot, shown: &str, patient: bool) -> LookResult {
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    let moment = ScanTime {
        instant: tokio::time::Instant::now(),
        shown,
    };
    let step = files.apply(snapshot, moment, patient);
    LookResult {
        step,
        contents: files.contents(),
        fingerprint: files.to_save().fingerprint(),
    }
}

#[async_trait]
impl BackgroundLoop for Directory {
    fn name(&self) -> &'static str {
        "manifests"
    }

    fn every(&self) -> Duration {
        self.settings.rescan
    }

    async fn turn(&mut self) -> Option<Duration> {
        let asked = self.trigger.begin();
        let again = self.look().await;
        self.trigger.end(asked);
        again.map(|again| again.min(self.settings.rescan))
    }
}

/// The content of files and directories.
#[derive(Debug, Default)]
pub struct Checked {
    /// All problems.
    pub problems: Vec<Problem>,
    /// The functions that would be in force.
    pub functions: Vec<Function>,
    /// The schedules that would be in force.
    pub definitions: Vec<Definition>,
}

/// Reads these files and directories, for checking before anything runs. `beside`: functions of other files, which these may
/// name.
#[must_use]
pub fn check_paths(paths: &[PathBuf], context: &ScheduleContext, beside: &[Function]) -> Checked {
    let mut checked = Checked::default();
    let mut triggers = Vec::new();
    for path in paths {
        let place = path.display().to_string();
        if path.is_dir() {
            let mut files = Files::new(place.trim_end_matches('/'), context.clone());
            match scan::scan(path) {
                Ok(snapshot) => {
                    let moment = ScanTime {
                        instant: tokio::time::Instant::now(),
                        shown: "",
                    };
                    files.apply(snapshot, moment, false);
                    let contents = files.contents();
                    checked.problems.extend(contents.problems);
                    checked.functions.extend(contents.functions);
                    checked.definitions.extend(contents.definitions);
                    triggers.extend(contents.triggers);
                }
                Err((error, _)) => {
                    let failed = manifest::Reading::failed(&place, "E106", error.to_string());
                    checked.problems.extend(failed.problems);
                }
            }
            continue;
        }
        let reading = match scan::read_one(path).map(|found| found.content) {
            Some(Ok(text)) => manifest::read(&text, &place, context),
            Some(Err((code, reason))) => manifest::Reading::failed(&place, code, reason),
            None => manifest::Reading::failed(&place, "E106", "the file does not exist"),
        };
        if reading.is_good() {
            for entry in reading.entries {
                checked.functions.push(entry.function);
                checked.definitions.extend(entry.schedules);
                triggers.extend(entry.triggers);
            }
        }
        checked.problems.extend(reading.problems);
    }
    let types = after::types_of(beside.iter().chain(&checked.functions));
    let between = after::resolve(&types, &mut triggers);
    checked.problems.extend(between);
    // Functions of one handler have one type of tasks: the schema of one counts for the schedules of the others.
    let functions = Functions::new(checked.functions.clone());
    let refused = calls::take_refused(&functions, &mut checked.definitions);
    checked
        .problems
        .extend(refused.into_iter().flat_map(|one| one.problems));
    checked
}
