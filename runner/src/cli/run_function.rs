//! `runner run NAME`: runs one function once, on a worker, and waits for its end if asked. Without a name the command is the
//! service itself (`serve`).

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use runner_core::function::FunctionKind;
use runner_core::task::{AttemptOutcome, BY_HAND, Task};
use runner_queue::{Broker, BrokerResult, Enqueued};

use super::exit::{CommandFailed, Usage};
use super::function_runs::unknown_function;
use super::parts::Registrar;
use super::preflight::Manifests;
use super::{CommandContext, follow, payload, print, send, values};

/// How long a task that is waited for is kept after its success, if nothing says how long.
const SEEN_FOR: Duration = Duration::from_secs(600);

/// Run the configured roles until a signal stops it (the default); with NAME, run that function once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner run                       the roles of ./config.yaml\n  \
    runner run nightly-backup        enqueue the function and print the id of its task\n  \
    runner run nightly-backup --wait\n  \
    runner run invoice --payload '{\"month\": \"2026-11\"}' --wait=10m\n\n\
    A running worker runs the function, with the options of its manifest and its payload, unless --payload states another.\n\
    --wait prints what it prints and ends when it has ended for good: exit code 0 if it succeeded,\n    that of the command if it is one that failed, else 1.")]
pub struct RunCommand {
    /// Name of the function; none: run as a service
    name: Option<String>,
    #[command(flatten)]
    payload: payload::PayloadArgs,
    /// Wait until it has ended, at most this long, and print its output
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "8760h",
          value_parser = values::length)]
    wait: Option<Duration>,
}

impl RunCommand {
    /// The command that runs as a service.
    pub(super) fn service() -> Self {
        Self {
            name: None,
            payload: payload::PayloadArgs::none(),
            wait: None,
        }
    }

    /// Whether it runs as a service.
    pub(super) fn is_service(&self) -> bool {
        self.name.is_none() && self.wait.is_none() && !self.payload.is_given()
    }

    pub(super) async fn run(self, context: &CommandContext, registrars: Vec<Registrar>) -> anyhow::Result<()> {
        let Some(name) = self.name else {
            return Err(Usage("which function? `runner run NAME --payload …`".to_owned()).into());
        };
        let here = Manifests::read(context).await?;
        let Some(function) = here.functions.get(&name) else {
            let broken = here.rejected.iter().find(|function| function.name == name);
            match broken.map(|function| &function.origin.place) {
                Some(place) => bail!("{name} is not in force: {place} has errors, which `runner check` shows"),
                None => bail!(unknown_function(&name, &here.functions.names())),
            }
        };
        let here = here.with_types_in_code(&function.task_type(), registrars).await;
        let mut task = send::in_trace(Task::new(function.task_type()).started_by(BY_HAND, ""));
        task.payload = match self.payload.read()? {
            Some(payload) => Some(payload),
            None => function.payload.clone(),
        };
        here.types.of_function(&function).apply(&mut task);
        if self.wait.is_some() && task.retention.is_zero() {
            // Its end would not be seen: a task without a retention leaves with its success.
            task.retention = SEEN_FOR;
        }
        let sending = send::send(context, &here, &task).await?;
        let (broker, sent) = (&sending.broker, &sending.enqueued);
        let Some(limit) = self.wait else {
            print::done(sent.id.as_str())?;
            return send::warn(context, &here, &task, &sending).await;
        };
        print::note(&format!("task {} in queue {}", sent.id, sent.queue));
        send::warn(context, &here, &task, &sending).await?;
        let end = follow::follow(broker.as_ref(), &sent.queue, &sent.id);
        match tokio::time::timeout(limit, end).await {
            Ok(ended) => match ended? {
                Some(AttemptOutcome::Success) => Ok(()),
                Some(outcome) => {
                    let why = format!("{name} did not succeed: {outcome}");
                    let code = match function.kind {
                        FunctionKind::Exec(_) => exit_code(broker.as_ref(), sent).await?,
                        _ => None,
                    };
                    match code {
                        Some(code) => Err(CommandFailed { code, why }.into()),
                        None => bail!(why),
                    }
                }
                None => bail!("nothing is known of its end: the task was deleted"),
            },
            Err(_) => bail!(
                "{name} has not ended within {}; it continues, `runner logs -f {}` follows it",
                print::took(limit),
                sent.id
            ),
        }
    }
}

/// The exit code of the last attempt of a command that failed.
async fn exit_code(broker: &dyn Broker, sent: &Enqueued) -> BrokerResult<Option<u8>> {
    let attempts = broker.attempts(&sent.queue, &sent.id).await?;
    let error = match attempts.into_iter().next_back() {
        Some(last) => last.error,
        None => broker.run(&sent.queue, &sent.id).await?.and_then(|run| run.error),
    };
    Ok(error.as_deref().and_then(runner_handlers::exit_code_in))
}
