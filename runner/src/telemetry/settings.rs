//! Where spans and figures go; `config` reads it, also in programs that cannot send them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of the service unless the settings have another one.
pub const SERVICE_NAME: &str = "runner";

/// How often figures are sent unless the settings say otherwise: OpenTelemetry's default.
pub const METRICS_INTERVAL: Duration = Duration::from_secs(60);

/// The receiver of a process.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// The URL before `/v1/traces` and `/v1/metrics`, without a slash at its end.
    pub endpoint: String,
    /// Headers of each call, such as a token.
    pub headers: Vec<(String, HeaderText)>,
    /// The name of the service in all that is sent.
    pub service_name: String,
    /// Which part of the traces that begin here is recorded, from 0 to 1. Those that came from others are recorded if these say so.
    pub traces: f64,
    /// Whether figures are sent as well.
    pub metrics: bool,
    /// How often.
    pub interval: Duration,
}

type ReadText = dyn Fn() -> Result<String, String> + Send + Sync;

/// A header that must not be shown, read again for each call.
#[derive(Clone)]
pub struct HeaderText(Arc<ReadText>);

impl HeaderText {
    /// What `read` returns; it may block.
    #[must_use]
    pub fn read_from(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The text now; may block.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, never its content.
    pub fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
