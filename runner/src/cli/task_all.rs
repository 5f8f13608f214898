//! `runner task run|archive|delete --all`: acts on all tasks of a list for an operator.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::bail;
use clap::Args;
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Action, Broker, MAX_ACTED, Page};
use serde_json::json;

use super::audited::{Audited, actor};
use super::exit::{Usage, refused};
use super::task_args::TaskArgs;
use super::{CommandContext, print};
use crate::operation::{Operation, OperationVerb, OperationWork, ProgressReport, TaskChoice};
use crate::task_search::TaskFilter;

/// Bytes of an answer to a question.
const MAX_ANSWER: u64 = 64;

pub(super) const RUN: &str = "Examples:\n  \
    runner task run 6a1f…\n  \
    runner task run --all --queue low --state archived\n  \
    runner task run --all --queue low --group digest:ada\n\n\
    --all takes tasks that are scheduled, retry, archived, completed or aggregating, in the order of their list; they \
    go behind those that wait already.";

pub(super) const ARCHIVE: &str = "Examples:\n  \
    runner task archive 6a1f…\n  \
    runner task archive --all --queue low --state pending\n\n\
    --all takes tasks that are pending, scheduled, retry, completed or aggregating. The archive of a queue keeps the \
    newest tasks, as many and as long as worker.archive_max and worker.archive_keep say (9999 and 90 days unless they \
    are set): what is beyond is deleted.";

pub(super) const DELETE: &str = "Examples:\n  \
    runner task delete 6a1f…\n  \
    runner task delete --all --queue low --state completed --yes\n\n\
    --all takes tasks in any state but active; a task that is running can only be asked to stop: `runner task cancel`.";

/// One task, or all of a list.
#[derive(Debug, Args)]
pub(super) struct Targets {
    /// Id of the task
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Its queue; needed if several queues have a task with this id, and with --all
    #[arg(long)]
    queue: Option<String>,
    /// The id is given in hexadecimal digits because it is not text
    #[arg(long, requires = "queue", conflicts_with = "all")]
    hex: bool,
    /// Every task of --queue that is in --state, or in --group
    #[arg(long, requires = "queue", requires = "list")]
    all: bool,
    /// The state whose list is meant
    #[arg(long, requires = "all", group = "list")]
    state: Option<TaskState>,
    /// The tasks that wait in this group instead
    #[arg(long, requires = "all", group = "list")]
    group: Option<String>,
    /// Do not ask; required when standard input is not a terminal
    #[arg(long, requires = "all")]
    yes: bool,
    /// Print what was done as a JSON object
    #[arg(long, requires = "all")]
    json: bool,
}

/// What to act on.
pub(super) enum Target {
    One(TaskArgs),
    All(All),
}

/// A whole list.
pub(super) struct All {
    queue: String,
    state: TaskState,
    /// Only this group; the state is aggregating then.
    group: Option<String>,
    yes: bool,
    json: bool,
}

impl Targets {
    pub(super) fn target(self) -> Target {
        let state = self.state.or(self.group.as_ref().map(|_| TaskState::Aggregating));
        match (self.id, self.queue, state) {
            // The command line is refused unless these two come with --all.
            (None, Some(queue), Some(state)) => Target::All(All {
                queue,
                state,
                group: self.group,
                yes: self.yes,
                json: self.json,
            }),
            (id, queue, _) => Target::One(TaskArgs {
                id: id.unwrap_or_default(),
                queue,
                hex: self.hex,
            }),
        }
    }
}

impl All {
    pub(super) async fn act(self, context: &CommandContext, action: Action) -> anyhow::Result<()> {
        let queue = QueueName::new(self.queue.as_str()).map_err(|e| Usage(e.to_string()))?;
        action.check(self.state).map_err(refused)?;
        let asks = !self.yes;
        if asks && !std::io::stdin().is_terminal() {
            let text = "standard input is not a terminal, so no confirmation is possible; --yes confirms every task of the list";
            return Err(Usage(text.to_owned()).into());
        }
        let broker = context.looked_at().await?;
        let there = self.count(broker.as_ref(), &queue).await?;
        let what = match &self.group {
            Some(group) => format!("{} in the group {group} of {queue}", print::task_count(there)),
            None => format!("{} in the {} list of {queue}", print::task_count(there), self.state),
        };
        if asks && there > 0 && !agreed(&format!("{what} will be {}. Go on? [y/N] ", action.done()))? {
            bail!("nothing was done");
        }
        let target = match &self.group {
            Some(group) => format!("{queue}, group {group}"),
            None => format!("{queue}, {}", self.state),
        };
        let audited = match action {
            Action::Run => "tasks.run",
            Action::Archive => "tasks.archive",
            Action::Delete => "tasks.delete",
        };
        let acted = match &self.group {
            Some(group) => act_on_group(&*broker, &queue, (group, there), action).await,
            None => {
                self.act_on_list(context, &*broker, queue.clone(), (there, action))
                    .await
            }
        };
        let tasks = match acted {
            Ok(tasks) => tasks,
            Err(error) => {
                // Some may have been acted on.
                let audited = Audited::done(audited, target).ended("failed");
                audited.write(&*broker).await;
                return Err(error);
            }
        };
        let audited = Audited::done(audited, target).ended(format!("{tasks} done"));
        audited.write(&*broker).await;
        if self.json {
            let done = action.done();
            let mut object = json!({"queue": queue, "state": self.state, "done": done, "tasks": tasks});
            if let Some(group) = self.group {
                object["group"] = group.into();
            }
            return Ok(print::done_as_json(&object)?);
        }
        let line = match action {
            Action::Run => "put on the queue",
            Action::Archive => "archived",
            Action::Delete => "deleted",
        };
        Ok(print::done(&format!("{} {line}", print::task_count(tasks)))?)
    }

    /// The list as it is now, part by part. What comes later stays.
    async fn act_on_list(
        &self,
        context: &CommandContext,
        broker: &dyn Broker,
        queue: QueueName,
        (there, action): (u64, Action),
    ) -> anyhow::Result<u64> {
        let verb = match action {
            Action::Run => OperationVerb::Run,
            Action::Archive => OperationVerb::Archive,
            Action::Delete => OperationVerb::Delete,
        };
        let filter = TaskFilter {
            queue: Some(queue),
            ..TaskFilter::default()
        };
        let now = broker.now().await?;
        let choice = TaskChoice::new(self.state, &filter, now);
        let mut operation = Operation::new(verb, choice, (there, true), &actor(), context.clock.now());
        OperationWork::new(broker, &mut ToTheEnd).run(&mut operation).await?;
        Ok(operation.done)
    }

    /// How many tasks there are.
    async fn count(&self, broker: &dyn Broker, queue: &QueueName) -> anyhow::Result<u64> {
        let queues = broker.queues_of(std::slice::from_ref(queue)).await?;
        let Some(info) = queues.first() else {
            bail!("no queue {queue}; `runner ls queues` shows those that exist");
        };
        match &self.group {
            Some(group) => {
                let page = Page { number: 1, size: 1 };
                Ok(broker.group_tasks(queue, group, page).await?.total)
            }
            None => Ok(info.counts.get(&self.state).copied().unwrap_or(0)),
        }
    }
}

/// Only the person at the terminal watches, who can end the command.
struct ToTheEnd;

#[async_trait::async_trait]
impl ProgressReport for ToTheEnd {
    async fn go_on(&mut self, _: &mut Operation) -> bool {
        true
    }
}

/// The first tasks of a group, as many as were confirmed.
async fn act_on_group(
    broker: &dyn Broker,
    queue: &QueueName,
    (group, there): (&str, u64),
    action: Action,
) -> anyhow::Result<u64> {
    let mut tasks = 0;
    for _ in 0..calls(there) {
        let acted = broker.act_group(queue, group, action).await.map_err(refused)?;
        tasks += acted.tasks;
        if !acted.more {
            break;
        }
    }
    Ok(tasks)
}

/// How many calls this many tasks need. Tasks that are added meanwhile were not confirmed, so they need not be covered.
fn calls(tasks: u64) -> u64 {
    tasks.div_ceil(MAX_ACTED as u64)
}

/// Asks the user at the terminal to confirm.
fn agreed(question: &str) -> anyhow::Result<bool> {
    print::ask(question)?;
    let mut answer = String::new();
    std::io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_as_many_calls_as_it_needs() {
        assert_eq!([0, 1, 1000, 1001, 2500].map(calls), [0, 1, 1, 2, 3]);
    }
}
