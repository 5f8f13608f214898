//! `runner ls schedules`: all schedules of all sources, their state, and when each occurs next; then the
//! entries of Go schedulers on the same broker, which are shown and never changed.

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::{Definition, Plan, Problem, Source};
use runner_queue::{Corrections, Decision, Standing};

use super::exit::{self, Unavailable};
use super::schedule_foreign::foreign_row;
use super::schedule_named::{self, unread};
use super::{CommandContext, print};
use crate::objects::{ScheduleFactsNow, ScheduleObject, schedule_state};
use crate::scheduler::last_by_hand;
use crate::source::{LAST_GOOD, Loaded, Rejected, SourceState};

/// List schedules of manifests, table and code, and entries of Go schedulers
#[derive(Debug, Args)]
pub struct ListSchedules {
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
    /// Number of upcoming occurrences to compute for each
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    next: u16,
}

impl ListSchedules {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let settings = context.settings()?;
        let broker = context.looked_at().await?;
        let loaded = schedule_named::read(context, &broker).await?;
        print_problems(&loaded, self.json);
        let definitions: Vec<&Definition> = loaded.plan.schedules.values().collect();
        let ids: Vec<_> = definitions.iter().map(|d| d.id.clone()).collect();
        let standings = broker.standings(&ids).await?;
        let by_hand = last_by_hand(&*broker, &ids).await?;
        let foreign = broker.foreign_entries().await?;
        print_corrections(
            context.clock.now(),
            broker.corrections().await?.as_ref(),
            &settings.source.zone,
        );
        let listed = definitions.into_iter().zip(standings);
        if self.json {
            let objects = listed.map(|(d, s)| self.object(context, &loaded.plan, d, s.as_ref(), by_hand.get(&d.id)));
            print::json(
                &objects
                    .chain(loaded.rejected.iter().map(ScheduleObject::rejected))
                    .chain(
                        foreign
                            .iter()
                            .map(|entry| ScheduleObject::foreign(entry, &settings.source.zone)),
                    )
                    .collect::<Vec<_>>(),
            )?;
        } else {
            let rows = listed.map(|(d, s)| row(context, &loaded.plan, d, s.as_ref(), by_hand.get(&d.id)));
            let rows = rows.chain(loaded.rejected.iter().map(rejected_row));
            let rows: Vec<Vec<String>> = rows
                .chain(foreign.iter().map(|e| foreign_row(&settings.source.zone, e)))
                .collect();
            let heading = ["ID", "NAME", "SPEC", "ZONE", "TYPE", "STATE", "NEXT", "LAST"];
            print::text(&print::table(&heading, &rows))?;
        }
        complete(&loaded)
    }

    fn object(
        &self,
        context: &CommandContext,
        plan: &Plan,
        d: &Definition,
        standing: Option<&Standing>,
        by_hand: Option<&Decision>,
    ) -> ScheduleObject {
        let facts = ScheduleFactsNow { standing, by_hand };
        ScheduleObject::of(plan, d, facts, context.clock.now(), usize::from(self.next))
    }
}

/// On standard error, that cursors were ahead of the broker's clock in the last day.
fn print_corrections(now: Timestamp, corrections: Option<&Corrections>, zone: &TimeZone) {
    let Some(last) = corrections.filter(|c| now.duration_since(c.at) < jiff::SignedDuration::from_hours(24)) else {
        return;
    };
    print::note(&format!(
        "warning: the broker's clock was ahead: at {} the cursors of {} schedules stood up to {} s in the future and \
         were set to the present",
        print::instant(last.at, zone),
        last.schedules,
        last.ahead.as_secs()
    ));
}

/// Prints problems on standard error; in JSON each schedule has its own, so that only the others are printed.
fn print_problems(loaded: &Loaded, as_json: bool) {
    let others = loaded.statuses.iter().filter(|s| s.source != Source::Table);
    others.filter_map(unread).for_each(|line| print::note(&line));
    // A schedule whose older version is in force is named too: the list does not show what is in the file.
    let wanted = |p: &&Problem| {
        let listed = |id| loaded.plan.schedules.contains_key(id);
        !as_json || p.code == LAST_GOOD || !p.schedule.as_ref().is_some_and(listed)
    };
    for lines in findings(loaded.plan.problems.iter().filter(wanted)) {
        print::notes(&lines);
    }
}

/// Each problem as it is printed; one that several schedules of one place share is printed once.
fn findings<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<String> {
    let mut said = BTreeSet::new();
    let lines = problems.map(|problem| exit::problem(problem).lines());
    lines.filter(|lines| said.insert(lines.clone())).collect()
}

/// An error if the table could not be read: then the list lacks its rows, and scripts must notice.
fn complete(loaded: &Loaded) -> anyhow::Result<()> {
    let Some(table) = loaded.statuses.iter().find(|s| s.source == Source::Table) else {
        return Ok(());
    };
    let reason = match &table.state {
        SourceState::Unavailable { reason, .. } => reason,
        SourceState::Stale { reason, .. } => {
            print::note(&format!("warning: {} cannot be read: {reason}", table.place));
            return Ok(());
        }
        SourceState::Loading | SourceState::Loaded => return Ok(()),
    };
    let text = format!(
        "the list lacks the rows of {}, which cannot be read: {reason}",
        table.place
    );
    Err(anyhow::Error::new(Unavailable).context(text))
}

fn rejected_row(rejected: &Rejected) -> Vec<String> {
    let mut row = vec![String::new(); 8];
    row[0] = rejected.id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    row[1].clone_from(&rejected.name);
    row[5] = "broken".to_owned();
    row
}

/// The next occurrences that will be decided.
fn upcoming(context: &CommandContext, d: &Definition, standing: Option<&Standing>, count: usize) -> Vec<Timestamp> {
    let now = context.clock.now();
    match standing {
        Some(standing) => standing.upcoming(&d.timing, now, count),
        None => d.timing.upcoming(now, count),
    }
}

fn row(
    context: &CommandContext,
    plan: &Plan,
    d: &Definition,
    standing: Option<&Standing>,
    by_hand: Option<&Decision>,
) -> Vec<String> {
    let zone = &d.timing.zone;
    let state = schedule_state(plan, d, standing);
    let comes = !matches!(state, "disabled" | "paused");
    let next = comes.then(|| upcoming(context, d, standing, 1).pop()).flatten();
    let last = standing.and_then(|s| s.last.as_ref()).map(|(at, _)| *at);
    let last = by_hand.map(|run| run.nominal).or(last);
    let shown = |at: Option<Timestamp>| at.map_or_else(String::new, |at| print::instant(at, zone));
    vec![
        d.id.to_string(),
        d.name.clone(),
        d.timing.text.clone(),
        d.timing.zone_name.clone(),
        d.task.kind.clone(),
        state.to_owned(),
        shown(next),
        shown(last),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::schedule::{Origin, ScheduleId};

    #[test]
    fn a_problem_of_several_schedules_of_one_place_is_said_once() {
        let problem = |code: &str, place: &str, id: &str| {
            let origin = Origin {
                source: Source::Manifest,
                place: place.to_owned(),
            };
            Problem::warning(code, "it is odd", origin).about(ScheduleId::from_text(id))
        };
        let all = [
            problem("W104", "a.yaml", "m:a:one"),
            problem("W104", "a.yaml", "m:a:two"),
            problem("W240", "a.yaml", "m:a:one"),
            problem("W104", "b.yaml", "m:b:one"),
        ];
        let said = findings(all.iter());
        let expected = [
            "a.yaml: W104 it is odd",
            "a.yaml: W240 it is odd",
            "b.yaml: W104 it is odd",
        ];
        assert_eq!(said, expected);
    }
}
