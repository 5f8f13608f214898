//! Archives active tasks that cannot be read, with the reason, so that they block nothing.

use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::keys;
use crate::redis::format::scripts::Script;
use crate::redis::ops::repair;
use crate::{BrokerResult, Repaired};

/// An active task that cannot be read.
pub(in crate::redis) struct Unreadable {
    pub id: Vec<u8>,
    pub run: Vec<u8>,
    pub why: String,
}

impl RedisBroker {
    /// Archives active tasks that cannot be read.
    pub(in crate::redis) async fn quarantine(&self, queue: &QueueName, bad: &[Unreadable]) -> BrokerResult<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let mut trip = self.conn.trip("archive tasks that cannot be read").await?;
        trip.script(Script::Quarantine, &[keys::part(queue.as_str(), "active")])
            .arg(keys::queue(queue.as_str()))
            .arg(keys::own(queue.as_str()));
        for task in bad {
            let reason = repair::archival_note(&format!("unreadable: {}", task.why), self.present());
            trip.arg(&task.id[..]).arg(&task.run[..]).arg(reason);
        }
        trip.one().await?;
        // Only now: if the call failed, the tasks are still active and come here again.
        for task in bad {
            let id = String::from_utf8_lossy(&task.id);
            tracing::warn!(queue = %queue, task = %id, why = task.why, "a task cannot be read; archived");
            self.repairs.add(&Repaired {
                quarantined: 1,
                ..Repaired::default()
            });
        }
        Ok(())
    }
}
