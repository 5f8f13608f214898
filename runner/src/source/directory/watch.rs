//! Watches the directories that were read. A reported change only means that a scan should come sooner.
//!
//! Replacements that the system does not report are found by comparing once a second. On file systems that do not report
//! changes by other machines, the periodic scan is the bound; that is logged at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::entry;
use super::fingerprint::{Fingerprint, Identity};

/// How long it must be quiet before a scan.
const QUIET: Duration = Duration::from_millis(50);

/// How long a scan may be delayed while further changes are reported.
const AT_MOST: Duration = Duration::from_millis(250);

/// How often the recorded state is compared with the present one.
const COMPARE: Duration = Duration::from_secs(1);

/// Watches each directory separately: one that cannot be watched affects only itself. Clones share the watcher.
#[derive(Clone)]
pub struct DirectoryWatcher {
    changed: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inner: Option<RecommendedWatcher>,
    /// Watched directories with their identities.
    watched: BTreeMap<PathBuf, Option<Identity>>,
    scanned: Arc<Fingerprint>,
    deaf: bool,
}

impl DirectoryWatcher {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            changed: Arc::default(),
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches replaced directories again; call before a scan.
    pub fn renew(&self) {
        let mut state = self.state();
        let now: Vec<_> = state
            .watched
            .keys()
            .map(|path| (path.clone(), Identity::of(path)))
            .collect();
        for (path, identity) in now {
            // Directories that cannot be watched are logged after the scan.
            state.watch(&path, identity).ok();
        }
    }

    /// Watches what a scan has read. A directory that is watched only from now on may have changed since, so there is another
    /// scan.
    pub fn follow(&self, scanned: Fingerprint) {
        let mut state = self.state();
        state.open(&self.changed);
        let directories: BTreeSet<&PathBuf> = scanned.directories().iter().map(|(path, _)| path).collect();
        let is_gone = |path: &&PathBuf| !directories.contains(path);
        let gone: Vec<PathBuf> = state.watched.keys().filter(is_gone).cloned().collect();
        for path in gone {
            state.forget(&path);
        }
        let (mut late, mut deaf) = (false, None);
        for (path, identity) in scanned.directories() {
            match state.watch(path, *identity) {
                Ok(news) => late |= news,
                Err(error) => deaf = Some((path.clone(), error)),
            }
        }
        state.scanned = Arc::new(scanned);
        state.log_unwatched(deaf);
        if late {
            self.changed.notify_one();
        }
    }

    /// Whether anything was replaced since the scan.
    fn differs(&self) -> bool {
        let scanned = Arc::clone(&self.state().scanned);
        scanned.is_past()
    }

    /// Calls `wake` for reported changes, once it is quiet for a moment, and for replacements; until stopped.
    pub async fn pass_on(self, wake: impl Fn() + Send, stop: CancellationToken) {
        let mut compare = interval(COMPARE);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => self.quiet().await,
                _ = compare.tick() => {
                    let this = self.clone();
                    let differs = tokio::task::spawn_blocking(move || this.differs());
                    if !differs.await.unwrap_or(false) {
                        continue;
                    }
                }
            }
            wake();
        }
    }

    /// Waits until no change is reported for a moment, but not for long.
    async fn quiet(&self) {
        let quiet = async { while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        // Either way a scan follows.
        tokio::time::timeout(AT_MOST, quiet).await.ok();
    }
}

impl State {
    fn open(&mut self, changed: &Arc<Notify>) {
        if self.inner.is_some() {
            return;
        }
        let changed = Arc::clone(changed);
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|e| concerns(&e)) {
                changed.notify_one();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        match RecommendedWatcher::new(on_event, config) {
            Ok(inner) => self.inner = Some(inner),
            Err(error) => self.log_unwatched(Some((PathBuf::new(), error))),
        }
    }

    /// Watches a directory, unless it is watched already. Returns whether that is new.
    fn watch(&mut self, path: &Path, identity: Option<Identity>) -> notify::Result<bool> {
        if self.watched.get(path).is_some_and(|known| *known == identity) {
            return Ok(false);
        }
        self.forget(path);
        let Some(inner) = &mut self.inner else {
            return Ok(false);
        };
        inner.watch(path, RecursiveMode::NonRecursive)?;
        self.watched.insert(path.to_owned(), identity);
        Ok(true)
    }

    fn forget(&mut self, path: &Path) {
        if self.watched.remove(path).is_some()
            && let Some(inner) = &mut self.inner
        {
            // A removed directory is no longer watched.
            inner.unwatch(path).ok();
        }
    }

    /// Logs once that some directories are not watched.
    fn log_unwatched(&mut self, deaf: Option<(PathBuf, notify::Error)>) {
        let was = std::mem::replace(&mut self.deaf, deaf.is_some());
        if let Some((path, error)) = deaf.filter(|_| !was) {
            tracing::warn!(
                code = "manifests_not_watched", dir = %path.display(), %error,
                "a manifest directory cannot be watched; changes are found by comparing, those inside a file at the next periodic look"
            );
        }
    }
}

/// Reading is an event too, and our own scans must not cause further ones; nor must writes to unrelated files.
fn concerns(event: &Event) -> bool {
    let in_manifest = || {
        let name = |path: &PathBuf| path.file_name().map(entry::shown);
        event
            .paths
            .iter()
            .filter_map(name)
            .any(|name| entry::is_manifest(&name))
    };
    let matters = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write) && in_manifest(),
        EventKind::Modify(ModifyKind::Data(_)) => in_manifest(),
        _ => true,
    };
    event.need_rescan() || matters
}

/// The name of the file system of this directory, if it does not report changes by other machines.
#[must_use]
pub fn silent_system(dir: &Path) -> Option<&'static str> {
    let found = nix::sys::statfs::statfs(dir).ok()?;
    // The type differs between platforms.
    let number = u32::try_from(i128::from(found.filesystem_type().0) & 0xffff_ffff).ok()?;
    SILENT.iter().find(|(magic, _)| *magic == number).map(|(_, name)| *name)
}

const SILENT: [(u32, &str); 17] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
];
