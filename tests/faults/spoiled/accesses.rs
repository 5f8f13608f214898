//! The keys and fields that the server accesses during a call, as reported by its monitor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::calls::Made;

/// Scripts, and parts of scripts, that only a cluster uses to the full.
const CLUSTER_ONLY: [&str; 5] = ["commit_intend", "commit_fire", "commit_finish", "repair_scan", "follow"];

/// A value that can be corrupted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub key: Vec<u8>,
    /// Of a hash.
    pub field: Option<Vec<u8>>,
    /// The expected type.
    pub kind: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.key))?;
        match &self.field {
            Some(field) => write!(f, " {}", String::from_utf8_lossy(field)),
            None => Ok(()),
        }
    }
}

/// Everything accessed so far, and by which scripts.
#[derive(Default)]
pub struct Accesses {
    places: BTreeSet<Place>,
    /// Their hashes.
    scripts: BTreeSet<String>,
}

impl Accesses {
    /// Runs a call and returns its accesses outside of healthy tasks.
    pub async fn listen(&mut self, port: u16, call: impl Future<Output = Made>) -> Result<BTreeSet<Place>, String> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        stream.get_mut().write_all(b"MONITOR\r\n").await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let made = call.await;
        let mut mark = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        mark.write_all(b"ECHO the-end\r\n").await.unwrap();
        let mut places = BTreeSet::new();
        loop {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            let words = words_of(&line);
            if words.iter().any(|word| word == b"the-end") {
                break;
            }
            if words.len() > 1 && words[0].eq_ignore_ascii_case(b"EVALSHA") {
                self.scripts.insert(String::from_utf8(words[1].clone()).unwrap());
            }
            places.extend(places_of(&words));
        }
        self.places.extend(places.iter().cloned());
        places.retain(|place| !is_innocent(place));
        made.map(|_| places)
    }

    /// Scripts that were not run, and keys and fields in their texts that were not accessed.
    pub fn uncovered(&self, all: bool) -> Vec<String> {
        let mut uncovered = Vec::new();
        for (hashes, opening) in runner_queue::redis::script_names() {
            let apart = CLUSTER_ONLY.contains(&opening);
            // Only messages over 64 KiB are read separately from their page, and `tasks` accesses the same keys.
            let large = opening == "tasks_large";
            if !hashes.iter().any(|hash| self.scripts.contains(hash)) && all != apart && !large {
                uncovered.push(format!("no call runs {opening}.lua"));
            }
        }
        if all {
            uncovered.extend(self.unread());
        }
        uncovered
    }

    fn unread(&self) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("queue/src/redis/format/scripts");
        let mut uncovered = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Measurements, and scripts that a cluster does not use.
            if name.starts_with("ceiling") || CLUSTER_ONLY.contains(&name.trim_end_matches(".lua")) {
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let code = line.split("--").next().unwrap_or_default();
                for head in ["queue .. '", "own .. '"] {
                    for part in code.split(head).skip(1).filter_map(|rest| rest.split('\'').next()) {
                        let prefix = if head.starts_with("own") { "runner:" } else { "asynq:" };
                        let there = |place: &Place| {
                            let key = String::from_utf8_lossy(&place.key);
                            key.starts_with(prefix)
                                && key.split_once("}:").is_some_and(|(_, rest)| rest.starts_with(part))
                        };
                        if !self.places.iter().any(there) {
                            uncovered.push(format!("{name}: no call touches {prefix}…{part}"));
                        }
                    }
                }
                for field in fields_in(code) {
                    let there = |place: &Place| {
                        let touched = place.field.as_deref().map(String::from_utf8_lossy);
                        touched.is_some_and(|touched| touched.starts_with(&field))
                    };
                    if !self.places.iter().any(there) {
                        uncovered.push(format!("{name}: no call touches the field {field}"));
                    }
                }
            }
        }
        uncovered
    }
}

/// Fields in a line of a script: all texts after the name of a hash command.
fn fields_in(code: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for command in [
        "'HGET', ",
        "'HMGET', ",
        "'HEXISTS', ",
        "'HDEL', key, ",
        "count_field(key, ",
    ] {
        let Some((_, rest)) = code.split_once(command) else {
            continue;
        };
        let rest = rest.split(')').next().unwrap_or_default();
        // Every other part is between quotes; a text concatenated to a key is not a field.
        let parts: Vec<&str> = rest.split('\'').collect();
        for nth in (1..parts.len()).step_by(2) {
            let joined = parts[nth - 1].trim_end().ends_with("..");
            if !joined && !parts[nth].is_empty() {
                fields.push(parts[nth].to_owned());
            }
        }
    }
    fields
}

/// Keys of healthy tasks, which are not corrupted.
fn is_innocent(place: &Place) -> bool {
    let own = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        ["in0", "in1", "in2", "in3", "in4", "in5", "in6", "unique:in:"]
            .iter()
            .any(|name| text.contains(name))
    };
    own(&place.key) || place.field.as_deref().is_some_and(own)
}

/// The words of a line of the monitor: `1700000000.1 [0 lua] "HGET" "key" "\xff"`.
fn words_of(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let Some((_, rest)) = line.split_once("] ") else {
        return words;
    };
    let mut bytes = rest.bytes();
    let mut word: Option<Vec<u8>> = None;
    while let Some(byte) = bytes.next() {
        match (&mut word, byte) {
            (None, b'"') => word = Some(Vec::new()),
            (None, _) => {}
            (Some(_), b'"') => words.extend(word.take()),
            (Some(text), b'\\') => match bytes.next().unwrap_or(b'\\') {
                b'x' => {
                    let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    text.push(u8::from_str_radix(digits, 16).unwrap());
                }
                b'n' => text.push(b'\n'),
                b'r' => text.push(b'\r'),
                b't' => text.push(b'\t'),
                other => text.push(other),
            },
            (Some(text), _) => text.push(byte),
        }
    }
    words
}

/// Keys and fields that a command accesses.
fn places_of(words: &[Vec<u8>]) -> Vec<Place> {
    let kinds: BTreeMap<&str, &'static str> = [
        ("GET", "string"),
        ("SET", "string"),
        ("SETNX", "string"),
        ("GETDEL", "string"),
        ("INCR", "string"),
        ("INCRBY", "string"),
        ("MGET", "string"),
        ("EXISTS", "string"),
        ("STRLEN", "string"),
        ("LPUSH", "list"),
        ("RPUSH", "list"),
        ("LLEN", "list"),
        ("LRANGE", "list"),
        ("LREM", "list"),
        ("LTRIM", "list"),
        ("LINDEX", "list"),
        ("LPOS", "list"),
        ("RPOP", "list"),
        ("BLMOVE", "list"),
        ("SADD", "set"),
        ("SREM", "set"),
        ("SCARD", "set"),
        ("SMEMBERS", "set"),
        ("SISMEMBER", "set"),
        ("SSCAN", "set"),
        ("SRANDMEMBER", "set"),
        ("HLEN", "hash"),
        ("HKEYS", "hash"),
        ("XADD", "stream"),
        ("XREVRANGE", "stream"),
    ]
    .into();
    let Some(command) = words
        .first()
        .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
    else {
        return Vec::new();
    };
    let place = |key: &Vec<u8>, field: Option<&Vec<u8>>, kind| Place {
        key: key.clone(),
        field: field.cloned(),
        kind,
    };
    let Some(key) = words.get(1) else { return Vec::new() };
    match command.as_str() {
        "MGET" | "EXISTS" => words[1..].iter().map(|key| place(key, None, "string")).collect(),
        _ if kinds.contains_key(command.as_str()) => vec![place(key, None, kinds[command.as_str()])],
        "RENAME" | "ZRANGESTORE" => words[1..3].iter().map(|key| place(key, None, "zset")).collect(),
        "HGET" | "HINCRBY" | "HEXISTS" | "HSETNX" => vec![place(key, None, "hash"), place(key, words.get(2), "hash")],
        "HMGET" | "HDEL" => {
            let fields = words[2..].iter().map(|field| place(key, Some(field), "hash"));
            fields.chain([place(key, None, "hash")]).collect()
        }
        "HSET" => {
            let fields = words[2..]
                .iter()
                .step_by(2)
                .map(|field| place(key, Some(field), "hash"));
            fields.chain([place(key, None, "hash")]).collect()
        }
        "HSCAN" | "HVALS" | "HGETALL" => vec![place(key, None, "hash")],
        _ if command.starts_with('Z') => vec![place(key, None, "zset")],
        _ => Vec::new(),
    }
}
