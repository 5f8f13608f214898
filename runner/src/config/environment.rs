//! The part of the environment that settings use: overrides, and variables that values refer to.
//!
//! A snapshot taken once; tests build their own. It makes no decision about any setting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Prefix of the variables that override settings.
const PREFIX: &str = "RUNNER_";

/// Prefix under which the Go service read the same settings, without splitting words.
const LEGACY_PREFIX: &str = "BINGO_";

/// Variables that commands get about their task.
const OF_A_TASK: [&str; 16] = [
    "RUNNER_TASK_ID",
    "RUNNER_TASK_TYPE",
    "RUNNER_FUNCTION",
    "RUNNER_QUEUE",
    "RUNNER_ATTEMPT",
    "RUNNER_MAX_ATTEMPTS",
    "RUNNER_TIMEOUT",
    "RUNNER_DEADLINE",
    "RUNNER_SCHEDULE_ID",
    "RUNNER_SCHEDULED_AT",
    "RUNNER_INTERVAL_START",
    "RUNNER_FIRE_KIND",
    "RUNNER_CATCH_UP",
    "RUNNER_MISSED",
    "RUNNER_RESULT_FILE",
    "RUNNER_CONTROL_FILE",
];

/// Bytes; a secret in a file of its own is a password or a key, not a document.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// Variables by name, and the directory of the settings file.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Names of overrides whose values are not UTF-8.
    not_text: Vec<String>,
    /// The directory that relative paths of the settings file start from; empty for the working directory.
    base: PathBuf,
}

impl Environment {
    /// The variables of this process; of those that are not UTF-8 only the names of overrides are kept.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // the one place that reads the environment
    pub fn of_process() -> Self {
        Self::of_pairs(std::env::vars_os())
    }

    fn of_pairs(pairs: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut this = Self::default();
        for (name, value) in pairs {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => {
                    this.variables.insert(name, value);
                }
                Err(_) if is_override(&name) => this.not_text.push(name),
                Err(_) => (),
            }
        }
        this
    }

    /// For tests: with these variables.
    #[cfg(test)]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self::of_pairs(variables.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))))
    }

    /// The same beside a settings file in this directory.
    #[must_use]
    pub fn beside(&self, base: PathBuf) -> Self {
        Self { base, ..self.clone() }
    }

    /// The directory that relative paths of the settings file start from; empty for the working directory.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The value of a variable; empty means empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The variable that overrides the setting at `path`, with its name.
    #[must_use]
    pub fn override_of(&self, path: &str) -> Option<(String, &str)> {
        let names = variables(path).into_iter();
        let mut found = names.filter_map(|name| self.get(&name).map(|value| (name.clone(), value)));
        found.next()
    }

    /// Names that look like overrides.
    pub fn overrides(&self) -> impl Iterator<Item = &str> {
        self.variables
            .keys()
            .map(String::as_str)
            .filter(|name| is_override(name))
    }

    /// Names that would look like overrides in capitals.
    pub fn in_other_case(&self) -> impl Iterator<Item = &str> {
        let would = |name: &&str| !is_override(name) && is_override(&name.to_ascii_uppercase());
        self.variables.keys().map(String::as_str).filter(would)
    }

    /// Such names with values that are not UTF-8.
    #[must_use]
    pub fn not_text(&self) -> &[String] {
        &self.not_text
    }

    /// A directory named by a variable, if it is set, not empty and absolute.
    #[must_use]
    pub fn directory(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|p| p.is_absolute())
    }
}

/// Both variables that override the setting at `path`: ours, and that of the Go service.
#[must_use]
pub fn variables(path: &str) -> [String; 2] {
    let legacy = format!("{LEGACY_PREFIX}{}", path.replace('.', "_").to_uppercase());
    [variable(path), legacy]
}

/// Whether a variable of this name looks as if it overrides a setting. Those that a command gets about its task do not:
/// it may call this program.
fn is_override(name: &str) -> bool {
    let is_prefixed = name.starts_with(PREFIX) || name.starts_with(LEGACY_PREFIX);
    is_prefixed && !OF_A_TASK.contains(&name)
}

/// `log.maxSize` → `RUNNER_LOG_MAX_SIZE`.
fn variable(path: &str) -> String {
    let mut name = PREFIX.to_owned();
    let mut lower_before = false;
    for c in path.chars() {
        if c == '.' || c == '_' {
            name.push('_');
        } else {
            if c.is_ascii_uppercase() && lower_before {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        lower_before = c.is_ascii_lowercase();
    }
    name
}

/// Replaces each `${env:NAME}` and `${file:PATH}` of `text`; `$${` stands for `${`.
///
/// # Errors
///
/// A sentence that names what could not be resolved, never its value.
pub fn interpolate(text: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}') else {
            return Err("\"${\" is not closed by \"}\"".to_owned());
        };
        out.push_str(&resolve(&rest[start + 2..start + end], environment)?);
        rest = &rest[start + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn resolve(reference: &str, environment: &Environment) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => environment
            .get(name)
            .map(ToOwned::to_owned)
            .ok_or_else(|| format!("the environment variable {name} is not set")),
        Some(("file", path)) => read_secret(&environment.base.join(path)),
        _ => Err(format!("\"${{{reference}}}\" is not a reference")),
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_SECRET_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_SECRET_FILE {
        return Err(format!("{} is longer than {MAX_SECRET_FILE} bytes", path.display()));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_variables_split_words() {
        assert_eq!(variable("log.maxSize"), "RUNNER_LOG_MAX_SIZE");
        assert_eq!(variable("feature.queueDash"), "RUNNER_FEATURE_QUEUE_DASH");
        assert_eq!(variable("worker.shutdown_timeout"), "RUNNER_WORKER_SHUTDOWN_TIMEOUT");
    }

    #[test]
    fn references_are_replaced_and_escaped_ones_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let environment = Environment::of(&[("A", "x")]);
        let text = format!("${{env:A}}-$${{b}}-${{file:{}}}", file.path().display());
        assert_eq!(interpolate(&text, &environment).unwrap(), "x-${b}-s3cret");
        for bad in ["${env:NONE}", "${A}", "${env:A", "${file:/does/not/exist}"] {
            assert!(interpolate(bad, &environment).is_err(), "{bad}");
        }
    }

    #[test]
    fn our_name_wins_over_the_old_one() {
        let both = Environment::of(&[("RUNNER_LOG_MAX_SIZE", "1"), ("BINGO_LOG_MAXSIZE", "2")]);
        assert_eq!(both.override_of("log.maxSize").unwrap().1, "1");
        let old = Environment::of(&[("BINGO_LOG_MAXSIZE", "2")]);
        assert_eq!(old.override_of("log.maxSize").unwrap().1, "2");
    }

    #[test]
    fn what_is_not_text_keeps_its_name() {
        use std::os::unix::ffi::OsStringExt;
        let names = ["RUNNER_SERVER_KEY", "RUNNER_TASK_ID", "OTHER"];
        let pairs = names.map(|name| (OsString::from(name), OsString::from_vec(vec![0xff])));
        let read = Environment::of_pairs(pairs.into_iter());
        assert_eq!(
            (read.not_text(), read.get("OTHER")),
            (&["RUNNER_SERVER_KEY".to_owned()][..], None)
        );
        let refused = crate::config::Settings::parse("c", "", &read).unwrap_err();
        assert!(
            refused.to_string().starts_with("RUNNER_SERVER_KEY: CFG_VALUE"),
            "{refused}"
        );
    }
}
