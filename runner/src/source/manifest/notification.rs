//! Reads `notify` and `expect`: which channels of the settings hear of a function or of a schedule, and what is expected
//! of them.
//!
//! That a channel is unknown is an error, because a notification that never comes is noticed too late.

use std::time::Duration;

use runner_core::notification::{Expectations, NotifyOn, NotifyRules};

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, nearest, quoted};

/// The code of what cannot be used.
const CODE: &str = "E155";

/// The code of what cannot be expected.
const EXPECT: &str = "E156";

/// The code of an address that cannot be called.
const PING: &str = "E157";

/// The longest address that is called.
const MAX_URL: usize = 2048;

/// Looks are some seconds apart.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest time limit of an attempt.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// How long runs are remembered.
const LONGEST_SILENCE: Duration = Duration::from_secs(90 * 86_400);

/// The most channels of one event.
const MAX_CHANNELS: usize = 20;

/// Reads the rules of a function or a schedule; `known` are the channels of the settings.
pub(super) fn read_notify(field: &Field<'_>, known: &[String], report: &mut Report<'_>) -> NotifyRules {
    let keys: Vec<&str> = NotifyOn::KEYS.iter().map(|(key, _)| *key).collect();
    let mut rules = NotifyRules::default();
    let Some(map) = Fields::read(field.node, &field.path, &keys, report) else {
        return rules;
    };
    for (key, on) in NotifyOn::KEYS {
        if let Some(field) = map.get(key, report)
            && let Some(channels) = read_channels(field, known, report)
        {
            rules.set(on, channels);
        }
    }
    rules
}

/// Reads what is expected of a function or a schedule.
pub(super) fn read_expect(field: &Field<'_>, report: &mut Report<'_>) -> Expectations {
    let known = [
        "start_within",
        "max_duration",
        "success_within",
        "min_interval",
        "paused_within",
    ];
    let Some(map) = Fields::read(field.node, &field.path, &known, report) else {
        return Expectations::default();
    };
    let mut span = |key: &str, longest: Duration| {
        let field = map.get(key, report)?;
        field.seconds(EXPECT, SHORTEST..=longest, report)
    };
    Expectations {
        start_within: span("start_within", LONGEST),
        max_duration: span("max_duration", LONGEST),
        success_within: span("success_within", LONGEST_SILENCE),
        min_interval: span("min_interval", LONGEST),
        paused_within: span("paused_within", LONGEST_SILENCE),
    }
}

/// Reads where runs of a function are announced.
pub(super) fn read_ping_url(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let url = field.text(PING, report)?;
    let known = ["https://", "http://", "${"].iter().any(|begin| url.starts_with(begin));
    if known && url.len() <= MAX_URL {
        return Some(url.to_owned());
    }
    // The text itself may hold a token.
    let text = format!(
        "{} must begin with https:// or http://, and have at most {MAX_URL} bytes",
        field.path
    );
    report.error(PING, field.node.mark, text).hint = Some("https://hc.example.com/ping/${env:BACKUP_CHECK}".to_owned());
    None
}

/// A name, or a list of names.
fn read_channels(field: &Field<'_>, known: &[String], report: &mut Report<'_>) -> Option<Vec<String>> {
    let mut names: Vec<String> = match &field.node.value {
        Value::List(items) if items.is_empty() => Vec::new(),
        Value::List(_) => field.texts(CODE, report)?,
        _ => vec![field.text(CODE, report)?.to_owned()],
    };
    if names.len() > MAX_CHANNELS {
        let text = format!("{} names more than {MAX_CHANNELS} channels", field.path);
        report.error(CODE, field.node.mark, text);
        return None;
    }
    for name in names.iter().filter(|name| !known.contains(name)) {
        refuse(field, name, known, report);
    }
    names.sort();
    names.dedup();
    Some(names)
}

fn refuse(field: &Field<'_>, name: &str, known: &[String], report: &mut Report<'_>) {
    let text = format!(
        "{} names the channel {}, which is not under notify.channels of the settings",
        field.path,
        quoted(name)
    );
    let likely = nearest(name, known.iter().map(String::as_str)).map(|name| format!("did you mean \"{name}\"?"));
    let hint = likely.unwrap_or_else(|| match known {
        [] => "notify: {channels: {ops: {kind: mail, to: [ops@example.com]}}} in config.yaml".to_owned(),
        known => format!("known there: {}", known.join(", ")),
    });
    report.error(CODE, field.node.mark, text).hint = Some(hint);
}
