//! Small calls of many callers become one: while calls are under way, further tasks gather and travel together.
//!
//! A single call is sent at once, and a large one by itself. Each caller gets the answers about its own
//! tasks; one that stops waiting does not cancel those of others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_core::clock::Clock;
use runner_core::task::Task;
use tokio::sync::oneshot;

use crate::BrokerResult;
use crate::redis::net::confirm::Confirm;
use crate::redis::net::conn::Conn;
use crate::redis::net::fault;
use crate::redis::ops::produce;
use crate::redis::ops::produce::{Answers, SendRoute, Sent, send};

/// Calls of few tasks under way at once: while the server works on one, the next one gathers.
const CALLS: usize = 2;

/// The most tasks that travel together; a call with as many goes by itself.
const MOST: usize = 256;

/// The most tasks that may wait here; a caller beyond that sends by itself. A few megabytes of small tasks.
const WAITING: usize = 16 * 1024;

/// Enqueues tasks, those of several callers together.
pub(in crate::redis) struct Batcher(Arc<Inner>);

struct Inner {
    way: SendRoute,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: usize,
    waiting: Vec<WaitingCall>,
    tasks: usize,
}

struct WaitingCall {
    tasks: Vec<Task>,
    reply: oneshot::Sender<BrokerResult<Answers>>,
}

impl Batcher {
    pub(in crate::redis) fn new(conn: Arc<Conn>, confirm: Option<Confirm>) -> Self {
        Self(Arc::new(Inner {
            way: SendRoute { conn, confirm },
            state: Mutex::default(),
        }))
    }

    /// How a call goes that is not gathered.
    pub(in crate::redis) fn route(&self) -> &SendRoute {
        &self.0.way
    }

    /// Uses this clock instead of the server's, also when replicas confirm.
    pub(in crate::redis) fn set_clock(&self, clock: &Arc<dyn Clock>) {
        if let Some(confirm) = &self.0.way.confirm {
            confirm.set_clock(Arc::clone(clock));
        }
    }

    /// One answer for each task, in order.
    pub(in crate::redis) async fn put(&self, tasks: &[Task]) -> BrokerResult<Answers> {
        let inner = &self.0;
        if tasks.len() >= MOST {
            return send(&inner.way, tasks).await?.into_result();
        }
        match inner.enter(tasks) {
            Entry::Go => {
                let _under_way = CallGuard(inner);
                send(&inner.way, tasks).await?.into_result()
            }
            Entry::Wait(answer) => answer.await.unwrap_or_else(|_| Err(fault::odd_answer(produce::DOING))),
        }
    }
}

enum Entry {
    Go,
    Wait(oneshot::Receiver<BrokerResult<Answers>>),
}

/// A call under way. However it ends, the waiting calls are sent next.
struct CallGuard<'a>(&'a Arc<Inner>);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        let next = self.0.next();
        if !next.is_empty() {
            // A task of its own: this caller has its answer, and must neither wait for the others nor take them along
            // if it is dropped.
            tokio::spawn(send_on(Arc::clone(self.0), next));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, tasks: &[Task]) -> Entry {
        let mut state = self.lock();
        // `calls` counts calls under way that will pass on their turn (`CallGuard`, `send_on`). Tasks wait only while
        // there is one, otherwise nothing would ever send them.
        if state.calls < CALLS || state.tasks + tasks.len() > WAITING {
            state.calls += 1;
            return Entry::Go;
        }
        let (reply, answer) = oneshot::channel();
        state.tasks += tasks.len();
        // A copy: the caller may stop waiting while its tasks travel with those of others.
        let tasks = tasks.to_vec();
        state.waiting.push(WaitingCall { tasks, reply });
        Entry::Wait(answer)
    }

    /// The next waiting calls in FIFO order; when there are none, the batch is over.
    fn next(&self) -> Vec<WaitingCall> {
        let mut state = self.lock();
        let mut count = 0;
        let together = state.waiting.iter().take_while(|w| {
            count += w.tasks.len();
            count <= MOST
        });
        // At least one, even if it alone exceeds the limit, or it would block all behind it.
        let together = together.count().max(1).min(state.waiting.len());
        let next: Vec<_> = state.waiting.drain(..together).collect();
        state.tasks -= next.iter().map(|w| w.tasks.len()).sum::<usize>();
        // Under the same lock as `enter`: a call that comes now either was in the queue or sees the lower count.
        if next.is_empty() {
            state.calls -= 1;
        }
        next
    }
}

/// Sends the waiting calls, until there are none.
async fn send_on(inner: Arc<Inner>, mut next: Vec<WaitingCall>) {
    while !next.is_empty() {
        // Answers come in the order of the tasks, so the counts are enough to divide them among the callers.
        let counts: Vec<usize> = next.iter().map(|w| w.tasks.len()).collect();
        let (tasks, replies): (Vec<Vec<Task>>, Vec<_>) = next.into_iter().map(|w| (w.tasks, w.reply)).unzip();
        let sent = send(&inner.way, &tasks.concat()).await;
        deliver(replies, &counts, sent);
        next = inner.next();
    }
}

/// Sends each caller its share of the answers; one that stopped waiting is ignored.
fn deliver(replies: Vec<oneshot::Sender<BrokerResult<Answers>>>, counts: &[usize], sent: BrokerResult<Sent>) {
    match sent {
        Ok(Sent { answers, unconfirmed }) => {
            let mut answers = answers.into_iter();
            for (reply, count) in replies.into_iter().zip(counts) {
                let own = answers.by_ref().take(*count).collect();
                let _gone = reply.send(produce::into_answers(own, unconfirmed.as_ref()));
            }
        }
        Err(error) => {
            for reply in replies {
                let _gone = reply.send(Err(error.for_another()));
            }
        }
    }
}
