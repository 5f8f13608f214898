//! The layer that takes the spans which handlers make by `tracing`, as parts of the trace of their task.
//!
//! Spans outside of handlers are left alone. Nothing is kept of a task whose trace is not recorded, and while nothing is sent.

use std::fmt;

use runner_core::task::TraceContext;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::run_lines::{TARGET, TaskOfSpan, keep_task};
use crate::telemetry::{AttributeValue, SpanAttributes, SpanEvent, SpanKind, Telemetry, TraceSpan};

/// Sends the spans that handlers make by `tracing`, where the settings name a receiver for OpenTelemetry. Needed only where a
/// program sets a subscriber of its own; the one that the settings describe has it. Which spans it takes is up to a filter:
/// `SpanExportLayer::default().with_filter(…)`.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SpanExportLayer;

/// A span of a handler that has not ended, among the extensions of that span.
struct HandlerSpan {
    telemetry: Telemetry,
    span: TraceSpan,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanExportLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() == TARGET {
            return keep_task(attributes, id, &context);
        }
        let Some(span) = context.span(id) else { return };
        let Some((telemetry, around)) = span.scope().skip(1).find_map(|outer| around(&outer)) else {
            return;
        };
        let Some(now) = telemetry.now() else { return };
        let (kind, name) = (SpanKind::Internal, attributes.metadata().name());
        let mut made = TraceSpan::new(around.child(), Some(around.span_id()), name, kind, now);
        attributes.record(&mut Fields(&mut made.attributes));
        span.extensions_mut().insert(HandlerSpan { telemetry, span: made });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // Recorded before the span is locked, as lines are.
        let mut recorded = SpanAttributes::default();
        values.record(&mut Fields(&mut recorded));
        if let Some(open) = span.extensions_mut().get_mut::<HandlerSpan>() {
            for (name, value) in recorded.0 {
                open.span.attributes.set(name, value);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        // Recorded before the span is locked: a value may log while it is formatted.
        let is_open = span.extensions().get::<HandlerSpan>().is_some();
        if !is_open {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        line.attributes.set("level", level.as_str());
        if let Some(open) = span.extensions_mut().get_mut::<HandlerSpan>()
            && let Some(at) = open.telemetry.now()
        {
            if level == Level::ERROR {
                open.span.fail(&line.message);
            }
            let Line { message, attributes } = line;
            open.span.event(SpanEvent {
                at,
                name: message,
                attributes,
            });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let open = context.span(&id).and_then(|span| span.extensions_mut().remove());
        if let Some(HandlerSpan { telemetry, mut span }) = open
            && let Some(now) = telemetry.now()
        {
            span.ended_at = now;
            telemetry.put(span);
        }
    }
}

/// The trace that this span belongs to, and its place in it, if that is recorded.
fn around<S: for<'a> LookupSpan<'a>>(outer: &SpanRef<'_, S>) -> Option<(Telemetry, TraceContext)> {
    let extensions = outer.extensions();
    let (telemetry, context) = match extensions.get::<HandlerSpan>() {
        Some(open) => (&open.telemetry, open.span.context),
        None => {
            let task = extensions.get::<TaskOfSpan>().filter(|task| task.telemetry.is_on())?;
            (&task.telemetry, task.cx.trace()?)
        }
    };
    context.is_sampled().then(|| (telemetry.clone(), context))
}

/// Fields as attributes.
struct Fields<'a>(&'a mut SpanAttributes);

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.set(field.name(), AttributeValue::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.set(field.name(), i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.set(field.name(), AttributeValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.set(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.set(field.name(), format!("{value:?}").as_str());
    }
}

/// The text and the fields of a line.
#[derive(Default)]
struct Line {
    message: String,
    attributes: SpanAttributes,
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        Fields(&mut self.attributes).record_f64(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        Fields(&mut self.attributes).record_i64(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        Fields(&mut self.attributes).record_u64(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        Fields(&mut self.attributes).record_bool(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => Fields(&mut self.attributes).record_str(field, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => Fields(&mut self.attributes).record_debug(field, value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_sdk::testing::Trial;
    use runner_sdk::{Ctx, Registry};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::task_span;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// The spans that are taken of what this does within the span of a task.
    fn taken(traceparent: Option<&str>, emit: fn()) -> Vec<TraceSpan> {
        let telemetry = Telemetry::recording(1.0);
        let within = telemetry.clone();
        let registry = Registry::new().on("a", move |cx: Ctx| {
            let telemetry = within.clone();
            async move { task_span(&cx, &telemetry).in_scope(emit) }
        });
        let trial = traceparent.map_or_else(|| Trial::of("a"), |parent| Trial::of("a").header("traceparent", parent));
        let subscriber = tracing_subscriber::registry().with(SpanExportLayer::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tracing::subscriber::with_default(subscriber, || runtime.block_on(trial.run(registry)).unwrap());
        telemetry.recorded()
    }

    fn nested() {
        let outer = tracing::info_span!("outer", n = 7, text = "x", later = tracing::field::Empty);
        outer.in_scope(|| {
            tracing::info_span!("inner").in_scope(|| tracing::error!(code = "e1", "it broke"));
            tracing::info!("fine");
        });
        outer.record("later", true);
    }

    #[test]
    fn spans_of_a_handler_are_parts_of_the_attempt() {
        let all = taken(Some(PARENT), nested);
        let [inner, outer] = &all[..] else {
            unreachable!("{all:?}")
        };
        let parent = TraceContext::parse(PARENT).unwrap();
        assert_eq!((outer.name.as_str(), outer.parent), ("outer", Some(parent.span_id())));
        assert_eq!(
            (inner.name.as_str(), inner.parent),
            ("inner", Some(outer.context.span_id()))
        );
        assert!(all.iter().all(|span| span.context.trace_id() == parent.trace_id()));
        let mut expected = SpanAttributes::default();
        expected.set("n", 7_i64);
        expected.set("text", "x");
        expected.set("later", AttributeValue::Bool(true));
        assert_eq!(outer.attributes, expected);
        assert_eq!((outer.events[0].name.as_str(), outer.error.as_deref()), ("fine", None));
        assert_eq!(inner.error.as_deref(), Some("it broke"));
        assert!(format!("{:?}", inner.events[0].attributes).contains("e1"));
    }

    #[test]
    fn nothing_is_taken_outside_of_a_recorded_trace() {
        assert!(taken(None, nested).is_empty());
        assert!(taken(Some(&PARENT.replace("-01", "-00")), nested).is_empty());
        let telemetry = Telemetry::recording(1.0);
        let subscriber = tracing_subscriber::registry().with(SpanExportLayer::default());
        tracing::subscriber::with_default(subscriber, nested);
        assert!(telemetry.recorded().is_empty());
    }
}
