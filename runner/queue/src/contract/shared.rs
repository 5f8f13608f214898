//! What clauses share: short ways to enqueue, claim, settle and look.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, Task, TaskId, TaskState};

use super::Fresh;
use crate::{Claim, Enqueued, Page, QueueInfo, Refusal, Settled, Settlement, TaskInfo, Verdict};

/// The lease that clauses claim with.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How much later than asked for a lapse by real time may be seen on a busy machine.
const LAPSE_LIMIT: Duration = Duration::from_secs(20);

/// How often it is checked.
const LAPSE_LOOK: Duration = Duration::from_millis(50);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(super) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A task of type `test:<name>` in queue `default` under the id `name`.
pub(super) fn task(name: &str) -> Task {
    Task::new(format!("test:{name}")).id(id(name))
}

pub(super) fn verdict(claim: &Claim, verdict: Verdict) -> Settlement {
    Settlement {
        claim: claim.clone(),
        verdict,
        result: None,
        attempt: None,
    }
}

pub(super) fn retry(after: u64, error: &str) -> Verdict {
    Verdict::Retry {
        after: secs(after),
        error: error.to_owned(),
        counts: true,
    }
}

pub(super) fn archive(error: &str) -> Verdict {
    Verdict::Archive {
        error: error.to_owned(),
    }
}

impl Fresh {
    pub(super) fn now(&self) -> Timestamp {
        use runner_core::clock::Clock;
        self.clock.now()
    }

    /// Lets a lapse come that is `after` from now: `holds` does not hold before, and does afterwards.
    ///
    /// By the manual clock just before and just after; by a store's own time whenever it comes, with a deadline.
    pub(super) async fn lapse(&self, after: Duration, mut holds: impl AsyncFnMut() -> bool) {
        assert!(!holds().await, "it lapsed at once");
        if self.real_time_ttl {
            let deadline = tokio::time::Instant::now() + after + LAPSE_LIMIT;
            while !holds().await {
                assert!(tokio::time::Instant::now() < deadline, "it did not lapse");
                #[allow(clippy::disallowed_methods)] // the store does not notify of a lapse
                tokio::time::sleep(LAPSE_LOOK).await;
            }
            return;
        }
        self.clock.advance(after.saturating_sub(secs(1)));
        assert!(!holds().await, "it lapsed too early");
        self.clock.advance(secs(1));
        assert!(holds().await, "it did not lapse");
    }

    /// Enqueues one task, whatever the result.
    pub(super) async fn try_put(&self, task: Task) -> Result<Enqueued, Refusal> {
        let mut answers = self.broker.enqueue(&[task]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Enqueues tasks that must be accepted.
    pub(super) async fn put(&self, tasks: impl IntoIterator<Item = Task>) {
        let tasks: Vec<Task> = tasks.into_iter().collect();
        for answer in self.broker.enqueue(&tasks).await.unwrap() {
            answer.unwrap();
        }
    }

    /// Claims from `default`.
    pub(super) async fn claim(&self, max: usize) -> Vec<Claim> {
        let queues = [QueueName::default()];
        self.broker.claim(&queues, max, LEASE).await.unwrap()
    }

    /// Claims the one task that must be there.
    pub(super) async fn claim_one(&self) -> Claim {
        let mut claims = self.claim(1).await;
        assert_eq!(claims.len(), 1, "expected something to claim");
        claims.remove(0)
    }

    /// Ids of everything that can be claimed now, in order.
    pub(super) async fn claim_ids(&self, max: usize) -> Vec<String> {
        names(&self.claim(max).await)
    }

    pub(super) async fn settle(&self, claim: &Claim, how: Verdict) -> Settled {
        let answers = self.broker.settle(&[verdict(claim, how)]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers[0]
    }

    /// Settles a claim that must still be ours.
    pub(super) async fn end(&self, claim: &Claim, how: Verdict) {
        assert_eq!(self.settle(claim, how).await, Settled::Accepted);
    }

    /// After how long a forwarder has to look again.
    pub(super) async fn next_look(&self) -> Option<Duration> {
        let queues = [QueueName::default()];
        let done = self.broker.forward(&queues, 99).await.unwrap();
        let until = |due: Timestamp| Duration::try_from(due.duration_since(self.now())).unwrap();
        [done.next_due.map(until), done.look_after].into_iter().flatten().min()
    }

    /// Forwards in `default`; how many.
    pub(super) async fn forward(&self) -> usize {
        let queues = [QueueName::default()];
        self.broker.forward(&queues, 100).await.unwrap().moved
    }

    /// The task of this id in `default`, if there is one.
    pub(super) async fn look(&self, name: &str) -> Option<TaskInfo> {
        let queue = QueueName::default();
        self.broker.task(&queue, &id(name)).await.unwrap()
    }

    /// The task of this id in `default`, which must be there.
    pub(super) async fn see(&self, name: &str) -> TaskInfo {
        self.look(name).await.unwrap_or_else(|| panic!("no {name}"))
    }

    pub(super) async fn state(&self, name: &str) -> Option<TaskState> {
        self.look(name).await.map(|info| info.state)
    }

    /// Ids in the list of one state of `default`, in the order of the list.
    pub(super) async fn list(&self, state: TaskState) -> Vec<String> {
        let page = Page { number: 1, size: 1000 };
        let queue = QueueName::default();
        let page = self.broker.tasks(&queue, state, page).await.unwrap();
        assert_eq!(page.total, page.tasks.len() as u64);
        let ids = page.tasks.into_iter();
        ids.map(|info| info.record.id.as_str().to_owned()).collect()
    }

    /// The queue `default` at a glance.
    pub(super) async fn glance(&self) -> QueueInfo {
        let queues = self.broker.queues().await.unwrap();
        let mut found = queues.into_iter().filter(|q| q.name.as_str() == "default");
        found.next().expect("queue default is not listed")
    }

    /// Processed and failed in all of `default`, which must be those of today too.
    pub(super) async fn counted(&self) -> (u64, u64) {
        let glance = self.glance().await;
        let today = (glance.processed_today, glance.failed_today);
        assert_eq!((glance.processed, glance.failed), today);
        today
    }
}

/// Ids of claims, in order.
pub(super) fn names(claims: &[Claim]) -> Vec<String> {
    let ids = claims.iter().map(|c| c.task().id.as_str().to_owned());
    ids.collect()
}
