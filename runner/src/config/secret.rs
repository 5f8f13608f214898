//! A value that must not be seen: passwords, keys, connection strings with a password in them.
//!
//! Not a vault: it only makes sure that no log line, error or page shows the value by accident.

use std::fmt;
use std::sync::Arc;

use super::environment::{Environment, interpolate};

/// Text whose `Debug` and `Display` print `***`.
#[derive(Clone, Default)]
pub struct Secret {
    text: String,
    /// As it was written, if it refers to other places.
    written: Option<Arc<SecretReference>>,
}

struct SecretReference {
    text: String,
    environment: Environment,
}

impl Secret {
    /// Wraps `text`, which stays the same.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, written: None }
    }

    /// `text`: the value of `written` when the settings were read.
    #[must_use]
    pub fn of_reference(text: String, written: &str, environment: &Environment) -> Self {
        let written = SecretReference {
            text: written.to_owned(),
            environment: environment.clone(),
        };
        let written = Some(Arc::new(written));
        Self { text, written }
    }

    /// The text itself, as it was when the settings were read.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether it comes from a file or a variable, so that it may change later.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.written.is_some()
    }

    /// The text as it is now: files that it refers to are read again.
    ///
    /// # Errors
    ///
    /// A sentence that names what cannot be read, never its content.
    pub fn read(&self) -> Result<String, String> {
        match &self.written {
            Some(written) => interpolate(&written.text, &written.environment),
            None => Ok(self.text.clone()),
        }
    }

    /// Whether there is none. One that cannot be read counts as present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.read().is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_shows_only_when_asked() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(secret.read().as_deref(), Ok("hunter2"));
    }

    #[test]
    fn what_it_refers_to_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pw");
        let written = format!("a${{file:{}}}b", file.display());
        let secret = Secret::of_reference("a1b".to_owned(), &written, &Environment::default());
        std::fs::write(&file, "2\n").unwrap();
        assert_eq!((secret.expose(), secret.read().as_deref()), ("a1b", Ok("a2b")));
        std::fs::remove_file(&file).unwrap();
        assert!(secret.read().unwrap_err().contains("cannot read"));
        assert_eq!(format!("{secret:?}"), "***");
    }
}
