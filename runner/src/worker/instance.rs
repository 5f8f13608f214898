//! Identifies a worker among those that share a broker. How it works is in `settings`.

use super::Quiet;

/// One running process of this program.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Random id of this start.
    pub id: String,
    /// Whether it claims no new tasks for a while.
    pub quiet: Quiet,
}

impl Instance {
    /// This process.
    #[must_use]
    pub fn of_process() -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
        Self::named(host.unwrap_or_else(|| "unknown-host".to_owned()))
    }

    /// This process, on a host of this name.
    #[must_use]
    pub fn named(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            pid: std::process::id(),
            id: uuid::Uuid::new_v4().to_string(),
            quiet: Quiet::default(),
        }
    }

    /// `host:pid`, as decisions and pages name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }
}
