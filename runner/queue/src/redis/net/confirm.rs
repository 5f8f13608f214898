//! Waits until replicas have acknowledged an enqueue, if the settings require it.
//!
//! Uses a connection of its own: a server answers nothing else on a connection that waits for replicas.

use std::sync::Arc;

use redis::Value;
use runner_core::clock::Clock;

use crate::redis::format::reply;
use crate::redis::net::conn::{Conn, RoundTrip};
use crate::redis::net::fault;
use crate::redis::net::settings::{RedisSettings, RedisTarget};
use crate::{BrokerError, BrokerResult};

/// How long replicas may take, in milliseconds; one that keeps up needs less than one.
const PATIENCE_MS: u32 = 200;

/// Confirms enqueues.
pub(in crate::redis) struct Confirm {
    conn: Conn,
    replicas: u32,
}

impl Confirm {
    /// `None` if the settings require no confirmation.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Refused`] for a cluster, where it is unknown which replicas count.
    pub(in crate::redis) fn of(settings: &RedisSettings) -> BrokerResult<Option<Self>> {
        if settings.replicas == 0 {
            return Ok(None);
        }
        if matches!(settings.target, RedisTarget::Cluster(_)) {
            return Err(BrokerError::Refused {
                doing: "have replicas confirm what is enqueued",
                source: "a cluster confirms nothing".into(),
            });
        }
        Ok(Some(Self {
            conn: Conn::new(settings)?,
            replicas: settings.replicas,
        }))
    }

    pub(in crate::redis) fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.conn.set_clock(clock);
    }

    /// The connection to enqueue on.
    pub(in crate::redis) fn conn(&self) -> &Conn {
        &self.conn
    }

    /// Adds the request for confirmation, which must be the last command of the trip: it covers all before it.
    pub(in crate::redis) fn ask(&self, trip: &mut RoundTrip<'_>) {
        trip.command("WAIT").arg(self.replicas).arg(PATIENCE_MS);
    }

    /// Reads the answer to [`Confirm::ask`].
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unconfirmed`] if too few replicas acknowledged.
    pub(in crate::redis) fn check(&self, answer: Option<BrokerResult<Value>>, doing: &'static str) -> BrokerResult<()> {
        let confirmed = answer
            .transpose()?
            .and_then(reply::number)
            .and_then(|count| u32::try_from(count).ok())
            .ok_or_else(|| fault::odd_answer(doing))?;
        if confirmed >= self.replicas {
            return Ok(());
        }
        Err(BrokerError::Unconfirmed {
            doing,
            confirmed,
            wanted: self.replicas,
        })
    }
}
