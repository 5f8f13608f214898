//! The form of a log line for people, and of the time in both forms.
//!
//! `2026-11-22T10:00:00.123+08:00 INFO  target text key=value`. One event is one line: control characters
//! are escaped, so no payload can forge a line or steer a terminal.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use runner_core::clock::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::signs;

/// Prints the current time in a zone, with milliseconds and offset.
#[derive(Clone)]
pub struct TimeFormat {
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
    /// The zone it is shown in.
    pub zone: TimeZone,
}

impl FormatTime for TimeFormat {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = self.clock.now().to_zoned(self.zone.clone());
        write!(w, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }
}

/// Formats events as lines for people.
pub struct LineFormat {
    /// Prints the time.
    pub time: TimeFormat,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        self.time.format_time(&mut w)?;
        let level = *event.metadata().level();
        if w.has_ansi_escapes() {
            write!(w, " \x1b[{}m{level:<5}\x1b[0m", colour(level))?;
        } else {
            write!(w, " {level:<5}")?;
        }
        write!(w, " {}", event.metadata().target())?;
        let mut text = String::new();
        event.record(&mut Pairs(&mut text));
        w.write_str(&text)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>() {
                w.write_str(&fields.fields)?;
            }
        }
        writeln!(w)
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 34,
    }
}

/// Appends ` text` for the message and ` key=value` for the others.
pub(super) struct Pairs<'a>(pub(super) &'a mut String);

impl Pairs<'_> {
    /// Appends one pair; the name `message` is left out.
    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.0.push(' ');
        if name == "message" {
            escape(self.0, value);
            return;
        }
        self.0.push_str(name);
        self.0.push('=');
        let bare = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || "\"=".contains(c));
        if bare {
            escape(self.0, value);
        } else {
            self.0.push('"');
            escape(self.0, &value.replace('\\', "\\\\").replace('"', "\\\""));
            self.0.push('"');
        }
    }
}

impl Visit for Pairs<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), &format!("{value:?}"));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field.name(), &runner_core::chain::chain(value));
    }
}

/// Appends `value`, escaping every character that steers a terminal, breaks a line or changes the direction of text.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if signs::is_special(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}
