//! Validated names: queue names and task ids.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Prefix of the task type of a command or HTTP call; the function's name follows.
pub const FUNCTION_PREFIX: &str = "fn:";

/// A name that is empty or only white space; asynq refuses these and so do we.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must not be blank")]
pub struct BlankName {
    /// The kind of name: "queue name", "task id".
    pub what: &'static str,
}

/// A name that needs no check: what takes texts takes names as well.
impl From<Infallible> for BlankName {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        // Shared: names are passed on far more often than created.
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts any text that is not blank, unchanged.
            ///
            /// # Errors
            ///
            /// [`BlankName`] if the text is empty or only white space.
            pub fn new(text: impl Into<String>) -> Result<Self, BlankName> {
                let text = text.into();
                if text.trim().is_empty() {
                    return Err(BlankName { what: $what });
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = BlankName;
            fn from_str(s: &str) -> Result<Self, BlankName> {
                Self::new(s)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = BlankName;
            fn try_from(s: &str) -> Result<Self, BlankName> {
                Self::new(s)
            }
        }
        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }
        impl TryFrom<String> for $name {
            type Error = BlankName;
            fn try_from(s: String) -> Result<Self, BlankName> {
                Self::new(s)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of a queue. Case sensitive, preserved byte for byte.
    QueueName,
    "queue name"
);
name!(
    /// The identity of a task within its queue. Random unless the producer chose one.
    TaskId,
    "task id"
);

impl Default for QueueName {
    /// The queue called `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl TaskId {
    /// A fresh random identity: a version-4 UUID, lower case with hyphens, as asynq makes them.
    #[must_use]
    pub fn random() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        Self((&*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_names_are_refused_and_others_preserved() {
        assert!(QueueName::new(" \t\u{3000}").is_err());
        assert!(TaskId::new("").is_err());
        assert_eq!(QueueName::new(" low ").unwrap().as_str(), " low ");
        assert_eq!(QueueName::default().as_str(), "default");
        assert_eq!(TaskId::random().as_str().len(), 36);
    }
}
