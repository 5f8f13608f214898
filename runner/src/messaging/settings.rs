//! Where the servers are that carry messages; `config` reads it.

use std::fmt;
use std::sync::Arc;

use runner_queue::tls::TlsFiles;

/// One connection to RabbitMQ.
#[derive(Debug, Clone)]
pub struct RabbitMqSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: ReadUrl,
    /// For `amqps`.
    pub tls: TlsFiles,
}

/// A URL with a password, read again for each connection; never shown.
#[derive(Clone)]
pub struct ReadUrl(Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl ReadUrl {
    /// What `read` returns at each connection: a password may have been changed. It may block.
    #[must_use]
    pub fn new(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The URL now; may block.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for ReadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
