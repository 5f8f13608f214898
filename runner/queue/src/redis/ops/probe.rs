//! Checks whether the server accepts writes: one that is full, a replica or unable to save refuses them and answers
//! all other commands.

use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::keys;
use crate::{BrokerError, BrokerResult};

impl RedisBroker {
    /// Renames a key that does not exist: a server that refuses writes refuses it, any other one changes
    /// nothing and tells no replica.
    pub(in crate::redis) async fn look_whether_it_takes_writes(&self, queues: &[QueueName]) -> BrokerResult<()> {
        let is_cluster = self.conn.is_cluster();
        let mut trip = self.conn.trip("check whether it accepts writes").await?;
        // On the node of the cursors; in a cluster each queue may be on another one.
        trip.command("SETRANGE").arg(keys::probe(is_cluster)).arg(0).arg("");
        let apart = if is_cluster { queues } else { &[] };
        for queue in apart {
            let key = format!("{}probe", keys::own(queue.as_str()));
            trip.command("SETRANGE").arg(key).arg(0).arg("");
        }
        for answer in trip.each().await? {
            match answer {
                // A key of another type exists: the server got as far as checking it, so it accepts writes.
                Ok(_) | Err(BrokerError::Corrupt { .. }) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
