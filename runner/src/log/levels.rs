//! Which lines reach the log and the logs of runs: levels that can change while the program runs.
//!
//! A filter of its own instead of the `reload` layer of the library, which takes a lock for every span and line. This one is
//! asked only when a place in the code is met for the first time, and again after a change.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::run_lines::{RunLogLayer, TARGET as TASK_SPANS};

/// Libraries that log every frame and handshake at debug; operators have no use for that detail.
const CHATTY: [&str; 7] = ["h2", "hyper", "hyper_util", "lapin", "mio", "reqwest", "rustls"];

/// What logs the content of messages, at `warn`: a message that RabbitMQ returns to its publisher, who reports that without it.
const TELLS_CONTENT: &str = "lapin::returned_messages";

/// The least important levels that are written. Clones share them.
#[derive(Debug, Clone)]
pub struct LogLevels(Arc<Levels>);

#[derive(Debug)]
struct Levels {
    /// Whether one filter serves the log and the runs.
    joint: bool,
    log: RwLock<Targets>,
    runs: RwLock<Targets>,
    /// With a joint filter: the position of the level of runs in [`ORDER`].
    limit: AtomicU8,
}

/// Levels by how much they let through.
const ORDER: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

impl LogLevels {
    /// These levels of the log and of runs. If they are the same, one filter serves both, which costs a task nothing.
    pub(super) fn new(log: LevelFilter, runs: LevelFilter) -> Self {
        Self::made(log, runs, log == runs)
    }

    /// The same with a filter for each, beside which there is room for others.
    pub(super) fn apart(log: LevelFilter, runs: LevelFilter) -> Self {
        Self::made(log, runs, false)
    }

    fn made(log: LevelFilter, runs: LevelFilter, joint: bool) -> Self {
        Self(Arc::new(Levels {
            joint,
            log: RwLock::new(targets(log)),
            runs: RwLock::new(targets(runs)),
            limit: AtomicU8::new(position(runs)),
        }))
    }

    /// Sets both. Returns whether it could: a program that started with one filter for both cannot write fewer lines into its
    /// log than into its runs.
    #[must_use]
    pub fn set(&self, log: LevelFilter, runs: LevelFilter) -> bool {
        let levels = &self.0;
        if levels.joint && runs > log {
            return false;
        }
        levels.limit.store(position(runs), Ordering::Relaxed);
        *levels.log.write().unwrap_or_else(PoisonError::into_inner) = targets(log);
        *levels.runs.write().unwrap_or_else(PoisonError::into_inner) = targets(runs);
        tracing::callsite::rebuild_interest_cache();
        true
    }

    /// Whether one filter serves the log and the runs.
    pub(super) fn is_joint(&self) -> bool {
        self.0.joint
    }

    /// What reaches the log.
    pub(super) fn of_log(&self) -> LevelsFilter {
        LevelsFilter {
            levels: self.clone(),
            of_runs: false,
        }
    }

    /// What reaches the logs of runs.
    pub(super) fn of_runs(&self) -> LevelsFilter {
        LevelsFilter {
            levels: self.clone(),
            of_runs: true,
        }
    }
}

fn position(level: LevelFilter) -> u8 {
    let found = ORDER.iter().position(|known| *known == level);
    found.and_then(|at| u8::try_from(at).ok()).unwrap_or_default()
}

/// What the levels of log and runs leave of spans is not what is sent of them: those from `info` on.
pub(super) fn sent_spans() -> Targets {
    targets(LevelFilter::INFO)
}

fn targets(level: LevelFilter) -> Targets {
    let quiet = level.min(LevelFilter::INFO);
    // Lines of any level name their task.
    let spans = if level == LevelFilter::OFF {
        level
    } else {
        level.max(LevelFilter::INFO)
    };
    Targets::new()
        .with_default(level)
        .with_target(TASK_SPANS, spans)
        .with_targets(CHATTY.map(|target| (target, quiet)))
        .with_target(TELLS_CONTENT, LevelFilter::OFF)
}

/// One of the two filters, for all layers or for one.
pub(super) struct LevelsFilter {
    levels: LogLevels,
    of_runs: bool,
}

impl LevelsFilter {
    fn read<T>(&self, ask: impl FnOnce(&Targets) -> T) -> T {
        let levels = &self.levels.0;
        let targets = if self.of_runs { &levels.runs } else { &levels.log };
        ask(&targets.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for LevelsFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.read(|targets| Layer::<S>::register_callsite(targets, metadata))
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.read(|targets| Layer::<S>::enabled(targets, metadata, context))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.read(Layer::<S>::max_level_hint)
    }
}

impl<S> Filter<S> for LevelsFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.read(|targets| Filter::<S>::enabled(targets, metadata, context))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.read(|targets| Filter::<S>::callsite_enabled(targets, metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.read(Filter::<S>::max_level_hint)
    }
}

/// The logs of runs under a joint filter, which may let more through for the log than they are to keep.
pub(super) struct JointRunLog(pub(super) LogLevels);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JointRunLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Layer::<S>::on_new_span(&RunLogLayer, attributes, id, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let limit = usize::from(self.0.0.limit.load(Ordering::Relaxed));
        if *event.metadata().level() <= ORDER[limit] {
            Layer::<S>::on_event(&RunLogLayer, event, context);
        }
    }
}
