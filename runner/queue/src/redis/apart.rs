//! Claims and their ends in a cluster: queues lie on different servers, and one that is away must not stop the others.
//!
//! Each queue has a script call of its own, in the order given. With one server a single call takes from all queues:
//! see `claim`.

use std::time::Duration;

use futures_util::future::join;
use redis::Value;
use runner_core::task::QueueName;

use super::{RedisBroker, keys, reply, settle};
use crate::{BrokerResult, Claim, Exchanged, Settled, Settlement};

impl RedisBroker {
    /// Settles and claims at once, each on its own.
    pub(super) async fn exchange_apart(
        &self,
        settlements: &[Settlement],
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> Exchanged {
        let settled = self.settle_apart(settlements);
        let (settled, claims) = join(settled, self.claim_by_queue(queues, max, lease)).await;
        Exchanged { settled, claims }
    }

    /// What lies on a server that is away stays unknown; an error only if no server answered.
    pub(super) async fn settle_apart(&self, settlements: &[Settlement]) -> BrokerResult<Vec<Settled>> {
        let batches = settle::by_queue(settlements.iter().map(|s| &s.claim.task().queue), settle::BATCH);
        let mut trip = self.conn.trip("settle tasks").await?;
        settle::add_settles(&mut trip, settlements, &batches, None);
        let (mut known, mut away, mut trouble) = (Vec::new(), Vec::new(), None);
        for ((_, places), answer) in batches.iter().zip(trip.each().await?) {
            known.push(answer.unwrap_or_else(|error| {
                away.push(places);
                trouble = Some(error);
                Value::Nil
            }));
        }
        match trouble {
            Some(error) if away.len() == batches.len() => Err(error),
            _ => {
                let mut settled = settle::settled(settlements.len(), &batches, known);
                for place in away.into_iter().flatten() {
                    settled[*place] = Settled::Unknown;
                }
                Ok(settled)
            }
        }
    }

    /// A queue whose server is away yields nothing; an error only if no queue could be asked.
    ///
    /// The first queue is tried at once. Of the others those that are empty are left out, all asked together, so
    /// that an idle worker with many queues makes two round trips and not one for each.
    pub(super) async fn claim_by_queue(
        &self,
        queues: &[QueueName],
        max: usize,
        lease: Duration,
    ) -> BrokerResult<Vec<Claim>> {
        let (mut claims, mut answered, mut trouble) = (Vec::new(), queues.is_empty(), None);
        let mut empty = Vec::new();
        for (nth, queue) in queues.iter().enumerate() {
            if claims.len() >= max {
                break;
            }
            if nth == 1 {
                match self.empty(&queues[1..]).await {
                    Ok(found) => empty = found,
                    Err(error) => trouble = Some(error),
                }
                answered |= empty.contains(&true);
            }
            if nth > 0 && empty.get(nth - 1) == Some(&true) {
                continue;
            }
            let one = std::slice::from_ref(queue);
            match self.claim_tasks(one, max - claims.len(), lease).await {
                Ok(mut some) => {
                    answered = true;
                    claims.append(&mut some);
                }
                // What was claimed must reach the caller, whatever the other servers do.
                Err(error) => trouble = Some(error),
            }
        }
        match trouble {
            Some(error) if !answered => Err(error),
            Some(error) => {
                tracing::debug!(%error, "some queues cannot be reached; the others go on");
                Ok(claims)
            }
            None => Ok(claims),
        }
    }

    /// Whether each queue surely has nothing to claim; one that does not answer may have.
    async fn empty(&self, queues: &[QueueName]) -> BrokerResult<Vec<bool>> {
        let mut trip = self.conn.trip("look for work").await?;
        for queue in queues {
            trip.command("LLEN").arg(keys::part(queue.as_str(), "pending"));
        }
        let lengths = trip.each().await?.into_iter();
        Ok(lengths
            .map(|length| length.is_ok_and(|length| reply::count(length) == 0))
            .collect())
    }
}
