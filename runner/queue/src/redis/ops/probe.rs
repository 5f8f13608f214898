//! Looks whether the server takes writes: one that is full, a replica or unable to save refuses them and answers
//! everything else.

use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::keys;
use crate::{BrokerError, BrokerResult};

impl RedisBroker {
    /// A write of nothing into keys that do not exist: a server that refuses writes refuses it, any other one changes
    /// nothing and tells no replica.
    pub(in crate::redis) async fn look_whether_it_takes_writes(&self, queues: &[QueueName]) -> BrokerResult<()> {
        let is_cluster = self.conn.is_cluster();
        let mut trip = self.conn.trip("see whether it takes writes").await?;
        // Where the cursors lie; in a cluster each queue may lie on another server.
        trip.command("SETRANGE").arg(keys::probe(is_cluster)).arg(0).arg("");
        let apart = if is_cluster { queues } else { &[] };
        for queue in apart {
            let key = format!("{}probe", keys::own(queue.as_str()));
            trip.command("SETRANGE").arg(key).arg(0).arg("");
        }
        for answer in trip.each().await? {
            match answer {
                // Something of another type lies there: it was looked at, so writes are taken.
                Ok(_) | Err(BrokerError::Corrupt { .. }) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
