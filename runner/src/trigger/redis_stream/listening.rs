//! The reading of one trigger: its group, batches of entries, acknowledgements, and what other consumers left behind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use runner_core::trigger::{RedisStreamTrigger, TriggerDefinition};
use runner_queue::redis::{RedisClient, RedisClientError, StreamEntry, StreamReader};
use runner_queue::{BrokerError, Delivery, Refusal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::batch::BatchSize;
use super::entry::to_delivery;
use super::{CONSUMERS, FIRST_PAUSE, LONGEST_PAUSE, Shared, fault};
use crate::background::panic_text;
use crate::messaging::ConnectionFault;
use crate::trigger::{ListenState, MessageCounts};

/// How long a read waits for an entry. A stop waits for the read: an entry that was given to a reader that is gone would wait
/// for another consumer.
const WAIT: Duration = Duration::from_secs(1);

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(1);

/// A consumer with our name that is silent for this long is gone: a live one reads every second.
const SILENT: Duration = Duration::from_secs(3600);

/// How often it is noted up to where entries are acknowledged.
const NOTE: Duration = Duration::from_secs(10);

/// Where all entries begin.
const BEGINNING: &str = "0-0";

/// One trigger.
pub(super) struct StreamTriggerTask {
    pub(super) trigger: Arc<TriggerDefinition>,
    pub(super) spec: RedisStreamTrigger,
    pub(super) shared: Shared,
    pub(super) group: String,
    /// The name as a consumer.
    consumer: String,
    /// The name of the note of its group.
    pub(super) note_name: String,
    batch: BatchSize,
}

/// The counts of a trigger, while it holds entries.
struct HeldEntries(Arc<MessageCounts>);

impl Drop for HeldEntries {
    fn drop(&mut self) {
        self.0.unacked.store(0, Ordering::Relaxed);
    }
}

/// What a trigger that listens works with.
pub(super) struct StreamReading {
    held: HeldEntries,
    client: Arc<RedisClient>,
    pub(super) reader: StreamReader,
    /// Up to which id the broker knows that entries are acknowledged, and when that was looked at.
    pub(super) until: Option<String>,
    pub(super) noted: Instant,
}

impl StreamTriggerTask {
    pub(super) fn new(
        trigger: Arc<TriggerDefinition>,
        spec: RedisStreamTrigger,
        shared: Shared,
        consumer: String,
    ) -> Self {
        let own = || format!("runner:{}", trigger.id);
        let group = spec.group.clone().unwrap_or_else(own);
        let note_name = format!("{}|{}|{}|{group}", trigger.id, spec.connection, spec.stream);
        let batch = BatchSize::new(spec.batch);
        Self {
            trigger,
            spec,
            shared,
            group,
            consumer,
            note_name,
            batch,
        }
    }

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
            self.note(match fault.code {
                fault::NOT_THERE => ListenState::Waiting(fault),
                _ => ListenState::Failing(fault),
            });
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

    /// Until `stop`; else why it does not read.
    async fn listen(&self, stop: &CancellationToken) -> Result<(), ConnectionFault> {
        let stream = self.spec.stream.as_str();
        let client = self.shared.clients.client(&self.spec.connection)?;
        let reader = client.reader(stream, &self.group, &self.consumer).await;
        let mut reader = reader.map_err(|error| fault::of(&error))?;
        let Some(note) = self.have_group(&mut reader, stop).await? else {
            return Ok(());
        };
        let mut reading = StreamReading {
            held: HeldEntries(self.note(ListenState::Listening)),
            client,
            reader,
            until: note.until,
            noted: Instant::now(),
        };
        match self.read(&mut reading, stop).await {
            Ok(()) => {
                let leave = async {
                    self.note_progress(&mut reading).await;
                    // A consumer that is left behind with nothing pending does no harm.
                    drop(reading.reader.leave().await);
                };
                drop(timeout(LEAVE, leave).await);
                Ok(())
            }
            Err(error) if error.is_without_group() => {
                Err(fault::group_gone(stream, &self.group, reading.until.as_deref()))
            }
            Err(error) => {
                if error.is_late() {
                    self.batch.shrink();
                }
                Err(fault::of(&error))
            }
        }
    }

    pub(super) fn holding(&self, doing: &'static str, error: &BrokerError) {
        self.shared.intake.failed(doing, error);
        self.note(ListenState::Holding(error.code()));
    }

    /// Until `stop`: first what this consumer was given before, then in turn what others left behind and what is new.
    async fn read(&self, reading: &mut StreamReading, stop: &CancellationToken) -> Result<(), RedisClientError> {
        if !self.read_own(reading, stop).await? {
            return Ok(());
        }
        let mut taken_over: Option<Instant> = None;
        while !stop.is_cancelled() {
            if taken_over.is_none_or(|at| at.elapsed() >= self.spec.take_over / 2) {
                if !self.take_over(reading, stop).await? {
                    return Ok(());
                }
                taken_over = Some(Instant::now());
            }
            let entries = reading.reader.read(self.batch.now(), WAIT).await?;
            if !entries.is_empty() && !self.handle(entries, reading, stop).await? {
                return Ok(());
            }
            if reading.noted.elapsed() >= NOTE {
                self.note_progress(reading).await;
            }
        }
        Ok(())
    }

    /// Handles what this consumer holds; whether to go on.
    async fn read_own(&self, reading: &mut StreamReading, stop: &CancellationToken) -> Result<bool, RedisClientError> {
        loop {
            let entries = reading.reader.pending(BEGINNING, self.batch.now()).await?;
            if entries.is_empty() {
                return Ok(true);
            }
            // They are acknowledged by then, so the next look begins at the beginning as well.
            if !self.handle(entries, reading, stop).await? {
                return Ok(false);
            }
        }
    }

    /// Handles what other consumers have held for too long; whether to go on.
    async fn take_over(&self, reading: &mut StreamReading, stop: &CancellationToken) -> Result<bool, RedisClientError> {
        let id = self.trigger.id.as_str();
        let mut from = BEGINNING.to_owned();
        while !stop.is_cancelled() {
            let idle = self.spec.take_over;
            let taken = reading.reader.take_over(idle, &from, self.batch.now()).await?;
            if !taken.entries.is_empty() {
                let entries = taken.entries.len();
                tracing::info!(
                    trigger = id,
                    entries,
                    "took over entries that another consumer did not acknowledge"
                );
                if !self.handle(taken.entries, reading, stop).await? {
                    return Ok(false);
                }
            }
            if taken.unnamed && !self.read_own(reading, stop).await? {
                return Ok(false);
            }
            if taken.next == BEGINNING {
                break;
            }
            from = taken.next;
        }
        // Those of processes that were killed would stay for good. A user without the right to run scripts leaves them there.
        if let Err(error) = reading.reader.forget(CONSUMERS, SILENT).await {
            tracing::debug!(trigger = id, %error, "consumers that are gone stay in the group");
        }
        Ok(true)
    }

    /// Enqueues and acknowledges a batch; whether to go on. Without an answer of the broker nothing is acknowledged.
    async fn handle(
        &self,
        entries: Vec<StreamEntry>,
        reading: &mut StreamReading,
        stop: &CancellationToken,
    ) -> Result<bool, RedisClientError> {
        let counts = Arc::clone(&reading.held.0);
        counts.unacked.store(entries.len() as u64, Ordering::Relaxed);
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
                    Ok(_) => MessageCounts::add(&counts.enqueued, 1),
                    Err(Refusal::Received | Refusal::IdTaken) => MessageCounts::add(&counts.repeated, 1),
                    // The options of a manifest are checked, so only the size of a payload can be refused.
                    Err(refusal) => self.shared.board.bad(&self.trigger, &refusal.to_string()),
                }
            }
            self.note(ListenState::Listening);
            reading.reader.acknowledge(&ids).await?;
            self.batch.grow();
        }
        for (entry, why) in bad {
            let Some(why) = self.settle_bad(&entry, why, &reading.client, stop).await else {
                return Ok(false);
            };
            reading.reader.acknowledge(std::slice::from_ref(&entry.id)).await?;
            self.report_bad(&entry, &why);
        }
        counts.unacked.store(0, Ordering::Relaxed);
        Ok(true)
    }
}
