//! `runner schedule`: shows one schedule with what was decided about it, runs, pauses or resumes it.

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use runner_core::schedule::{Definition, Overlap, Plan, ScheduleId, manual_task};
use runner_core::task::FUNCTION_PREFIX;
use runner_queue::{Broker, Decision, MAX_RUNS_KEPT, ManualRun, ManuallyRun, Pause, RunRecord, Standing};
use serde_json::json;

use super::exit::Usage;
use super::keep::InBroker;
use super::task::actor;
use super::{Context, parts, print, values};
use crate::scheduler::{self, resume};
use crate::source::{self, Catalog};

/// Decisions that are shown unless another number is asked for.
const SHOWN: u16 = 20;

/// Show, run, pause or resume one schedule
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner schedule show backup\n  \
    runner schedule run backup\n  \
    runner schedule pause db:42\n\n\
    NAME is the id that `runner ls schedules` lists, or the name of a function or row that only one schedule has.")]
pub struct ScheduleCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Show),
    Run(Run),
    Pause(PauseIt),
    /// Resume it from now on; what fell into the pause does not fire
    Resume {
        /// Which schedule
        name: String,
    },
}

/// Pause it: nothing fires until it is resumed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    runner schedule pause backup --for 8h --note 'new disks'\n\n\
    What falls into the pause does not fire afterwards; it is one line of the history when the pause ends.")]
struct PauseIt {
    /// Which schedule
    name: String,
    /// Why; one line
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Resume it by itself after this time, within a few seconds
    #[arg(long = "for", value_name = "DURATION", value_parser = values::seconds, conflicts_with = "until")]
    length: Option<std::time::Duration>,
    /// Resume it by itself at this instant, with an offset or in the zone of the schedule
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
}

impl PauseIt {
    async fn run(&self, context: &Context, broker: &dyn Broker, definition: &Definition) -> anyhow::Result<()> {
        let now = context.clock.now();
        let until = match (&self.until, self.length) {
            (Some(text), _) => Some(values::instant(text, &definition.timing.zone).map_err(Usage)?),
            (None, Some(length)) => now.checked_add(length).ok(),
            (None, None) => None,
        };
        if until.is_some_and(|until| until <= now) {
            return Err(Usage("the pause would be over already; --until must be in the future".to_owned()).into());
        }
        let pause = Pause {
            until: until.and_then(|until| jiff::Timestamp::from_second(until.as_second()).ok()),
            ..Pause::by(actor())
        };
        let id = &definition.id;
        scheduler::pause(broker, definition, &pause.because(self.note.as_deref())).await?;
        audit("schedule.pause", id);
        let until = until.map(|until| format!(" until {}", print::instant(until, &definition.timing.zone)));
        Ok(print::done(&format!("{id} is paused{}", until.unwrap_or_default()))?)
    }
}

/// Show its state, what was decided about it and how that ended, and the last runs of its function
#[derive(Debug, Args)]
struct Show {
    /// Which schedule
    name: String,
    /// How many decisions
    #[arg(long, default_value_t = SHOWN, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    decisions: u16,
    /// As one object
    #[arg(long)]
    json: bool,
}

/// Enqueue its task now, beside its occurrences
#[derive(Debug, Args)]
#[command(
    after_help = "Refused (exit code 1) while another run of the schedule has not ended, unless its policy is overlap: allow. Prints \
    the id of the task."
)]
struct Run {
    /// Which schedule
    name: String,
    /// Run it although another run has not ended
    #[arg(long)]
    force: bool,
}

impl ScheduleCommand {
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        // The other verbs write.
        let broker = match self.verb {
            Verb::Show(_) | Verb::Resume { .. } => context.looked_at().await?,
            Verb::Run(_) | Verb::Pause(_) => context.broker().await?,
        };
        let plan = plan(context, &broker).await?;
        match self.verb {
            Verb::Show(show) => show.run(context, &*broker, &plan).await,
            Verb::Run(run) => run.run(&*broker, named(&plan, &run.name)?).await,
            Verb::Pause(pause) => pause.run(context, &*broker, named(&plan, &pause.name)?).await,
            Verb::Resume { name } => {
                let definition = named(&plan, &name)?;
                let id = &definition.id;
                let standing = broker.standings(std::slice::from_ref(id)).await?.into_iter().next();
                if standing.flatten().is_none_or(|s| s.paused.is_none()) {
                    return Ok(print::line(&format!("{id} is not paused"))?);
                }
                let fallen = resume(&*broker, definition, None, &actor()).await?;
                audit("schedule.resume", id);
                let fallen = fallen.map(|decision| format!("; occurrences in the pause: {}", decision.count));
                Ok(print::done(&format!(
                    "{id} goes on from now{}",
                    fallen.unwrap_or_default()
                ))?)
            }
        }
    }
}

fn audit(action: &'static str, id: &ScheduleId) {
    tracing::info!(target: "audit", action, on = %id, actor = %actor(), outcome = "done");
}

/// The schedules of all sources, as this process reads them.
async fn plan(context: &Context, broker: &std::sync::Arc<dyn Broker>) -> anyhow::Result<std::sync::Arc<Plan>> {
    let settings = context.settings()?;
    let code = parts::code_schedules(settings, context.schedules.clone())?;
    let sources = source::Settings {
        keep: InBroker::of_look(broker.clone(), settings),
        ..parts::looked_at(settings, code)
    };
    let loaded = Catalog::load_once(sources, context.clock.clone()).await;
    for status in &loaded.statuses {
        if let Some(reason) = status.state.reason() {
            print::note(&format!("warning: {} cannot be read: {reason}", status.place));
        }
    }
    Ok(loaded.plan)
}

/// The one schedule that is meant: by its id, else by a name that no other one has.
fn named<'a>(plan: &'a Plan, name: &str) -> anyhow::Result<&'a Definition> {
    if let Some(definition) = plan.schedules.get(&ScheduleId::from_text(name)) {
        return Ok(definition);
    }
    let found: Vec<&Definition> = plan.schedules.values().filter(|d| d.name == name).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => bail!("no schedule {name:?} in any source; `runner ls schedules` shows those that exist"),
        several => {
            let ids: Vec<&str> = several.iter().map(|d| d.id.as_str()).collect();
            Err(Usage(format!(
                "several schedules are called {name:?}: {}; name one by its id",
                ids.join(", ")
            ))
            .into())
        }
    }
}

impl Run {
    async fn run(&self, broker: &dyn Broker, definition: &Definition) -> anyhow::Result<()> {
        let run = ManualRun {
            id: definition.id.clone(),
            task: manual_task(definition),
            overlap: if self.force { Overlap::Allow } else { definition.overlap },
            by: actor(),
        };
        match broker.run_now(&run).await? {
            ManuallyRun::Done(decision) => {
                audit("schedule.run", &definition.id);
                let task = decision.task.map(|task| task.to_string()).unwrap_or_default();
                Ok(print::done(&task)?)
            }
            ManuallyRun::Busy { task, what } => {
                bail!(
                    "{} is not run: another run has not ended, task {task} {what}; --force runs it beside that one",
                    definition.id
                )
            }
            ManuallyRun::Refused(refusal) => bail!("{} is not run: {refusal}", definition.id),
        }
    }
}

impl Show {
    async fn run(&self, context: &Context, broker: &dyn Broker, plan: &Plan) -> anyhow::Result<()> {
        let definition = named(plan, &self.name)?;
        let zone = &definition.timing.zone;
        let ids = [definition.id.clone()];
        let standing = broker.standings(&ids).await?.into_iter().next().flatten();
        let decisions = broker
            .decisions(Some(&definition.id), usize::from(self.decisions))
            .await?;
        let runs = runs(broker, definition).await?;
        let next = match &standing {
            Some(standing) if standing.paused.is_some() => None,
            Some(standing) => standing.next(&definition.timing, context.clock.now()),
            None => definition.timing.next(context.clock.now()),
        };
        let next = next.filter(|_| definition.enabled);
        if self.json {
            let object = json!({
                "id": definition.id,
                "name": definition.name,
                "spec": definition.timing.text,
                "timezone": definition.timing.zone_name,
                "enabled": definition.enabled,
                "overlap": definition.overlap,
                "paused": paused(standing.as_ref(), zone),
                "next": print::maybe(next, zone),
                "decisions": decisions.iter().map(|d| decision_json(d, zone)).collect::<Vec<_>>(),
                "runs": print::with_moments(serde_json::to_value(&runs)?, &["planned", "started_at", "ended_at"], zone),
            });
            return Ok(print::json(&object)?);
        }
        let mut facts = vec![
            vec!["spec".to_owned(), definition.timing.text.clone()],
            vec!["timezone".to_owned(), definition.timing.zone_name.clone()],
            vec!["enabled".to_owned(), definition.enabled.to_string()],
            vec!["overlap".to_owned(), definition.overlap.as_str().to_owned()],
        ];
        if let Some(paused) = paused(standing.as_ref(), zone) {
            facts.push(vec!["paused".to_owned(), paused]);
        }
        if let Some(next) = next {
            facts.push(vec!["next".to_owned(), print::instant(next, zone)]);
        }
        let mut out = print::facts(["SCHEDULE", definition.id.as_str()], &facts);
        let rows: Vec<Vec<String>> = decisions.iter().map(|d| decision_row(d, zone)).collect();
        let heading = ["OCCURRENCE", "DECISION", "COUNT", "OUTCOME", "TOOK", "TASK", "REASON"];
        out.push_str(&format!("\n{}", print::table(&heading, &rows)));
        if !runs.is_empty() {
            let rows: Vec<Vec<String>> = runs.iter().map(|run| run_row(run, zone)).collect();
            let heading = ["RUN", "STARTED", "STARTED BY", "OUTCOME", "TOOK", "ERROR"];
            out.push_str(&format!("\n{}", print::table(&heading, &rows)));
        }
        Ok(print::text(&out)?)
    }
}

fn paused(standing: Option<&Standing>, zone: &TimeZone) -> Option<String> {
    Some(pause_words(standing?.paused.as_ref()?, zone))
}

/// Since when it is paused, by whom, until when and why.
pub(super) fn pause_words(pause: &Pause, zone: &TimeZone) -> String {
    let at = |at| print::instant(at, zone);
    let since = pause
        .at
        .map_or_else(String::new, |since| format!("since {} ", at(since)));
    let until = pause
        .until
        .map_or_else(String::new, |until| format!(", until {}", at(until)));
    let note = pause
        .note
        .as_deref()
        .map_or_else(String::new, |note| format!(": {note}"));
    format!("{since}by {}{until}{note}", pause.by)
}

/// The last runs of the schedule's function: by this schedule, or by none.
async fn runs(broker: &dyn Broker, definition: &Definition) -> anyhow::Result<Vec<RunRecord>> {
    let by_type = definition.task.kind.strip_prefix(FUNCTION_PREFIX);
    let by_id = || Some(definition.id.as_str().strip_prefix("m:")?.split_once(':')?.0);
    let Some(function) = by_type.or_else(by_id) else {
        return Ok(Vec::new());
    };
    let queues = [definition.task.queue.clone()];
    let mut runs = broker.runs(function, &queues, MAX_RUNS_KEPT).await?;
    runs.retain(|run| run.schedule.as_ref().is_none_or(|id| *id == definition.id));
    Ok(runs)
}

fn took(length: std::time::Duration) -> String {
    runner_core::duration::format(std::time::Duration::from_millis(
        u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
    ))
}

fn decision_row(decision: &Decision, zone: &TimeZone) -> Vec<String> {
    vec![
        print::instant(decision.nominal, zone),
        decision.kind.as_str().to_owned(),
        decision.count.to_string(),
        decision.end.map(|end| end.outcome.to_string()).unwrap_or_default(),
        decision.end.map(|end| took(end.took())).unwrap_or_default(),
        decision.task.as_ref().map(ToString::to_string).unwrap_or_default(),
        decision.reason.clone(),
    ]
}

fn decision_json(decision: &Decision, zone: &TimeZone) -> serde_json::Value {
    json!({
        "nominal": print::instant(decision.nominal, zone),
        "decision": decision.kind,
        "count": decision.count,
        "reason": decision.reason,
        "task": decision.task,
        "queue": decision.queue,
        "decided_at": print::instant(decision.decided_at, zone),
        "instance": decision.instance,
        "outcome": decision.end.map(|end| end.outcome),
        "started_at": print::maybe(decision.end.map(|end| end.started_at), zone),
        "ended_at": print::maybe(decision.end.map(|end| end.ended_at), zone),
    })
}

fn run_row(run: &RunRecord, zone: &TimeZone) -> Vec<String> {
    let length = std::time::Duration::try_from(run.ended_at.duration_since(run.started_at)).unwrap_or_default();
    vec![
        run.task.to_string(),
        print::instant(run.started_at, zone),
        run.trigger.as_str().to_owned(),
        run.outcome.to_string(),
        took(length),
        run.error.clone().unwrap_or_default(),
    ]
}
