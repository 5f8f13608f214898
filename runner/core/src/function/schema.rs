//! What a function accepts as payload: a JSON Schema, already compiled.
//!
//! Neither reads nor compiles schemas: the source room does, so that programs that only enqueue need no validator.

use std::fmt;
use std::sync::Arc;

/// Checks payloads by one schema.
pub trait PayloadCheck: Send + Sync {
    /// Why it does not accept this payload; `None` if it does. No payload at all is the JSON value `null`.
    fn fault(&self, payload: &[u8]) -> Option<SchemaFault>;
}

/// The schema of a function's payload. Clones share what was compiled.
#[derive(Clone)]
pub struct PayloadSchema {
    text: Arc<str>,
    check: Arc<dyn PayloadCheck>,
}

impl PayloadSchema {
    /// The schema with this text, which must be what `check` was made of.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>, check: Arc<dyn PayloadCheck>) -> Self {
        let text = text.into();
        Self { text, check }
    }

    /// The schema as compact JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why it does not accept this payload; `None` if it does. No payload at all is the JSON value `null`.
    #[must_use]
    pub fn fault(&self, payload: &[u8]) -> Option<SchemaFault> {
        self.check.fault(payload)
    }
}

impl PartialEq for PayloadSchema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PayloadSchema {}

impl fmt::Debug for PayloadSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PayloadSchema").field(&self.text).finish()
    }
}

/// Why a payload does not fit a schema: the first fault. Never contains a value of the payload, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// Where in the payload, as a JSON pointer: `/orders/0/id`; empty for the payload as a whole.
    pub path: String,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload does not fit payload_schema: ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where() {
        let fault = |path: &str| SchemaFault {
            path: path.to_owned(),
            why: "value is not of type \"integer\"".to_owned(),
        };
        let text = "the payload does not fit payload_schema: value is not of type \"integer\"";
        assert_eq!(fault("").to_string(), text);
        let text = "the payload does not fit payload_schema: /n/0: value is not of type \"integer\"";
        assert_eq!(fault("/n/0").to_string(), text);
    }
}
