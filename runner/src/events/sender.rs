//! Sends events in batches over one channel with confirms, made again after each error. An event is out of the outbox when the
//! server has confirmed it; one that the server refuses is tried again by itself, and the others go on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::outbox::{EventOutbox, OutgoingEvent};
use super::{EventSettings, Events};
use crate::background::panic_text;
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

/// Sends until `stop` says until when the rest may take; what is left then, or when this is dropped, is counted as dropped.
pub async fn send(events: Events, settings: EventSettings, server: RabbitMqSettings, stop: oneshot::Receiver<Instant>) {
    let Some(outbox) = events.0 else { return };
    let _rest = Rest(Arc::clone(&outbox));
    let stopping = CancellationToken::new();
    let sender = Sender {
        publisher: AmqpPublisher::new(&settings.connection, server),
        exchange: settings.exchange,
        outbox,
        channel: None,
    };
    // It continues after the stop: a batch given up half-way would be sent twice.
    let mut sending = std::pin::pin!(sender.run(stopping.clone()));
    let until = tokio::select! {
        until = stop => until.unwrap_or_else(|_| Instant::now()),
        () = &mut sending => return,
    };
    stopping.cancel();
    drop(timeout_at(until, sending).await);
}

/// Counts what is never sent.
struct Rest(Arc<EventOutbox>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.give_up();
    }
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
    /// Sends what comes; after `stopping` until there is nothing left.
    async fn run(mut self, stopping: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            match unless_panicked(self.batch()).await {
                Ok(true) => pause = FIRST_PAUSE,
                Ok(false) if stopping.is_cancelled() => return,
                Ok(false) => {
                    pause = FIRST_PAUSE;
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = self.outbox.filled.notified() => {}
                        () = due(self.outbox.next_due()) => {}
                    }
                }
                Err(fault) => {
                    self.outbox.note(Some(fault));
                    if stopping.is_cancelled() {
                        // Until the deadline, which the caller keeps.
                        due(Some(Instant::now() + FIRST_PAUSE)).await;
                    } else {
                        drop(timeout(pause, stopping.cancelled()).await);
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        }
    }

    /// Sends one batch; whether there was any.
    async fn batch(&mut self) -> Result<bool, ConnectionFault> {
        let outbox = Arc::clone(&self.outbox);
        let mut batch = Batch {
            outbox: &outbox,
            events: outbox.take(BATCH, Instant::now()),
        };
        if batch.events.is_empty() {
            return Ok(false);
        }
        let channel = self.channel().await?;
        let sent = timeout(CONFIRM, publish(&channel, &self.exchange, &mut batch)).await;
        match sent {
            Ok(sent) => sent?,
            Err(_) => return Err(self.publisher.unconfirmed(CONFIRM).await),
        }
        self.channel = Some(channel);
        outbox.note(outbox.has_refused().then(fault::nacked));
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
            Ok(declared) => declared.map_err(|error| fault::of_publishing(&error))?,
            Err(_) => return Err(fault::slow(CONFIRM)),
        }
        Ok(channel)
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A panic as a fault: what was under way is back in the outbox.
async fn unless_panicked<T>(work: impl Future<Output = Result<T, ConnectionFault>>) -> Result<T, ConnectionFault> {
    let panicked = |why: String| ConnectionFault {
        code: "events_panicked",
        why: format!("a panic: {why}"),
        hint: "this is a fault of runner, please report it; the sending starts again",
    };
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|panic| Err(panicked(panic_text(panic.as_ref()))))
}

/// Sends all events and takes out of the batch each one that the server answers for.
async fn publish(channel: &Channel, exchange: &str, batch: &mut Batch<'_>) -> Result<(), ConnectionFault> {
    let mut confirms = Vec::with_capacity(batch.events.len());
    for event in &batch.events {
        let properties = BasicProperties::default()
            .with_message_id(event.id.as_str().into())
            .with_type(event.kind.into())
            .with_app_id("runner".into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        // A type may have no queue, so a message that reaches none is fine.
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange.into(), event.kind.into(), options, &event.body, properties);
        confirms.push(sent.await.map_err(|error| fault::of_publishing(&error))?);
    }
    for confirm in confirms {
        let confirmed = confirm.await.map_err(|error| fault::of_publishing(&error))?;
        // Confirms are waited for in the order of the events.
        let event = batch.events.remove(0);
        match confirmed {
            Confirmation::Ack(_) => batch.outbox.sent(1),
            Confirmation::Nack(_) | Confirmation::NotRequested => batch.outbox.refused(event, Instant::now()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use runner_queue::tls::TlsFiles;

    use super::*;
    use crate::messaging::ReadUrl;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_panic_is_a_fault_after_which_sending_starts_again() {
        let work = async {
            tokio::task::yield_now().await;
            panic!("odd")
        };
        let done: Result<(), ConnectionFault> = unless_panicked(work).await;
        let fault = done.err().map(|fault| (fault.code, fault.why));
        assert_eq!(fault, Some(("events_panicked", "a panic: odd".to_owned())));
    }

    /// Sending to a server that is away, with one event; the metrics, and what stops it.
    fn without_server() -> (Arc<Metrics>, oneshot::Sender<Instant>, tokio::task::JoinHandle<()>) {
        let settings = EventSettings {
            connection: "main".to_owned(),
            exchange: "events".to_owned(),
            types: Vec::new(),
        };
        let server = RabbitMqSettings {
            url: ReadUrl::new(|| Ok("amqp://127.0.0.1:1".to_owned())),
            tls: TlsFiles::default(),
        };
        let metrics = Arc::<Metrics>::default();
        let clock = Arc::new(runner_core::clock::SystemClock);
        let events = Events::new(&settings, "host:1".to_owned(), clock, Arc::clone(&metrics));
        events.rejected("orders", "a.yaml:1", Vec::new());
        let (stop, stopped) = oneshot::channel();
        (metrics, stop, tokio::spawn(send(events, settings, server, stopped)))
    }

    #[tokio::test]
    async fn what_is_not_sent_until_the_deadline_is_counted_also_if_the_task_is_dropped() {
        let dropped = r#"runner_events_total{outcome="dropped"} 1"#;
        let (metrics, stop, task) = without_server();
        stop.send(Instant::now()).ok();
        task.await.ok();
        assert!(metrics.render().contains(dropped), "{}", metrics.render());
        let (metrics, _stop, task) = without_server();
        tokio::task::yield_now().await;
        task.abort();
        task.await.ok();
        assert!(metrics.render().contains(dropped), "{}", metrics.render());
    }
}
