//! A span that has ended, as plain data: what is sent of it, and its bounds.

use std::borrow::Cow;

use jiff::Timestamp;
use runner_core::task::TraceContext;

/// SpanAttributes of one span or event; further ones are left out.
const MAX_ATTRIBUTES: usize = 32;

/// Events of one span; further ones are left out.
const MAX_EVENTS: usize = 32;

/// Bytes of one text.
const MAX_TEXT: usize = 1024;

/// Bytes of the attributes and events of one span; further events are left out.
const MAX_BYTES: usize = 32 * 1024;

/// What a span is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of the work.
    Internal,
    /// It hands work over.
    Producer,
    /// It does the work that a producer has handed over.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(bounded(text))
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// The beginning of a text that fits.
pub(super) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// Names and values, a bounded number of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanAttributes(pub Vec<(Cow<'static, str>, AttributeValue)>);

impl SpanAttributes {
    /// Adds one, or replaces the value of that name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<AttributeValue>) {
        let (name, value) = (name.into(), value.into());
        let room = self.0.len() < MAX_ATTRIBUTES;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None if room => self.0.push((name, value)),
            None => {}
        }
    }

    /// About how much memory they take.
    fn size(&self) -> usize {
        let size = |value: &AttributeValue| match value {
            AttributeValue::Text(text) => text.len(),
            AttributeValue::Int(_) | AttributeValue::Float(_) | AttributeValue::Bool(_) => 0,
        };
        self.0.iter().map(|(_, value)| size(value) + EACH).sum()
    }
}

/// What an attribute, an event or a span takes besides its texts, in bytes.
const EACH: usize = 64;

/// Something that happened within a span: a line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    /// When.
    pub at: Timestamp,
    /// The text of the line.
    pub name: String,
    /// Its fields.
    pub attributes: SpanAttributes,
}

impl SpanEvent {
    fn size(&self) -> usize {
        self.name.len() + self.attributes.size() + EACH
    }
}

/// A span. While it has not ended, its end is its start.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSpan {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The id of the span around it; `None`: it begins the trace.
    pub parent: Option<[u8; 8]>,
    /// What other systems noted with the trace.
    pub state: Option<String>,
    /// What it is.
    pub name: String,
    /// What it is to others.
    pub kind: SpanKind,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Facts.
    pub attributes: SpanAttributes,
    /// What happened within it.
    pub events: Vec<SpanEvent>,
    /// Why it failed.
    pub error: Option<String>,
}

impl TraceSpan {
    /// A span that begins now.
    #[must_use]
    pub fn new(context: TraceContext, parent: Option<[u8; 8]>, name: &str, kind: SpanKind, now: Timestamp) -> Self {
        Self {
            context,
            parent,
            state: None,
            name: bounded(name),
            kind,
            started_at: now,
            ended_at: now,
            attributes: SpanAttributes::default(),
            events: Vec::new(),
            error: None,
        }
    }

    /// Adds an event, if there is room.
    pub fn event(&mut self, mut event: SpanEvent) {
        event.name = bounded(&event.name);
        if self.events.len() < MAX_EVENTS && self.size() + event.size() <= MAX_BYTES {
            self.events.push(event);
        }
    }

    /// About how much memory it takes: at most some 70 KiB.
    #[must_use]
    pub fn size(&self) -> usize {
        let texts = self.name.len() + self.error.as_ref().map_or(0, String::len);
        let events: usize = self.events.iter().map(SpanEvent::size).sum();
        texts + self.state.as_ref().map_or(0, String::len) + self.attributes.size() + events + 4 * EACH
    }

    /// Says that it failed. The first reason counts.
    pub fn fail(&mut self, why: &str) {
        self.error.get_or_insert_with(|| bounded(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_bound_whatever_is_logged_within_it() {
        let now = Timestamp::UNIX_EPOCH;
        let mut span = TraceSpan::new(TraceContext::root(true), None, "a", SpanKind::Internal, now);
        for n in 0..1000 {
            let mut attributes = SpanAttributes::default();
            attributes.set("long", "x".repeat(100_000).as_str());
            span.attributes.set(format!("name {n}"), "y".repeat(100_000).as_str());
            span.event(SpanEvent {
                at: now,
                name: "z".repeat(10_000_000),
                attributes,
            });
        }
        assert!(span.size() < 72 * 1024, "{}", span.size());
        assert!(!span.events.is_empty() && span.events[0].name.len() == MAX_TEXT);
    }
}
