//! Settings of the dashboard with their defaults: access, names, zone. Read by `config`, never here.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::tz::TimeZone;
use runner_core::task::QueueName;
use serde::Serialize;

use super::public_url::PublicUrl;
use super::sign;
use super::tokens::TokenList;
use super::trusted_proxies::TrustedProxies;

/// A user's rights; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Reads.
    Viewer,
    /// Runs, archives, cancels, pauses and resumes.
    Operator,
    /// Deletes as well.
    Admin,
}

impl UserRole {
    /// The word used in logs and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A user who may log in. No `Debug`: a hash is a secret as well.
#[derive(Clone)]
pub struct User {
    /// The name to log in with, exactly.
    pub name: String,
    /// The password's hash in the PHC format of argon2 (`$argon2id$v=19$…`).
    pub password_hash: String,
    /// Represents the password in sessions, which end when it changes. The same in every process, unlike a hash that is
    /// computed at start.
    pub password_mark: String,
    /// The user's role.
    pub role: UserRole,
}

impl User {
    /// A digest of a password, or of a configured hash. Worthless without the key.
    #[must_use]
    pub fn password_mark(key: &[u8; 32], written: &str) -> String {
        sign::signature(key, "password", written)
    }
}

/// Who has access.
#[derive(Clone)]
pub enum Auth {
    /// Everyone, as admin. Only for a listener on a loopback address.
    Open,
    /// These users, after a login.
    Login {
        /// By name; names are unique.
        users: UserList,
    },
}

/// The users, who may be replaced while pages are served. Clones share them.
#[derive(Clone, Default)]
pub struct UserList(Arc<RwLock<Vec<User>>>);

impl UserList {
    /// These users.
    #[must_use]
    pub fn new(users: Vec<User>) -> Self {
        Self(Arc::new(RwLock::new(users)))
    }

    /// Replaces them. Sessions of users who are gone, or have another password, end with their next request.
    pub fn set(&self, users: Vec<User>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = users;
    }

    /// The user of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<User> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        users.iter().find(|user| user.name == name).cloned()
    }
}

/// All settings. `listen`, `auth`, `tokens`, `key`, `queues` and `instance` are set at start; `config` reads the rest.
#[derive(Clone)]
pub struct WebSettings {
    /// The name of the service, to tell dashboards apart.
    pub name: String,
    /// The address of the listener, for people: `127.0.0.1:8080`.
    pub listen: String,
    /// Who has access.
    pub auth: Auth,
    /// With what programs call the API.
    pub tokens: TokenList,
    /// Signs sessions, notices and form tokens; random, the same on every instance behind one name.
    pub key: [u8; 32],
    /// Host names (ports are ignored) that requests may use, besides the loopback names. With [`Auth::Login`] an empty list
    /// allows any name.
    pub allowed_hosts: Vec<String>,
    /// The address that people open, if it is not the listener's.
    pub public_url: Option<PublicUrl>,
    /// Proxies whose `X-Forwarded-…` headers count.
    pub trusted_proxies: TrustedProxies,
    /// Whether `/metrics` answers without a login and for any host name.
    pub metrics_open: bool,
    /// Queues that the worker's settings name: their figures come first.
    pub queues: Vec<QueueName>,
    /// The channels of notifications that the settings name.
    pub channels: Vec<String>,
    /// The zone that times are shown in.
    pub zone: TimeZone,
    /// The name of the zone, for people.
    pub zone_name: String,
    /// Reads templates and assets from this directory at each request instead of from the program.
    pub templates: Option<PathBuf>,
    /// This process, as it appears in decisions: `host:pid`.
    pub instance: String,
    /// The program's version.
    pub version: &'static str,
    /// Whether there is a dashboard at all; probes and metrics are always served.
    pub queue_dash: bool,
    /// Whether calls of hooks are served.
    pub hooks: bool,
}

impl Default for WebSettings {
    /// No user can log in until `auth` and `key` are set.
    fn default() -> Self {
        Self {
            name: "runner".to_owned(),
            listen: String::new(),
            auth: Auth::Login {
                users: UserList::default(),
            },
            tokens: TokenList::default(),
            key: [0; 32],
            allowed_hosts: Vec::new(),
            public_url: None,
            trusted_proxies: TrustedProxies::default(),
            metrics_open: true,
            queues: Vec::new(),
            channels: Vec::new(),
            zone: TimeZone::UTC,
            zone_name: "UTC".to_owned(),
            templates: None,
            instance: String::new(),
            version: env!("CARGO_PKG_VERSION"),
            queue_dash: true,
            hooks: true,
        }
    }
}

impl fmt::Debug for WebSettings {
    /// Without the key and the secrets of users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSettings")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("public_url", &self.public_url)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("metrics_open", &self.metrics_open)
            .field("zone_name", &self.zone_name)
            .field("templates", &self.templates)
            .field("queue_dash", &self.queue_dash)
            .finish_non_exhaustive()
    }
}

impl WebSettings {
    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<User> {
        match &self.auth {
            Auth::Open => None,
            Auth::Login { users } => users.get(name),
        }
    }
}
