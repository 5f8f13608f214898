//! Hears of changes below a directory. A hint to look sooner, never the truth: who hears it rescans.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long nothing more must be heard before somebody looks.
const QUIET: Duration = Duration::from_millis(50);

/// How long a look may be put off while more is heard.
const AT_MOST: Duration = Duration::from_millis(250);

/// Listens to the directory and, as that may be swapped itself, to its parent.
pub struct Watcher {
    dir: PathBuf,
    heard: Arc<Notify>,
    inner: Option<RecommendedWatcher>,
    /// Device and inode of what is listened to.
    listened: Option<(u64, u64)>,
    deaf: bool,
}

impl Watcher {
    /// Not listening yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Self {
            dir,
            heard: Arc::new(Notify::new()),
            inner: None,
            listened: None,
            deaf: false,
        }
    }

    /// Told of every change, many times over.
    #[must_use]
    pub fn heard(&self) -> Arc<Notify> {
        Arc::clone(&self.heard)
    }

    /// Listens to the directory that stands there now; call before each look.
    pub fn listen(&mut self) {
        let now = std::fs::metadata(&self.dir).ok().map(|m| identity(&m));
        if self.inner.is_some() && now == self.listened {
            return;
        }
        self.listened = now;
        match self.start(now.is_some()) {
            Ok(watcher) => (self.inner, self.deaf) = (Some(watcher), false),
            Err(error) if !self.deaf => {
                self.deaf = true;
                let dir = self.dir.display();
                tracing::warn!(%dir, %error, "cannot watch the manifest directory; it is only read now and then");
            }
            Err(_) => (),
        }
    }

    fn start(&self, exists: bool) -> notify::Result<RecommendedWatcher> {
        let (dir, heard) = (self.dir.clone(), Arc::clone(&self.heard));
        let config = Config::default().with_follow_symlinks(false);
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|e| concerns(&e, &dir)) {
                heard.notify_one();
            }
        };
        let mut watcher = RecommendedWatcher::new(on_event, config)?;
        if let Some(parent) = self.dir.parent() {
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        if exists {
            watcher.watch(&self.dir, RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    }
}

#[cfg(unix)]
fn identity(meta: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Reading a file is an event too, and our own looks must not lead to more of them.
fn concerns(event: &Event, dir: &Path) -> bool {
    let written = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    event.need_rescan() || (written && event.paths.iter().any(|p| p.starts_with(dir)))
}

/// Passes on what is heard, once it is quiet for a moment, as one wake-up.
pub async fn debounce(heard: Arc<Notify>, wake: impl Fn() + Send, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = heard.notified() => (),
        }
        let quiet = async { while tokio::time::timeout(QUIET, heard.notified()).await.is_ok() {} };
        // Either way somebody looks now.
        tokio::time::timeout(AT_MOST, quiet).await.ok();
        wake();
    }
}
