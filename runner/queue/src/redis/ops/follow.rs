//! Tasks that follow others. On one server the script that ends a task enqueues them; in a cluster it does so for those of its
//! own queue, and writes the others down in its slot, from where they are moved on.
//!
//! What is written down stays until its queue has accepted it. A receipt there refuses what is moved twice.

use std::fmt::Write as _;

use prost::Message as _;
use redis::Value;
use runner_core::task::QueueName;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::partial::PartialFailure;
use crate::{BrokerResult, Delivery};

/// Tasks of one queue that are moved in one call.
const BATCH: usize = 100;

/// Appends what follows the claim of this number in a queue: see `settle.lua`. `apart`: scripts reach no other queue.
pub(in crate::redis) fn follow_args(
    trip: &mut RoundTrip<'_>,
    (number, queue): (usize, &QueueName),
    next: &[Delivery],
    apart: bool,
) {
    for delivery in next {
        let Some(row) = FollowRow::of(delivery) else { continue };
        let letter = if apart && delivery.task.queue != *queue {
            'w'
        } else {
            'p'
        };
        trip.arg(format!("{letter}{number}")).arg(row.encode());
    }
}

/// A task as the script takes it and as it is written down: lengths of queue and id, how long the id is refused in ms; in the
/// next line queue, id and message, without anything between them.
#[derive(Debug, PartialEq, Eq)]
struct FollowRow {
    queue: String,
    id: String,
    remember: u64,
    message: Vec<u8>,
}

impl FollowRow {
    fn of(delivery: &Delivery) -> Option<Self> {
        let id = delivery.task.id.as_ref()?;
        Some(Self {
            queue: delivery.task.queue.to_string(),
            id: id.to_string(),
            remember: convert::millis(delivery.remember),
            message: convert::message_of(&delivery.task, id).encode_to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut head = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(head, "{} {} {}", self.queue.len(), self.id.len(), self.remember);
        [
            head.as_bytes(),
            self.queue.as_bytes(),
            self.id.as_bytes(),
            &self.message,
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut numbers = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let (queue, id, remember) = (
            usize::try_from(number()?).ok()?,
            usize::try_from(number()?).ok()?,
            number()?,
        );
        let (queue, rest) = bytes[end + 1..].split_at_checked(queue)?;
        let (id, message) = rest.split_at_checked(id)?;
        Some(Self {
            queue: String::from_utf8(queue.to_vec()).ok()?,
            id: String::from_utf8(id.to_vec()).ok()?,
            remember,
            message: message.to_vec(),
        })
    }
}

/// A row that was written down, under its field.
type Written = (Vec<u8>, Vec<u8>);

impl RedisBroker {
    /// Moves what was written down in these queues. Returns how many were moved; an error only if no queue could be asked.
    pub(in crate::redis) async fn move_written(&self, queues: &[QueueName]) -> BrokerResult<usize> {
        if queues.is_empty() {
            return Ok(0);
        }
        let mut trip = self.conn.trip("look for tasks that follow others").await?;
        for queue in queues {
            trip.command("HSCAN")
                .arg(keys::followers(queue.as_str()))
                .arg(0)
                .arg("COUNT")
                .arg(BATCH);
        }
        let (mut moved, mut answered, mut failures) = (0, false, PartialFailure::default());
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            let Some(answer) = failures.part(queue, answer) else {
                continue;
            };
            answered = true;
            let written = written(answer);
            if written.is_empty() {
                continue;
            }
            // Each queue by itself: one whose target is away must not hold up the others.
            moved += failures.part(queue, self.move_of(queue, &written).await).unwrap_or(0);
        }
        failures.unless(answered)?;
        Ok(moved)
    }

    async fn move_of(&self, queue: &QueueName, written: &[Written]) -> BrokerResult<usize> {
        let mut trip = self.conn.trip("enqueue tasks that follow others").await?;
        let mut sent = Vec::with_capacity(written.len());
        for (field, bytes) in written {
            // What cannot be read was written by someone else; it is dropped.
            sent.push((field, FollowRow::decode(bytes)));
        }
        for row in sent.iter().filter_map(|(_, row)| row.as_ref()) {
            trip.script(Script::AddMembers, &[keys::QUEUES]).arg("").arg(&row.queue);
            trip.script(Script::EnqueueOnce, &[keys::part(&row.queue, "pending")])
                .arg(keys::queue(&row.queue))
                .arg(&row.queue)
                .arg(keys::own(&row.queue))
                .arg(row.remember)
                .arg(&row.id)
                .arg(&row.message)
                .arg("")
                .arg(0)
                .arg("")
                .arg("");
        }
        let mut answers = trip.each().await?.into_iter();
        let mut done = Vec::with_capacity(sent.len());
        let mut failed = None;
        for (field, row) in sent {
            if row.is_none() {
                done.push(field);
                continue;
            }
            // The list of queues may be away while the queue is not.
            drop(answers.next());
            match answers.next() {
                // A refusal too: it was enqueued before.
                Some(Ok(_)) => done.push(field),
                Some(Err(error)) => failed = Some(error),
                None => {}
            }
        }
        let moved = done.len();
        if !done.is_empty() {
            let mut trip = self.conn.trip("forget tasks that were moved").await?;
            trip.command("HDEL").arg(keys::followers(queue.as_str()));
            for field in done {
                trip.arg(field.as_slice());
            }
            trip.one().await?;
        }
        failed.map_or(Ok(moved), Err)
    }
}

/// Fields and values of an answer of `HSCAN`.
fn written(answer: Value) -> Vec<Written> {
    let pairs = reply::list(answer).into_iter().nth(1).map(reply::list);
    let mut pairs = pairs.unwrap_or_default().into_iter();
    let mut all = Vec::new();
    while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
        all.extend(reply::bytes(field).zip(reply::bytes(value)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let row = FollowRow {
            queue: "a\nb 1".to_owned(),
            id: "x:y@after-\n".to_owned(),
            remember: 5,
            message: vec![0, b'\n', 255],
        };
        assert_eq!(FollowRow::decode(&row.encode()).as_ref(), Some(&row));
        for bytes in [&b""[..], b"1 2\n", b"9 9 9\nab", b"1 1 x\nab", b"\xff\n"] {
            assert_eq!(FollowRow::decode(bytes), None, "{bytes:?}");
        }
    }
}
