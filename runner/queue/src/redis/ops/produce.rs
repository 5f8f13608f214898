//! Enqueueing tasks: one script call for each queue and batch, all in one round trip.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use redis::Value;
use runner_core::task::{OnConflict, QueueName, Run, Task, TaskId, TaskState, Unique};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::confirm::Confirm;
use crate::redis::net::conn::{Conn, RoundTrip};
use crate::redis::net::fault;
use crate::{BrokerError, BrokerResult, Delivery, Enqueued, Producer, Refusal};

/// How tasks reach the server: by the shared connection, or by one on which replicas confirm.
pub(in crate::redis) struct SendRoute {
    pub conn: Arc<Conn>,
    pub confirm: Option<Confirm>,
}

impl SendRoute {
    fn conn(&self) -> &Conn {
        self.confirm.as_ref().map_or(&self.conn, Confirm::conn)
    }
}

/// Tasks a script call, during which Redis does nothing else: about 1 ms.
const BATCH: usize = 256;

/// Tasks of a call that may replace others.
const SEARCHES: usize = 8;
/// Tasks a round trip: bounds what is held in memory on both sides.
const TRIP: usize = 2048;

/// Bytes of payloads a script call, and a round trip: Redis holds a call in memory several times, and disconnects a
/// client that sends a gigabyte. A single task is sent whatever its size.
const BATCH_BYTES: usize = 4 << 20;
const TRIP_BYTES: usize = 16 << 20;

/// The first tasks that fit together into `count` and `bytes`.
fn portion<T>(tasks: &[T], most: usize, bytes: usize, payload: impl Fn(&T) -> usize) -> usize {
    let mut sum = 0_usize;
    let fit = tasks.iter().take(most).take_while(|task| {
        sum = sum.saturating_add(payload(task));
        sum <= bytes
    });
    // At least one: a task that exceeds the limit by itself is sent alone rather than never.
    fit.count().max(1).min(tasks.len())
}

/// All of them, in portions.
fn portions<T>(
    mut tasks: &[T],
    most: usize,
    bytes: usize,
    payload: impl Fn(&T) -> usize + Copy,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let (now, later) = tasks.split_at(portion(tasks, most, bytes, payload));
        tasks = later;
        (!now.is_empty()).then_some(now)
    })
}

pub(in crate::redis) const DOING: &str = "enqueue tasks";

/// What a task counts for in a batch. One that may replace another may have the script search a long list.
fn weight(task: &impl Outgoing) -> usize {
    let replaces = |unique: &Unique| unique.on_conflict != OnConflict::Keep;
    let search = match task.task().unique.as_ref().is_some_and(replaces) {
        true => BATCH_BYTES / SEARCHES,
        false => 0,
    };
    payload(task).saturating_add(search)
}

/// The arguments of a script that say when a task is due: see `put.lua`.
pub(in crate::redis) fn when(run: Run) -> String {
    match run {
        Run::Now => String::new(),
        Run::At(at) => format!("@{}", at.as_millisecond()),
        Run::In(delay) => format!("+{}", convert::millis(delay)),
    }
}

/// How long the task's lock lasts, in milliseconds, with the letters of `put.lua` for what happens to a second task; 0 if it
/// takes none.
pub(in crate::redis) fn lock_ttl(task: &Task) -> String {
    let text = |unique: &Unique| format!("{}{}", convert::millis(unique.ttl), unique.letters());
    task.unique.as_ref().map_or_else(|| "0".to_owned(), text)
}

/// Whether it is pending at once, without group and lock: see `enqueue_plain.lua`.
fn is_plain(task: &Task) -> bool {
    task.run == Run::Now && task.unique.is_none() && task.group.is_none()
}

/// Appends the arguments of `put.lua` for a task, from the id to the group.
pub(in crate::redis) fn put_args(trip: &mut RoundTrip<'_>, task: &Task, id: &TaskId) {
    let message = convert::message_of(task, id);
    trip.arg(id.as_str())
        .arg(message.encode_to_vec())
        .arg(&message.unique_key)
        .arg(lock_ttl(task))
        .arg(when(task.run))
        .arg(&message.group_key);
}

/// One answer for each task, in order.
pub(in crate::redis) type Answers = Vec<Result<Enqueued, Refusal>>;

#[async_trait]
impl Producer for RedisBroker {
    async fn enqueue(&self, tasks: &[Task]) -> BrokerResult<Answers> {
        self.gather.put(tasks).await
    }

    async fn enqueue_once(&self, deliveries: &[Delivery]) -> BrokerResult<Answers> {
        send(self.gather.route(), deliveries).await?.into_result()
    }
}

/// What can be sent: a task, or one whose id is accepted once.
pub(in crate::redis) trait Outgoing {
    fn task(&self) -> &Task;

    /// How long the id is refused from now on; `None` if no receipt is asked for.
    fn remember(&self) -> Option<Duration>;
}

impl Outgoing for Task {
    fn task(&self) -> &Task {
        self
    }

    fn remember(&self) -> Option<Duration> {
        None
    }
}

impl Outgoing for Delivery {
    fn task(&self) -> &Task {
        &self.task
    }

    fn remember(&self) -> Option<Duration> {
        // A random id cannot come again.
        Some(self.task.id.as_ref().map_or(Duration::ZERO, |_| self.remember))
    }
}

/// The result of sending tasks.
pub(in crate::redis) struct Sent {
    pub(in crate::redis) answers: Answers,
    /// The error that too few replicas confirmed, if they had to.
    pub(in crate::redis) unconfirmed: Option<BrokerError>,
}

impl Sent {
    /// The result for a caller who sent all of them.
    pub(in crate::redis) fn into_result(self) -> BrokerResult<Answers> {
        into_answers(self.answers, self.unconfirmed.as_ref())
    }
}

/// The result for the caller of some tasks: if all of them were refused, there was nothing to confirm.
pub(in crate::redis) fn into_answers(answers: Answers, unconfirmed: Option<&BrokerError>) -> BrokerResult<Answers> {
    match unconfirmed {
        Some(error) if answers.iter().any(Result::is_ok) => Err(error.for_another()),
        _ => Ok(answers),
    }
}

fn payload(sent: &impl Outgoing) -> usize {
    sent.task().payload.as_ref().map_or(0, Bytes::len)
}

/// Sends tasks at once: all of them, even if replicas do not confirm the first ones.
pub(in crate::redis) async fn send(way: &SendRoute, tasks: &[impl Outgoing]) -> BrokerResult<Sent> {
    let mut sent = Sent {
        answers: Vec::with_capacity(tasks.len()),
        unconfirmed: None,
    };
    for part in portions(tasks, TRIP, TRIP_BYTES, payload) {
        // One trip after the other: together they would need all the memory that the limit is to save. If a later one
        // fails, the answers of the earlier ones are lost, and the caller learns that the outcome is unknown.
        let mut trip = send_trip(way, part).await?;
        sent.answers.append(&mut trip.answers);
        sent.unconfirmed = trip.unconfirmed.or(sent.unconfirmed);
    }
    Ok(sent)
}

async fn send_trip(way: &SendRoute, tasks: &[impl Outgoing]) -> BrokerResult<Sent> {
    let mut unconfirmed = None;
    let mut results: Vec<Option<Result<Enqueued, Refusal>>> = vec![None; tasks.len()];
    // Tasks keep their order within a queue, which is all that is promised; the places lead the answers back.
    let mut by_queue: HashMap<&QueueName, Vec<(usize, TaskId)>> = HashMap::new();
    for (place, (sent, result)) in tasks.iter().zip(&mut results).enumerate() {
        let task = sent.task();
        match task.check() {
            Ok(()) => by_queue
                .entry(&task.queue)
                .or_default()
                .push((place, task.id.clone().unwrap_or_else(TaskId::random))),
            Err(invalid) => *result = Some(Err(invalid.into())),
        }
    }
    if !by_queue.is_empty() {
        let mut trip = way.conn().trip(DOING).await?;
        // Each time, because a flushed store has forgotten its queues; by the script itself if the
        // list is in its slot.
        let apart = way.conn().is_cluster();
        if apart {
            trip.script(Script::AddMembers, &[keys::QUEUES]).arg("");
            for queue in by_queue.keys() {
                trip.arg(queue.as_str());
            }
        }
        let mut batches = Vec::new();
        for (queue, members) in &by_queue {
            for batch in portions(members, BATCH, BATCH_BYTES, |(place, _)| weight(&tasks[*place])) {
                let keys = [keys::part(queue.as_str(), "pending"), keys::QUEUES.to_owned()];
                let keys = if apart { &keys[..1] } else { &keys[..] };
                add_call(&mut trip, queue.as_str(), keys, tasks, batch);
                batches.push(batch);
            }
        }
        if let Some(confirm) = way.confirm.as_ref() {
            // Last: it covers everything that was written before it on this connection.
            confirm.ask(&mut trip);
        }
        let mut answers = trip.each().await?;
        // The answers are in the order of the commands: the list of queues, the batches, the confirmation.
        let confirmed = way.confirm.as_ref().map(|confirm| (confirm, answers.pop()));
        let mut answers = answers.into_iter();
        if apart && let Some(Err(error)) = answers.next().filter(|listed| !passes(listed)) {
            return Err(error);
        }
        for (batch, answer) in batches.into_iter().zip(answers) {
            take_codes(tasks, batch, answer?, &mut results)?;
        }
        if let Some((confirm, answer)) = confirmed {
            match confirm.check(answer, DOING) {
                Err(error @ BrokerError::Unconfirmed { .. }) => unconfirmed = Some(error),
                checked => checked?,
            }
        }
    }
    let answers = results
        .into_iter()
        .map(|result| result.ok_or_else(|| fault::odd_answer(DOING)));
    Ok(Sent {
        answers: answers.collect::<BrokerResult<_>>()?,
        unconfirmed,
    })
}

/// Adds the call that enqueues a batch of one queue.
fn add_call(
    trip: &mut RoundTrip<'_>,
    queue: &str,
    keys: &[String],
    tasks: &[impl Outgoing],
    batch: &[(usize, TaskId)],
) {
    let once = batch.iter().any(|(place, _)| tasks[*place].remember().is_some());
    let plain = !once && batch.iter().all(|(place, _)| is_plain(tasks[*place].task()));
    let script = match (once, plain) {
        (true, _) => Script::EnqueueOnce,
        (_, true) => Script::EnqueuePlain,
        _ => Script::Enqueue,
    };
    trip.script(script, keys).arg(keys::queue(queue)).arg(queue);
    if once {
        trip.arg(keys::own(queue));
    }
    for (place, id) in batch {
        let (task, remember) = (tasks[*place].task(), tasks[*place].remember());
        if let Some(remember) = remember {
            trip.arg(convert::millis(remember));
        }
        if plain {
            trip.arg(id.as_str()).arg(convert::message_of(task, id).encode_to_vec());
        } else {
            put_args(trip, task, id);
        }
    }
}

/// Whether a failure to list the queues can be ignored. In a cluster the list may be unreachable while the queues are not: the
/// tasks are accepted, and the next call lists the queues again.
fn passes(listed: &BrokerResult<Value>) -> bool {
    !matches!(listed, Err(error) if !matches!(error, BrokerError::Unreachable { .. }))
}

fn take_codes(
    tasks: &[impl Outgoing],
    batch: &[(usize, TaskId)],
    answer: Value,
    results: &mut [Option<Result<Enqueued, Refusal>>],
) -> BrokerResult<()> {
    let mut answer = reply::list(answer).into_iter();
    let now = answer
        .next()
        .zip(answer.next())
        .and_then(|(seconds, nanos)| reply::instant(seconds, nanos))
        .ok_or_else(|| fault::odd_answer(DOING))?;
    // The script names only the tasks that are not simply pending, so that the usual answer is short.
    let mut codes = vec![(1, None); batch.len()];
    while let Some((number, code)) = answer.next().zip(answer.next()) {
        let place = usize::try_from(reply::number(number).unwrap_or_default()).ok();
        let code_at = place.and_then(|n| codes.get_mut(n.checked_sub(1)?));
        let refusal = code_at.zip(code_of(code));
        let (at, code) = refusal.ok_or_else(|| fault::odd_answer(DOING))?;
        *at = code;
    }
    for ((place, id), (code, holder)) in batch.iter().zip(codes) {
        let task = tasks[*place].task();
        let id = holder.as_ref().unwrap_or(id);
        let accepted = |state, run_at| {
            Ok(Enqueued {
                id: id.clone(),
                queue: task.queue.clone(),
                state,
                run_at,
            })
        };
        results[*place] = Some(match code {
            1 | 4 => accepted(TaskState::Pending, Some(now)),
            2 | 5 => accepted(TaskState::Scheduled, Some(run_at(task.run, now))),
            3 | 6 => accepted(TaskState::Aggregating, None),
            0 => Err(Refusal::IdTaken),
            -1 => Err(Refusal::Duplicate),
            -2 => Err(Refusal::Received),
            _ => return Err(fault::odd_answer(DOING)),
        });
    }
    Ok(())
}

/// A code, or one with the task that holds the lock and has taken what was sent.
fn code_of(answer: Value) -> Option<(i64, Option<TaskId>)> {
    if let Value::Int(code) = answer {
        return Some((code, None));
    }
    let text = reply::text(answer)?;
    let (code, holder) = text.split_once(' ')?;
    Some((code.parse().ok()?, Some(TaskId::new(holder).ok()?)))
}

fn run_at(run: Run, now: Timestamp) -> Timestamp {
    match run {
        Run::Now => now,
        Run::At(at) => at,
        Run::In(delay) => now.checked_add(delay).unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_go_in_portions_by_number_and_by_bytes() {
        let sizes = [3, 3, 9, 1, 1, 1, 1, 20];
        let parts: Vec<&[usize]> = portions(&sizes, 3, 10, |size| *size).collect();
        assert_eq!(parts, [&[3, 3][..], &[9, 1], &[1, 1, 1], &[20]]);
        assert_eq!(portions(&[0_usize; 0], 3, 10, |size| *size).count(), 0);
    }
}
