//! `runner schedule`: shows one schedule with its decisions, runs, pauses or resumes it.

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::{Definition, Overlap, Plan, Problem, ScheduleId, manual_task};
use runner_queue::{Broker, Decision, MAX_RUNS_KEPT, ManualRun, ManuallyRun, RunRecord, Runs, Schedules, Standing};
use serde_json::json;

use super::audited::{Audited, actor};
use super::function_runs::started_by;
use super::print::{JsonField, Object};
use super::reasons::ReasonPrinter;
use super::schedule_named::{self, NamedSchedule, in_force, named};
use super::schedule_pause::PauseSchedule;
use super::{CommandContext, print, schedule_foreign};
use crate::diagnose::{Reason, why_broken};
use crate::facts;
use crate::objects::{DecisionObject, ScheduleObject, schedule_state};
use crate::scheduler::resume;
use crate::source::{Loaded, Rejected};

/// Decisions that are shown by default.
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
    Pause(PauseSchedule),
    /// Resume it from now on; what fell into the pause does not fire
    Resume {
        /// Name or id of the schedule
        name: String,
    },
}

/// Show its state, its decisions with the results of their tasks, and the last runs of its function
#[derive(Debug, Args)]
struct Show {
    /// Name or id of the schedule
    name: String,
    /// Number of decisions, or of tasks that an entry of a Go scheduler enqueued
    #[arg(long, default_value_t = SHOWN, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    decisions: u16,
    /// Print one JSON object
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
    /// Name or id of the schedule
    name: String,
    /// Run it even if another run has not ended
    #[arg(long)]
    force: bool,
}

impl Verb {
    fn name(&self) -> &str {
        match self {
            Self::Show(Show { name, .. }) | Self::Run(Run { name, .. }) | Self::Resume { name } => name,
            Self::Pause(pause) => &pause.name,
        }
    }
}

impl ScheduleCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let count = match &self.verb {
            Verb::Show(show) => show.decisions,
            _ => 1,
        };
        if let Some(entry) = schedule_foreign::find(&*broker, self.verb.name(), count).await? {
            let zone = &context.settings()?.source.zone;
            return match self.verb {
                Verb::Show(Show { json: true, .. }) => Ok(print::json(&entry.json(zone))?),
                Verb::Show(_) => Ok(print::text(&entry.text(zone))?),
                _ => bail!("{}", entry.refusal()),
            };
        }
        let loaded = schedule_named::load(context, &broker).await?;
        match self.verb {
            Verb::Show(show) => show.run(context, &*broker, &loaded).await,
            Verb::Run(run) => {
                let definition = in_force(&loaded, &run.name)?;
                run.run(&*context.store(broker).await?, definition).await
            }
            Verb::Pause(pause) => {
                let definition = in_force(&loaded, &pause.name)?;
                pause.run(context, &*context.store(broker).await?, definition).await
            }
            Verb::Resume { name } => {
                let definition = in_force(&loaded, &name)?;
                Ok(print::done(&resume_now(&*broker, definition).await?)?)
            }
        }
    }
}

impl Run {
    async fn run(&self, broker: &dyn Broker, definition: &Definition) -> anyhow::Result<()> {
        Ok(print::done(&run_now(broker, definition, self.force).await?)?)
    }
}

/// Runs a schedule beside its occurrences, with `force` also while another run has not ended; returns the id of the task.
pub(super) async fn run_now(broker: &dyn Broker, definition: &Definition, force: bool) -> anyhow::Result<String> {
    let run = ManualRun {
        id: definition.id.clone(),
        task: manual_task(definition),
        overlap: if force { Overlap::Allow } else { definition.overlap },
        by: actor(),
    };
    match broker.run_now(&run).await? {
        ManuallyRun::Done(decision) => {
            Audited::done("schedule.run", &definition.id).write(broker).await;
            Ok(decision.task.map(|task| task.to_string()).unwrap_or_default())
        }
        ManuallyRun::Busy { task, what } => {
            bail!(
                "{} is not run: another run has not ended, task {task} {what}; `runner schedule run --force` runs it beside that one",
                definition.id
            )
        }
        ManuallyRun::Refused(refusal) => bail!("{} is not run: {refusal}", definition.id),
    }
}

/// Ends the pause of a schedule; returns what to say.
pub(super) async fn resume_now(broker: &dyn Broker, definition: &Definition) -> anyhow::Result<String> {
    let id = &definition.id;
    let standing = broker.standings(std::slice::from_ref(id)).await?.into_iter().next();
    if standing.flatten().is_none_or(|s| s.paused.is_none()) {
        return Ok(format!("{id} is not paused"));
    }
    let fallen = resume(broker, definition, None, &actor()).await?;
    Audited::done("schedule.resume", id).write(broker).await;
    let fallen = fallen.map(|decision| format!("; occurrences in the pause: {}", decision.count));
    Ok(format!("{id} is resumed from now on{}", fallen.unwrap_or_default()))
}

impl Show {
    async fn run(&self, context: &CommandContext, broker: &dyn Broker, loaded: &Loaded) -> anyhow::Result<()> {
        let definition = match named(loaded, &self.name)? {
            NamedSchedule::InForce(definition) => definition,
            NamedSchedule::Broken(broken) => return self.broken(context, broker, broken).await,
        };
        let ids = [definition.id.clone()];
        let standing = broker.standings(&ids).await?.into_iter().next().flatten();
        // The reasons do not depend on how many decisions are listed.
        let listed = usize::from(self.decisions);
        let decisions = broker
            .decisions(Some(&definition.id), listed.max(facts::DECISIONS))
            .await?;
        let runs = runs(broker, definition).await?;
        let next = match &standing {
            Some(standing) if standing.paused.is_some() => None,
            Some(standing) => standing.next(&definition.timing, context.clock.now()),
            None => definition.timing.next(context.clock.now()),
        };
        let plan = &loaded.plan;
        let fault = facts::fault_of(broker, &definition.task.queue).await?;
        let reasons = facts::of_schedule(broker, plan, definition, standing.as_ref(), &decisions, fault).await?;
        let listed = decisions.get(..listed).unwrap_or(&decisions);
        let shown = Shown {
            plan: &loaded.plan,
            definition,
            standing: standing.as_ref(),
            next: next.filter(|_| definition.enabled),
            decisions: listed,
            runs: &runs,
            reasons: &reasons,
            now: context.clock.now(),
        };
        match self.json {
            true => Ok(print::json(&shown.json()?)?),
            false => Ok(print::text(&shown.text())?),
        }
    }

    async fn decisions(&self, broker: &dyn Schedules, id: &ScheduleId) -> anyhow::Result<Vec<Decision>> {
        Ok(broker.decisions(Some(id), usize::from(self.decisions)).await?)
    }

    /// What is known of a row or a function with errors: its place, its problems, and earlier decisions.
    async fn broken(&self, context: &CommandContext, broker: &dyn Schedules, broken: &Rejected) -> anyhow::Result<()> {
        let (now, zone) = (context.clock.now(), &context.settings()?.source.zone);
        let decisions = match &broken.id {
            Some(id) => self.decisions(broker, id).await?,
            None => Vec::new(),
        };
        let reasons = [why_broken(&broken.origin.place, &broken.problems)];
        let printer = ReasonPrinter { now, zone };
        if self.json {
            let decisions = json!(
                decisions
                    .iter()
                    .map(|d| DecisionObject::of(d, zone))
                    .collect::<Vec<_>>()
            );
            let object = Object::of_serialized(&ScheduleObject::rejected(broken))
                .with("state", JsonField::Value(json!("broken")))
                .with("reasons", JsonField::Value(printer.json(&reasons)))
                .with("runs", JsonField::Value(json!([])))
                .with("decisions", JsonField::Value(decisions));
            return Ok(print::json(&object)?);
        }
        let title = broken.id.as_ref().map_or(broken.name.as_str(), ScheduleId::as_str);
        let mut facts = vec![
            vec!["state".to_owned(), "broken; no schedule of it is in force".to_owned()],
            vec!["name".to_owned(), broken.name.clone()],
            vec!["origin".to_owned(), broken.origin.place.clone()],
        ];
        facts.extend(broken.problems.iter().map(problem_row));
        facts.extend(printer.rows(&reasons));
        let out = print::facts(["SCHEDULE", title], &facts);
        Ok(print::text(&(out + &decided(&decisions, zone)))?)
    }
}

/// What is shown of a schedule in force.
struct Shown<'a> {
    plan: &'a Plan,
    definition: &'a Definition,
    standing: Option<&'a Standing>,
    next: Option<jiff::Timestamp>,
    decisions: &'a [Decision],
    runs: &'a [RunRecord],
    reasons: &'a [Reason],
    now: Timestamp,
}

impl Shown<'_> {
    fn printer(&self) -> ReasonPrinter<'_> {
        ReasonPrinter {
            now: self.now,
            zone: &self.definition.timing.zone,
        }
    }

    fn json(&self) -> anyhow::Result<Object> {
        let definition = self.definition;
        let zone = &definition.timing.zone;
        let runs = serde_json::to_value(self.runs)?;
        Ok(Object::from_iter(definition.pairs()).and(json!({
            "state": schedule_state(self.plan, definition, self.standing),
            "paused": paused(self.standing, zone),
            "next": print::maybe(self.next, zone),
            "problems": self.plan.problems_of(&definition.id).collect::<Vec<_>>(),
            "reasons": self.printer().json(self.reasons),
            "decisions": self.decisions.iter().map(|d| DecisionObject::of(d, zone)).collect::<Vec<_>>(),
            "runs": print::with_moments(runs, &["planned", "started_at", "ended_at"], zone),
        })))
    }

    fn text(&self) -> String {
        let definition = self.definition;
        let zone = &definition.timing.zone;
        let state = schedule_state(self.plan, definition, self.standing);
        let fact = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        let mut facts = vec![fact("state", state)];
        facts.extend(defined(definition));
        if let Some(paused) = paused(self.standing, zone) {
            facts.push(fact("paused", &paused));
        }
        if let Some(next) = self.next {
            facts.push(fact("next", &print::instant(next, zone)));
        }
        facts.extend(self.plan.problems_of(&definition.id).map(problem_row));
        facts.extend(self.printer().rows(self.reasons));
        let mut out = print::facts(["SCHEDULE", definition.id.as_str()], &facts);
        out += &decided(self.decisions, zone);
        if !self.runs.is_empty() {
            let rows: Vec<Vec<String>> = self.runs.iter().map(|run| run_row(run, zone)).collect();
            let heading = ["RUN", "STARTED", "STARTED BY", "OUTCOME", "TOOK", "ERROR"];
            out += &format!("\n{}", print::table(&heading, &rows));
        }
        out
    }
}

/// What the definition says, without its id, which is the heading, and without texts that are empty.
fn defined(definition: &Definition) -> impl Iterator<Item = Vec<String>> {
    let shown = definition.pairs().filter(|(name, _)| !matches!(*name, "id" | "source"));
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let rows = shown.map(move |(name, value)| (name, text(value)));
    rows.filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| vec![name.to_owned(), text])
}

fn problem_row(problem: &Problem) -> Vec<String> {
    vec!["problem".to_owned(), problem.one_line()]
}

fn decided(decisions: &[Decision], zone: &TimeZone) -> String {
    let rows: Vec<Vec<String>> = decisions.iter().map(|d| decision_row(d, zone)).collect();
    let heading = ["OCCURRENCE", "DECISION", "COUNT", "OUTCOME", "TOOK", "TASK", "REASON"];
    format!("\n{}", print::table(&heading, &rows))
}

fn paused(standing: Option<&Standing>, zone: &TimeZone) -> Option<String> {
    Some(print::pause_words(standing?.paused.as_ref()?, zone))
}

/// Rows of runs; `runner runs` has all.
const RUNS_SHOWN: usize = 20;

/// The last runs of the schedule's function: by this schedule, or by none.
async fn runs(broker: &dyn Runs, definition: &Definition) -> anyhow::Result<Vec<RunRecord>> {
    let Some(function) = definition.function() else {
        return Ok(Vec::new());
    };
    let queues = [definition.task.queue.clone()];
    let mut runs = broker.runs(function, &queues, MAX_RUNS_KEPT).await?;
    runs.retain(|run| run.schedule.as_ref().is_none_or(|id| *id == definition.id));
    runs.truncate(RUNS_SHOWN);
    Ok(runs)
}

fn decision_row(decision: &Decision, zone: &TimeZone) -> Vec<String> {
    vec![
        print::instant(decision.nominal, zone),
        decision.kind.as_str().to_owned(),
        decision.count.to_string(),
        decision.end.map(|end| end.outcome.to_string()).unwrap_or_default(),
        decision.end.map(|end| print::took(end.took())).unwrap_or_default(),
        decision.task.as_ref().map(ToString::to_string).unwrap_or_default(),
        decision.reason.clone(),
    ]
}

fn run_row(run: &RunRecord, zone: &TimeZone) -> Vec<String> {
    vec![
        run.task.to_string(),
        print::instant(run.started_at, zone),
        started_by(run),
        run.outcome.to_string(),
        print::took(run.took()),
        run.error.clone().unwrap_or_default(),
    ]
}
