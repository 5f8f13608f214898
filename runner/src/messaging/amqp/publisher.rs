//! Publishes to one RabbitMQ with confirms: a shared connection, and a channel for each message under way.
//!
//! A channel of its own, because the server closes a channel when an exchange is missing or forbidden, which must not touch
//! other messages; and because the client library hands a returned message to whichever confirm comes next on the channel, so
//! that with two of them under way the wrong one would count as lost and the lost one as delivered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::{connect, fault};
use crate::messaging::{ConnectionFault, RabbitMqSettings};

/// How long the server may take to confirm a message: it writes it to disks, those of other nodes as well.
const CONFIRM: Duration = Duration::from_secs(30);

/// How long the server may take to open a channel.
const ANSWER: Duration = Duration::from_secs(10);

/// Messages under way at once; more wait. A server allows 2,047 channels on a connection.
const MOST_CHANNELS: usize = 256;

/// Channels that stay open for the next messages.
const IDLE_CHANNELS: usize = 32;

/// The pause after a failed attempt to connect; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause. Calls within it fail at once, with the reason of the last attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Publishes to one RabbitMQ. Connects at the first message.
pub struct AmqpPublisher {
    name: String,
    settings: RabbitMqSettings,
    link: AsyncMutex<Link>,
    idle: Mutex<Vec<Channel>>,
    under_way: Semaphore,
}

/// The connection, and what is known of attempts to make it.
#[derive(Default)]
struct Link {
    live: Option<Arc<Connection>>,
    failed: Option<FailedAttempt>,
}

struct FailedAttempt {
    fault: ConnectionFault,
    pause: Duration,
    until: Instant,
}

/// A message for an exchange.
pub struct AmqpMessage<'a> {
    /// The exchange; empty: the default one, which takes names of queues as routing keys.
    pub exchange: &'a ShortString,
    /// The routing key.
    pub routing_key: ShortString,
    /// Whether a message that reaches no queue is an error.
    pub mandatory: bool,
    /// Its properties.
    pub properties: BasicProperties,
    /// Its body.
    pub body: &'a [u8],
}

impl AmqpPublisher {
    /// Publishes over the connection of this name in the settings; touches no network.
    #[must_use]
    pub fn new(name: &str, settings: RabbitMqSettings) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            link: AsyncMutex::default(),
            idle: Mutex::default(),
            under_way: Semaphore::new(MOST_CHANNELS),
        }
    }

    /// Returns when the server has confirmed the message.
    ///
    /// # Errors
    ///
    /// If it did not, why. The server may have the message nevertheless, unless it was returned or refused.
    pub async fn publish(&self, message: AmqpMessage<'_>) -> Result<(), ConnectionFault> {
        // Closed never: it lives as long as this.
        let _turn = self.under_way.acquire().await;
        let channel = self.channel().await?;
        let confirmed = timeout(CONFIRM, send(&channel, message)).await;
        // One that failed, or on which a confirm is still to come, is dropped, which closes it.
        let confirmed = match confirmed {
            Ok(sent) => sent,
            Err(_) => Err(self.unconfirmed(CONFIRM).await),
        };
        let fine = confirmed.as_ref().is_ok_and(|_| channel.status().connected());
        if fine || confirmed.as_ref().is_err_and(|fault| fault.code == fault::UNROUTABLE) {
            self.put_back(channel);
        }
        confirmed
    }

    /// Why a message has no confirm after `limit`, as far as that is known: an alarm of the server is seen only by connections
    /// that have published since.
    pub async fn unconfirmed(&self, limit: Duration) -> ConnectionFault {
        let link = self.link.lock().await;
        match link.live.as_ref().is_some_and(|live| live.status().blocked()) {
            true => fault::unconfirmed_in_alarm(limit),
            false => fault::unconfirmed(limit),
        }
    }

    fn put_back(&self, channel: Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CHANNELS {
            idle.push(channel);
        }
    }

    /// A channel with confirms that no other message uses.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn channel(&self) -> Result<Channel, ConnectionFault> {
        let connection = self.connection().await?;
        if connection.status().blocked() {
            return Err(fault::blocked());
        }
        while let Some(channel) = self.take_idle() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let open = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        match timeout(ANSWER, open).await {
            Ok(opened) => opened.map_err(|error: lapin::Error| fault::of_publishing(&error)),
            Err(_) => Err(fault::slow(ANSWER)),
        }
    }

    fn take_idle(&self) -> Option<Channel> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// The shared connection. While one caller makes it, the others wait for that attempt.
    async fn connection(&self) -> Result<Arc<Connection>, ConnectionFault> {
        let mut link = self.link.lock().await;
        if let Some(live) = link.live.as_ref().filter(|live| live.status().connected()) {
            return Ok(Arc::clone(live));
        }
        link.live = None;
        if let Some(failed) = link.failed.as_ref().filter(|failed| Instant::now() < failed.until) {
            return Err(failed.fault.clone());
        }
        // If this caller gives up meanwhile, the next one makes its own attempt.
        match connect(&self.settings, &client(), drop).await {
            Ok(connection) => {
                tracing::info!(connection = self.name, "connected to RabbitMQ, to publish");
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                link.failed = None;
                Ok(Arc::clone(link.live.insert(Arc::new(connection))))
            }
            Err(fault) => {
                // Each caller reports it.
                let before = link.failed.take();
                let pause = before.map_or(FIRST_PAUSE, |known| (known.pause * 2).min(LONGEST_PAUSE));
                link.failed = Some(FailedAttempt {
                    fault: fault.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
                Err(fault)
            }
        }
    }
}

async fn send(channel: &Channel, message: AmqpMessage<'_>) -> Result<(), ConnectionFault> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..BasicPublishOptions::default()
    };
    let (exchange, key) = (message.exchange.clone(), message.routing_key);
    let sent = channel.basic_publish(exchange, key, options, message.body, message.properties);
    let confirm = sent.await.map_err(|error| fault::of_publishing(&error))?;
    match confirm.await.map_err(|error| fault::of_publishing(&error))? {
        Confirmation::Ack(None) => Ok(()),
        // The returned message itself is not shown: it has the payload.
        Confirmation::Ack(Some(returned)) => Err(fault::unroutable(returned.reply_text.as_str())),
        Confirmation::Nack(_) => Err(fault::nacked()),
        Confirmation::NotRequested => Err(fault::not_asked()),
    }
}

/// How the server shows the connection.
fn client() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    let host = host.unwrap_or_else(|| "?".to_owned());
    format!("runner {host}:{} publisher", std::process::id())
}
