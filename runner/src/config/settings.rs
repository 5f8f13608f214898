//! The settings of a process as used. If one of these exists, it is valid.
//!
//! The settings of a room are a struct of that room, with its defaults; only those of the process are here.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use runner_core::limit::SemaphoreReach;
use runner_core::schedule::Problem;
use runner_handlers::HandlerSettings;
use runner_queue::redis::{RedisSettings, RedisTarget};

use super::{Secret, WrittenKeys};
use crate::access::{ApiToken, UserRole, WebSettings};
use crate::events::EventSettings;
use crate::log::LogSettings;
use crate::notification::NotificationSettings;
use crate::source::SourceSettings;
use crate::telemetry::OtlpSettings;
use crate::trigger::TriggerSettings;
use crate::worker::WorkerSettings;

/// All settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file they came from; `None`: defaults and environment only.
    pub origin: Option<PathBuf>,
    /// Where the dashboard listens.
    pub addr: SocketAddr,
    /// An additional address for probes and metrics, whatever the roles; `None`: with the dashboard only.
    pub metrics_addr: Option<SocketAddr>,
    /// The configured signing key, even if it is weak.
    pub key: Option<Secret>,
    /// The roles of this process.
    pub roles: Roles,
    /// Where this program stores files of its own.
    pub data_dir: PathBuf,
    /// Where tasks are stored.
    pub broker: BrokerSettings,
    /// Whether the server is named by `redis.url` rather than by another key of `redis`; for hints.
    pub redis_in_url: bool,
    /// Where schedules come from, except those in code.
    pub source: SourceSettings,
    /// Where triggers listen.
    pub triggers: TriggerSettings,
    /// Where lifecycle events go; `None`: nowhere.
    pub events: Option<EventSettings>,
    /// Where spans and figures go; `None`: nowhere.
    pub telemetry: Option<OtlpSettings>,
    /// Who hears of what.
    pub notification: NotificationSettings,
    /// The worker.
    pub worker: WorkerSettings,
    /// What functions of manifests may do.
    pub handlers: HandlerSettings,
    /// The dashboard, without its users.
    pub web: WebSettings,
    /// Who may log in.
    pub auth: AuthSettings,
    /// Logging.
    pub log: LogSettings,
    /// The keys that the file writes.
    pub written: WrittenKeys,
    /// Findings that do not prevent a start.
    pub warnings: Vec<Problem>,
}

/// The roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Turns due occurrences into tasks.
    pub scheduler: bool,
    /// Runs tasks.
    pub worker: bool,
    /// Serves the dashboard, probes and metrics.
    pub web: bool,
}

/// Where tasks are stored.
#[derive(Debug, Clone)]
pub enum BrokerSettings {
    /// In one SQLite file.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// In Redis, in asynq's layout.
    Redis(Box<RedisSettings>),
}

impl BrokerSettings {
    /// Which semaphores of Go programs it can count.
    #[must_use]
    pub fn semaphores(&self) -> SemaphoreReach {
        match self {
            Self::Embedded { .. } => SemaphoreReach::Nowhere,
            Self::Redis(redis) => match redis.target {
                RedisTarget::Cluster(_) => SemaphoreReach::SlotOfQueue,
                _ => SemaphoreReach::Everywhere,
            },
        }
    }
}

/// Who may log in, and which programs may call.
#[derive(Clone, Default)]
pub struct AuthSettings {
    /// As configured; passwords are hashed when access is resolved.
    pub users: Vec<UserSettings>,
    /// With what programs call the API.
    pub tokens: Vec<ApiToken>,
}

impl fmt::Debug for AuthSettings {
    /// Without the digests of tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSettings")
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

/// A person who may log in.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// Login name.
    pub name: String,
    /// How the user authenticates.
    pub credential: Credential,
    /// The user's rights.
    pub role: UserRole,
}

/// How a user authenticates.
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

    /// Whether users on other machines get access without a login of this program.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        let public = self.web.public_url.as_ref().is_some_and(|url| !url.is_loopback());
        public && self.is_loopback() && self.auth.users.is_empty()
    }
}
