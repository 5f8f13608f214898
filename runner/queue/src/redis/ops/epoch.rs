//! Detects whether the server has lost its data, by a key with a random value that is written once.
//!
//! After a flush, a failover to an empty replica or a restart without persistence everything is gone; the program
//! continues with what producers and schedules add from then on, but operators must be informed. In a cluster the key
//! is beside the cursors and covers that node only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::redis::RedisBroker;
use crate::redis::format::{keys, reply};
use crate::{BrokerResult, Caveat};

/// How long the loss is shown: long enough for people who check occasionally.
const SHOWN: Duration = Duration::from_secs(3600);

/// What this process knows of the mark.
#[derive(Debug, Default)]
pub(in crate::redis) struct Epoch(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    mark: Option<String>,
    /// When it was last found to be gone, by both clocks.
    lost: Option<(Instant, Timestamp)>,
}

impl Epoch {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the present mark with the known one.
    fn found(&self, mark: String, now: Timestamp) {
        let mut known = self.lock();
        // The first mark after a start is not a loss: this process cannot know what was there before.
        if known.mark.as_ref().is_some_and(|before| *before != mark) {
            known.lost = Some((Instant::now(), now));
        }
        known.mark = Some(mark);
    }

    fn caveat(&self) -> Option<Caveat> {
        let (_, at) = self.lock().lost.filter(|(since, _)| since.elapsed() < SHOWN)?;
        Some(Caveat {
            code: "broker_state_lost",
            message: format!(
                "the broker's state vanished (noticed {}): tasks, cursors and history are gone; work continues with what \
                 has come since",
                at.round(jiff::Unit::Second).unwrap_or(at)
            ),
            hint: "look for FLUSHALL or FLUSHDB, a restart without persistence, or a failover to an empty replica",
            grave: true,
        })
    }
}

impl RedisBroker {
    /// Whether the state vanished, now or recently. With a read-only server this is unknown.
    pub(in crate::redis) async fn look_for_loss(&self) -> BrokerResult<Option<Caveat>> {
        const DOING: &str = "check whether its state still exists";
        let key = keys::epoch(self.conn.is_cluster());
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("GET").arg(&key);
        let mut mark = reply::text(trip.one().await?).filter(|mark| !mark.is_empty());
        if mark.is_none() {
            let mut trip = self.conn.trip(DOING).await?;
            // `NX` and then `GET`: of several instances that find no mark, all must remember the one that was written.
            trip.command("SET")
                .arg(&key)
                .arg(uuid::Uuid::new_v4().to_string())
                .arg("NX");
            trip.command("GET").arg(&key);
            let answer = trip.each().await?.into_iter().nth(1);
            mark = answer
                .and_then(Result::ok)
                .and_then(reply::text)
                .filter(|mark| !mark.is_empty());
        }
        if let Some(mark) = mark {
            self.epoch.found(mark, self.present());
        }
        Ok(self.epoch.caveat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_mark_than_before_is_a_loss_and_shown_for_an_hour() {
        let (epoch, now) = (Epoch::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..2 {
            epoch.found("a".to_owned(), now);
            assert_eq!(epoch.caveat(), None);
        }
        epoch.found("b".to_owned(), now);
        epoch.found("b".to_owned(), now);
        assert_eq!(
            epoch.caveat().map(|c| (c.code, c.grave)),
            Some(("broker_state_lost", true))
        );
        tokio::time::advance(SHOWN).await;
        assert_eq!(epoch.caveat(), None);
    }
}
