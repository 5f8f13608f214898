//! Hints for fields of a manifest in the wrong place, and for the names that other systems use.
//!
//! Only hints; the readers decide which fields are known where.

use super::kinds::{KINDS, Kind};
use super::options::{POLICIES, TASK_OPTIONS, TIMING};

/// The parts of a manifest.
#[derive(Clone, Copy)]
enum Part {
    Top,
    Schedule,
    Kind(&'static Kind),
}

impl Part {
    fn of(path: &str) -> Option<Self> {
        let top = path.split(['.', '[']).next().unwrap_or_default();
        Some(match top {
            "" => Self::Top,
            "schedule" if !path.contains('.') => Self::Schedule,
            _ if path == top => Self::Kind(KINDS.iter().find(|kind| kind.key == top)?),
            _ => return None,
        })
    }

    /// The one part that a field belongs to, of those that people write elsewhere.
    fn that_has(field: &str) -> Option<Self> {
        if TASK_OPTIONS.contains(&field) || OF_TOP.contains(&field) {
            return Some(Self::Top);
        }
        if TIMING.contains(&field) || POLICIES.contains(&field) {
            return Some(Self::Schedule);
        }
        KINDS.iter().find(|kind| kind.own.contains(&field)).map(Self::Kind)
    }

    /// The key that it stands under; empty for the top.
    fn key(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Schedule => "schedule",
            Self::Kind(kind) => kind.key,
        }
    }
}

/// Keys of the top besides the task options.
const OF_TOP: &[&str] = &["enabled", "description", "handler", "name", "schedule"];

/// Kinds of triggers, which stand in a list.
const TRIGGERS: [&str; 5] = ["rabbitmq", "redis_stream", "webhook", "after", "file"];

/// Names of fields in other systems, and here.
const SYNONYMS: [(&str, &str); 26] = [
    ("tz", "timezone"),
    ("time_zone", "timezone"),
    ("cron_tz", "timezone"),
    ("retries", "retry"),
    ("max_retry", "retry"),
    ("max_retries", "retry"),
    ("attempts", "retry"),
    ("backofflimit", "retry"),
    ("environment", "env"),
    ("envs", "env"),
    ("env_vars", "env"),
    ("workdir", "cwd"),
    ("working_dir", "cwd"),
    ("working_directory", "cwd"),
    ("workingdir", "cwd"),
    ("dir", "cwd"),
    ("cmd", "command"),
    ("run", "command"),
    ("concurrencypolicy", "overlap"),
    ("catchup", "catch_up"),
    ("activedeadlineseconds", "timeout"),
    ("expression", "cron"),
    ("interval", "every"),
    ("endpoint", "url"),
    ("disabled", "enabled"),
    ("type", "handler"),
];

/// Fields without a direct counterpart.
const FOREIGN: [(&str, &str); 9] = [
    ("script", "write exec: {script: …}"),
    ("args", "put the arguments into exec.command, a list"),
    ("arguments", "put the arguments into exec.command, a list"),
    ("backoff", "write retry: a number of retries; the delay grows by itself"),
    ("image", "containers are not run here; start one with exec"),
    ("spec", "write schedule; a manifest is flat"),
    ("metadata", "write name; a manifest is flat"),
    ("suspend", "write enabled: false"),
    (
        "mailto",
        "failures are not mailed; `runner ls tasks --state archived` and /metrics show them",
    ),
];

/// The field that this name at this path probably means.
pub fn meant(name: &str, path: &str) -> Option<String> {
    let here = Part::of(path)?;
    let lower = name.to_lowercase();
    if let Some((_, hint)) = FOREIGN.iter().find(|(foreign, _)| *foreign == lower) {
        return Some((*hint).to_owned());
    }
    if matches!(here, Part::Top) && TRIGGERS.contains(&lower.as_str()) {
        return Some(format!("{lower} belongs under triggers: [{{id: …, {lower}: …}}]"));
    }
    let synonym = SYNONYMS.iter().find(|(foreign, _)| *foreign == lower);
    let field = synonym.map_or(lower.as_str(), |(_, field)| *field);
    let part = Part::that_has(field)?;
    if part.key() == here.key() {
        return synonym.map(|_| format!("write {field}"));
    }
    let renamed = if synonym.is_some() {
        format!("write {field}; it")
    } else {
        field.to_owned()
    };
    Some(match (part, here) {
        (Part::Top, _) => {
            let beside = path.split(['.', '[']).next().unwrap_or_default();
            format!("{renamed} belongs beside {beside}, one level up")
        }
        (Part::Schedule, _) if field == "cron" => "write schedule: \"* * * * *\", or schedule: {cron: …}".to_owned(),
        (Part::Schedule, _) if field == "every" => "write schedule: {every: 10s}".to_owned(),
        (Part::Schedule, _) if field == "at" => "write schedule: {at: 2030-12-24T22:00:00}".to_owned(),
        (Part::Schedule, _) => format!("{renamed} belongs under schedule: {{cron: …, {field}: …}}"),
        (Part::Kind(Kind { key, main, .. }), _) if field == main.0 => format!("write {key}: {{{field}: {}}}", main.1),
        (Part::Kind(Kind { key, main, .. }), _) => {
            let value = if main.1.starts_with('[') { "[…]" } else { "…" };
            format!("{renamed} belongs under {key}: {{{}: {value}, {field}: …}}", main.0)
        }
    })
}

/// The longest name of a function.
pub const MAX_FUNCTION_NAME: usize = 100;

/// Lower-case letters, digits, `.`, `_` and `-`, a letter or digit at both ends, at most `max`.
pub fn is_name(name: &str, max: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= max && name.starts_with(end) && name.ends_with(end) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_the_wrong_place_is_sent_where_it_belongs() {
        for (name, path, hint) in [
            ("env", "", "env belongs under exec: {command: […], env: …}"),
            (
                "environment",
                "",
                "write env; it belongs under exec: {command: […], env: …}",
            ),
            ("timeout", "exec", "timeout belongs beside exec, one level up"),
            ("timeout", "http", "timeout belongs beside http, one level up"),
            (
                "retries",
                "schedule[1]",
                "write retry; it belongs beside schedule, one level up",
            ),
            ("retries", "", "write retry"),
            ("tz", "schedule", "write timezone"),
            (
                "tz",
                "",
                "write timezone; it belongs under schedule: {cron: …, timezone: …}",
            ),
            ("jitter", "", "jitter belongs under schedule: {cron: …, jitter: …}"),
            ("headers", "", "headers belongs under http: {url: …, headers: …}"),
            (
                "concurrencyPolicy",
                "",
                "write overlap; it belongs under schedule: {cron: …, overlap: …}",
            ),
            ("workdir", "exec", "write cwd"),
            ("command", "", "write exec: {command: [program, argument]}"),
            ("url", "", "write http: {url: …}"),
            ("after", "", "after belongs under triggers: [{id: …, after: …}]"),
            (
                "rabbitmq",
                "",
                "rabbitmq belongs under triggers: [{id: …, rabbitmq: …}]",
            ),
            ("user", "", "user belongs under exec: {command: […], user: …}"),
            ("script", "", "write exec: {script: …}"),
            ("cron", "", "write schedule: \"* * * * *\", or schedule: {cron: …}"),
        ] {
            assert_eq!(meant(name, path).as_deref(), Some(hint), "{name} in {path:?}");
        }
        for (name, path) in [
            ("nonsense", ""),
            ("env", "exec.exit_codes"),
            ("tz", "schedule.catch_up"),
        ] {
            assert_eq!(meant(name, path), None, "{name} in {path:?}");
        }
    }
}
