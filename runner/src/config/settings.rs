//! The settings as used. If one of these exists, it is valid.
//!
//! Data only: how it is written down and checked stands beside each section's reader.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use runner_core::cron::DstRule;
use runner_queue::redis::RedisSettings;
use runner_queue::{ArchiveBounds, GroupRule};

use super::url::DatabaseUrl;
use super::{Secret, SettingProblem};
use crate::log::LogSettings;
use crate::web::{PublicUrl, TrustedProxies, UserRole};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file they came from; `None`: defaults and environment only.
    pub origin: Option<PathBuf>,
    /// What this service calls itself, for people.
    pub name: String,
    /// How the service runs; only for people.
    pub mode: Mode,
    /// Where the dashboard listens.
    pub addr: SocketAddr,
    /// Where probes and metrics answer besides, whatever the roles; `None`: with the dashboard only.
    pub metrics_addr: Option<SocketAddr>,
    /// Host names that browsers may ask for, besides the loopback names.
    pub allowed_hosts: Vec<String>,
    /// The address that people open, where it is not the one that is listened on.
    pub public_url: Option<PublicUrl>,
    /// Whose `X-Forwarded-…` headers count.
    pub trusted_proxies: TrustedProxies,
    /// IANA name of the default zone.
    pub zone_name: String,
    /// The default zone of all three sources of schedules.
    pub zone: TimeZone,
    /// The configured signing key, however weak.
    pub key: Option<Secret>,
    /// Which parts this process plays.
    pub roles: Roles,
    /// Where this program keeps files of its own.
    pub data_dir: PathBuf,
    /// Where tasks wait.
    pub broker: BrokerSettings,
    /// Whether `redis.url` says where, and not another key of `redis`; for hints.
    pub redis_in_url: bool,
    /// Where the table `sys_crontab` lies.
    pub table: TableSection,
    /// The directory of manifests; `None`: not read.
    pub manifests: Option<ManifestSection>,
    /// How often the table is read.
    pub sync_interval: Duration,
    /// How long the last known set stays in force when all rows or all files are gone at once.
    pub mass_delete: Duration,
    /// The worker.
    pub worker: WorkerSection,
    /// The scheduler.
    pub scheduler: SchedulerSettings,
    /// Functions that are commands.
    pub exec: ExecSection,
    /// Functions that are HTTP calls.
    pub http: HttpSection,
    /// Who may log in.
    pub auth: AuthSettings,
    /// Logging.
    pub log: LogSettings,
    /// Whether the dashboard is served.
    pub queue_dash: bool,
    /// Findings that do not prevent a start.
    pub warnings: Vec<SettingProblem>,
}

/// How the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In production.
    Release,
    /// On a developer's machine.
    Debug,
    /// Under test.
    Test,
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

/// Where the table `sys_crontab` lies.
#[derive(Debug, Clone)]
pub enum TableSection {
    /// In the file of the embedded broker.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// MySQL or MariaDB.
    MySql(ServerSettings),
    /// PostgreSQL.
    Postgres(ServerSettings),
    /// A SQLite file of its own.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// Nowhere: the table is not read.
    Off,
}

/// A database server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Name or address, without the port.
    pub host: String,
    /// The port.
    pub port: u16,
    /// User name.
    pub username: Secret,
    /// Password.
    pub password: Secret,
    /// The URL that all this was taken from, if a part of it stands elsewhere.
    pub url: Option<Secret>,
    /// Name of the database.
    pub database: String,
    /// A connection is closed when it is this old; `None`: never.
    pub max_lifetime: Option<Duration>,
}

impl ServerSettings {
    /// User name and password as they are now.
    ///
    /// # Errors
    ///
    /// What cannot be read, without any part of it.
    pub fn login(&self) -> Result<(String, String), String> {
        match &self.url {
            Some(url) => DatabaseUrl::parse(&url.read()?)?.login(),
            None => Ok((self.username.read()?, self.password.read()?)),
        }
    }
}

/// The directory of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSection {
    /// The directory; it may appear later.
    pub dir: PathBuf,
    /// How often it is read again even if no event told of a change.
    pub rescan: Duration,
}

/// The worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSection {
    /// Tasks at once, 1 to 10 000.
    pub concurrency: u32,
    /// Queue to weight, never empty.
    pub queues: BTreeMap<String, u32>,
    /// Whether a heavier queue is always served before a lighter one.
    pub strict_priority: bool,
    /// How long running tasks may go on after a stop was asked for.
    pub shutdown_timeout: Duration,
    /// How long a worker may say nothing of a task before another one takes it, 3 s to 1 h.
    pub lease: Duration,
    /// What the archive of a queue keeps: 1 to 1 000 000 tasks, for 1 minute to 10 years.
    pub archive: ArchiveBounds,
    /// After how many runs in a row that ended without any report a task is archived, 0 (never) to 1000.
    pub poison_after: u32,
    /// When the tasks of a group become one.
    pub groups: GroupRule,
}

/// The scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Whether it runs.
    pub enabled: bool,
    /// What happens when clocks change.
    pub dst: DstRule,
}

/// Functions that are commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSection {
    /// Whether there are any.
    pub enabled: bool,
    /// Patterns of programs that may be run; empty: any that a manifest names.
    pub allowed_commands: Vec<String>,
}

/// Functions that are HTTP calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSection {
    /// Whether private and loopback addresses may be called.
    pub allow_private: bool,
    /// Patterns of hosts that may be called; empty: any public one.
    pub allowed_hosts: Vec<String>,
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
        let public = self.public_url.as_ref().is_some_and(|url| !url.is_loopback());
        public && self.is_loopback() && self.auth.users.is_empty()
    }
}
