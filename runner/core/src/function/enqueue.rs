//! The kind `enqueue` as data: another task, for a handler here or for a worker in Go.
//!
//! Its type and queue are fixed: a payload chooses what a task says, never which code runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{FunctionOptions, FunctionTemplate, FunctionTemplateFault, TemplateScope};

/// Another task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueueSpec {
    /// Its type.
    pub kind: String,
    /// Its payload.
    pub payload: EnqueuePayload,
    /// Queue, retries, time limit, retention and uniqueness, where they differ from asynq's.
    pub options: FunctionOptions,
    /// How long it waits before it runs.
    pub delay: Option<Duration>,
    /// How long after it may run its last attempt ends.
    pub deadline: Option<Duration>,
    /// The group that it joins.
    pub group: Option<FunctionTemplate>,
    /// Key-value pairs that accompany it.
    pub headers: BTreeMap<String, FunctionTemplate>,
}

impl EnqueueSpec {
    /// A task of this type with the payload of the run.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            payload: EnqueuePayload::default(),
            options: FunctionOptions::default(),
            delay: None,
            deadline: None,
            group: None,
            headers: BTreeMap::new(),
        }
    }

    /// Whether a field of the payload is part of the task.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        let mut others = self.group.iter().chain(self.headers.values());
        self.payload.uses_payload() || others.any(FunctionTemplate::uses_payload)
    }
}

/// The payload of a task that a function enqueues, and the body of a message that one publishes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EnqueuePayload {
    /// That of the run, byte for byte.
    #[default]
    OfRun,
    /// None.
    None,
    /// This text, filled.
    Text(FunctionTemplate),
    /// This JSON, its texts filled.
    Json(JsonOfTemplates),
}

impl EnqueuePayload {
    /// Whether a field of the payload of the run is named in it. That of the run as it is may be anything.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        match self {
            Self::Text(text) => text.uses_payload(),
            Self::Json(json) => json.uses_payload(),
            Self::OfRun | Self::None => false,
        }
    }
}

/// JSON whose texts are templates; a text that is one expression keeps the type of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonOfTemplates {
    /// A text.
    Text(FunctionTemplate),
    /// A number, a flag, nothing.
    Plain(Value),
    /// A list.
    List(Vec<JsonOfTemplates>),
    /// An object.
    Object(Vec<(String, JsonOfTemplates)>),
}

impl JsonOfTemplates {
    /// Makes templates of the texts in a value; keys stay as they are.
    ///
    /// # Errors
    ///
    /// Of the first text that is none.
    pub fn new(value: Value) -> Result<Self, FunctionTemplateFault> {
        Ok(match value {
            Value::String(text) => Self::Text(FunctionTemplate::parse(&text)?),
            Value::Array(items) => Self::List(items.into_iter().map(Self::new).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let member = |(key, value)| -> Result<_, FunctionTemplateFault> { Ok((key, Self::new(value)?)) };
                Self::Object(members.into_iter().map(member).collect::<Result<_, _>>()?)
            }
            plain => Self::Plain(plain),
        })
    }

    /// The value for a task.
    ///
    /// # Errors
    ///
    /// As [`FunctionTemplate::fill`].
    pub fn value(&self, scope: &TemplateScope) -> Result<Value, FunctionTemplateFault> {
        Ok(match self {
            Self::Text(template) => template.value(scope)?,
            Self::Plain(value) => value.clone(),
            Self::List(items) => Value::Array(items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let filled = members
                    .iter()
                    .map(|(key, member)| Ok((key.clone(), member.value(scope)?)));
                Value::Object(filled.collect::<Result<_, FunctionTemplateFault>>()?)
            }
        })
    }

    fn uses_payload(&self) -> bool {
        match self {
            Self::Text(template) => template.uses_payload(),
            Self::Plain(_) => false,
            Self::List(items) => items.iter().any(Self::uses_payload),
            Self::Object(members) => members.iter().any(|(_, member)| member.uses_payload()),
        }
    }
}
