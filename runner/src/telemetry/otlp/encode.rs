//! Spans as OTLP's messages.

use jiff::Timestamp;

use super::wire;
use crate::telemetry::span::{AttributeValue, SpanAttributes, SpanKind, TraceSpan};

/// What sends: the attributes that all of its spans and figures share.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) resource: wire::Resource,
}

impl Sender {
    /// This process, as a service of this name.
    pub(super) fn of_process(service: &str, instance: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let host = instance.split_once(':').map_or(instance, |(host, _)| host);
        let facts = [
            ("service.name", service),
            ("service.instance.id", instance),
            ("service.version", version),
            ("host.name", host),
            ("telemetry.sdk.name", "runner"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", version),
        ];
        let attributes = facts.map(|(key, value)| text(key, value)).into();
        Self {
            resource: wire::Resource { attributes },
        }
    }

    /// The call that hands over these spans.
    pub(super) fn traces(&self, spans: &[TraceSpan]) -> wire::TracesRequest {
        wire::TracesRequest {
            resource_spans: vec![wire::ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![wire::ScopeSpans {
                    scope: Some(scope()),
                    spans: spans.iter().map(span).collect(),
                }],
            }],
        }
    }
}

pub(super) fn scope() -> wire::OtlpScope {
    wire::OtlpScope {
        name: "runner".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

pub(super) fn text(key: &str, value: &str) -> wire::KeyValue {
    pair(key, wire::OneValue::Text(value.to_owned()))
}

fn pair(key: &str, value: wire::OneValue) -> wire::KeyValue {
    wire::KeyValue {
        key: key.to_owned(),
        value: Some(wire::AnyValue { value: Some(value) }),
    }
}

/// Nanoseconds since 1970; an instant before that, which no span has, is 0.
pub(super) fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}

fn span(span: &TraceSpan) -> wire::OtlpSpan {
    let failed = span.error.as_ref().map(|why| wire::Status {
        message: why.clone(),
        code: wire::STATUS_ERROR,
    });
    wire::OtlpSpan {
        trace_id: span.context.trace_id().to_bytes().into(),
        span_id: span.context.span_id().into(),
        trace_state: span.state.clone().unwrap_or_default(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        },
        start_time_unix_nano: nanoseconds(span.started_at),
        end_time_unix_nano: nanoseconds(span.ended_at.max(span.started_at)),
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| wire::OtlpEvent {
                time_unix_nano: nanoseconds(event.at),
                name: event.name.clone(),
                attributes: attributes(&event.attributes),
            })
            .collect(),
        status: failed,
        // The flags of `traceparent`; all that is sent was sampled.
        flags: 1,
    }
}

fn attributes(all: &SpanAttributes) -> Vec<wire::KeyValue> {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Text(text) => wire::OneValue::Text(text.clone()),
        AttributeValue::Int(number) => wire::OneValue::Int(*number),
        AttributeValue::Float(number) => wire::OneValue::Double(*number),
        AttributeValue::Bool(yes) => wire::OneValue::Bool(*yes),
    };
    all.0.iter().map(|(key, found)| pair(key, value(found))).collect()
}
