//! Where the servers are that triggers listen to; `config` reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use runner_queue::redis::RedisSettings;

use crate::messaging::RabbitMqSettings;

/// Servers by the names that manifests use.
#[derive(Debug, Clone, Default)]
pub struct TriggerSettings {
    /// Connections to RabbitMQ.
    pub rabbitmq: BTreeMap<String, RabbitMqSettings>,
    /// Connections to Redis, besides that of the broker.
    pub redis: BTreeMap<String, RedisSettings>,
    /// Reads the secrets that triggers refer to.
    pub secrets: SecretReader,
}

/// Reads references to secrets: `${env:NAME}`, `${file:PATH}`.
#[derive(Clone)]
pub struct SecretReader(Arc<ReadSecret>);

type ReadSecret = dyn Fn(&str) -> Result<String, String> + Send + Sync;

impl SecretReader {
    /// What `read` returns for a reference, read again each time. It may block.
    #[must_use]
    pub fn new(read: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The secret now; may block.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, never its value.
    pub fn read(&self, reference: &str) -> Result<String, String> {
        (self.0)(reference)
    }
}

impl Default for SecretReader {
    /// Reads nothing.
    fn default() -> Self {
        Self::new(|reference| Err(format!("{reference} cannot be read here")))
    }
}

impl fmt::Debug for SecretReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
