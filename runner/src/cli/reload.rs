//! Reads the settings again while the program runs: puts in force what can change, and names what waits for a restart.
//!
//! A file with errors changes nothing, and is reported: the next start would fail. Manifests, rows and secrets in files are not
//! meant here; those are read whenever they change or are used.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::access::{TokenList, UserList};
use crate::background::{self, BackgroundLoop};
use crate::config::{Environment, OwnSection, Purpose, Settings, WrittenKeys, resolve_access};
use crate::log::LogLevels;
use crate::worker::ChangeableSettings;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What a reload changes.
#[derive(Default)]
pub(super) struct LiveSettings {
    /// `None`: the log is not ours.
    pub(super) levels: Option<LogLevels>,
    /// `None`: no worker runs here.
    pub(super) worker: Option<ChangeableSettings>,
    /// `None`: no page requires a login here.
    pub(super) users: Option<UserList>,
    /// `None`: there is no API here.
    pub(super) tokens: Option<TokenList>,
}

/// What waits for a restart, or why nothing was read.
#[derive(Debug, PartialEq, Eq)]
enum Reloaded {
    /// The file says what is in force.
    Unchanged,
    /// Keys in force now, and keys that wait for a restart.
    Changed { applied: Vec<String>, waiting: Vec<String> },
}

/// Reads the settings again.
pub(super) struct Reloader {
    origin: Option<PathBuf>,
    sections: Vec<OwnSection>,
    live: LiveSettings,
    /// What is in force, by the file that it came from.
    in_force: Mutex<WrittenKeys>,
}

impl Reloader {
    pub(super) fn new(settings: &Settings, sections: &[OwnSection], live: LiveSettings) -> Self {
        Self {
            origin: settings.origin.clone(),
            sections: sections.iter().map(OwnSection::only_checked).collect(),
            live,
            in_force: Mutex::new(settings.written.clone()),
        }
    }

    /// Reads the file and logs what comes of it; that nothing has changed, only if a signal asked for it. Blocks: it reads files and
    /// may hash passwords.
    pub(super) fn reload(&self, asked: bool) {
        let Some(path) = &self.origin else {
            return tracing::info!("there is no configuration file to read again");
        };
        // Before the file is read: of two reloads at once, the one that has read an older file must not be the last to apply it.
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Settings::load(Some(path), &Environment::of_process(), Purpose::Serve, &self.sections);
        let settings = match found {
            Ok(settings) => settings,
            Err(refused) => {
                for problem in refused.0 {
                    let (code, place, hint) = (problem.code.as_str(), &problem.place, problem.hint.as_deref());
                    tracing::error!(code, %place, hint, "the settings have an error: {}", problem.message);
                }
                return tracing::error!(
                    file = %path.display(),
                    "the settings were not read again; those of before stay in force, and the next start will fail"
                );
            }
        };
        match self.apply(&settings, &mut in_force) {
            Reloaded::Unchanged if asked => tracing::info!(file = %path.display(), "the settings are unchanged"),
            Reloaded::Unchanged => (),
            Reloaded::Changed { applied, waiting } => {
                if !applied.is_empty() {
                    tracing::info!(keys = applied.join(" "), "changed settings are in force");
                }
                if !waiting.is_empty() {
                    tracing::warn!(keys = waiting.join(" "), "changed settings wait for a restart");
                }
            }
        }
    }

    fn apply(&self, settings: &Settings, in_force: &mut WrittenKeys) -> Reloaded {
        let changed = settings.written.changed_from(in_force);
        if changed.is_empty() {
            return Reloaded::Unchanged;
        }
        let mut set = Vec::new();
        let has = |section: &str| changed.iter().any(|key| is_in(key, section));
        if (has("log.level") || has("log.runs")) && self.set_levels(settings) {
            set.extend(["log.level", "log.runs"]);
        }
        if ChangeableSettings::KEYS.iter().any(|key| has(key)) && self.set_worker(settings) {
            set.extend(ChangeableSettings::KEYS);
        }
        if has("auth.users") && self.set_users(settings) {
            set.push("auth.users");
        }
        if has("auth.tokens")
            && let Some(tokens) = &self.live.tokens
        {
            tokens.set(settings.auth.tokens.clone());
            set.push("auth.tokens");
        }
        let (applied, waiting): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|key| set.iter().any(|section| is_in(key, section)));
        applied.iter().for_each(|key| in_force.adopt(key, &settings.written));
        Reloaded::Changed { applied, waiting }
    }

    fn set_levels(&self, settings: &Settings) -> bool {
        let levels = self.live.levels.as_ref();
        levels.is_some_and(|levels| levels.set(settings.log.level, settings.log.runs))
    }

    fn set_worker(&self, settings: &Settings) -> bool {
        let Some(worker) = &self.live.worker else {
            return false;
        };
        worker.set(&settings.worker);
        true
    }

    /// A login is not switched on or off by a reload: a file that lost its users would open the dashboard.
    fn set_users(&self, settings: &Settings) -> bool {
        let Some(users) = self.live.users.as_ref().filter(|_| !settings.auth.users.is_empty()) else {
            return false;
        };
        match resolve_access(settings, &settings.data_dir) {
            Ok(access) => {
                users.set(access.users);
                true
            }
            Err(error) => {
                tracing::error!(
                    error = runner_core::chain::chain(&error),
                    "the users of the dashboard cannot be changed"
                );
                false
            }
        }
    }
}

/// Whether a key is this section or below it.
fn is_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Reloads when the content of the file changes.
struct FileWatch {
    reloader: Arc<Reloader>,
    /// Of the content that was read last.
    seen: Option<u64>,
}

impl FileWatch {
    fn fingerprint(&self) -> Option<u64> {
        let content = std::fs::read(self.reloader.origin.as_ref()?).ok()?;
        let mut state = DefaultHasher::new();
        content.hash(&mut state);
        Some(state.finish())
    }
}

#[async_trait]
impl BackgroundLoop for FileWatch {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let found = self.fingerprint();
        // A file that is away is about to be replaced, or was deleted: then the next start says so.
        if found.is_some() && self.seen != found {
            self.seen = found;
            let reloader = Arc::clone(&self.reloader);
            // Its only error is a panic, which has been reported.
            let _ended = tokio::task::spawn_blocking(move || reloader.reload(false)).await;
        }
        None
    }
}

/// Reloads whenever the file changes, until stopped.
pub(super) fn watch(reloader: Arc<Reloader>, stop: CancellationToken) {
    if reloader.origin.is_none() {
        return;
    }
    tokio::spawn(async move {
        let watch = FileWatch { reloader, seen: None };
        background::run(watch, &Notify::new(), &stop).await;
    });
}
