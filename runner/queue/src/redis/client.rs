//! Channels and streams of any Redis, for messages. It need not be the broker's, and gets plain commands only.

use redis::Value;
use runner_core::chain::chain;

use crate::redis::format::reply;
use crate::redis::net::conn::{Conn, RoundTrip};
use crate::redis::net::settings::RedisSettings;
use crate::{BrokerError, BrokerResult};

/// Why a Redis did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} ({code})")]
pub struct RedisClientError {
    /// A stable code.
    pub code: &'static str,
    /// What happened, in the words of the server where it said any; never a password.
    pub why: String,
}

impl From<BrokerError> for RedisClientError {
    fn from(error: BrokerError) -> Self {
        let code = match &error {
            BrokerError::Unreachable { .. } => "redis_unreachable",
            BrokerError::Denied { .. } => "redis_denied",
            BrokerError::Full { .. } => "redis_full",
            BrokerError::Corrupt { .. } => "redis_wrong_type",
            _ => "redis_refused",
        };
        // The error itself speaks of the broker.
        let why = match std::error::Error::source(&error) {
            Some(source) => chain(source),
            None => error.to_string(),
        };
        Self { code, why }
    }
}

/// Channels and streams of one Redis, or of a cluster. Connects at the first call; calls share a connection.
pub struct RedisClient {
    pub(super) conn: Conn,
    place: String,
}

impl RedisClient {
    /// Checks the settings; touches no network.
    ///
    /// # Errors
    ///
    /// If the settings name no server, or files of TLS that cannot be read.
    pub fn lazy(settings: &RedisSettings) -> Result<Self, RedisClientError> {
        Ok(Self {
            conn: Conn::without_scripts(settings)?,
            place: settings.place(),
        })
    }

    /// The server, without a password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Sends a message to those who listen to a channel at the moment; how many there are, in a cluster at one of its nodes.
    ///
    /// # Errors
    ///
    /// If the server did not take it.
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, RedisClientError> {
        let mut trip = self.trip().await?;
        trip.command("PUBLISH").arg(channel).arg(message);
        Ok(reply::count(trip.one().await?))
    }

    /// Adds an entry to a stream; its id. Of more than `max_len` entries the oldest go, in whole blocks.
    ///
    /// # Errors
    ///
    /// If the server did not take it, or did not say so: then the entry may be there.
    pub async fn append(
        &self,
        stream: &str,
        max_len: Option<u64>,
        fields: &[(&str, &[u8])],
    ) -> Result<String, RedisClientError> {
        let mut trip = self.trip().await?;
        trip.command("XADD").arg(stream);
        if let Some(most) = max_len {
            trip.arg("MAXLEN").arg("~").arg(most);
        }
        trip.arg("*");
        for (name, value) in fields {
            trip.arg(*name).arg(*value);
        }
        let id: Value = trip.one().await?;
        Ok(reply::text(id).unwrap_or_default())
    }

    async fn trip(&self) -> BrokerResult<RoundTrip<'_>> {
        self.conn.trip("carry a message").await
    }
}

impl std::fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisClient")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
