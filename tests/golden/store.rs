//! The whole content of a Redis database, read from a server or from a vector, in one comparable form.

use std::collections::{BTreeMap, BTreeSet};

use redis::aio::MultiplexedConnection;
use serde_json::Value;

/// Bytes that print as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Text(Bytes),
    List(Vec<Bytes>),
    Set(BTreeSet<Bytes>),
    Sorted(Vec<(Bytes, String)>),
    Hash(BTreeMap<Bytes, Bytes>),
}

/// A key's value and its expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub content: Content,
    /// When it expires, in Unix milliseconds, if that was set as an instant.
    pub ends_at: Option<i64>,
    /// In how many seconds it expires, if that was set as a span.
    pub ends_in: Option<i64>,
}

/// The content of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store(pub BTreeMap<String, Entry>);

/// How much later than the vector's server ours may be asked for the rest of a span.
const SPAN_TOLERANCE: i64 = 3;

impl Store {
    /// The content in a vector.
    pub fn of_vector(entries: &Value) -> Self {
        let entries = entries.as_array().expect("redis_after is a list");
        Self(entries.iter().map(entry_of_vector).collect())
    }

    /// The content of a server, without our own keys and fields.
    pub async fn of_server(link: &mut MultiplexedConnection) -> Self {
        let mut store = BTreeMap::new();
        let keys: Vec<String> = ask(link, &["KEYS", "*"]).await;
        for key in keys.into_iter().filter(|key| !key.starts_with("runner:")) {
            let content = content_of_server(link, &key).await;
            let end = end_of(link, &key).await;
            let rest: i64 = ask(link, &["TTL", &key]).await;
            let counter = is_counter(&key);
            let entry = Entry {
                content,
                ends_at: (end >= 0 && counter).then_some(end),
                ends_in: (end >= 0 && !counter).then_some(rest),
            };
            store.insert(key, entry);
        }
        Self(store)
    }

    /// Writes all of it into an empty database.
    pub async fn write(&self, link: &mut MultiplexedConnection) {
        for (key, entry) in &self.0 {
            let mut command = redis::cmd(match entry.content {
                Content::Text(_) => "SET",
                Content::List(_) => "RPUSH",
                Content::Set(_) => "SADD",
                Content::Sorted(_) => "ZADD",
                Content::Hash(_) => "HSET",
            });
            command.arg(key);
            for part in parts(&entry.content) {
                command.arg(part);
            }
            let _: redis::Value = command.query_async(link).await.expect("writing a set-up");
            if let Some(end) = entry.ends_at {
                let _: i64 = ask(link, &["PEXPIREAT", key, &end.to_string()]).await;
            }
            if let Some(rest) = entry.ends_in {
                let _: i64 = ask(link, &["EXPIRE", key, &rest.to_string()]).await;
            }
        }
    }

    /// The hash at a key.
    pub fn hash(&mut self, key: &str) -> &mut BTreeMap<Bytes, Bytes> {
        match self.0.get_mut(key).map(|entry| &mut entry.content) {
            Some(Content::Hash(fields)) => fields,
            other => panic!("{key} is not a hash: {other:?}"),
        }
    }

    /// Adds a set.
    pub fn add_set(&mut self, key: &str, members: &[&str]) {
        let members = members.iter().map(|m| Bytes::from(*m)).collect();
        let entry = Entry {
            content: Content::Set(members),
            ends_at: None,
            ends_in: None,
        };
        self.0.insert(key.to_owned(), entry);
    }

    /// All differences, one line each.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(found.0.keys()).collect();
        keys.into_iter()
            .filter_map(|key| match (self.0.get(key), found.0.get(key)) {
                (Some(expected), Some(found)) if same(expected, found) => None,
                (expected, found) => Some(format!("{key}\n  expected {expected:?}\n  found    {found:?}")),
            })
            .collect()
    }
}

fn same(expected: &Entry, found: &Entry) -> bool {
    let spans = match (expected.ends_in, found.ends_in) {
        (None, None) => true,
        (Some(expected), Some(found)) => (expected - SPAN_TOLERANCE..=expected).contains(&found),
        _ => false,
    };
    expected.content == found.content && expected.ends_at == found.ends_at && spans
}

/// Day counters expire at an instant of the scenario's clock; all other keys by the server's.
fn is_counter(key: &str) -> bool {
    key.contains("}:processed") || key.contains("}:failed")
}

fn entry_of_vector(entry: &Value) -> (String, Entry) {
    let key = entry["key"].as_str().expect("a key").to_owned();
    let value = &entry["value"];
    let content = match entry["type"].as_str().expect("a type") {
        "string" => Content::Text(bytes_of(value)),
        "list" => Content::List(each(&entry["value_left_to_right"]).map(bytes_of).collect()),
        "set" => Content::Set(each(value).map(bytes_of).collect()),
        "zset" => Content::Sorted(
            each(&entry["value_in_rank_order"])
                .map(|row| (bytes_of(&row["member"]), row["score"].as_str().unwrap().to_owned()))
                .collect(),
        ),
        "hash" => Content::Hash(
            value
                .as_object()
                .expect("fields")
                .iter()
                .map(|(field, value)| (Bytes::from(field.as_str()), bytes_of(value)))
                .collect(),
        ),
        other => panic!("unknown type {other}"),
    };
    let counter = is_counter(&key);
    let entry = Entry {
        content,
        ends_at: entry["expire_at_unix_ms"].as_i64().filter(|_| counter),
        ends_in: entry["ttl_seconds_at_dump"].as_i64().filter(|_| !counter),
    };
    (key, entry)
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().expect("a list").iter()
}

fn bytes_of(value: &Value) -> Bytes {
    if let Some(text) = value["text"].as_str() {
        return Bytes::from(text);
    }
    let hex = value["hex"].as_str().expect("text or hex");
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    Bytes((0..hex.len()).step_by(2).map(pair).collect())
}

async fn content_of_server(link: &mut MultiplexedConnection, key: &str) -> Content {
    let kind: String = ask(link, &["TYPE", key]).await;
    match kind.as_str() {
        "string" => Content::Text(Bytes(ask(link, &["GET", key]).await)),
        "list" => Content::List(all(ask(link, &["LRANGE", key, "0", "-1"]).await)),
        "set" => Content::Set(all(ask(link, &["SMEMBERS", key]).await).into_iter().collect()),
        "zset" => {
            let rows: Vec<(Vec<u8>, String)> = ask(link, &["ZRANGE", key, "0", "-1", "WITHSCORES"]).await;
            Content::Sorted(rows.into_iter().map(|(m, s)| (Bytes(m), s)).collect())
        }
        "hash" => {
            let rows: Vec<(Vec<u8>, Vec<u8>)> = ask(link, &["HGETALL", key]).await;
            let fields = rows.into_iter().map(|(f, v)| (Bytes(f), Bytes(v)));
            let ours = |field: &Bytes| field.0.starts_with(b"att") || [&b"lost"[..], b"run"].contains(&&field.0[..]);
            Content::Hash(fields.filter(|(field, _)| !ours(field)).collect())
        }
        other => panic!("{key} is a {other}"),
    }
}

/// When a key expires, in ms since 1970; negative if it does not. A server older than 7 returns only the rest, which is
/// off by a millisecond or two: there the expiry is rounded to whole seconds, as all compared ones are.
async fn end_of(link: &mut MultiplexedConnection, key: &str) -> i64 {
    let exact: redis::RedisResult<i64> = redis::cmd("PEXPIRETIME").arg(key).query_async(link).await;
    if let Ok(end) = exact {
        return end;
    }
    let rest: i64 = ask(link, &["PTTL", key]).await;
    let (seconds, micros): (i64, i64) = ask(link, &["TIME"]).await;
    if rest < 0 {
        rest
    } else {
        (seconds * 1000 + micros / 1000 + rest + 500) / 1000 * 1000
    }
}

/// The arguments after the key in the command that writes it.
fn parts(content: &Content) -> Vec<&[u8]> {
    match content {
        Content::Text(text) => vec![&text.0],
        Content::List(items) => items.iter().map(|item| &item.0[..]).collect(),
        Content::Set(items) => items.iter().map(|item| &item.0[..]).collect(),
        Content::Sorted(rows) => rows.iter().flat_map(|(m, s)| [s.as_bytes(), &m.0]).collect(),
        Content::Hash(fields) => fields.iter().flat_map(|(f, v)| [&f.0[..], &v.0]).collect(),
    }
}

fn all(items: Vec<Vec<u8>>) -> Vec<Bytes> {
    items.into_iter().map(Bytes).collect()
}

/// Sends one command to a server.
pub async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command
        .query_async(link)
        .await
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}
