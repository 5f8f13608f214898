//! `runner runs`: the last runs of a function or task type, and whether it has been well lately. Reads only.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::tz::TimeZone;
use runner_core::task::AttemptOutcome;
use runner_queue::{MAX_RUNS_KEPT, MOST_RECORDED_RUNS, RunRecord, TypeRuns};

use super::function_runs::{QueueArg, functions, no_function, runs_of, started_by};
use super::{CommandContext, print};
use crate::objects::RunObject;

/// List the last runs of a function or task type, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner runs nightly-backup\n  \
    runner runs nightly-backup --failed --json | jq -r '.[0].error'\n  \
    runner runs mail:welcome\n\n\
    The last 100 runs of a function are kept, for 90 days at most; 20 are listed. A run that is retried is one row, of its last attempt so far.\n\
    Task types without a manifest have such records if `worker.record_runs` names them; of others, the tasks are listed that have ended and are\n\
    still there. `type:NAME` means the type where a function has the same name.\n\
    `runner logs` prints what a run printed. Exit code 1 means that there is no such function and no run of it.")]
pub struct RunsCommand {
    /// Name of the function, or task type
    name: String,
    /// Only runs whose last attempt failed
    #[arg(long)]
    failed: bool,
    /// Number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
    limit: usize,
    #[command(flatten)]
    queue: QueueArg,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX_RUNS_KEPT).contains(n));
    number.ok_or_else(|| format!("it must be a whole number from 1 to {MAX_RUNS_KEPT}, which is how many are kept"))
}

impl RunsCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let broker = context.looked_at().await?;
        let known = runs_of(broker.as_ref(), &self.name, &self.queue).await?;
        let mut heading = if known.kind.is_some() { "TYPE" } else { "FUNCTION" };
        if known.is_empty() {
            let functions = functions(context).await?;
            if functions.get(&self.name).is_none() {
                bail!(no_function(&self.name, &functions.names()));
            }
            heading = "FUNCTION";
        }
        let all = &known.runs;
        let mut shown = all.clone();
        shown.retain(|run| !self.failed || run.outcome.is_failure());
        shown.truncate(self.limit);
        let zone = &context.settings()?.source.zone;
        if self.json {
            // Without outputs, which may be long: `runner logs` has them.
            let objects: Vec<RunObject> = shown.iter().map(|run| RunObject::of(run, zone)).collect();
            return Ok(print::json(&objects)?);
        }
        let mut facts = summary(all, zone);
        facts.extend(
            known
                .said
                .iter()
                .filter_map(|(instance, runs)| counted(instance, runs, zone)),
        );
        let summary = print::facts([heading, &self.name], &facts);
        let rows: Vec<Vec<String>> = shown.iter().map(|run| row(run, zone)).collect();
        let heading = ["STARTED", "OUTCOME", "TOOK", "STARTED BY", "WORKER", "TASK", "ERROR"];
        Ok(print::text(&format!("{summary}\n{}", print::table(&heading, &rows)))?)
    }
}

/// What the kept runs say together.
fn summary(runs: &[RunRecord], zone: &TimeZone) -> Vec<Vec<String>> {
    let fact = |name: &str, value: String| vec![name.to_owned(), value];
    let is_success = |run: &&RunRecord| run.outcome == AttemptOutcome::Success;
    let last = |of: Option<&RunRecord>| of.map_or("none".to_owned(), |run| print::instant(run.ended_at, zone));
    let succeeded = runs.iter().filter(is_success).count();
    let mut facts = vec![
        fact("last success", last(runs.iter().find(is_success))),
        fact("last failure", last(runs.iter().find(|run| run.outcome.is_failure()))),
        fact("succeeded", format!("{succeeded} of {}", runs.len())),
    ];
    let succeeded = runs.iter().filter(is_success);
    let mut lengths: Vec<Duration> = succeeded.filter_map(RunRecord::known_length).collect();
    lengths.sort_unstable();
    if let (Some(median), Some(longest)) = (lengths.get(lengths.len() / 2), lengths.last()) {
        let (median, longest) = (print::took(*median), print::took(*longest));
        facts.push(fact("took", format!("{median} usually, {longest} at most")));
    }
    facts
}

/// Runs that an instance counts or has counted, because there were too many of them for records.
fn counted(instance: &str, runs: &TypeRuns, zone: &TimeZone) -> Option<Vec<String>> {
    let counted = runs.counted?;
    let since = print::instant(counted.since, zone);
    let (all, failed) = (counted.runs, counted.failed);
    let text = match counted.until {
        None => format!(
            "{all} since {since}, {failed} failed; {} a second, of which more than {MOST_RECORDED_RUNS} are not recorded ({instance})",
            runs.per_second
        ),
        Some(until) => format!(
            "{all} from {since} to {}, {failed} failed ({instance})",
            print::instant(until, zone)
        ),
    };
    Some(vec!["only counted".to_owned(), text])
}

fn row(run: &RunRecord, zone: &TimeZone) -> Vec<String> {
    let outcome = match run.attempt {
        1 => run.outcome.to_string(),
        attempt => format!("{}, attempt {attempt}", run.outcome),
    };
    vec![
        match run.known_length() {
            Some(_) => print::instant(run.started_at, zone),
            None => format!("before {}", print::instant(run.ended_at, zone)),
        },
        outcome,
        run.known_length().map_or_else(|| "-".to_owned(), print::took),
        started_by(run),
        if run.worker.is_empty() {
            "not known".to_owned()
        } else {
            run.worker.clone()
        },
        run.task.to_string(),
        run.error.clone().unwrap_or_default(),
    ]
}
