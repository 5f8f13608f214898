//! The reading of one trigger: its group, batches of entries, acknowledgements, and what other consumers left behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use runner_core::trigger::{BadMessage, RedisStreamTrigger, StreamStart, TriggerDefinition};
use runner_queue::redis::{GroupStart, RedisClient, RedisClientError, StreamEntry, StreamReader};
use runner_queue::{BrokerError, Delivery, Refusal};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::entry::to_delivery;
use super::{CONSUMERS, FIRST_PAUSE, LONGEST_PAUSE, Shared, fault};
use crate::background::panic_text;
use crate::messaging::ConnectionFault;
use crate::trigger::kept::{self, BadEvent};
use crate::trigger::{ListenState, MessageCounts};

/// How long a read waits for an entry. A stop waits for the read: an entry that was given to a reader that is gone would wait
/// for another consumer.
const WAIT: Duration = Duration::from_secs(1);

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(1);

/// A consumer with our name that is silent for this long is gone: a live one reads every second.
const SILENT: Duration = Duration::from_secs(3600);

/// Dead entries of a stream that are kept, the oldest go first.
const DEAD_KEPT: u64 = 100_000;

/// The documents that say which groups were there: one that is gone is not made again.
const GROUPS: &str = "stream-groups";

/// For how long that is known after a trigger last began to read.
const GROUP_KNOWN: Duration = Duration::from_secs(366 * 86_400);

/// Where all entries begin.
const BEGINNING: &str = "0-0";

/// One trigger.
pub(super) struct StreamTriggerTask {
    pub(super) trigger: Arc<TriggerDefinition>,
    pub(super) spec: RedisStreamTrigger,
    pub(super) client: Arc<RedisClient>,
    pub(super) shared: Shared,
}

/// The counts of a trigger, while it holds entries.
struct HeldEntries(Arc<MessageCounts>);

impl Drop for HeldEntries {
    fn drop(&mut self) {
        self.0.unacked.store(0, Ordering::Relaxed);
    }
}

impl StreamTriggerTask {
    /// Reads until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let began = Instant::now();
            // After a panic entries stay pending with this consumer, which reads them again.
            let listened = AssertUnwindSafe(self.listen(&stop)).catch_unwind().await;
            let fault = match listened {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                Err(panic) => fault::panicked(&panic_text(panic.as_ref())),
            };
            self.note(ListenState::Failing(fault));
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            if timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn note(&self, state: ListenState) -> Arc<MessageCounts> {
        self.shared.board.listens(&self.trigger, state)
    }

    fn group(&self) -> String {
        let own = || format!("runner:{}", self.trigger.id);
        self.spec.group.clone().unwrap_or_else(own)
    }

    /// Until `stop`; else why it does not read.
    async fn listen(&self, stop: &CancellationToken) -> Result<(), ConnectionFault> {
        let (stream, group) = (self.spec.stream.as_str(), self.group());
        // Two triggers may share a group.
        let consumer = format!("{}:{}", self.shared.consumer, self.trigger.id);
        let reader = self.client.reader(stream, &group, &consumer).await;
        let mut reader = reader.map_err(|error| fault::of(&error))?;
        if !self.have_group(&mut reader, &group, stop).await? {
            return Ok(());
        }
        let held = HeldEntries(self.note(ListenState::Listening));
        let read = self.read(&mut reader, &held, stop).await;
        let read = read.map_err(|error| match error {
            error if error.is_without_group() => fault::group_gone(stream, &group),
            error => fault::of(&error),
        });
        if read.is_ok() {
            // A consumer that is left behind with nothing pending does no harm.
            drop(timeout(LEAVE, reader.leave()).await);
        }
        read
    }

    /// Sees to it that the group is there; whether to go on. One that was there before is not made again: it would begin
    /// somewhere else, and the entries in between would be lost or come twice.
    async fn have_group(
        &self,
        reader: &mut StreamReader,
        group: &str,
        stop: &CancellationToken,
    ) -> Result<bool, ConnectionFault> {
        let stream = self.spec.stream.as_str();
        let name = format!("{}|{}|{stream}|{group}", self.trigger.id, self.spec.connection);
        let there = match reader.has_group().await {
            Ok(there) => there,
            Err(error) if error.is_without_group() => false,
            Err(error) => return Err(fault::of(&error)),
        };
        if !there {
            match self.knew_group(&name, stop).await {
                None => return Ok(false),
                Some(true) => return Err(fault::group_gone(stream, group)),
                Some(false) => {}
            }
            let start = GroupStart {
                first: self.spec.from == StreamStart::First,
                make_stream: self.spec.create,
            };
            reader
                .make_group(start)
                .await
                .map_err(|error| match error.is_without_group() {
                    true => fault::no_stream(stream),
                    false => fault::of(&error),
                })?;
            tracing::info!(trigger = self.trigger.id.as_str(), group, "made the group of a stream");
        }
        Ok(self.remember_group(&name, stop).await)
    }

    /// Whether the group was there once; `None`: `stop` came first.
    async fn knew_group(&self, name: &str, stop: &CancellationToken) -> Option<bool> {
        loop {
            match self.shared.intake.broker().document(GROUPS, name).await {
                Ok(known) => return Some(known.is_some()),
                Err(error) => self.holding("look which groups of streams were there", &error),
            }
            if timeout(FIRST_PAUSE, stop.cancelled()).await.is_ok() {
                return None;
            }
        }
    }

    /// Notes that the group is there; false: `stop` came first.
    async fn remember_group(&self, name: &str, stop: &CancellationToken) -> bool {
        loop {
            let body = b"{}".to_vec();
            let kept = self
                .shared
                .intake
                .broker()
                .keep_document(GROUPS, name, body, GROUP_KNOWN);
            match kept.await {
                Ok(()) => return true,
                Err(error) => self.holding("note that a group of a stream is there", &error),
            }
            if timeout(FIRST_PAUSE, stop.cancelled()).await.is_ok() {
                return false;
            }
        }
    }

    fn holding(&self, doing: &'static str, error: &BrokerError) {
        self.shared.intake.failed(doing, error);
        self.note(ListenState::Holding(error.code()));
    }

    /// Until `stop`: first what this consumer was given before, then in turn what others left behind and what is new.
    async fn read(
        &self,
        reader: &mut StreamReader,
        held: &HeldEntries,
        stop: &CancellationToken,
    ) -> Result<(), RedisClientError> {
        let batch = self.spec.batch;
        loop {
            let entries = reader.pending(BEGINNING, batch).await?;
            // They are acknowledged by then, so the next look begins at the beginning as well.
            if entries.is_empty() {
                break;
            }
            if !self.handle(entries, reader, held, stop).await? {
                return Ok(());
            }
        }
        let mut taken_over: Option<Instant> = None;
        while !stop.is_cancelled() {
            if taken_over.is_none_or(|at| at.elapsed() >= self.spec.take_over / 2) {
                if !self.take_over(reader, held, stop).await? {
                    return Ok(());
                }
                taken_over = Some(Instant::now());
            }
            let entries = reader.read(batch, WAIT).await?;
            if !entries.is_empty() && !self.handle(entries, reader, held, stop).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Handles what other consumers have held for too long; whether to go on.
    async fn take_over(
        &self,
        reader: &mut StreamReader,
        held: &HeldEntries,
        stop: &CancellationToken,
    ) -> Result<bool, RedisClientError> {
        let mut from = BEGINNING.to_owned();
        while !stop.is_cancelled() {
            let taken = reader.take_over(self.spec.take_over, &from, self.spec.batch).await?;
            if !taken.entries.is_empty() {
                let (entries, id) = (taken.entries.len(), self.trigger.id.as_str());
                tracing::info!(
                    trigger = id,
                    entries,
                    "took over entries that another consumer did not acknowledge"
                );
                if !self.handle(taken.entries, reader, held, stop).await? {
                    return Ok(false);
                }
            }
            if taken.next == BEGINNING {
                break;
            }
            from = taken.next;
        }
        // Those of processes that were killed would stay for good. A user without the right to run scripts leaves them there.
        if let Err(error) = reader.forget(CONSUMERS, SILENT).await {
            tracing::debug!(trigger = self.trigger.id.as_str(), %error, "consumers that are gone stay in the group");
        }
        Ok(true)
    }

    /// Enqueues and acknowledges a batch; whether to go on. Without an answer of the broker nothing is acknowledged.
    async fn handle(
        &self,
        entries: Vec<StreamEntry>,
        reader: &mut StreamReader,
        held: &HeldEntries,
        stop: &CancellationToken,
    ) -> Result<bool, RedisClientError> {
        held.0.unacked.store(entries.len() as u64, Ordering::Relaxed);
        let (mut ids, mut deliveries, mut bad) = (Vec::new(), Vec::<Delivery>::new(), Vec::new());
        for entry in entries {
            match to_delivery(&self.trigger, &self.spec, &entry) {
                Ok(delivery) => {
                    ids.push(entry.id);
                    deliveries.push(delivery);
                }
                Err(why) => bad.push((entry, why)),
            }
        }
        if !deliveries.is_empty() {
            let waiting = |error: &BrokerError| drop(self.note(ListenState::Holding(error.code())));
            let Some(answers) = self.shared.intake.accept(&deliveries, stop, waiting).await else {
                return Ok(false);
            };
            for answer in answers {
                match answer {
                    Ok(_) => MessageCounts::add(&held.0.enqueued, 1),
                    Err(Refusal::Received | Refusal::IdTaken) => MessageCounts::add(&held.0.repeated, 1),
                    // The options of a manifest are checked, so only the size of a payload can be refused.
                    Err(refusal) => self.shared.board.bad(&self.trigger, &refusal.to_string()),
                }
            }
            self.note(ListenState::Listening);
            reader.acknowledge(&ids).await?;
        }
        for (entry, why) in bad {
            if !self.settle_bad(&entry, &why, stop).await? {
                return Ok(false);
            }
            reader.acknowledge(std::slice::from_ref(&entry.id)).await?;
        }
        held.0.unacked.store(0, Ordering::Relaxed);
        Ok(true)
    }

    /// Does with a bad entry what the trigger says; whether it may be acknowledged.
    async fn settle_bad(
        &self,
        entry: &StreamEntry,
        why: &str,
        stop: &CancellationToken,
    ) -> Result<bool, RedisClientError> {
        tracing::warn!(
            trigger = self.trigger.id.as_str(),
            code = "trigger_bad_message",
            entry = entry.id,
            error = %why,
            help = "on_bad_entry of the trigger says what to do with it",
            "an entry cannot become a task"
        );
        self.shared.board.bad(&self.trigger, why);
        let fields = entry.fields.as_deref().unwrap_or_default();
        match self.spec.bad_entries {
            BadMessage::Drop => Ok(true),
            BadMessage::DeadLetter => {
                let mut all: Vec<(&str, &[u8])> =
                    fields.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
                all.push(("runner-entry", entry.id.as_bytes()));
                all.push(("runner-why", why.as_bytes()));
                let sent = self.client.append(&self.spec.dead_stream, Some(DEAD_KEPT), &all).await;
                sent?;
                Ok(true)
            }
            BadMessage::Keep => {
                let members = fields.iter().map(|(name, value)| {
                    let text = String::from_utf8_lossy(value).into_owned();
                    (name.clone(), serde_json::Value::from(text))
                });
                let body = serde_json::Value::Object(members.collect()).to_string();
                let event = BadEvent {
                    why,
                    body: body.as_bytes(),
                    facts: json!({"stream": self.spec.stream, "entry": entry.id}),
                };
                Ok(kept::keep(&self.shared.intake, &self.shared.instance, &self.trigger, &event, stop).await)
            }
        }
    }
}
