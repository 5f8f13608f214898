//! What every page and action has at hand: the broker, the sources, the clock, the settings, the templates.
//!
//! Decides nothing; whoever wires the program fills it.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::{Broker, Caveat};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::guard::attempts::Attempts;
use super::guard::refusals::Refusals;
use super::guard::session::Logouts;
use super::render::{Renderer, TemplateError};
use super::settings::WebSettings;
use super::{probe, unclaimed};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::source::Catalog;
use crate::worker::Quiet;

/// What [`Desk::new`] is made of.
pub struct AppStateParts {
    /// The store of tasks.
    pub broker: Arc<dyn Broker>,
    /// The schedules.
    pub catalog: Catalog,
    /// The present instant.
    pub clock: Arc<dyn Clock>,
    /// Access, names, zone.
    pub settings: WebSettings,
    /// The process's own counters.
    pub metrics: Arc<Metrics>,
    /// Whether the broker takes writes.
    pub health: Arc<Health>,
    /// How the broker is set up, as far as that endangers tasks.
    pub caveats: watch::Receiver<Vec<Caveat>>,
    /// Cancelled when the process begins to stop: `/readyz` says so from then on.
    pub stopping: CancellationToken,
    /// Whether the worker of this process takes nothing new: `/readyz` says so too.
    pub quiet: Quiet,
}

/// Everything a request may need. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// What a [`Desk`] points to.
pub struct Inner {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) catalog: Catalog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: WebSettings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) caveats: watch::Receiver<Vec<Caveat>>,
    pub(crate) stopping: CancellationToken,
    pub(crate) quiet: Quiet,
    pub(crate) renderer: Renderer,
    pub(crate) attempts: Attempts,
    pub(crate) logouts: Logouts,
    pub(crate) refusals: Refusals,
    pub(crate) hashing: tokio::sync::Semaphore,
    pub(crate) scrapes: tokio::sync::Semaphore,
    pub(super) unclaimed: unclaimed::UnclaimedCache,
    pub(super) broker_answer: probe::BrokerAnswerCache,
}

/// Password hashes computed at once: each takes 19 MiB and a core for some 20 ms.
const HASHES_AT_ONCE: usize = 2;

/// Scrapes that ask the broker at once: each reads the figures of many queues.
const SCRAPES_AT_ONCE: usize = 2;

impl AppState {
    /// Reads the templates and lays everything out.
    ///
    /// # Errors
    ///
    /// [`TemplateFault`] when a template or the word list does not parse.
    pub fn new(parts: AppStateParts) -> Result<Self, TemplateError> {
        let renderer = Renderer::new(parts.settings.templates.clone())?;
        Ok(Self(Arc::new(Inner {
            broker: parts.broker,
            catalog: parts.catalog,
            clock: parts.clock,
            settings: parts.settings,
            metrics: parts.metrics,
            health: parts.health,
            caveats: parts.caveats,
            stopping: parts.stopping,
            quiet: parts.quiet,
            renderer,
            attempts: Attempts::default(),
            logouts: Logouts::default(),
            refusals: Refusals::default(),
            hashing: tokio::sync::Semaphore::new(HASHES_AT_ONCE),
            scrapes: tokio::sync::Semaphore::new(SCRAPES_AT_ONCE),
            unclaimed: unclaimed::UnclaimedCache::default(),
            broker_answer: probe::BrokerAnswerCache::default(),
        })))
    }
}

impl std::ops::Deref for AppState {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
