//! What every page and action has at hand: the broker, the sources, the clock, the settings, the templates.
//!
//! Decides nothing; whoever wires the program fills it.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_core::schedule::{Plan, Source};
use runner_queue::Broker;
use tokio_util::sync::CancellationToken;

use super::guard::attempts::Attempts;
use super::paint::{Painter, TemplateFault};
use super::settings::Settings;

/// One source of schedules at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Which of the three.
    pub source: Source,
    /// Where: a directory, a table of a database.
    pub place: String,
    /// Whether it was read at least once.
    pub loaded: bool,
    /// Definitions it yields.
    pub schedules: usize,
    /// When it was last read.
    pub read_at: Option<jiff::Timestamp>,
    /// Why it cannot be read now; what was read before stays in force.
    pub error: Option<String>,
}

/// Where the dashboard learns of schedules.
pub trait Sources: Send + Sync + 'static {
    /// The merged plan in force.
    fn plan(&self) -> Arc<Plan>;
    /// How each source does.
    fn states(&self) -> Vec<SourceState>;
    /// Asks for a fresh look at all sources; returns at once.
    fn sync_now(&self);
}

/// Where the dashboard gets the process's own counters.
pub trait Meters: Send + Sync + 'static {
    /// In the text format of Prometheus, without the closing `# EOF`.
    fn render(&self) -> String;
}

/// What [`Desk::new`] is made of.
pub struct Parts {
    /// The store of tasks.
    pub broker: Arc<dyn Broker>,
    /// The schedules.
    pub sources: Arc<dyn Sources>,
    /// The present instant.
    pub clock: Arc<dyn Clock>,
    /// Access, names, zone.
    pub settings: Settings,
    /// The process's own counters.
    pub meters: Arc<dyn Meters>,
    /// Cancelled when the process begins to stop: `/readyz` says so from then on.
    pub stopping: CancellationToken,
}

/// Everything a request may need. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

/// What a [`Desk`] points to.
pub struct Inner {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) meters: Arc<dyn Meters>,
    pub(crate) stopping: CancellationToken,
    pub(crate) painter: Painter,
    pub(crate) attempts: Attempts,
    pub(crate) hashing: tokio::sync::Semaphore,
}

/// Password hashes computed at once: each takes 19 MiB and a core for some 20 ms.
const HASHES_AT_ONCE: usize = 2;

impl Desk {
    /// Reads the templates and lays everything out.
    ///
    /// # Errors
    ///
    /// [`TemplateFault`] when a template or the word list does not parse.
    pub fn new(parts: Parts) -> Result<Self, TemplateFault> {
        let painter = Painter::new(parts.settings.templates.clone())?;
        Ok(Self(Arc::new(Inner {
            broker: parts.broker,
            sources: parts.sources,
            clock: parts.clock,
            settings: parts.settings,
            meters: parts.meters,
            stopping: parts.stopping,
            painter,
            attempts: Attempts::default(),
            hashing: tokio::sync::Semaphore::new(HASHES_AT_ONCE),
        })))
    }
}

impl std::ops::Deref for Desk {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
