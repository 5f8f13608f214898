//! The state shared by all pages and actions: broker, sources, clock, settings, templates.
//!
//! Holds no logic; the caller that starts the program fills it.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::{Broker, Caveat};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlogs;
use super::broker_answer::BrokerAnswerCache;
use super::guard::attempts::Attempts;
use super::guard::logouts::Logouts;
use super::guard::refusals::Refusals;
use super::hook_limits::HookLimits;

use super::recent_decisions::RecentDecisionsCache;
use super::render::{Renderer, TemplateError};
use super::run_figures::RunFigures;
use super::schedule_health::ScheduleHealthCache;
use super::unclaimed::UnclaimedCache;
use crate::access::WebSettings;
use crate::audit::AuditLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::notification::NotificationSettings;
use crate::operation::Operations;
use crate::source::Catalog;
use crate::trigger::{Board, Hooks};
use crate::worker::Quiet;
use crate::workflow::WorkflowEnds;

/// The parts that [`AppState::new`] takes.
pub struct AppStateParts {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The schedules.
    pub catalog: Catalog,
    /// The source of the current time.
    pub clock: Arc<dyn Clock>,
    /// Access, names, zone.
    pub settings: WebSettings,
    /// The process's own counters.
    pub metrics: Arc<Metrics>,
    /// Whether the broker takes writes.
    pub health: Arc<Health>,
    /// Where actions are noted.
    pub audit: AuditLog,
    /// What carries out actions on many tasks.
    pub operations: Operations,
    /// Caveats of the broker's configuration that endanger tasks.
    pub caveats: watch::Receiver<Vec<Caveat>>,
    /// How triggers are doing.
    pub board: Arc<Board>,
    /// What calls of hooks are given to.
    pub hooks: Arc<Hooks>,
    /// Who hears of workflows that end by what is done on a page.
    pub notification: NotificationSettings,
    /// Cancelled when the process begins to stop; `/readyz` reports it from then on.
    pub stopping: CancellationToken,
    /// Whether the worker of this process has stopped claiming; `/readyz` reports it too.
    pub quiet: Quiet,
}

/// Everything that a request may need. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// The shared part of [`AppState`].
pub struct Inner {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) catalog: Catalog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: WebSettings,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) audit: AuditLog,
    pub(crate) operations: Operations,
    pub(crate) caveats: watch::Receiver<Vec<Caveat>>,
    pub(crate) board: Arc<Board>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) workflow_ends: WorkflowEnds,
    pub(super) hook_limits: HookLimits,
    pub(crate) stopping: CancellationToken,
    pub(crate) quiet: Quiet,
    pub(crate) renderer: Renderer,
    pub(crate) attempts: Attempts,
    pub(crate) logouts: Logouts,
    pub(crate) refusals: Refusals,
    pub(crate) hashing: tokio::sync::Semaphore,
    pub(crate) scrapes: tokio::sync::Semaphore,
    pub(crate) previews: Arc<tokio::sync::Semaphore>,
    pub(crate) row_keys: tokio::sync::Mutex<()>,
    pub(super) unclaimed: UnclaimedCache,
    pub(super) run_figures: RunFigures,
    pub(super) recent_decisions: RecentDecisionsCache,
    pub(super) schedule_health: ScheduleHealthCache,
    pub(super) broker_answer: BrokerAnswerCache,
    pub(super) backlogs: Backlogs,
}

/// Password hashes computed at once: each takes 19 MiB and about 20 ms of a core.
const HASHES_AT_ONCE: usize = 2;

/// Scrapes that query the broker at once: each reads the figures of many queues.
const SCRAPES_AT_ONCE: usize = 2;

/// Previews of rules that are computed at once, each on a thread of its own.
const PREVIEWS_AT_ONCE: usize = 2;

impl AppState {
    /// Parses the templates and assembles the state.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if a template or the word list does not parse.
    pub fn new(parts: AppStateParts) -> Result<Self, TemplateError> {
        let renderer = Renderer::new(parts.settings.templates.clone())?;
        let workflow_ends = WorkflowEnds::new(&parts.notification, &parts.clock, &parts.metrics);
        Ok(Self(Arc::new(Inner {
            workflow_ends,
            broker: parts.broker,
            catalog: parts.catalog,
            clock: parts.clock,
            settings: parts.settings,
            metrics: parts.metrics,
            health: parts.health,
            audit: parts.audit,
            operations: parts.operations,
            caveats: parts.caveats,
            board: parts.board,
            hooks: parts.hooks,
            hook_limits: HookLimits::default(),
            stopping: parts.stopping,
            quiet: parts.quiet,
            renderer,
            attempts: Attempts::default(),
            logouts: Logouts::default(),
            refusals: Refusals::default(),
            hashing: tokio::sync::Semaphore::new(HASHES_AT_ONCE),
            scrapes: tokio::sync::Semaphore::new(SCRAPES_AT_ONCE),
            previews: Arc::new(tokio::sync::Semaphore::new(PREVIEWS_AT_ONCE)),
            row_keys: tokio::sync::Mutex::new(()),
            unclaimed: UnclaimedCache::default(),
            run_figures: RunFigures::default(),
            recent_decisions: RecentDecisionsCache::default(),
            schedule_health: ScheduleHealthCache::default(),
            broker_answer: BrokerAnswerCache::default(),
            backlogs: Backlogs::default(),
        })))
    }
}

impl std::ops::Deref for AppState {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
