//! The span of a task, and the layer that copies the lines of its handler into the log of its run.
//!
//! A span is made for each attempt, so it must be cheap: layers keep the context of the task and format nothing before there is a line.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use runner_sdk::Ctx;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::line::Pairs;
use crate::telemetry::Telemetry;

/// The target of the spans of tasks, to filter by.
pub(super) const TARGET: &str = "runner::task";

thread_local! {
    /// The task whose span is being made: fields of spans are values to print, so the layer takes it from here.
    static BEING_MADE: RefCell<Option<(Ctx, Telemetry)>> = const { RefCell::new(None) };
}

/// The span in which the handler of this task runs. Spans within it are taken by `telemetry`, if that is on.
pub fn task_span(cx: &Ctx, telemetry: &Telemetry) -> Span {
    if !tracing::span_enabled!(target: TARGET, Level::INFO) {
        return Span::none();
    }
    BEING_MADE.with(|place| place.replace(Some((cx.clone(), telemetry.clone()))));
    let span = tracing::info_span!(
        target: TARGET, "task",
        task_id = %cx.id(), task_type = cx.kind(), queue = %cx.queue(), attempt = cx.attempt()
    );
    BEING_MADE.with(RefCell::take);
    span
}

/// Copies what handlers log by `tracing` into the logs of their runs, which the task's page shows. Needed only where a program
/// sets a subscriber of its own; the one that the settings describe has it.
///
/// Lines of futures that a handler spawned count as well if these are [instrumented] with the span of the handler.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let subscriber = tracing_subscriber::registry()
///     .with(tracing_subscriber::fmt::layer())
///     .with(runner::RunLogLayer::default());
/// # drop(subscriber);
/// ```
///
/// [instrumented]: https://docs.rs/tracing/latest/tracing/trait.Instrument.html#method.in_current_span
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct RunLogLayer;

/// The task of a span, among the extensions of that span.
pub(super) struct TaskOfSpan {
    pub(super) cx: Ctx,
    /// What takes the spans within it.
    pub(super) telemetry: Telemetry,
    /// Whether the fields of the span were formatted for the lines of the log.
    pub(super) is_formatted: AtomicBool,
}

/// Whether this thread is making the span of a task, which is when layers learn of it.
pub(super) fn span_of_task_is_being_made() -> bool {
    BEING_MADE.with_borrow(Option::is_some)
}

/// Keeps the context of the task with its span. Any of the layers may do so first.
pub(super) fn keep_task<S>(attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if attributes.metadata().target() != TARGET {
        return;
    }
    if let (Some((cx, telemetry)), Some(span)) = (BEING_MADE.with_borrow(Clone::clone), context.span(id)) {
        let mut extensions = span.extensions_mut();
        if extensions.get_mut::<TaskOfSpan>().is_none() {
            extensions.insert(TaskOfSpan {
                cx,
                telemetry,
                is_formatted: AtomicBool::new(false),
            });
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RunLogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        keep_task(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut spans = context.event_scope(event).into_iter().flatten();
        // Cloned, so that the span is not locked while the event is recorded: a value may log while it is formatted.
        let task = spans.find_map(|span| span.extensions().get().map(|TaskOfSpan { cx, .. }| cx.clone()));
        if let Some(cx) = task {
            let mut text = String::new();
            event.record(&mut Pairs(&mut text));
            cx.log().push(level(*event.metadata().level()), text.trim_start());
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
