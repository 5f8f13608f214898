//! The client: one connection that a whole program shares.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use runner_core::task::{Enqueue, QueueName, Task, TaskId};
use runner_queue::{Broker, BrokerError};

use crate::connect::{self, ConnectError};
use crate::{EnqueueError, TaskHandle};

/// Tasks in one call of the broker: large enough that the round trip is shared, small enough that no script or transaction
/// keeps others waiting.
const BATCH: usize = 256;

/// Batches on their way at once: while the broker works on some, the next is made, and the connection is never idle.
const BATCHES_AT_ONCE: usize = 4;

/// Enqueues tasks. A clone is one atomic increment and shares the connection.
#[derive(Clone)]
pub struct Client(Arc<dyn Broker>);

impl Client {
    /// A client of the broker at `place`: a URL of Redis (`redis://`, `rediss://`, `redis-socket://`, `unix://`,
    /// `redis-sentinel://`), or with the feature `embedded` the path of the file that a runner on this host uses, usually
    /// `data/runner.db`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the text cannot be used or the broker does not answer. After later failures it connects again by
    /// itself.
    pub async fn connect(place: impl AsRef<str>) -> Result<Self, ConnectError> {
        connect::open(place.as_ref()).await.map(Self)
    }

    /// As [`Client::connect`] with a path, but makes the file if it is missing: for a program that is started before its
    /// runner. Needs the feature `embedded`.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the file cannot be made or used.
    pub async fn create(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        connect::file(path.as_ref()).await.map(Self)
    }

    /// A client of a broker that this program has opened itself, for what no URL can say: a cluster, client certificates, a
    /// password from a file (`RedisSettings`).
    #[must_use]
    pub fn over(broker: Arc<dyn Broker>) -> Self {
        Self(broker)
    }

    /// Enqueues one task. Once this returned `Ok`, the task is in the broker.
    ///
    /// ```
    /// # use runner_client::{Client, EnqueueError, Task};
    /// # use std::time::Duration;
    /// # async fn show(client: Client) -> Result<(), EnqueueError> {
    /// let mail = Task::new("mail").payload(r#"{"to":"ada"}"#).unique(Duration::from_secs(60));
    /// match client.enqueue(mail).await {
    ///     Err(error) if error.is_duplicate() => println!("already on its way"),
    ///     other => println!("{}", other?.id()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Refused`] if the task is invalid or a duplicate, [`EnqueueError::Broker`] if the broker could not be
    /// asked.
    pub async fn enqueue(&self, task: impl Enqueue) -> Result<TaskHandle, EnqueueError> {
        let answers = self.0.enqueue(&[task.into_task()]).await?;
        match answers.into_iter().next() {
            Some(answer) => Ok(TaskHandle::new(Arc::clone(&self.0), answer?)),
            None => Err(EnqueueError::NoAnswer),
        }
    }

    /// Enqueues many tasks in few round trips, with one answer for each, in order. A task that is refused does not touch
    /// the others.
    ///
    /// # Errors
    ///
    /// If the broker could not be asked. Other batches of 256, of which four are on their way at once, may have been taken; give
    /// tasks an [id](runner_core::task::Task::id) if they must not be enqueued twice when the call is repeated.
    pub async fn enqueue_many<T: Enqueue>(
        &self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<TaskHandle, EnqueueError>>, BrokerError> {
        let mut tasks = tasks.into_iter();
        let mut answers = Vec::with_capacity(tasks.size_hint().0);
        let batches = std::iter::from_fn(move || {
            let batch: Vec<Task> = tasks.by_ref().take(BATCH).map(Enqueue::into_task).collect();
            (!batch.is_empty()).then_some(batch)
        });
        let broker = Arc::clone(&self.0);
        let mut answered = futures_util::stream::iter(batches)
            .map(move |batch| {
                let broker = Arc::clone(&broker);
                async move { broker.enqueue(&batch).await }
            })
            .buffered(BATCHES_AT_ONCE);
        while let Some(batch) = answered.next().await {
            answers.extend(batch?.into_iter().map(|answer| self.answer(answer)));
        }
        Ok(answers)
    }

    /// Enqueues what a stream yields, with one answer for each task, in order. Tasks that are ready at the same time share a
    /// round trip; the stream is not read further than four batches of 256 ahead of the answers.
    pub fn enqueue_stream<T: Enqueue, S: Stream<Item = T>>(
        &self,
        tasks: S,
    ) -> impl Stream<Item = Result<TaskHandle, EnqueueError>> + use<T, S> {
        let client = self.clone();
        tasks
            .map(|task| task.into_task())
            .ready_chunks(BATCH)
            .map(move |batch| {
                let client = client.clone();
                async move { client.answers(&batch).await }
            })
            .buffered(BATCHES_AT_ONCE)
            .flat_map(futures_util::stream::iter)
    }

    /// A task that was enqueued before, perhaps by another program, to wait for.
    #[must_use]
    pub fn task(&self, queue: QueueName, id: TaskId) -> TaskHandle {
        TaskHandle::known(Arc::clone(&self.0), queue, id)
    }

    /// The broker itself, for what the client does not offer: `runner-queue` describes it.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.0
    }

    /// Each task of the batch gets the error of the call.
    async fn answers(&self, batch: &[Task]) -> Vec<Result<TaskHandle, EnqueueError>> {
        match self.0.enqueue(batch).await {
            Ok(answers) => answers.into_iter().map(|answer| self.answer(answer)).collect(),
            Err(error) => {
                let error = Arc::new(error);
                let failed = |_| Err(EnqueueError::Broker(Arc::clone(&error)));
                batch.iter().map(failed).collect()
            }
        }
    }

    fn answer(
        &self,
        answer: Result<runner_queue::Enqueued, runner_queue::Refusal>,
    ) -> Result<TaskHandle, EnqueueError> {
        Ok(TaskHandle::new(Arc::clone(&self.0), answer?))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.describe()).finish()
    }
}
