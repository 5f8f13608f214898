//! What commands ask about the runs of a function or of a task type: which it had, and in which queues.

use clap::Args;
use runner_core::function::Functions;
use runner_core::schedule::ScheduleId;
use runner_core::task::QueueName;
use runner_queue::{Broker, RunRecord, Trigger, TypeRuns, type_runs};

use super::exit::Usage;
use super::{CommandContext, assemble, print};
pub(super) use crate::facts::TYPE;
use crate::facts::runs_named;
use crate::source::{self, Catalog};
use crate::text::nearest;

/// Queues in which the runs of a function are searched; name one with --queue where there are more.
const QUEUES_SEARCHED: usize = 200;

/// The functions of the manifests here.
pub(super) async fn functions(context: &CommandContext) -> anyhow::Result<Functions> {
    let settings = source::SourceSettings {
        table: None,
        ..assemble::looked_at(context.settings()?, source::Code::default())
    };
    let loaded = Catalog::load_once(settings, context.clock.clone()).await;
    Ok(Functions::new(loaded.functions))
}

/// The queue that is searched.
#[derive(Debug, Args)]
pub(super) struct QueueArg {
    /// Only runs in this queue [default: all queues]
    #[arg(long)]
    queue: Option<String>,
}

impl QueueArg {
    /// The queues to search: the named one, or the first ones of the broker.
    pub(super) async fn searched(&self, broker: &dyn Broker) -> anyhow::Result<Vec<QueueName>> {
        if let Some(queue) = &self.queue {
            return Ok(vec![QueueName::new(queue.as_str()).map_err(|e| Usage(e.to_string()))?]);
        }
        let mut queues = broker.queue_names().await?;
        if queues.len() > QUEUES_SEARCHED {
            let all = queues.len();
            print::note(&format!(
                "only {QUEUES_SEARCHED} of {all} queues are searched; --queue names one"
            ));
            queues.truncate(QUEUES_SEARCHED);
        }
        Ok(queues)
    }
}

/// What is known of the runs that a name stands for.
pub(super) struct KnownRuns {
    /// Newest first.
    pub runs: Vec<RunRecord>,
    /// The task type, if the name is not that of a function.
    pub kind: Option<String>,
    /// What instances say of that type, each with its name.
    pub said: Vec<(String, TypeRuns)>,
}

impl KnownRuns {
    fn of_function(runs: Vec<RunRecord>) -> Self {
        Self {
            runs,
            kind: None,
            said: Vec::new(),
        }
    }

    /// Whether nothing at all is known.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.said.is_empty()
    }
}

/// The runs of a function that are kept, newest first; of a task type if no function of this name has any, or if the name
/// is `type:` and the type.
pub(super) async fn runs_of(broker: &dyn Broker, name: &str, queue: &QueueArg) -> anyhow::Result<KnownRuns> {
    let queues = queue.searched(broker).await?;
    let (runs, kind) = runs_named(broker, name, &queues).await?;
    let Some(kind) = kind else {
        return Ok(KnownRuns::of_function(runs));
    };
    let mut said = type_runs(broker).await?;
    said.retain(|(_, runs)| runs.kind == kind);
    Ok(KnownRuns {
        runs,
        kind: Some(kind),
        said,
    })
}

/// Says that there is no such function nor a run of it, and which one may be meant.
pub(super) fn no_function(name: &str, names: &[String]) -> String {
    format!(
        "no function {name} in the manifests, and no run of it or of a task type of this name is kept{}",
        meant(name, names)
    )
}

/// Says that there is no such function, and which one may be meant.
pub(super) fn unknown_function(name: &str, names: &[String]) -> String {
    format!("no function {name} in the manifests{}", meant(name, names))
}

/// What started a run, in a few words: `schedule m:backup:nightly`, `rabbitmq orders`, `by hand`.
pub(super) fn started_by(run: &RunRecord) -> String {
    let word = match run.trigger {
        Trigger::Manual => "by hand",
        trigger => trigger.as_str(),
    };
    let which = run.schedule.as_ref().map(ScheduleId::as_str).or(run.event.as_deref());
    which.map_or_else(|| word.to_owned(), |which| format!("{word} {which}"))
}

fn meant(name: &str, names: &[String]) -> String {
    let meant = nearest(name, names.iter().map(String::as_str));
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}
