//! Acts on all tasks of a choice, part by part. A part is one short call of the store, and tasks that do not match when their
//! part is taken are left alone.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Action, ActionError, Broker, BrokerResult, Page};
use tokio::time::Instant;

use super::document::Operation;

/// The most tasks of a part, and the fewest: a part is to keep the store busy for some milliseconds.
pub const MAX_CHUNK: usize = 500;
const MIN_CHUNK: usize = 25;

/// A part that takes longer is halved, one that takes less than half of it doubled.
const LONG: Duration = Duration::from_millis(8);

/// Tasks that are read at a time where they are searched.
const PORTION: usize = 250;

/// How often a list is searched again because tasks before the place of the search left it meanwhile.
const PASSES: usize = 5;

/// Requests to workers that are sent at once.
const AT_ONCE: usize = 32;

/// Hears of progress after each part.
#[async_trait::async_trait]
pub trait ProgressReport: Send {
    /// Whether to go on.
    async fn go_on(&mut self, operation: &mut Operation) -> bool;
}

/// The work of one operation.
pub struct OperationWork<'a, R> {
    broker: &'a dyn Broker,
    report: &'a mut R,
    chunk: usize,
}

impl<'a, R: ProgressReport> OperationWork<'a, R> {
    /// On the tasks of a broker.
    pub fn new(broker: &'a dyn Broker, report: &'a mut R) -> Self {
        Self {
            broker,
            report,
            chunk: MAX_CHUNK / 2,
        }
    }

    /// Acts on all tasks that match. Returns whether it came to the end; otherwise the report did not want more. After an error
    /// it may be called again: what is done is done, and the rest is found again.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn run(&mut self, operation: &mut Operation) -> BrokerResult<bool> {
        let queues = match &operation.choice.queue {
            Some(queue) => vec![queue.clone()],
            None => self.broker.queue_names().await?,
        };
        for queue in queues {
            let whole = operation.choice.is_whole_list();
            let on = match operation.verb.action().filter(|_| whole) {
                Some(action) => self.take(operation, &queue, action).await?,
                None => self.search(operation, &queue).await?,
            };
            if !on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first tasks of the list, again and again.
    async fn take(&mut self, operation: &mut Operation, queue: &QueueName, action: Action) -> BrokerResult<bool> {
        let (state, before) = (operation.choice.state, operation.choice.before);
        loop {
            let room = room(operation);
            if room == 0 {
                return Ok(true);
            }
            let began = Instant::now();
            let most = self.chunk.min(room);
            let acted = self.broker.act_before(queue, state, action, before, most).await;
            let acted = acted.map_err(of_broker)?;
            operation.done += acted.tasks;
            operation.looked += acted.tasks;
            self.breathe(began.elapsed()).await;
            if !self.report.go_on(operation).await {
                return Ok(false);
            }
            if !acted.more {
                return Ok(true);
            }
        }
    }

    /// Reads the list part by part and acts on those that match.
    async fn search(&mut self, operation: &mut Operation, queue: &QueueName) -> BrokerResult<bool> {
        let filter = operation.choice.filter();
        for pass in 0..PASSES {
            // How many tasks before the place of the search stay on the list.
            let (mut passed, mut changed_in_pass) = (0, 0);
            loop {
                let number = passed / PORTION + 1;
                let page = Page { number, size: PORTION };
                let page = self.broker.tasks(queue, operation.choice.state, page).await?;
                let there = page.tasks.len() + page.unreadable.len();
                let known = passed % PORTION;
                if there <= known {
                    break;
                }
                if pass == 0 {
                    operation.looked += (there - known) as u64;
                }
                let wanted = page.tasks.iter().filter(|task| operation.choice.fits(&filter, task));
                let wanted = wanted.take(room(operation));
                let ids: Vec<TaskId> = wanted.map(|task| task.record.id.clone()).collect();
                let gone = self.act_on(operation, queue, &ids).await?;
                changed_in_pass += gone;
                passed = (number - 1) * PORTION + there - gone.min(there);
                if !self.report.go_on(operation).await {
                    return Ok(false);
                }
                if there < PORTION {
                    break;
                }
            }
            if changed_in_pass == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// Acts on these. Returns how many left their list.
    async fn act_on(&mut self, operation: &mut Operation, queue: &QueueName, ids: &[TaskId]) -> BrokerResult<usize> {
        let Some(action) = operation.verb.action() else {
            let requests: Vec<_> = ids.iter().map(|id| self.broker.cancel(id)).collect();
            let mut answers = stream::iter(requests).buffer_unordered(AT_ONCE);
            while let Some(answer) = answers.next().await {
                answer?;
                operation.done += 1;
            }
            return Ok(0);
        };
        let (mut rest, mut changed) = (ids, 0);
        while !rest.is_empty() {
            let (some, others) = rest.split_at(self.chunk.min(rest.len()));
            let began = Instant::now();
            let done = self.broker.act_each(queue, some, operation.choice.state, action).await;
            let done = done.map_err(of_broker)?;
            operation.done += done;
            operation.skipped += some.len() as u64 - done.min(some.len() as u64);
            changed += usize::try_from(done).unwrap_or_default();
            rest = others;
            self.breathe(began.elapsed()).await;
        }
        Ok(changed)
    }

    /// Leaves the store to others for half as long as the last part took, and adapts the next one.
    #[allow(clippy::disallowed_methods)] // a pace, not a wait for something
    async fn breathe(&mut self, took: Duration) {
        if took > LONG {
            self.chunk = (self.chunk / 2).max(MIN_CHUNK);
        } else if took < LONG / 2 {
            self.chunk = (self.chunk * 2).min(MAX_CHUNK);
        }
        tokio::time::sleep((took / 3).min(Duration::from_millis(50))).await;
    }
}

/// How many more tasks may be acted on: where the list does not say since when a task is on it, no more than were shown.
fn room(operation: &Operation) -> usize {
    match operation.choice.state {
        TaskState::Scheduled | TaskState::Aggregating => {
            usize::try_from(operation.counted.saturating_sub(operation.done)).unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    }
}

/// Refusals are about single tasks, or about a state that was checked before.
fn of_broker(error: ActionError) -> runner_queue::BrokerError {
    match error {
        ActionError::Broker(error) => error,
        other => runner_queue::BrokerError::Refused {
            doing: "act on tasks",
            source: other.to_string().into(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use jiff::Timestamp;
    use runner_core::clock::{Clock as _, SystemClock};
    use runner_core::task::Task;
    use runner_queue::embedded::EmbeddedBroker;
    use runner_queue::{InspectQueues as _, Producer as _};

    use super::super::document::OperationVerb;
    use super::super::filter::TaskChoice;
    use super::*;
    use crate::task_search::TaskFilter;

    struct Until(u64);

    #[async_trait::async_trait]
    impl ProgressReport for Until {
        async fn go_on(&mut self, operation: &mut Operation) -> bool {
            operation.done < self.0
        }
    }

    async fn store(dir: &std::path::Path, tasks: usize) -> EmbeddedBroker {
        let broker = EmbeddedBroker::open(&dir.join("a.db"), Arc::new(SystemClock))
            .await
            .unwrap();
        let all: Vec<Task> = (0..tasks)
            .map(|n| {
                let kind = if n % 3 == 0 { "mail" } else { "other" };
                Task::new(kind).queue(QueueName::new("q").unwrap())
            })
            .collect();
        for some in all.chunks(500) {
            for answer in broker.enqueue(some).await.unwrap() {
                answer.unwrap();
            }
        }
        broker
    }

    fn of(verb: OperationVerb, state: TaskState, kind: &str, before: Timestamp) -> Operation {
        let filter = TaskFilter {
            kind: kind.to_owned(),
            ..TaskFilter::default()
        };
        Operation::new(
            verb,
            TaskChoice::new(state, &filter, before),
            (10_000, false),
            "ann",
            before,
        )
    }

    async fn counts(broker: &EmbeddedBroker) -> (u64, u64) {
        let queues = broker.queues_of(&[QueueName::new("q").unwrap()]).await.unwrap();
        let count = |state| queues[0].counts.get(&state).copied().unwrap_or_default();
        (count(TaskState::Pending), count(TaskState::Archived))
    }

    #[tokio::test]
    async fn all_that_match_are_acted_on_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let broker = store(dir.path(), 1200).await;
        let now = SystemClock.now();
        let mut some = of(OperationVerb::Archive, TaskState::Pending, "mail", now);
        let mut report = Until(u64::MAX);
        assert!(OperationWork::new(&broker, &mut report).run(&mut some).await.unwrap());
        assert_eq!((some.done, some.skipped, some.looked), (400, 0, 1200));
        assert_eq!(counts(&broker).await, (800, 400));
        // What came after the choice was shown stays.
        broker
            .enqueue(&[Task::new("late").queue(QueueName::new("q").unwrap())])
            .await
            .unwrap();
        let mut rest = of(OperationVerb::Archive, TaskState::Pending, "", now);
        let mut stopping = Until(100);
        assert!(
            !OperationWork::new(&broker, &mut stopping).run(&mut rest).await.unwrap(),
            "stopped"
        );
        assert!(rest.done >= 100 && rest.done < 800, "{}", rest.done);
        assert!(OperationWork::new(&broker, &mut report).run(&mut rest).await.unwrap());
        assert_eq!((rest.done, counts(&broker).await), (800, (1, 1200)));
    }
}
