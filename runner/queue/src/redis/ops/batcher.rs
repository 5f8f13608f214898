//! Small calls of many callers become one: while calls are under way, further tasks gather and travel together.
//!
//! A call alone leaves at once, and one that is large goes by itself. What each caller is told is about their own
//! tasks; whoever stops waiting takes nobody else's with them.

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

/// Tasks that travel together at most, and from which on a call goes by itself.
const MOST: usize = 256;

/// Tasks that may wait here, in all; a caller beyond that goes by itself. A few megabytes of small tasks.
const WAITING: usize = 16 * 1024;

/// Puts tasks on their queues, those of several callers together.
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
    told: oneshot::Sender<BrokerResult<Answers>>,
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

    /// Uses this clock instead of the server's, also where replicas confirm.
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
            Entry::Wait(told) => told.await.unwrap_or_else(|_| Err(fault::odd_answer(produce::DOING))),
        }
    }
}

enum Entry {
    Go,
    Wait(oneshot::Receiver<BrokerResult<Answers>>),
}

/// A call under way. When it ends, however it does, those who wait go next.
struct CallGuard<'a>(&'a Arc<Inner>);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        let next = self.0.next();
        if !next.is_empty() {
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
        if state.calls < CALLS || state.tasks + tasks.len() > WAITING {
            state.calls += 1;
            return Entry::Go;
        }
        let (told, telling) = oneshot::channel();
        state.tasks += tasks.len();
        let tasks = tasks.to_vec();
        state.waiting.push(WaitingCall { tasks, told });
        Entry::Wait(telling)
    }

    /// Those who go next, in the order in which they came; nobody: the call is over.
    fn next(&self) -> Vec<WaitingCall> {
        let mut state = self.lock();
        let mut count = 0;
        let together = state.waiting.iter().take_while(|w| {
            count += w.tasks.len();
            count <= MOST
        });
        let together = together.count().max(1).min(state.waiting.len());
        let next: Vec<_> = state.waiting.drain(..together).collect();
        state.tasks -= next.iter().map(|w| w.tasks.len()).sum::<usize>();
        if next.is_empty() {
            state.calls -= 1;
        }
        next
    }
}

/// Sends for those who wait, until nobody does.
async fn send_on(inner: Arc<Inner>, mut next: Vec<WaitingCall>) {
    while !next.is_empty() {
        let counts: Vec<usize> = next.iter().map(|w| w.tasks.len()).collect();
        let (tasks, tellings): (Vec<Vec<Task>>, Vec<_>) = next.into_iter().map(|w| (w.tasks, w.told)).unzip();
        let sent = send(&inner.way, &tasks.concat()).await;
        tell(tellings, &counts, sent);
        next = inner.next();
    }
}

/// A caller who has gone away is told nothing.
fn tell(tellings: Vec<oneshot::Sender<BrokerResult<Answers>>>, counts: &[usize], sent: BrokerResult<Sent>) {
    match sent {
        Ok(Sent { answers, unconfirmed }) => {
            let mut answers = answers.into_iter();
            for (told, count) in tellings.into_iter().zip(counts) {
                let own = answers.by_ref().take(*count).collect();
                let _gone = told.send(produce::told(own, unconfirmed.as_ref()));
            }
        }
        Err(error) => {
            for told in tellings {
                let _gone = told.send(Err(error.for_another()));
            }
        }
    }
}
