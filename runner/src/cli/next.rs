//! `runner next`: when an expression occurs, without starting anything.

use clap::Args;
use jiff::Timestamp;
use runner_core::cron::find_zone;
use runner_core::schedule::{Timing, TimingError};

use super::exit::{BadData, Explained, Usage};
use super::{CommandContext, print, values};
use crate::text::signs;

/// Print when an expression occurs: one RFC 3339 time per line, with the zone's offset.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner next '0 2 * * *'\n  \
    runner next '*/5 9-17 * * mon-fri' --tz Asia/Shanghai -n 10\n  \
    runner next '0 30 2 * * *' --tz Europe/Berlin --from 2027-03-27T00:00\n\n\
    Exits with 65 if the expression is not valid or never occurs.")]
pub struct Next {
    /// Five or six fields, or a word such as @daily; quotes are needed for `*`
    #[arg(required = true, value_name = "SPEC")]
    spec: Vec<String>,
    /// Zone of the IANA database [default: server.timezone]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Only after this instant, with an offset or in the zone [default: now]
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// Number of occurrences, at most 1000
    #[arg(short = 'n', long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
}

impl Next {
    pub fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let settings = context.settings()?;
        let (zone_name, zone) = match self.tz {
            Some(name) => (name.clone(), find_zone(&name).map_err(|e| Usage(e.to_string()))?),
            None => (settings.source.zone_name.clone(), settings.source.zone.clone()),
        };
        let text = self.spec.join(" ");
        let timing = Timing::parse("", &text, &zone_name, &zone, settings.source.dst);
        let timing = timing.map_err(|e| Explained(explain(&text, &e)))?;
        let from: Timestamp = match &self.from {
            Some(from) => values::instant(from, &timing.zone).map_err(Usage)?,
            None => context.clock.now(),
        };
        if text.trim_start().starts_with("@every") {
            print::note(
                "note: where on the clock an @every schedule occurs depends on its identity; this shows one of them",
            );
        }
        let mut out = String::new();
        for at in timing.upcoming(from, usize::from(self.count)) {
            out.push_str(&print::instant(at, &timing.zone));
            out.push('\n');
        }
        if out.is_empty() {
            let message = format!("{text:?} does not occur after {}", print::instant(from, &timing.zone));
            return Err(BadData(message).into());
        }
        Ok(print::text(&out)?)
    }
}

/// Code and message, the expression with a caret under the fault, and the hint.
fn explain(text: &str, error: &TimingError) -> String {
    let TimingError::Cron(error) = error;
    let span = error.span();
    let before = text.get(..span.start).map_or(0, |t| t.chars().count());
    let length = text.get(span).map_or(1, |t| t.chars().count().max(1));
    // One column each, so that the carets stand where they should.
    let shown: String = text
        .chars()
        .map(|c| if signs::is_special(c) { ' ' } else { c })
        .collect();
    let message = error.to_string();
    let mut out = format!(
        "{} {}\n  {shown}\n  {:before$}{:^<length$}",
        error.code(),
        signs::line(&message),
        "",
        ""
    );
    if let Some(hint) = error.hint() {
        out.push_str("\n  help: ");
        out.push_str(&signs::line(&hint));
    }
    out
}
