//! The form of the fields of spans, in both forms of a line, and the one exception: those of the span of a task are formatted
//! by the first line within it, because most tasks log nothing and each attempt has a span.

use std::fmt;
use std::sync::atomic::Ordering;

use runner_sdk::Ctx;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, JsonFields, Writer};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::line::Pairs;
use super::run_lines::{TaskOfSpan, keep_task, span_of_task_is_being_made};

/// Formats the fields of spans, ready to be appended to the fields of an event.
pub struct SpanFields(pub Format);

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut w: Writer<'w>, fields: R) -> fmt::Result {
        let later = span_of_task_is_being_made();
        match self.0 {
            Format::Console if later => Ok(()),
            Format::Json if later => w.write_str("{}"),
            Format::Json => JsonFields::new().format_fields(w, fields),
            Format::Console => {
                let mut text = String::new();
                fields.record(&mut Pairs(&mut text));
                w.write_str(&text)
            }
        }
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &tracing::span::Record<'_>) -> fmt::Result {
        match self.0 {
            Format::Console => self.format_fields(current.as_writer(), fields),
            Format::Json => {
                let mut json = FormattedFields::<JsonFields>::new(std::mem::take(&mut current.fields));
                let added = JsonFields::new().add_fields(&mut json, fields);
                current.fields = json.fields;
                added
            }
        }
    }
}

/// Formats the fields of a task's span before the first line within it is written. It has to stand before the layers that
/// write lines.
pub struct TaskFields(pub Format);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TaskFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        keep_task(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for span in context.event_scope(event).into_iter().flatten() {
            // Locked for writing once, by the first line; all others only look.
            let first = span.extensions().get().and_then(|task: &TaskOfSpan| {
                let is_first = !task.is_formatted.swap(true, Ordering::Relaxed);
                is_first.then(|| formatted(self.0, &task.cx))
            });
            let Some(fields) = first else { continue };
            if let Some(place) = span.extensions_mut().get_mut::<FormattedFields<SpanFields>>() {
                place.fields = fields;
            }
        }
    }
}

fn formatted(format: Format, cx: &Ctx) -> String {
    match format {
        Format::Console => {
            let mut text = String::new();
            let mut pairs = Pairs(&mut text);
            pairs.push("task_id", cx.id().as_ref());
            pairs.push("task_type", cx.kind());
            pairs.push("queue", cx.queue().as_ref());
            pairs.push("attempt", &cx.attempt().to_string());
            if let Some(trace) = cx.trace() {
                pairs.push("trace_id", &trace.trace_id().to_string());
            }
            text
        }
        Format::Json => {
            let mut fields = serde_json::json!({
                "task_id": cx.id().to_string(),
                "task_type": cx.kind(),
                "queue": cx.queue().to_string(),
                "attempt": cx.attempt(),
            });
            if let Some(trace) = cx.trace() {
                fields["trace_id"] = trace.trace_id().to_string().into();
            }
            fields.to_string()
        }
    }
}
