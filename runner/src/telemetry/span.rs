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
}

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
    pub fn event(&mut self, event: SpanEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    /// Says that it failed. The first reason counts.
    pub fn fail(&mut self, why: &str) {
        self.error.get_or_insert_with(|| bounded(why));
    }
}
