//! One consumer of a consumer group of a stream: a connection of its own, because it waits for entries there.

use std::time::Duration;

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Value};
use tokio::time::timeout;

use crate::redis::client::{RedisClient, RedisClientError};
use crate::redis::format::reply;
use crate::redis::net::dial::{Connection, RESPONSE_TIMEOUT};
use crate::redis::net::fault;
use crate::{BrokerError, BrokerResult};

const DOING: &str = "read a stream";

/// How the error of an answer begins that did not arrive in time.
const NO_ANSWER: &str = "no answer within";

/// Takes consumers off a group that begin with a name, hold nothing and have been silent: in one step, because what a consumer is
/// given in between would be lost with it.
///
/// KEYS: the stream. ARGV: the group, the beginning of the names, the silence in milliseconds. Returns how many.
const FORGET: &str = "local gone = 0 \
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
        local of = {} \
        for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end \
        if of.pending == 0 and of.idle > tonumber(ARGV[3]) and string.sub(of.name, 1, #ARGV[2]) == ARGV[2] then \
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of.name) \
            gone = gone + 1 \
        end \
    end \
    return gone";

/// An entry of a stream.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id: `milliseconds-number`.
    pub id: String,
    /// Names and values, in order; `None`: it was deleted, or trimmed, before it was acknowledged.
    pub fields: Option<Vec<(String, Vec<u8>)>>,
}

/// What is taken over from other consumers.
pub struct TakenOver {
    /// Entries that are ours now.
    pub entries: Vec<StreamEntry>,
    /// Where the next call begins; `0-0`: all have been looked at.
    pub next: String,
    /// Whether there are deleted ones among them that the server did not name. They are pending with this consumer now.
    pub unnamed: bool,
}

/// Where a group begins that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStart {
    /// At the first entry; else after the last one of now.
    pub first: bool,
    /// Whether the stream is made as well.
    pub make_stream: bool,
}

/// A consumer. Dropping it closes its connection; its pending entries stay with its name.
pub struct StreamReader {
    link: Connection,
    stream: String,
    group: String,
    consumer: String,
}

impl RedisClient {
    /// Connects a consumer; the group need not be there yet.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn reader(&self, stream: &str, group: &str, consumer: &str) -> Result<StreamReader, RedisClientError> {
        let dialed = self.conn.dialer().dedicated_to_owner(stream).await;
        Ok(StreamReader {
            link: dialed.map_err(|error| fault::of(error, DOING))?,
            stream: stream.to_owned(),
            group: group.to_owned(),
            consumer: consumer.to_owned(),
        })
    }
}

impl StreamReader {
    /// Whether the group is there.
    ///
    /// # Errors
    ///
    /// Also if the stream is not there.
    pub async fn has_group(&mut self) -> Result<bool, RedisClientError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(&self.stream);
        let groups = reply::list(self.ask(&command, RESPONSE_TIMEOUT).await?);
        let name = |group: Value| value_of(group, "name").and_then(reply::text);
        Ok(groups.into_iter().filter_map(name).any(|name| name == self.group))
    }

    /// Makes the group, if it is not there.
    ///
    /// # Errors
    ///
    /// Also if the stream is not there and is not made.
    pub async fn make_group(&mut self, start: GroupStart) -> Result<(), RedisClientError> {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(&self.stream).arg(&self.group);
        command.arg(if start.first { "0" } else { "$" });
        if start.make_stream {
            command.arg("MKSTREAM");
        }
        match self.ask(&command, RESPONSE_TIMEOUT).await {
            Err(error) if RedisClientError::from_words(&error, "BUSYGROUP") => Ok(()),
            made => Ok(made.map(drop)?),
        }
    }

    /// Entries that this consumer was given before and has not acknowledged, after the one with this id.
    ///
    /// # Errors
    ///
    /// If the server does not answer; `NOGROUP` if the group is gone.
    pub async fn pending(&mut self, after: &str, most: u32) -> Result<Vec<StreamEntry>, RedisClientError> {
        let command = self.read_command(most, None, after);
        Ok(entries(self.ask(&command, RESPONSE_TIMEOUT).await?))
    }

    /// New entries; waits for the first one for this long.
    ///
    /// # Errors
    ///
    /// As [`Self::pending`].
    pub async fn read(&mut self, most: u32, wait: Duration) -> Result<Vec<StreamEntry>, RedisClientError> {
        let command = self.read_command(most, Some(wait), ">");
        Ok(entries(self.ask(&command, wait + RESPONSE_TIMEOUT).await?))
    }

    fn read_command(&self, most: u32, wait: Option<Duration>, from: &str) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(&self.consumer);
        command.arg("COUNT").arg(most);
        if let Some(wait) = wait {
            // Zero would wait forever.
            command.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
        }
        command.arg("STREAMS").arg(&self.stream).arg(from);
        command
    }

    /// Takes over entries that any consumer has held for this long without acknowledging them.
    ///
    /// # Errors
    ///
    /// As [`Self::pending`].
    pub async fn take_over(&mut self, idle: Duration, from: &str, most: u32) -> Result<TakenOver, RedisClientError> {
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(&self.stream).arg(&self.group).arg(&self.consumer);
        command.arg(idle.as_millis() as u64).arg(from).arg("COUNT").arg(most);
        Ok(taken_over(self.ask(&command, RESPONSE_TIMEOUT).await?))
    }

    /// The id up to which every entry that the group gave out is acknowledged, by whichever consumer: a group that begins there
    /// misses none.
    ///
    /// # Errors
    ///
    /// As [`Self::pending`].
    pub async fn settled(&mut self) -> Result<Option<String>, RedisClientError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(&self.stream);
        let groups = reply::list(self.ask(&command, RESPONSE_TIMEOUT).await?).into_iter();
        let ours = |group: &Value| value_of(group.clone(), "name").and_then(reply::text).as_ref() == Some(&self.group);
        let given = groups
            .filter(ours)
            .find_map(|group| value_of(group, "last-delivered-id"));
        // Afterwards, so that what is given out in between counts as held.
        let mut command = redis::cmd("XPENDING");
        command.arg(&self.stream).arg(&self.group);
        let held = reply::list(self.ask(&command, RESPONSE_TIMEOUT).await?);
        let first_held = held.into_iter().nth(1).and_then(reply::text);
        let given = given.and_then(reply::text).and_then(|id| parts(&id));
        let before = first_held.map(|id| parts(&id).and_then(before));
        let until = match before {
            None => given,
            Some(before) => given.zip(before).map(|(given, before)| given.min(before)),
        };
        Ok(until.map(|(time, number)| format!("{time}-{number}")))
    }

    /// Acknowledges entries.
    ///
    /// # Errors
    ///
    /// If the server does not answer: they may be acknowledged.
    pub async fn acknowledge(&mut self, ids: &[String]) -> Result<(), RedisClientError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("XACK");
        command.arg(&self.stream).arg(&self.group).arg(ids);
        Ok(self.ask(&command, RESPONSE_TIMEOUT).await.map(drop)?)
    }

    /// Takes consumers off the group whose names begin like this, that hold nothing and have been silent for this long; how many.
    ///
    /// # Errors
    ///
    /// Also if the user may run no scripts.
    pub async fn forget(&mut self, names: &str, silent: Duration) -> Result<u64, RedisClientError> {
        let mut command = redis::cmd("EVAL");
        command.arg(FORGET).arg(1).arg(&self.stream);
        command.arg(&self.group).arg(names).arg(silent.as_millis() as u64);
        Ok(reply::count(self.ask(&command, RESPONSE_TIMEOUT).await?))
    }

    /// Takes this consumer off the group if it holds nothing. No other consumer may have its name: what that one is given in
    /// between would be lost.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub async fn leave(&mut self) -> Result<(), RedisClientError> {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(&self.stream).arg(&self.group);
        let all = reply::list(self.ask(&command, RESPONSE_TIMEOUT).await?);
        let ours = all.into_iter().find(|one| {
            let name = value_of(one.clone(), "name").and_then(reply::text);
            name.as_deref() == Some(self.consumer.as_str())
        });
        if ours.and_then(|one| value_of(one, "pending")).and_then(reply::number) != Some(0) {
            return Ok(());
        }
        let mut command = redis::cmd("XGROUP");
        command
            .arg("DELCONSUMER")
            .arg(&self.stream)
            .arg(&self.group)
            .arg(&self.consumer);
        Ok(self.ask(&command, RESPONSE_TIMEOUT).await.map(drop)?)
    }

    async fn ask(&mut self, command: &Cmd, within: Duration) -> BrokerResult<Value> {
        let answer = timeout(within, self.link.req_packed_command(command)).await;
        match answer {
            Ok(Ok(Value::ServerError(error))) => Err(fault::answered(&error, DOING)),
            Ok(answer) => answer.map_err(|error| fault::of(error, DOING)),
            Err(_) => Err(BrokerError::Unreachable {
                doing: DOING,
                source: format!("{NO_ANSWER} {} s", within.as_secs()).into(),
            }),
        }
    }
}

impl RedisClientError {
    /// Whether the server's words begin like this.
    fn from_words(error: &BrokerError, code: &str) -> bool {
        std::error::Error::source(error).is_some_and(|source| source.to_string().starts_with(code))
    }

    /// Whether the answer did not arrive in time; it may have been too large for that.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.why.starts_with(NO_ANSWER)
    }

    /// Whether the group, or its stream, is not there.
    #[must_use]
    pub fn is_without_group(&self) -> bool {
        self.why.starts_with("NOGROUP")
            || self.why.contains("requires the key to exist")
            || self.why.contains("no such key")
    }
}

/// The entries of the one stream that was read.
fn entries(answer: Value) -> Vec<StreamEntry> {
    let streams = reply::list(answer).into_iter();
    let of_stream = |stream: Value| reply::list(stream).into_iter().nth(1);
    let all = streams.filter_map(of_stream).flat_map(reply::list);
    all.filter_map(entry).collect()
}

/// What `XAUTOCLAIM` answers. Deleted entries are in a list of their own, which servers take off the group; those before
/// version 7 put a nil in the place of each one.
fn taken_over(answer: Value) -> TakenOver {
    let mut answer = reply::list(answer).into_iter();
    let next = answer.next().and_then(reply::text).unwrap_or_else(|| "0-0".to_owned());
    let found = answer.next().map(reply::list).unwrap_or_default();
    let unnamed = found.contains(&Value::Nil);
    let deleted = answer.next().map(reply::list).unwrap_or_default();
    let deleted = deleted.into_iter().filter_map(reply::text);
    let deleted = deleted.map(|id| StreamEntry { id, fields: None });
    TakenOver {
        entries: found.into_iter().filter_map(entry).chain(deleted).collect(),
        next,
        unnamed,
    }
}

/// An id as its two numbers.
fn parts(id: &str) -> Option<(u64, u64)> {
    let (time, number) = id.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

/// The id before this one.
fn before((time, number): (u64, u64)) -> Option<(u64, u64)> {
    match number.checked_sub(1) {
        Some(number) => Some((time, number)),
        None => Some((time.checked_sub(1)?, u64::MAX)),
    }
}

fn entry(value: Value) -> Option<StreamEntry> {
    let mut parts = reply::list(value).into_iter();
    let id = reply::text(parts.next()?)?;
    let fields = match parts.next() {
        None | Some(Value::Nil) => None,
        Some(fields) => {
            let mut words = reply::list(fields).into_iter();
            let mut all = Vec::new();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                all.push((
                    reply::shown(name).unwrap_or_default(),
                    reply::bytes(value).unwrap_or_default(),
                ));
            }
            Some(all)
        }
    };
    Some(StreamEntry { id, fields })
}

/// The value under a name in a list of names and values.
fn value_of(list: Value, name: &str) -> Option<Value> {
    let mut words = reply::list(list).into_iter();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if reply::text(key).as_deref() == Some(name) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> Value {
        Value::BulkString(word.as_bytes().to_vec())
    }

    #[test]
    fn entries_that_were_deleted_are_taken_over_as_such() {
        let entry = Value::Array(vec![text("1-0"), Value::Array(vec![text("n"), text("1")])]);
        let of_seven = Value::Array(vec![
            text("0-0"),
            Value::Array(vec![entry.clone()]),
            Value::Array(vec![text("2-0")]),
        ]);
        let taken = taken_over(of_seven);
        let ids: Vec<_> = taken
            .entries
            .iter()
            .map(|one| (one.id.as_str(), one.fields.is_some()))
            .collect();
        assert_eq!((ids, taken.unnamed), (vec![("1-0", true), ("2-0", false)], false));
        let of_six = Value::Array(vec![text("0-0"), Value::Array(vec![Value::Nil, entry])]);
        let taken = taken_over(of_six);
        assert_eq!((taken.entries.len(), taken.unnamed), (1, true));
    }

    #[test]
    fn the_id_before_another_is_less_by_one() {
        assert_eq!(parts("7-3").and_then(before), Some((7, 2)));
        assert_eq!(parts("7-0").and_then(before), Some((6, u64::MAX)));
        assert_eq!(parts("0-0").and_then(before), None);
    }
}
