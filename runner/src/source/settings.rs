//! Settings of the sources, with the defaults; `config` reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use runner_core::cron::DstRule;
use runner_core::function::FunctionOptions;
use runner_core::limit::SemaphoreReach;

use super::code::Code;
use super::function_check::FunctionCheck;
use super::manifest::ScheduleContext;
use super::state_store::StateStore;

/// How long the last known set stays in force when all rows or all files are gone at once.
pub const DEFAULT_MASS_DELETE: Duration = Duration::from_secs(60);

/// Where schedules come from, and their defaults. The part in the settings file is read by
/// `config`; `code`, `types`, `vet` and `keep` are added by the caller that starts the sources.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The manifest directory, if manifests are read.
    pub manifests: Option<ManifestSettings>,
    /// The database with `sys_crontab`, if the table is read.
    pub table: Option<TableSettings>,
    /// Whether the dashboard and the API may write rows of it.
    pub writable: bool,
    /// Schedules registered in code.
    pub code: Code,
    /// The options that task types with a handler in code state, by their names.
    pub types: BTreeMap<String, FunctionOptions>,
    /// IANA name of the zone of schedules that name none.
    pub zone_name: String,
    /// That zone.
    pub zone: TimeZone,
    /// What happens when clocks change.
    pub dst: DstRule,
    /// How often the table is read.
    pub sync_interval: Duration,
    /// Checks what manifests define.
    pub vet: FunctionCheck,
    /// The connections to RabbitMQ that triggers can name.
    pub rabbitmq: Vec<String>,
    /// The connections to Redis that triggers may name.
    pub redis: Vec<String>,
    /// The channels of notifications that manifests may name.
    pub channels: Vec<String>,
    /// Which semaphores the broker can count.
    pub semaphores: SemaphoreReach,
    /// How long the last known set stays in force when all rows or all files are gone at once.
    pub mass_delete: Duration,
    /// Where the files and rows in force are saved for a restart while they are unreachable or broken.
    pub keep: Option<Arc<dyn StateStore>>,
}

impl Default for SourceSettings {
    /// No source, UTC, a broker that shares all semaphores.
    fn default() -> Self {
        Self {
            manifests: None,
            table: None,
            writable: false,
            code: Code::default(),
            types: BTreeMap::new(),
            zone_name: "UTC".to_owned(),
            zone: TimeZone::UTC,
            dst: DstRule::default(),
            // The interval that the Go service documents.
            sync_interval: Duration::from_secs(10),
            vet: FunctionCheck::default(),
            rabbitmq: Vec::new(),
            redis: Vec::new(),
            channels: Vec::new(),
            semaphores: SemaphoreReach::Everywhere,
            mass_delete: DEFAULT_MASS_DELETE,
            keep: None,
        }
    }
}

impl SourceSettings {
    /// The defaults of manifests and rows.
    #[must_use]
    pub fn context(&self) -> ScheduleContext {
        ScheduleContext {
            zone_name: self.zone_name.clone(),
            zone: self.zone.clone(),
            dst: self.dst,
            vet: self.vet.clone(),
            rabbitmq: self.rabbitmq.clone(),
            redis: self.redis.clone(),
            channels: self.channels.clone(),
            semaphores: self.semaphores,
        }
    }
}

/// The manifest directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSettings {
    /// The directory; it need not exist yet.
    pub dir: PathBuf,
    /// How often it is read when no change is reported; network file systems report none.
    pub rescan: Duration,
}

impl Default for ManifestSettings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("manifests"),
            rescan: Duration::from_secs(30),
        }
    }
}

/// The database that holds `sys_crontab`.
#[derive(Clone)]
pub enum TableSettings {
    /// The file of the embedded broker, which creates it; with Redis it need not exist, and `runner migrate` creates
    /// it.
    OfBroker {
        /// The file.
        path: PathBuf,
    },
    /// A SQLite file; it and its table are created on first use.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// MySQL or MariaDB.
    MySql(DatabaseServer),
    /// PostgreSQL.
    Postgres(DatabaseServer),
}

/// A database server.
#[derive(Clone)]
pub struct DatabaseServer {
    /// Name or address, or the directory or file of a socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The account; it needs only the right to read, unless rows may be written.
    pub login: DatabaseLogin,
    /// The database.
    pub database: String,
    /// A connection older than this is not used again; `None`: no limit.
    pub max_lifetime: Option<Duration>,
}

/// Account and password at a database, read again for each connection; never shown.
#[derive(Clone)]
pub struct DatabaseLogin(Arc<ReadLogin>);

type ReadLogin = dyn Fn() -> Result<(String, String), String> + Send + Sync;

impl DatabaseLogin {
    /// A fixed login.
    #[must_use]
    pub fn fixed(username: &str, password: &str) -> Self {
        let both = (username.to_owned(), password.to_owned());
        Self::read_from(move || Ok(both.clone()))
    }

    /// The result of `read` at each connection: a password may have been changed. It may block.
    #[must_use]
    pub fn read_from(read: impl Fn() -> Result<(String, String), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Account and password now; may block.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub fn read(&self) -> Result<(String, String), String> {
        (self.0)()
    }

    /// The same on a thread that may block.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub(super) async fn now(&self) -> Result<(String, String), String> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read()).await;
        read.map_err(|error| error.to_string()).and_then(|read| read)
    }
}

impl std::fmt::Debug for DatabaseServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

impl DatabaseServer {
    fn place(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

impl std::fmt::Debug for TableSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

impl TableSettings {
    /// Which table it is, for people; without the password.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::OfBroker { path } | Self::Sqlite { path } => format!("sqlite:{}", path.display()),
            Self::MySql(server) => format!("mysql:{}", server.place()),
            Self::Postgres(server) => format!("postgres:{}", server.place()),
        }
    }
}
