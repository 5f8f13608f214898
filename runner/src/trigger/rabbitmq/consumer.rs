//! The channel of one trigger: queue, consumer, batches of messages, acknowledgements.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer, ExchangeKind};
use runner_core::trigger::{BadMessage, DeclareQueue, ExchangeType, RabbitMqTrigger, TriggerDefinition};
use runner_queue::{Delivery, Refusal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::message::{self, BadReason, to_delivery};
use super::{ANSWER, FIRST_PAUSE, LONGEST_PAUSE, Shared, spec};
use crate::background::panic_text;
use crate::messaging::ConnectionFault;
use crate::messaging::amqp::fault;
use crate::trigger::kept::{self, BadEvent};
use crate::trigger::{ListenState, MessageCounts};

/// How often the queue is asked for, so that a consumer that the server forgot does not look alive.
const CHECK: Duration = Duration::from_secs(30);

/// Messages that become tasks in one call, and their bytes: a few milliseconds of work for a store.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// How often a message of a queue that we make may come back before it is dead. Each channel that ends while it holds the
/// message counts, also by a lost connection or a restart.
const DELIVERY_LIMIT: i64 = 20;

/// Dead messages of such a queue that are kept, the oldest go first.
const DEAD_KEPT: i64 = 100_000;

/// One trigger on one connection.
pub(super) struct Consuming {
    pub(super) trigger: Arc<TriggerDefinition>,
    pub(super) connection: Arc<Connection>,
    pub(super) shared: Shared,
}

/// A channel that consumes.
struct Listening<'a> {
    spec: &'a RabbitMqTrigger,
    channel: Channel,
    consumer: Consumer,
    held: HeldMessages,
}

/// The counts of a trigger, while its channel holds messages: those go back to the queue with it, however it ends.
struct HeldMessages(Arc<MessageCounts>);

impl Drop for HeldMessages {
    fn drop(&mut self) {
        self.0.unacked.store(0, Ordering::Relaxed);
    }
}

impl Consuming {
    /// Consumes until `stop`, or until the connection is gone.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Some(spec) = spec(&self.trigger) else { return };
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let began = Instant::now();
            // After a panic the channel is gone with what held it, so its messages go back to the queue.
            let listened = AssertUnwindSafe(self.listen(spec, &stop)).catch_unwind().await;
            let fault = match listened {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                Err(panic) => fault::panicked(&panic_text(panic.as_ref())),
            };
            self.note(ListenState::Failing(fault));
            if !self.connection.status().connected() {
                return;
            }
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

    /// Until `stop`; else why the channel does not consume.
    async fn listen(&self, spec: &RabbitMqTrigger, stop: &CancellationToken) -> Result<(), ConnectionFault> {
        let channel = answered(self.connection.create_channel()).await?;
        let begun = async {
            declare(&channel, spec).await?;
            answered(channel.basic_qos(spec.prefetch, BasicQosOptions::default())).await?;
            let tag = format!("runner {} {}", self.shared.instance, self.trigger.id);
            let options = BasicConsumeOptions::default();
            let queue = spec.queue.as_str().into();
            answered(channel.basic_consume(queue, tag.into(), options, FieldTable::default())).await
        };
        let consumer = begun.await?;
        let mut listening = Listening {
            spec,
            channel,
            consumer,
            held: HeldMessages(self.note(ListenState::Listening)),
        };
        let result = self.consume(&mut listening, stop).await;
        if listening.channel.status().connected() {
            drop(timeout(ANSWER, listening.channel.close(200, "done".into())).await);
        }
        result
    }

    async fn consume(&self, at: &mut Listening<'_>, stop: &CancellationToken) -> Result<(), ConnectionFault> {
        let mut check = tokio::time::interval(CHECK);
        check.reset();
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                message = at.consumer.next() => message,
                _ = check.tick() => {
                    look_at_queue(&at.channel, at.spec).await?;
                    continue;
                }
            };
            let Some(first) = first else {
                return Err(fault::cancelled(&at.spec.queue));
            };
            let batch = gather(first.map_err(|error| fault::of_use(&error))?, &mut at.consumer);
            MessageCounts::add(&at.held.0.unacked, batch.len());
            if !self.handle(batch, at, stop).await? {
                return Ok(());
            }
            at.held.0.unacked.store(0, Ordering::Relaxed);
        }
    }

    /// Enqueues and settles a batch; whether to go on. Without an answer of the broker nothing is settled.
    async fn handle(
        &self,
        batch: Vec<Message>,
        at: &Listening<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, ConnectionFault> {
        let mut good: Vec<(u64, Delivery)> = Vec::with_capacity(batch.len());
        let mut bad: Vec<(Message, BadReason)> = Vec::new();
        for mut message in batch {
            match to_delivery(&self.trigger, at.spec, &mut message) {
                Ok(delivery) => good.push((message.delivery_tag, delivery)),
                Err(why) => bad.push((message, why)),
            }
        }
        let (tags, deliveries): (Vec<u64>, Vec<Delivery>) = good.into_iter().unzip();
        let answers = if deliveries.is_empty() {
            Vec::new()
        } else {
            let waiting = |error: &runner_queue::BrokerError| drop(self.note(ListenState::Holding(error.code())));
            match self.shared.intake.accept(&deliveries, stop, waiting).await {
                Some(answers) => answers,
                None => return Ok(false),
            }
        };
        self.note(ListenState::Listening);
        for answer in &answers {
            match answer {
                Ok(_) => MessageCounts::add(&at.held.0.enqueued, 1),
                Err(Refusal::Received | Refusal::IdTaken) => MessageCounts::add(&at.held.0.repeated, 1),
                // The options of a manifest are checked, so only the size of a payload can be refused.
                Err(refusal) => self.shared.board.bad(&self.trigger, &refusal.to_string()),
            }
        }
        // Before the bad ones: while one of those cannot be kept, the others must not wait to be delivered again.
        acknowledge(&tags, bad.is_empty(), at).await?;
        self.settle_bad(bad, at, stop).await
    }

    /// Settles messages of which no task can be made; whether to go on.
    async fn settle_bad(
        &self,
        bad: Vec<(Message, BadReason)>,
        at: &Listening<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, ConnectionFault> {
        for (message, why) in bad {
            let BadReason(why) = why;
            tracing::warn!(
                trigger = self.trigger.id.as_str(),
                code = "trigger_bad_message",
                error = %why,
                help = "on_bad_message of the trigger says what to do with it",
                "a message cannot become a task"
            );
            self.shared.board.bad(&self.trigger, &why);
            match at.spec.bad_messages {
                BadMessage::DeadLetter => {
                    let options = BasicNackOptions::default();
                    let rejected = BasicNackOptions {
                        requeue: false,
                        ..options
                    };
                    answered(at.channel.basic_nack(message.delivery_tag, rejected)).await?;
                    continue;
                }
                BadMessage::Keep => {
                    let event = bad_event(&message, &why);
                    if !kept::keep(&self.shared.intake, &self.shared.instance, &self.trigger, &event, stop).await {
                        return Ok(false);
                    }
                }
                BadMessage::Drop => {}
            }
            answered(at.channel.basic_ack(message.delivery_tag, BasicAckOptions::default())).await?;
        }
        Ok(true)
    }
}

fn bad_event<'a>(message: &'a Message, why: &'a str) -> BadEvent<'a> {
    BadEvent {
        why,
        body: &message.data,
        facts: message::facts(message),
    }
}

/// Acknowledges messages. `all`: nothing that came before is left, so one acknowledgement is enough.
async fn acknowledge(tags: &[u64], all: bool, at: &Listening<'_>) -> Result<(), ConnectionFault> {
    let each = if all {
        &tags[tags.len().saturating_sub(1)..]
    } else {
        tags
    };
    for tag in each {
        answered(at.channel.basic_ack(*tag, BasicAckOptions { multiple: all })).await?;
    }
    Ok(())
}

/// The first message and those that have arrived behind it.
fn gather(first: Message, consumer: &mut Consumer) -> Vec<Message> {
    let mut bytes = first.data.len();
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        // An error comes again with the next look.
        let Some(Some(Ok(next))) = consumer.next().now_or_never() else {
            break;
        };
        bytes += next.data.len();
        batch.push(next);
    }
    batch
}

/// The answer of the server, within [`ANSWER`].
async fn answered<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, ConnectionFault> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(|error| fault::of_use(&error)),
        Err(_) => Err(fault::slow(ANSWER)),
    }
}

async fn look_at_queue(channel: &Channel, spec: &RabbitMqTrigger) -> Result<(), ConnectionFault> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(spec.queue.as_str().into(), options, FieldTable::default());
    answered(declared).await.map(drop)
}

/// Looks whether the queue is there, or makes it; then binds it.
async fn declare(channel: &Channel, spec: &RabbitMqTrigger) -> Result<(), ConnectionFault> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    match spec.declare {
        DeclareQueue::Passive => look_at_queue(channel, spec).await?,
        DeclareQueue::Create { single_active_consumer } => {
            let dead = format!("{}.dead", spec.queue);
            let kept = arguments(&[("x-queue-type", text("quorum")), ("x-max-length", DEAD_KEPT.into())]);
            answered(channel.queue_declare(dead.as_str().into(), durable, kept)).await?;
            let mut all = vec![
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", DELIVERY_LIMIT.into()),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&dead)),
            ];
            if single_active_consumer {
                all.push(("x-single-active-consumer", true.into()));
            }
            answered(channel.queue_declare(spec.queue.as_str().into(), durable, arguments(&all))).await?;
        }
    }
    let Some(binding) = &spec.bind else { return Ok(()) };
    let kind = match binding.kind {
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
    };
    let options = ExchangeDeclareOptions {
        passive: spec.declare == DeclareQueue::Passive,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchange = || binding.exchange.as_str().into();
    answered(channel.exchange_declare(exchange(), kind, options, FieldTable::default())).await?;
    for key in &binding.routing_keys {
        let (queue, key) = (spec.queue.as_str().into(), key.as_str().into());
        let bound = channel.queue_bind(
            queue,
            exchange(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answered(bound).await?;
    }
    Ok(())
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn arguments(all: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in all {
        table.insert((*name).into(), value.clone());
    }
    table
}
