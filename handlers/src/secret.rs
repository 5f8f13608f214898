//! `${env:NAME}` and `${file:PATH}` in manifests: resolved by the worker when it runs the function, and redacted wherever
//! the run's output is shown. Values leave this process in no other way.

use std::borrow::Cow;
use std::io::Read;

use runner_sdk::{Ctx, TaskError};

use crate::exhausted;
use crate::misconfigured::misconfigured;

/// Longest file that is read as a secret: keys and certificates are far smaller.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Shorter values are not redacted: that would turn every log into stars and hide nothing.
const MIN_HIDDEN_BYTES: usize = 4;

const STARS: &[u8] = b"***";

/// Why a reference cannot be resolved: names the reference, never a value.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Unresolved {
    text: String,
    #[source]
    source: Option<std::io::Error>,
}

impl Unresolved {
    /// The resulting error for the task.
    pub(crate) fn into_error(self, cx: &Ctx) -> TaskError {
        match exhausted::cause(&self) {
            Some(_) => exhausted::put_off(&self.text, cx),
            None => misconfigured(self.text, cx),
        }
    }
}

impl From<String> for Unresolved {
    fn from(text: String) -> Self {
        Self { text, source: None }
    }
}

/// The values resolved for one run.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// Longest first, so that a value inside another one does not leave the rest of it visible.
    values: Vec<Vec<u8>>,
}

impl Secrets {
    /// `text` with its references resolved. Any other `${…}` stays as it is.
    ///
    /// # Errors
    ///
    /// The first reference that cannot be resolved.
    pub(crate) fn resolve(&mut self, text: &str) -> Result<String, Unresolved> {
        let mut resolved = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            resolved.push_str(before);
            let Some(end) = reference.find('}') else {
                rest = reference;
                break;
            };
            let inner = &reference[2..end];
            let value = if let Some(name) = inner.strip_prefix("env:") {
                from_environment(name)?
            } else if let Some(path) = inner.strip_prefix("file:") {
                from_file(path)?
            } else {
                resolved.push_str("${");
                rest = &reference[2..];
                continue;
            };
            self.hide(&value);
            resolved.push_str(&value);
            rest = &reference[end + 1..];
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    /// Redacts this value from now on; a value of several lines also line by line, as logs show it.
    pub(crate) fn hide(&mut self, value: &str) {
        let lines = value.lines().filter(|_| value.contains('\n'));
        for part in std::iter::once(value).chain(lines) {
            let part = part.trim().as_bytes();
            if part.len() >= MIN_HIDDEN_BYTES && !self.values.iter().any(|v| v == part) {
                self.values.push(part.to_vec());
            }
        }
        self.values.sort_by_key(|v| std::cmp::Reverse(v.len()));
    }

    /// `bytes` with every value redacted.
    pub(crate) fn redact<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut all = Cow::Borrowed(bytes);
        for value in &self.values {
            if let Some(painted) = replace(&all, value) {
                all = Cow::Owned(painted);
            }
        }
        all
    }

    /// Length of the longest value in bytes: how much more than the shown part must be searched.
    pub(crate) fn longest(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }
}

/// `bytes` with `value` redacted; `None` if it does not occur.
fn replace(bytes: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let mut painted: Option<Vec<u8>> = None;
    let (mut done, mut at) = (0, 0);
    while at + value.len() <= bytes.len() {
        if &bytes[at..at + value.len()] == value {
            let painted = painted.get_or_insert_default();
            painted.extend_from_slice(&bytes[done..at]);
            painted.extend_from_slice(STARS);
            at += value.len();
            done = at;
        } else {
            at += 1;
        }
    }
    if let Some(painted) = &mut painted {
        painted.extend_from_slice(&bytes[done..]);
    }
    painted
}

#[allow(clippy::disallowed_methods)] // a reference of a manifest, not a setting
fn from_environment(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|e| match e {
        std::env::VarError::NotPresent => {
            format!("secret ${{env:{name}}} is not set on this worker")
        }
        std::env::VarError::NotUnicode(_) => format!("secret ${{env:{name}}} is not UTF-8"),
    })
}

fn from_file(path: &str) -> Result<String, Unresolved> {
    let wrong = |e: &dyn std::fmt::Display| format!("secret ${{file:{path}}}: {e}");
    let failed = |e: std::io::Error| Unresolved {
        text: wrong(&e),
        source: Some(e),
    };
    // A pipe or a device would block the worker or never end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(wrong(&"not a regular file").into());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    if read.map_err(failed)? as u64 > MAX_FILE_BYTES {
        return Err(wrong(&format!("longer than {MAX_FILE_BYTES} bytes")).into());
    }
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn painted(secrets: &Secrets, text: &str) -> String {
        String::from_utf8_lossy(&secrets.redact(text.as_bytes())).into_owned()
    }

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn references_are_resolved_and_their_values_painted_over() {
        let file = file_with("hunter22\n");
        let mut secrets = Secrets::default();
        let text = format!(
            "a ${{file:{}}} b ${{other}} $x ${{env:CARGO_PKG_NAME}} ${{",
            file.path().display()
        );
        let resolved = secrets.resolve(&text).unwrap();
        assert_eq!(resolved, "a hunter22 b ${other} $x runner-handlers ${");
        assert_eq!(&*secrets.redact(b"x hunter22hunter22 runner-handlers"), b"x ****** ***");
        assert_eq!(painted(&secrets, "nothing"), "nothing");
    }

    #[test]
    fn a_missing_secret_is_named() {
        let resolve = |text: &str| Secrets::default().resolve(text).map_err(|e| e.to_string());
        let error = resolve("${env:RUNNER_TEST_NOT_SET}").unwrap_err();
        assert_eq!(error, "secret ${env:RUNNER_TEST_NOT_SET} is not set on this worker");
        assert!(
            resolve("${file:/nowhere/at/all}")
                .unwrap_err()
                .contains("/nowhere/at/all")
        );
        assert!(resolve("${file:/dev/zero}").unwrap_err().contains("not a regular file"));
        let long = file_with(&"x".repeat(70_000));
        let error = resolve(&format!("${{file:{}}}", long.path().display())).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn each_line_of_a_key_is_painted_over_and_short_values_are_not() {
        let mut secrets = Secrets::default();
        secrets.hide("first line\nsecond line\n");
        secrets.hide("1");
        assert_eq!(painted(&secrets, "got second line 1"), "got *** 1");
        assert_eq!(painted(&secrets, "first line\nsecond line"), "***");
    }
}
