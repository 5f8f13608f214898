//! The seam's `Signals`, on connections of their own: pushed tasks and requests to cancel.
//!
//! A wait for a push moves the last element of a list onto itself, blocking while the list is empty: nothing
//! is taken, nothing can be lost. It runs as a task of its own for each queue, so that a caller that stops waiting
//! does not break a connection; a wait without callers ends by itself, or with the broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::select_all;
use redis::Value;
use runner_core::task::{QueueName, TaskId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::redis::RedisBroker;
use crate::redis::format::{keys, reply};
use crate::redis::net::dial::{Connection, DialError};
use crate::redis::net::fault;
use crate::redis::net::link::Dialer;
use crate::{BrokerError, BrokerResult, Signals, StopRequest};

/// How long the server blocks before it answers "nothing": short enough to notice a dead connection.
const BLOCK: Duration = Duration::from_secs(15);
/// How long subscribing may take.
const SUBSCRIBED: Duration = Duration::from_secs(5);
/// How much later than expected an answer may arrive before the connection counts as dead.
const LATE: Duration = Duration::from_secs(3);
/// The pause after an error, so that a broken server is not hammered.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a paused queue is checked for a resume.
const PAUSED_LOOK: Duration = Duration::from_secs(1);
/// How often a queue with tasks of unknown types only is checked: it cannot be blocked on. A task
/// that another program enqueues behind them waits half of it.
const PASSED_LOOK: Duration = Duration::from_millis(100);
/// Cancellations that may wait to be read; more than that in a burst are dropped, and logged.
const CANCELLATIONS: usize = 256;
/// Longer payloads of a cancellation cannot be ids.
const MAX_ID_BYTES: usize = 4096;
/// The longest request to end a task for good: id, queue and error, each character escaped.
const MAX_STOP_PAYLOAD: usize = 64 * 1024;
/// How often the cancellation connection is checked.
const PING: Duration = Duration::from_secs(15);

/// The waits under way, by queue.
#[derive(Default)]
pub(in crate::redis) struct PushWatches(Mutex<HashMap<QueueName, PushWatch>>);

struct PushWatch {
    /// Becomes true when something was pushed; its sender is dropped when the wait ends without.
    pushed: watch::Receiver<bool>,
    task: AbortOnDropHandle<()>,
    /// The connection between two waits.
    link: Arc<Mutex<Option<Connection>>>,
}

impl PushWatches {
    /// Joins the wait under way for this queue, or starts one.
    fn join(&self, dialer: &Dialer, queue: &QueueName) -> watch::Receiver<bool> {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watches.get(queue)
            && !watch.task.is_finished()
            && !*watch.pushed.borrow()
        {
            return watch.pushed.clone();
        }
        let link = watches
            .get(queue)
            .map(|watch| Arc::clone(&watch.link))
            .unwrap_or_default();
        let (sender, pushed) = watch::channel(false);
        let pending = keys::part(queue.as_str(), "pending");
        let task = tokio::spawn(block(dialer.clone(), Arc::clone(&link), pending, sender));
        let watch = PushWatch {
            pushed: pushed.clone(),
            task: AbortOnDropHandle::new(task),
            link,
        };
        watches.insert(queue.clone(), watch);
        pushed
    }
}

/// One blocking wait. The connection is kept only when it was answered in full.
async fn block(dialer: Dialer, slot: Arc<Mutex<Option<Connection>>>, pending: String, pushed: watch::Sender<bool>) {
    let kept = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let link = match kept {
        Some(link) => Ok(link),
        None => dialer.dedicated(&pending).await,
    };
    let answer = match link {
        Ok(mut link) => {
            let mut command = redis::cmd("BLMOVE");
            command
                .arg(&pending)
                .arg(&pending)
                .arg("RIGHT")
                .arg("RIGHT")
                .arg(BLOCK.as_secs());
            let answer = timeout(BLOCK + LATE, command.query_async::<Value>(&mut link)).await;
            answer.ok().and_then(Result::ok).map(|value| (value, link))
        }
        Err(_) => None,
    };
    match answer {
        Some((value, link)) => {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
            // There may be no waiter any more; that is not an error.
            pushed.send_replace(value != Value::Nil);
        }
        None => back_off(PAUSE).await,
    }
}

/// Nothing announces the end of what this waits for: a failing server, a pause.
#[allow(clippy::disallowed_methods)] // a named back-off; every caller bounds it by a constant
async fn back_off(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Queues with nothing to claim.
#[derive(Default)]
struct IdleQueues<'a> {
    empty: Vec<&'a QueueName>,
    /// Whether some are paused or unreachable.
    stopped: bool,
    /// Whether in some there are tasks of unknown types.
    passed: bool,
}

#[async_trait]
impl Signals for RedisBroker {
    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration) {
        let end = Instant::now() + at_most;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let Ok(idle) = self.idle_queues(queues).await else {
                // The claim that follows reports the error.
                back_off(left.min(PAUSE)).await;
                return;
            };
            let Some(idle) = idle else { return };
            let wait = match idle {
                IdleQueues { passed: true, .. } => left.min(PASSED_LOOK),
                IdleQueues { stopped: true, .. } => left.min(PAUSED_LOOK),
                _ => left,
            };
            let ends = idle.empty.into_iter().map(|queue| {
                let mut pushed = self.watches.join(self.conn.dialer(), queue);
                Box::pin(async move { pushed.wait_for(|yes| *yes).await.is_ok() })
            });
            let pushed = async {
                match ends.len() {
                    0 => std::future::pending().await,
                    _ => select_all(ends).await.0,
                }
            };
            if let Ok(true) = timeout(wait, pushed).await {
                return;
            }
        }
    }

    async fn wait_for_delayed(&self, at_most: Duration) {
        // A timeout is as good an answer.
        drop(tokio::time::timeout(at_most, self.delayed.notified()).await);
    }

    async fn cancellations(&self) -> BrokerResult<mpsc::Receiver<StopRequest>> {
        const DOING: &str = "listen for cancellations";
        let subscribed = async {
            let mut pubsub = self.conn.dialer().listener().await?;
            pubsub.subscribe(keys::CANCEL).await?;
            pubsub.subscribe(&self.stop_channel).await?;
            pubsub.subscribe(keys::DELAYED).await?;
            Ok::<_, DialError>(pubsub)
        };
        let pubsub = match timeout(SUBSCRIBED, subscribed).await {
            Ok(result) => result.map_err(|error| fault::of(error, DOING))?,
            Err(late) => {
                return Err(BrokerError::Unreachable {
                    doing: DOING,
                    source: Box::new(late),
                });
            }
        };
        let (sender, receiver) = mpsc::channel(CANCELLATIONS);
        tokio::spawn(pass_on(
            pubsub,
            self.stop_channel.clone(),
            sender,
            Arc::clone(&self.delayed),
        ));
        Ok(receiver)
    }

    async fn cancel(&self, id: &TaskId) -> BrokerResult<()> {
        let mut trip = self.conn.trip("ask for a task to be cancelled").await?;
        trip.command("PUBLISH").arg(keys::CANCEL).arg(id.as_str());
        trip.one().await.map(drop)
    }

    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()> {
        const DOING: &str = "ask for a task to be ended";
        let request = StopRequest::for_good(queue.clone(), id.clone(), error.to_owned());
        let request = serde_json::to_vec(&request).map_err(|error| BrokerError::Corrupt {
            doing: DOING,
            what: error.to_string(),
        })?;
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("PUBLISH").arg(&self.stop_channel).arg(request);
        trip.one().await.map(drop)
    }
}

impl RedisBroker {
    /// What there is to wait for; `None` if a queue has something to claim.
    async fn idle_queues<'a>(&self, queues: &'a [QueueName]) -> BrokerResult<Option<IdleQueues<'a>>> {
        let passed: Vec<bool> = queues.iter().map(|queue| self.passed.has(queue)).collect();
        let mut trip = self.conn.trip("look for work").await?;
        for (queue, passed) in queues.iter().zip(&passed) {
            let pending = keys::part(queue.as_str(), "pending");
            trip.command("EXISTS").arg(keys::part(queue.as_str(), "paused"));
            trip.command("LLEN").arg(&pending);
            if *passed {
                trip.command("LINDEX").arg(&pending).arg(0);
                trip.command("LINDEX").arg(&pending).arg(-1);
            }
        }
        // A queue whose server is unreachable is checked again like a paused one; the claim repairs a key of the
        // wrong type.
        let mut answers = trip.each().await?.into_iter().map(|answer| match answer {
            Err(BrokerError::Corrupt { .. }) => Some(Value::Int(1)),
            answer => answer.ok(),
        });
        let mut next = || answers.next().flatten();
        let mut idle = IdleQueues::default();
        for (queue, passed) in queues.iter().zip(passed) {
            let (paused, length) = (next().map(reply::count), next().map(reply::count));
            let ends = passed.then(|| (next().and_then(reply::bytes), next().and_then(reply::bytes)));
            match (paused, length) {
                (Some(0), Some(length)) if length > 0 => {
                    let (newest, front) = ends.unwrap_or_default();
                    let (newest, front) = (newest.unwrap_or_default(), front.unwrap_or_default());
                    if !self.passed.is_all(queue, length, &newest, &front) {
                        return Ok(None);
                    }
                    idle.passed = true;
                }
                (Some(0), _) => idle.empty.push(queue),
                _ => idle.stopped = true,
            }
        }
        Ok(Some(idle))
    }
}

/// Ends when the receiver is gone or the connection is.
async fn pass_on(
    pubsub: redis::aio::PubSub,
    stop_channel: String,
    sender: mpsc::Sender<StopRequest>,
    delayed: Arc<Notify>,
) {
    let (mut sink, mut stream) = pubsub.split();
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = sender.closed() => return,
            _ = ping.tick() => {
                // The stream must be read to get answers; its next message or its end arrives in any case.
                let alive = async { sink.ping::<Value>().await.is_ok() };
                match timeout(LATE, alive).await {
                    Ok(true) => continue,
                    _ => return,
                }
            }
        };
        let Some(message) = message else { return };
        if message.get_channel_name() == keys::DELAYED {
            delayed.notify_one();
            continue;
        }
        let payload = message.get_payload_bytes();
        let request = match message.get_channel_name() {
            name if name == stop_channel && payload.len() <= MAX_STOP_PAYLOAD => serde_json::from_slice(payload).ok(),
            keys::CANCEL if payload.len() <= MAX_ID_BYTES => {
                let id = std::str::from_utf8(payload).ok().and_then(|id| TaskId::new(id).ok());
                id.map(StopRequest::cancel)
            }
            _ => None,
        };
        if let Some(request) = request
            && let Err(mpsc::error::TrySendError::Full(request)) = sender.try_send(request)
        {
            tracing::warn!(task = %request.id, "too many cancellations at once; this one is dropped");
        }
    }
}
