//! `runner schedule pause`: its arguments, and what it means for upcoming occurrences.

use clap::Args;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Timing};
use runner_queue::{Broker, Pause, Standing};

use super::audited::{Audited, actor};
use super::exit::Usage;
use super::{CommandContext, print, values};
use crate::scheduler;

/// Pause it: nothing fires until it is resumed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner schedule pause backup --for 8h --note 'new disks'\n\n\
    What falls into the pause does not fire afterwards; it is one line of the history when the pause ends. Pausing a\n\
    paused schedule gives the pause another end; its beginning stays, and so does its note unless there is a new one.")]
pub(super) struct PauseSchedule {
    /// Name or id of the schedule
    pub(super) name: String,
    /// The reason, on one line
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Resume automatically after this time, to within a few seconds
    #[arg(long = "for", value_name = "DURATION", value_parser = values::seconds, conflicts_with = "until")]
    length: Option<std::time::Duration>,
    /// Resume automatically at this instant, with an offset or in the zone of the schedule
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
}

impl PauseSchedule {
    pub(super) async fn run(
        &self,
        context: &CommandContext,
        broker: &dyn Broker,
        definition: &Definition,
    ) -> anyhow::Result<()> {
        let now = context.clock.now();
        let zone = &definition.timing.zone;
        let until = match (&self.until, self.length) {
            (Some(text), _) => Some(values::instant(text, zone).map_err(Usage)?),
            (None, Some(length)) => now.checked_add(length).ok(),
            (None, None) => None,
        };
        if until.is_some_and(|until| until <= now) {
            return Err(Usage("the pause would be over already; --until must be in the future".to_owned()).into());
        }
        let until = until.and_then(|until| Timestamp::from_second(until.as_second()).ok());
        let pause = Pause {
            until,
            ..Pause::by(actor())
        };
        let id = &definition.id;
        scheduler::pause(broker, definition, &pause.because(self.note.as_deref())).await?;
        let pause = Audited::done("schedule.pause", id).because(self.note.as_deref());
        let end = until.map_or_else(|| "paused".to_owned(), |until| format!("paused until {until:.0}"));
        pause.becomes(end).write(broker).await;
        let Some(until) = until else {
            return Ok(print::done(&format!("{id} is paused"))?);
        };
        // The pause is in force: a failed read from here on must not look like a failure of the command.
        let standing = broker.standings(std::slice::from_ref(id)).await.unwrap_or_default();
        let standing = standing.into_iter().next().flatten();
        let held = match definition.enabled {
            true => held_back(&definition.timing, standing.as_ref(), now, until),
            false => "it is disabled and fires nothing anyway".to_owned(),
        };
        let until = print::instant(until, zone);
        Ok(print::done(&format!("{id} is paused until {until}; {held}"))?)
    }
}

/// Which occurrence a pause until `until` holds back first, and which fires after it.
fn held_back(timing: &Timing, standing: Option<&Standing>, now: Timestamp, until: Timestamp) -> String {
    let next = |after| match standing {
        Some(standing) => standing.next(timing, after),
        None => timing.next(after),
    };
    let shown = |at| print::instant(at, &timing.zone);
    let after = next(until);
    match (next(now).filter(|at| *at <= until), after) {
        (Some(held), Some(first)) => format!(
            "the next occurrence, {}, is held back, and the first that fires is {}",
            shown(held),
            shown(first)
        ),
        (Some(held), None) => format!(
            "the next occurrence, {}, is held back, and none comes after the pause",
            shown(held)
        ),
        (None, Some(first)) => format!(
            "no occurrence falls into this pause; the first that fires is {}",
            shown(first)
        ),
        (None, None) => "no occurrence falls into this pause, and none comes after it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::tz::{TimeZone, offset};
    use runner_core::cron::DstRule;

    #[test]
    fn a_pause_says_what_it_holds_back_and_what_fires_after_it() {
        let zone = TimeZone::fixed(offset(8));
        let timing = Timing::parse("a", "0 2 * * *", "UTC", &zone, DstRule::default()).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let said = |until| held_back(&timing, None, at("2026-01-01T00:00:00+08:00"), at(until));
        // An occurrence at the very end of a pause still falls into it.
        for until in ["2026-01-01T02:00:00+08:00", "2026-01-01T09:00:00+08:00"] {
            assert_eq!(
                said(until),
                "the next occurrence, 2026-01-01T02:00:00+08:00, is held back, and the first that fires is \
                 2026-01-02T02:00:00+08:00"
            );
        }
        assert_eq!(
            said("2026-01-01T01:59:59+08:00"),
            "no occurrence falls into this pause; the first that fires is 2026-01-01T02:00:00+08:00"
        );
    }
}
