//! The settings of a process as used. If one of these exists, it is valid.
//!
//! What belongs to one room is a struct of that room, with its defaults; here stands only what concerns the process.

use std::net::SocketAddr;
use std::path::PathBuf;

use runner_core::schedule::Problem;
use runner_handlers::HandlerSettings;
use runner_queue::redis::RedisSettings;

use super::Secret;
use crate::log::LogSettings;
use crate::source::SourceSettings;
use crate::trigger::TriggerSettings;
use crate::web::{UserRole, WebSettings};
use crate::worker::WorkerSettings;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file they came from; `None`: defaults and environment only.
    pub origin: Option<PathBuf>,
    /// Where the dashboard listens.
    pub addr: SocketAddr,
    /// Where probes and metrics answer besides, whatever the roles; `None`: with the dashboard only.
    pub metrics_addr: Option<SocketAddr>,
    /// The configured signing key, however weak.
    pub key: Option<Secret>,
    /// Which parts this process plays.
    pub roles: Roles,
    /// Where this program stores files of its own.
    pub data_dir: PathBuf,
    /// Where tasks wait.
    pub broker: BrokerSettings,
    /// Whether `redis.url` says where, and not another key of `redis`; for hints.
    pub redis_in_url: bool,
    /// Where schedules come from; without what is in code.
    pub source: SourceSettings,
    /// Where triggers listen.
    pub triggers: TriggerSettings,
    /// The worker.
    pub worker: WorkerSettings,
    /// What functions of manifests may do.
    pub handlers: HandlerSettings,
    /// The dashboard; without who may log in.
    pub web: WebSettings,
    /// Who may log in.
    pub auth: AuthSettings,
    /// Logging.
    pub log: LogSettings,
    /// Findings that do not prevent a start.
    pub warnings: Vec<Problem>,
}

/// Which parts a process plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Turns due occurrences into tasks.
    pub scheduler: bool,
    /// Runs tasks.
    pub worker: bool,
    /// Serves the dashboard, probes and metrics.
    pub web: bool,
}

/// Where tasks wait.
#[derive(Debug, Clone)]
pub enum BrokerSettings {
    /// In one SQLite file.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// In Redis, as asynq lays them out.
    Redis(Box<RedisSettings>),
}

/// Who may log in.
#[derive(Debug, Clone, Default)]
pub struct AuthSettings {
    /// As configured; passwords are hashed when access is resolved.
    pub users: Vec<UserSettings>,
}

/// A person who may log in.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// Login name.
    pub name: String,
    /// How the person proves it.
    pub credential: Credential,
    /// What the person may do.
    pub role: UserRole,
}

/// How a person proves to be a user.
#[derive(Debug, Clone)]
pub enum Credential {
    /// An Argon2 hash in PHC form.
    Hash(Secret),
    /// The password itself.
    Password(Secret),
}

impl Settings {
    /// Whether the address can be reached from this machine only.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.addr.ip().is_loopback()
    }

    /// Whether people on other machines get in without a login of this program.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        let public = self.web.public_url.as_ref().is_some_and(|url| !url.is_loopback());
        public && self.is_loopback() && self.auth.users.is_empty()
    }
}
