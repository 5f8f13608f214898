//! Reads tasks for lists and pages: only the beginning of large ones is sent, and the server is never blocked for long.
//!
//! The scripts cut messages on the server. Even reading a large one takes it some milliseconds, so a page reads
//! a few of these at a time and within a bound, and keeps what it read: it does not change while a task waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use redis::Value;
use runner_core::task::{QueueName, TaskId, TaskState};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::fault;
use crate::{BrokerError, BrokerResult, GLANCE_BYTES, HEAD_BYTES, Page, RawTask, TaskInfo, TaskPage};

/// Larger messages are not read with the list.
const LARGE: usize = 64 * 1024;
/// Bytes of large messages that one call reads: about 5 ms of the server's time.
const CALL_BYTES: usize = 2 << 20;
/// How long a page reads large messages; those that are left are shown without their type.
const PAGE_TIME: Duration = Duration::from_millis(180);
/// A message of more bytes is fetched whole for the page of its task: the server is quicker with that than with
/// cutting.
const CUT_BYTES: usize = 4 << 20;
/// Beginnings of large messages that are kept; about 5 MB.
const KEPT: usize = 2048;

/// The largest page.
const MAX_PAGE: usize = 1000;

/// Where a page begins, counted from 0, and its size.
pub(in crate::redis) fn bounds(page: Page) -> (usize, usize) {
    let size = page.size.clamp(1, MAX_PAGE);
    (page.number.saturating_sub(1).saturating_mul(size).min(1 << 40), size)
}

/// The known beginnings of large messages, and the lock for reading more.
pub(in crate::redis) struct LargeTasks {
    kept: Mutex<HeadCache>,
    turn: Semaphore,
}

impl Default for LargeTasks {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }
}

#[derive(Default)]
struct HeadCache {
    by_task: HashMap<(QueueName, Vec<u8>), Head>,
    order: VecDeque<(QueueName, Vec<u8>)>,
}

#[derive(Clone)]
struct Head {
    /// A key that differs if the message does.
    stamp: TaskVersion,
    /// `None`: it changed meanwhile, or is large even without its payload.
    message: Option<Bytes>,
    payload_bytes: u64,
}

#[derive(Clone, PartialEq, Eq)]
struct TaskVersion {
    bytes: i64,
    state: TaskState,
    score: Option<i64>,
    pending_since: Option<Timestamp>,
}

impl LargeTasks {
    fn get(&self, queue: &QueueName, id: &[u8], stamp: &TaskVersion) -> Option<Head> {
        let heads = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = heads.by_task.get(&(queue.clone(), id.to_vec()))?;
        (found.stamp == *stamp).then(|| found.clone())
    }

    fn put(&self, queue: &QueueName, id: &[u8], head: Head) {
        let mut heads = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (queue.clone(), id.to_vec());
        if heads.by_task.insert(key.clone(), head).is_none() {
            heads.order.push_back(key);
        }
        // First in, first out: pages move on, and a message that is shown again is cheap to read again.
        while heads.order.len() > KEPT {
            if let Some(oldest) = heads.order.pop_front() {
                heads.by_task.remove(&oldest);
            }
        }
    }
}

/// What the scripts return for a task besides its id and state.
struct Row {
    score: Value,
    message: Bytes,
    /// Bytes of the whole message; negative if there is no task.
    bytes: i64,
    payload_bytes: u64,
    pending_since: Option<Timestamp>,
    result: Vec<u8>,
    result_bytes: u64,
    waiting_for: String,
    /// Its message was requested and is not shown.
    given_up: bool,
}

impl Row {
    fn next(row: &mut impl Iterator<Item = Value>) -> Option<Self> {
        Some(Self {
            score: row.next()?,
            message: reply::bytes(row.next()?).unwrap_or_default().into(),
            bytes: reply::number(row.next()?).unwrap_or_default(),
            payload_bytes: reply::count(row.next()?),
            pending_since: nanoseconds(row.next()?),
            result: reply::bytes(row.next()?).unwrap_or_default(),
            result_bytes: reply::count(row.next()?),
            waiting_for: reply::text(row.next()?).unwrap_or_default(),
            given_up: false,
        })
    }

    fn stamp(&self, state: TaskState) -> TaskVersion {
        let score = reply::seconds(self.score.clone()).map(Timestamp::as_second);
        TaskVersion {
            bytes: self.bytes,
            state,
            // The end of a lease moves with each heartbeat; the message stays.
            score: score.filter(|_| state != TaskState::Active),
            pending_since: self.pending_since,
        }
    }

    fn is_unread(&self) -> bool {
        self.bytes > 0 && self.message.is_empty()
    }

    fn fill(&mut self, head: &Head) {
        self.given_up = head.message.is_none();
        self.message = head.message.clone().unwrap_or_default();
        self.payload_bytes = head.payload_bytes;
    }

    fn info(self, queue: &QueueName, id: &[u8], state: TaskState) -> Result<TaskInfo, String> {
        let record = convert::decode(self.message, queue, id)?;
        let score = reply::seconds(self.score);
        let when = |states: &[TaskState]| score.filter(|_| states.contains(&state));
        Ok(TaskInfo {
            payload_bytes: self.payload_bytes.max(record.payload.len() as u64),
            result_bytes: self.result_bytes,
            record,
            state,
            next_run: when(&[TaskState::Scheduled, TaskState::Retry]),
            // It may survive in the archive, but has no meaning there.
            pending_since: self.pending_since.filter(|_| state == TaskState::Pending),
            lease_until: when(&[TaskState::Active]),
            filed_at: when(&[TaskState::Archived, TaskState::Completed]),
            result: Some(self.result).filter(|r| !r.is_empty()).map(Into::into),
            waiting_for: Some(self.waiting_for).filter(|w| !w.is_empty()),
        })
    }
}

pub(in crate::redis) fn nanoseconds(value: Value) -> Option<Timestamp> {
    let text = reply::text(value)?;
    Timestamp::from_nanosecond(text.parse().ok()?).ok()
}

impl RedisBroker {
    pub(in crate::redis) async fn page_of(
        &self,
        queue: &QueueName,
        state: TaskState,
        group: Option<&str>,
        page: Page,
    ) -> BrokerResult<TaskPage> {
        let until = Instant::now() + PAGE_TIME;
        let (skip, size) = bounds(page);
        // A connection of its own: answers of pages are large, and claims would wait behind them.
        let mut trip = self.pages.trip("list tasks").await?;
        trip.script(Script::Tasks, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()))
            .arg(keys::own(queue.as_str()))
            .arg(state.as_str())
            .arg(skip)
            .arg(size)
            .arg(group.unwrap_or_default())
            .arg(HEAD_BYTES)
            .arg(LARGE);
        let mut answer = reply::list(trip.one().await?).into_iter();
        let total = answer.next().map_or(0, reply::count);
        let mut rows = Vec::new();
        while let (Some(id), Some(row)) = (answer.next(), Row::next(&mut answer)) {
            // An id without a task is dropped by the next repair.
            if let Some(id) = reply::bytes(id).filter(|_| row.bytes >= 0) {
                rows.push((id, row));
            }
        }
        self.read_large(queue, state, &mut rows, until).await?;
        let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
        for (id, row) in rows {
            let (bytes, head) = (u64::try_from(row.bytes).unwrap_or_default(), row.message.clone());
            let why = match row.is_unread() {
                true => None,
                false => match row.info(queue, &id, state) {
                    Ok(info) => {
                        tasks.push(info);
                        continue;
                    }
                    Err(why) => Some(why),
                },
            };
            let head = head.slice(..head.len().min(HEAD_BYTES));
            unreadable.push(RawTask {
                id,
                state: Some(state),
                why,
                head,
                bytes,
            });
        }
        Ok(TaskPage {
            tasks,
            unreadable,
            total,
        })
    }

    /// Reads the beginnings of large messages that are not known, as far as there is time.
    async fn read_large(
        &self,
        queue: &QueueName,
        state: TaskState,
        rows: &mut [(Vec<u8>, Row)],
        until: Instant,
    ) -> BrokerResult<()> {
        loop {
            for (id, row) in rows.iter_mut().filter(|(_, row)| row.is_unread()) {
                if let Some(head) = self.looks.get(queue, id, &row.stamp(state)) {
                    row.fill(&head);
                }
            }
            let unread = rows.iter().filter(|(_, row)| row.is_unread() && !row.given_up);
            let mut room = CALL_BYTES;
            // At least the first, however large; then as many as fit into one call.
            let wanted: Vec<&(Vec<u8>, Row)> = unread
                .take_while(|(_, row)| {
                    let first = room == CALL_BYTES;
                    let bytes = usize::try_from(row.bytes).unwrap_or_default();
                    let fits = first || bytes <= room;
                    room = room.saturating_sub(bytes);
                    fits
                })
                .collect();
            // Another page may have read them while this one waited for its turn.
            if wanted.is_empty() || Instant::now() >= until {
                return Ok(());
            }
            // One call at a time from this process: several people look at the same list more often than not.
            let Ok(Ok(_turn)) = timeout_at(until, self.looks.turn.acquire()).await else {
                return Ok(());
            };
            if wanted
                .iter()
                .any(|(id, row)| self.looks.get(queue, id, &row.stamp(state)).is_some())
            {
                continue;
            }
            self.read_heads(queue, state, &wanted).await?;
        }
    }

    async fn read_heads(&self, queue: &QueueName, state: TaskState, wanted: &[&(Vec<u8>, Row)]) -> BrokerResult<()> {
        let mut trip = self.pages.trip("read large tasks").await?;
        trip.script(Script::TasksLarge, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()))
            .arg(HEAD_BYTES)
            .arg(CALL_BYTES);
        for (id, _) in wanted {
            trip.arg(&id[..]);
        }
        let mut answer = reply::list(trip.one().await?).into_iter();
        for (id, row) in wanted {
            let (Some(message), Some(bytes), Some(payload)) = (answer.next(), answer.next(), answer.next()) else {
                break;
            };
            let message: Bytes = reply::bytes(message).unwrap_or_default().into();
            // Remembered as not shown if it changed since the list was read: otherwise this page would ask for it again
            // and again.
            let same = reply::number(bytes) == Some(row.bytes) && !message.is_empty();
            let head = Head {
                stamp: row.stamp(state),
                message: Some(message).filter(|message| same && message.len() <= LARGE),
                payload_bytes: reply::count(payload),
            };
            self.looks.put(queue, id, head);
        }
        Ok(())
    }

    /// One task, whole or with payload and result cut.
    pub(in crate::redis) async fn look_at_task(
        &self,
        queue: &QueueName,
        id: &TaskId,
        whole: bool,
    ) -> BrokerResult<Option<TaskInfo>> {
        const DOING: &str = "look at a task";
        let key = keys::task(queue.as_str(), id.as_str());
        let mut trip = self.pages.trip(DOING).await?;
        trip.script(Script::Task, &[&key])
            .arg(keys::queue(queue.as_str()))
            .arg(keys::own(queue.as_str()))
            .arg(id.as_str());
        match whole {
            true => trip.arg("").arg(0),
            false => trip.arg(GLANCE_BYTES).arg(CUT_BYTES),
        };
        let mut row = reply::list(trip.one().await?).into_iter();
        let Some(word) = row.next() else {
            return Ok(None);
        };
        let corrupt = |what: String| BrokerError::Corrupt {
            doing: DOING,
            what: format!("{key}: {what}"),
        };
        let word = reply::text(word).unwrap_or_default();
        let state: TaskState = word.parse().map_err(|error| corrupt(format!("{error}")))?;
        let mut row = Row::next(&mut row).ok_or_else(|| fault::odd_answer(DOING))?;
        // Larger than the script cuts: the whole message is cheaper for the server than cutting it.
        if row.is_unread() {
            let mut trip = self.pages.trip(DOING).await?;
            trip.command("HGET").arg(&key).arg("msg");
            row.message = reply::bytes(trip.one().await?).unwrap_or_default().into();
        }
        let mut info = row.info(queue, id.as_str().as_bytes(), state).map_err(corrupt)?;
        if convert::lost_headers(&info.record) {
            self.give_back_headers(vec![&mut info.record]).await;
        }
        if !whole && info.record.payload.len() > GLANCE_BYTES {
            info.record.payload = Bytes::copy_from_slice(&info.record.payload[..GLANCE_BYTES]);
        }
        Ok(Some(info))
    }
}
