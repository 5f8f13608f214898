//! A trigger that reads a stream of Redis as a consumer of a group.

use std::time::Duration;

use super::{BadMessage, BodyFormat};
use crate::template::{JsonTemplate, Template};

/// Entries that a trigger takes at once where it says nothing.
pub const DEFAULT_BATCH: u32 = 100;

/// How long a consumer may hold an entry before others take it over, where a trigger says nothing.
pub const DEFAULT_TAKE_OVER: Duration = Duration::from_secs(60);

/// The values of an entry that templates can name: `entry.id`. Those inside of `fields` and `json` as well.
pub const ENTRY_VALUES: [&str; 4] = ["id", "stream", "fields", "json"];

/// One task for each entry of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisStreamTrigger {
    /// The name of a connection of the settings.
    pub connection: String,
    /// The key of the stream.
    pub stream: String,
    /// The consumer group; `None`: one of its own, named after function and trigger.
    pub group: Option<String>,
    /// Where the group begins when it is made.
    pub from: StreamStart,
    /// Whether the stream is made if it is not there.
    pub create: bool,
    /// Entries that it takes at once.
    pub batch: u32,
    /// How long another consumer may hold an entry.
    pub take_over: Duration,
    /// What identifies an entry; `None`: stream and id.
    pub dedupe: Option<Template>,
    /// How long an entry is known by that.
    pub remember: Duration,
    /// The field that is the body; `None`: the payload is an object of all fields.
    pub field: Option<String>,
    /// What that field must be.
    pub format: BodyFormat,
    /// The payload; `None`: the body.
    pub payload: Option<JsonTemplate>,
    /// The longest entry in bytes.
    pub max_bytes: usize,
    /// What to do with an entry of which no task can be made.
    pub bad_entries: BadMessage,
    /// Where such entries go, if they are dead letters.
    pub dead_stream: String,
}

/// Where a group begins when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamStart {
    /// At the first entry of the stream.
    #[default]
    First,
    /// After the last one.
    New,
}

impl StreamStart {
    /// Both, by their words.
    pub const WORDS: [(&'static str, Self); 2] = [("first", Self::First), ("new", Self::New)];
}
