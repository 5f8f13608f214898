//! The connections of the settings as what functions publish with.

use std::collections::BTreeMap;
use std::sync::OnceLock;

#[cfg(feature = "amqp")]
use lapin::types::{AMQPValue, FieldTable, ShortString};
use runner_handlers::{
    Addressed, MessagePublisher, OutgoingMessage, PublishConnections, PublishFailure, Published, Publisher,
};
use runner_queue::redis::{RedisClient, RedisClientError, RedisSettings};
use runner_sdk::BoxFuture;

use super::RabbitMqSettings;
#[cfg(feature = "amqp")]
use super::amqp::{AmqpMessage, AmqpPublisher, fault::TOO_LARGE};

/// All of them; each connects at its first message.
#[must_use]
pub fn publishers(
    rabbitmq: &BTreeMap<String, RabbitMqSettings>,
    redis: &BTreeMap<String, RedisSettings>,
) -> PublishConnections {
    let redis = redis.iter().map(|(name, settings)| {
        let publisher = RedisPublisher::new(settings.clone());
        (name.clone(), Publisher::new(publisher))
    });
    PublishConnections {
        rabbitmq: to_rabbitmq(rabbitmq),
        redis: redis.collect(),
    }
}

#[cfg(feature = "amqp")]
fn to_rabbitmq(all: &BTreeMap<String, RabbitMqSettings>) -> BTreeMap<String, Publisher> {
    let publisher = |(name, settings): (&String, &RabbitMqSettings)| {
        let publisher = AmqpPublisher::new(name, settings.clone());
        (name.clone(), Publisher::new(publisher))
    };
    all.iter().map(publisher).collect()
}

#[cfg(not(feature = "amqp"))]
fn to_rabbitmq(_all: &BTreeMap<String, RabbitMqSettings>) -> BTreeMap<String, Publisher> {
    BTreeMap::new()
}

#[cfg(feature = "amqp")]
impl MessagePublisher for AmqpPublisher {
    fn publish(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<Published, PublishFailure>> {
        Box::pin(async move {
            let OutgoingMessage { id, to, headers, body } = message;
            let Addressed::Exchange {
                exchange,
                routing_key,
                content_type,
                persistent,
                mandatory,
            } = to
            else {
                return Err(wrong_kind());
            };
            let mut properties = lapin::BasicProperties::default()
                .with_message_id(short(id)?)
                .with_content_type(short(content_type)?)
                .with_delivery_mode(if persistent { 2 } else { 1 });
            if !headers.is_empty() {
                let mut table = FieldTable::default();
                for (name, value) in headers {
                    table.insert(short(name)?, AMQPValue::LongString(value.into()));
                }
                properties = properties.with_headers(table);
            }
            let message = AmqpMessage {
                exchange: &short(exchange)?,
                routing_key: short(routing_key)?,
                mandatory,
                properties,
                body: &body,
            };
            match self.publish(message).await {
                Ok(()) => Ok(Published {
                    said: "confirmed".to_owned(),
                }),
                Err(fault) => Err(PublishFailure {
                    why: format!("{} ({}; {})", fault.why, fault.code, fault.hint),
                    lasting: fault.code == TOO_LARGE,
                }),
            }
        })
    }
}

/// AMQP's texts of at most 255 bytes. They were looked at when they were filled; for longer ones the library would panic.
#[cfg(feature = "amqp")]
fn short(text: String) -> Result<ShortString, PublishFailure> {
    ShortString::try_new(text).map_err(|error| lasting(error.to_string()))
}

fn wrong_kind() -> PublishFailure {
    lasting("the connection is of another kind of server".to_owned())
}

fn lasting(why: String) -> PublishFailure {
    PublishFailure { why, lasting: true }
}

/// A Redis. Its client is made at the first message for which its files can be read: one that is missing now may be there at the
/// next message.
struct RedisPublisher {
    settings: RedisSettings,
    client: OnceLock<RedisClient>,
}

impl RedisPublisher {
    fn new(settings: RedisSettings) -> Self {
        Self {
            settings,
            client: OnceLock::new(),
        }
    }

    fn client(&self) -> Result<&RedisClient, RedisClientError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = RedisClient::lazy(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl MessagePublisher for RedisPublisher {
    fn publish(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<Published, PublishFailure>> {
        Box::pin(async move {
            let failed = |error: &RedisClientError| PublishFailure {
                why: error.to_string(),
                lasting: false,
            };
            let redis = self.client().map_err(|error| failed(&error))?;
            let said = match &message.to {
                Addressed::Channel(channel) => {
                    let listeners = redis.publish(channel, &message.body).await;
                    format!("{} listeners", listeners.map_err(|error| failed(&error))?)
                }
                Addressed::Stream { stream, max_len } => {
                    let mut fields = vec![("id", message.id.as_bytes()), ("body", &*message.body)];
                    let further = message.headers.iter();
                    fields.extend(further.map(|(name, value)| (name.as_str(), value.as_bytes())));
                    let entry = redis.append(stream, max_len.map(u64::from), &fields).await;
                    format!("entry {}", entry.map_err(|error| failed(&error))?)
                }
                Addressed::Exchange { .. } => return Err(wrong_kind()),
            };
            Ok(Published { said })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_queue::tls::TlsFiles;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_missing_for_a_moment_stops_no_connection() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let mut settings = RedisSettings::at("127.0.0.1:1");
        settings.tls = Some(TlsFiles {
            ca_file: Some(ca.clone()),
            ..TlsFiles::default()
        });
        let publisher = RedisPublisher::new(settings);
        let error = publisher.client().unwrap_err();
        assert!(error.why.contains("cannot read"), "{error}");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&ca, made.cert.pem()).unwrap();
        publisher.client().unwrap();
    }
}
