//! Tasks that follow others. On one server the script that ends a task enqueues them; in a cluster it does so for those of its
//! own queue, and writes the others down in its slot, from where they are moved on.
//!
//! What is written down stays until its queue has accepted it. A receipt there refuses what is moved twice.

use std::fmt::Write as _;
use std::time::Duration;

use prost::Message as _;
use redis::Value;
use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::ops::partial::PartialFailure;
use crate::{BrokerResult, Delivery};

/// Tasks of one queue that are moved in one call.
const BATCH: usize = 100;

/// How long one turn may go on moving; the next one follows at once.
const LONGEST: Duration = Duration::from_secs(5);

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

/// A task as the script takes it and as it is written down: lengths of queue and id, how long the id is refused in ms, length of
/// the group, which older versions left out; in the next line queue, id, group and message, without anything between them.
#[derive(Debug, PartialEq, Eq)]
struct FollowRow {
    queue: String,
    id: String,
    remember: u64,
    /// Empty: it waits in none.
    group: String,
    message: Vec<u8>,
}

impl FollowRow {
    fn of(delivery: &Delivery) -> Option<Self> {
        let id = delivery.task.id.as_ref()?;
        Some(Self {
            queue: delivery.task.queue.to_string(),
            id: id.to_string(),
            remember: convert::millis(delivery.remember),
            group: delivery.task.group.clone().unwrap_or_default(),
            message: convert::message_of(&delivery.task, id).encode_to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut head = String::new();
        // Writing to a text cannot fail.
        let (queue, id, group) = (self.queue.len(), self.id.len(), self.group.len());
        let _ = writeln!(head, "{queue} {id} {} {group}", self.remember);
        [
            head.as_bytes(),
            self.queue.as_bytes(),
            self.id.as_bytes(),
            self.group.as_bytes(),
            &self.message,
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut numbers = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
        let mut length = || numbers.next()?.parse::<usize>().ok();
        let (queue, id) = (length()?, length()?);
        let remember = numbers.next()?.parse().ok()?;
        let group = numbers.next().map_or(Some(0), |group| group.parse::<usize>().ok())?;
        let (queue, rest) = bytes[end + 1..].split_at_checked(queue)?;
        let (id, rest) = rest.split_at_checked(id)?;
        let (group, message) = rest.split_at_checked(group)?;
        Some(Self {
            queue: String::from_utf8(queue.to_vec()).ok()?,
            id: String::from_utf8(id.to_vec()).ok()?,
            group: String::from_utf8(group.to_vec()).ok()?,
            remember,
            message: message.to_vec(),
        })
    }
}

/// A row that was written down, under its field.
type WrittenRow = (Vec<u8>, Vec<u8>);

/// What a look at a hash has found.
struct Written {
    rows: Vec<WrittenRow>,
    /// Where the next look begins.
    next: String,
}

impl Written {
    fn is_last(&self) -> bool {
        self.next == "0" || self.next.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.is_last()
    }
}

fn scan(trip: &mut RoundTrip<'_>, queue: &QueueName, from: &str) {
    trip.command("HSCAN")
        .arg(keys::followers(queue.as_str()))
        .arg(from)
        .arg("COUNT")
        .arg(BATCH);
}

impl RedisBroker {
    /// Moves what was written down in these queues. Returns how many were moved; an error only if no queue could be asked.
    ///
    /// Each queue by itself, and each hash to its end: what cannot be moved now must not hold up what is behind it.
    pub(in crate::redis) async fn move_written(&self, queues: &[QueueName]) -> BrokerResult<usize> {
        if queues.is_empty() {
            return Ok(0);
        }
        let mut trip = self.conn.trip("look for tasks that follow others").await?;
        for queue in queues {
            scan(&mut trip, queue, "0");
        }
        let (mut moved, mut answered, mut failures) = (0, false, PartialFailure::default());
        let until = Instant::now() + LONGEST;
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            let Some(answer) = failures.part(queue, answer) else {
                continue;
            };
            answered = true;
            let found = written(answer);
            if !found.is_empty() {
                moved += self.move_all_of(queue, found, until, &mut failures).await;
            }
        }
        failures.unless(answered)?;
        Ok(moved)
    }

    /// Moves what this look has found, and what further looks find.
    async fn move_all_of(
        &self,
        queue: &QueueName,
        mut found: Written,
        until: Instant,
        failures: &mut PartialFailure,
    ) -> usize {
        let mut moved = 0;
        loop {
            if !found.rows.is_empty() {
                let part = self.move_of(queue, &found.rows).await;
                moved += failures.part(queue, part).unwrap_or(0);
            }
            if found.is_last() || Instant::now() > until {
                return moved;
            }
            let more = async {
                let mut trip = self.conn.trip("look for tasks that follow others").await?;
                scan(&mut trip, queue, &found.next);
                trip.one().await
            };
            match failures.part(queue, more.await) {
                Some(answer) => found = written(answer),
                None => return moved,
            }
        }
    }

    async fn move_of(&self, queue: &QueueName, written: &[WrittenRow]) -> BrokerResult<usize> {
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
                .arg(&row.group);
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

/// The cursor, and the fields and values, of an answer of `HSCAN`.
fn written(answer: Value) -> Written {
    let mut parts = reply::list(answer).into_iter();
    let next = parts.next().and_then(reply::bytes).unwrap_or_default();
    let mut pairs = parts.next().map(reply::list).unwrap_or_default().into_iter();
    let mut rows = Vec::new();
    while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
        rows.extend(reply::bytes(field).zip(reply::bytes(value)));
    }
    Written {
        rows,
        next: String::from_utf8_lossy(&next).into_owned(),
    }
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
            group: "g:1".to_owned(),
            message: vec![0, b'\n', 255],
        };
        assert_eq!(FollowRow::decode(&row.encode()).as_ref(), Some(&row));
        let older = FollowRow::decode(b"1 1 7\nabc");
        assert_eq!(
            older.map(|row| (row.group, row.message)),
            Some((String::new(), b"c".to_vec()))
        );
        for bytes in [
            &b""[..],
            b"1 2\n",
            b"9 9 9\nab",
            b"1 1 x\nab",
            b"1 1 1 9\nab",
            b"\xff\n",
        ] {
            assert_eq!(FollowRow::decode(bytes), None, "{bytes:?}");
        }
    }
}
