//! Sends events in batches: one channel with confirms, made again after each error; a batch is out of the outbox when the server
//! has confirmed all of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::outbox::{EventOutbox, OutgoingEvent};
use super::{EventSettings, Events};
use crate::messaging::amqp::{AmqpPublisher, fault};
use crate::messaging::{ConnectionFault, RabbitMqSettings};

/// Events of one batch.
const BATCH: usize = 256;

/// How long the server may take to confirm a batch.
const CONFIRM: Duration = Duration::from_secs(30);

/// The pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long what is in the outbox may take at a stop.
pub const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Sends until `stop`; then what is in the outbox, for a bounded time, and counts the rest as dropped.
pub async fn send(events: Events, settings: EventSettings, server: RabbitMqSettings, stop: CancellationToken) {
    let Some(outbox) = events.0 else { return };
    let mut sender = Sender {
        publisher: AmqpPublisher::new(&settings.connection, server),
        exchange: settings.exchange,
        outbox,
        channel: None,
    };
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let sent = tokio::select! {
            // A batch under way is waited for only as long as the end may take.
            sent = sender.batch(CONFIRM) => sent,
            () = stopped_for(&stop, LAST_EVENTS) => break,
        };
        match sent {
            Ok(true) => pause = FIRST_PAUSE,
            Ok(false) => {
                pause = FIRST_PAUSE;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sender.outbox.filled.notified() => {}
                }
            }
            Err(fault) => {
                sender.outbox.note(Some(fault));
                drop(timeout(pause, stop.cancelled()).await);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    let until = Instant::now() + LAST_EVENTS;
    while let Ok(Ok(true)) = timeout_at(until, sender.batch(LAST_EVENTS)).await {}
    sender.outbox.give_up();
}

async fn stopped_for(stop: &CancellationToken, long: Duration) {
    stop.cancelled().await;
    drop(timeout(long, std::future::pending::<()>()).await);
}

struct Sender {
    publisher: AmqpPublisher,
    exchange: String,
    outbox: Arc<EventOutbox>,
    channel: Option<Channel>,
}

/// Events that go back to the outbox, also when their sending is given up half-way.
struct Batch<'a> {
    outbox: &'a EventOutbox,
    events: Vec<OutgoingEvent>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.outbox.put_back(std::mem::take(&mut self.events));
    }
}

impl Sender {
    /// Sends one batch; whether there was any.
    async fn batch(&mut self, within: Duration) -> Result<bool, ConnectionFault> {
        let outbox = Arc::clone(&self.outbox);
        let mut batch = Batch {
            outbox: &outbox,
            events: outbox.take(BATCH),
        };
        if batch.events.is_empty() {
            return Ok(false);
        }
        let channel = self.channel().await?;
        let sent = timeout(within, publish(&channel, &self.exchange, &batch.events)).await;
        sent.map_err(|_| fault::unconfirmed(within)).and_then(|sent| sent)?;
        self.channel = Some(channel);
        outbox.sent(batch.events.len());
        batch.events.clear();
        outbox.note(None);
        Ok(true)
    }

    /// The channel, out of its place: one that fails is dropped. A new one sees to it that the exchange is there.
    async fn channel(&mut self) -> Result<Channel, ConnectionFault> {
        if let Some(channel) = self.channel.take().filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.publisher.channel().await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let name = self.exchange.as_str().into();
        let declared = channel.exchange_declare(name, ExchangeKind::Topic, durable, FieldTable::default());
        match timeout(CONFIRM, declared).await {
            Ok(declared) => declared.map_err(|error| fault::of_use(&error))?,
            Err(_) => return Err(fault::slow(CONFIRM)),
        }
        Ok(channel)
    }
}

async fn publish(channel: &Channel, exchange: &str, events: &[OutgoingEvent]) -> Result<(), ConnectionFault> {
    let mut confirms = Vec::with_capacity(events.len());
    for event in events {
        let properties = BasicProperties::default()
            .with_message_id(event.id.as_str().into())
            .with_type(event.kind.into())
            .with_app_id("runner".into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        // A type may have no queue, so a message that reaches none is fine.
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange.into(), event.kind.into(), options, &event.body, properties);
        confirms.push(sent.await.map_err(|error| fault::of_use(&error))?);
    }
    let confirmed = try_join_all(confirms).await.map_err(|error| fault::of_use(&error))?;
    match confirmed.iter().all(|one| matches!(one, Confirmation::Ack(_))) {
        true => Ok(()),
        false => Err(fault::nacked()),
    }
}
