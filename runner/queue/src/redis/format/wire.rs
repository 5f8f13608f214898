//! asynq's protobuf messages, declared by hand; `convert` says what they mean for a task.
//!
//! Maps are written as repeated entries with explicit fields, because asynq always writes both key and
//! value of an entry, even empty ones, and a derived map leaves them out.

use bytes::Bytes;

/// The seconds of Go's zero time, year 1: the only value that Go programs show as "never".
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// A task.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct TaskMessage {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
    #[prost(string, tag = "3")]
    pub id: String,
    #[prost(string, tag = "4")]
    pub queue: String,
    #[prost(int32, tag = "5")]
    pub retry: i32,
    #[prost(int32, tag = "6")]
    pub retried: i32,
    #[prost(string, tag = "7")]
    pub error_msg: String,
    #[prost(int64, tag = "8")]
    pub timeout: i64,
    #[prost(int64, tag = "9")]
    pub deadline: i64,
    #[prost(string, tag = "10")]
    pub unique_key: String,
    #[prost(int64, tag = "11")]
    pub last_failed_at: i64,
    #[prost(int64, tag = "12")]
    pub retention: i64,
    #[prost(int64, tag = "13")]
    pub completed_at: i64,
    #[prost(string, tag = "14")]
    pub group_key: String,
    #[prost(message, repeated, tag = "15")]
    pub headers: Vec<Header>,
}

/// An entry of the headers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct Header {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// What a server tells about itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct ServerMessage {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(int32, tag = "2")]
    pub pid: i32,
    #[prost(string, tag = "3")]
    pub server_id: String,
    #[prost(int32, tag = "4")]
    pub concurrency: i32,
    #[prost(message, repeated, tag = "5")]
    pub queues: Vec<QueuePriority>,
    #[prost(bool, tag = "6")]
    pub strict_priority: bool,
    #[prost(string, tag = "7")]
    pub status: String,
    #[prost(message, optional, tag = "8")]
    pub start_time: Option<Instant>,
    #[prost(int32, tag = "9")]
    pub active_worker_count: i32,
}

/// An entry of a server's queues.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct QueuePriority {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub priority: Option<i32>,
}

/// A task in flight.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct WorkerMessage {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(int32, tag = "2")]
    pub pid: i32,
    #[prost(string, tag = "3")]
    pub server_id: String,
    #[prost(string, tag = "4")]
    pub task_id: String,
    #[prost(string, tag = "5")]
    pub task_type: String,
    #[prost(bytes = "bytes", tag = "6")]
    pub task_payload: Bytes,
    #[prost(string, tag = "7")]
    pub queue: String,
    #[prost(message, optional, tag = "8")]
    pub start_time: Option<Instant>,
    #[prost(message, optional, tag = "9")]
    pub deadline: Option<Instant>,
}

/// A schedule as other tools see it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct EntryMessage {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub spec: String,
    #[prost(string, tag = "3")]
    pub task_type: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub task_payload: Bytes,
    #[prost(string, repeated, tag = "5")]
    pub enqueue_options: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub next_enqueue_time: Option<Instant>,
    #[prost(message, optional, tag = "7")]
    pub prev_enqueue_time: Option<Instant>,
}

/// A fire of a schedule as other tools see it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct EnqueueEventMessage {
    #[prost(string, tag = "1")]
    pub task_id: String,
    #[prost(message, optional, tag = "2")]
    pub enqueue_time: Option<Instant>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(in crate::redis) struct Instant {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Instant {
    /// `None` becomes Go's zero time, which Go programs show as "never".
    pub(in crate::redis) fn or_never(at: Option<jiff::Timestamp>) -> Self {
        at.map_or(
            Self {
                seconds: GO_ZERO_SECONDS,
                nanos: 0,
            },
            Self::from,
        )
    }

    /// The instant; `None` for Go's zero time and for what no clock shows.
    pub(in crate::redis) fn unless_never(self) -> Option<jiff::Timestamp> {
        (self.seconds > GO_ZERO_SECONDS).then(|| self.timestamp())
    }

    /// The instant, or the nearest one that can be represented.
    pub(in crate::redis) fn timestamp(self) -> jiff::Timestamp {
        let nanos = self.nanos.clamp(0, 999_999_999);
        jiff::Timestamp::new(self.seconds, nanos).unwrap_or(if self.seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

impl From<jiff::Timestamp> for Instant {
    /// Rounded down to the nanosecond with `nanos` never negative, as protobuf demands.
    fn from(at: jiff::Timestamp) -> Self {
        let nanos = at.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
        Self { seconds, nanos }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost::Message as _;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn an_instant_lies_as_go_writes_it() {
        let at: jiff::Timestamp = "2030-01-02T03:04:05.678901234Z".parse().unwrap();
        assert_eq!(hex(&Instant::from(at).encode_to_vec()), "08a5aaf5860710f2ebdcc302");
        assert_eq!(Instant::from(at).timestamp(), at);
        assert_eq!(hex(&Instant::or_never(None).encode_to_vec()), "088092b8c398feffffff01");
    }

    #[test]
    fn a_task_with_a_header_lies_as_go_writes_it() {
        let message = TaskMessage {
            kind: "email:send".into(),
            payload: Bytes::from_static(br#"{"user_id":42}"#),
            id: "11111111-1111-4111-8111-111111111111".into(),
            queue: "default".into(),
            retry: 25,
            timeout: 1800,
            headers: vec![Header {
                key: Some("trace_id".into()),
                value: Some("abc123".into()),
            }],
            ..TaskMessage::default()
        };
        let expected = "0a0a656d61696c3a73656e64120e7b22757365725f6964223a34327d1a2431313131313131312d313131312d343131312d383131312d313131313131313131313131220764656661756c74281940880e7a120a0874726163655f69641206616263313233";
        assert_eq!(hex(&message.encode_to_vec()), expected);
        assert_eq!(TaskMessage::decode(&message.encode_to_vec()[..]).unwrap(), message);
        assert!(TaskMessage::default().encode_to_vec().is_empty());
    }

    #[test]
    fn what_is_not_text_or_not_whole_is_refused() {
        assert!(TaskMessage::decode(&[0x0a, 0x02, 0xff, 0xfe][..]).is_err());
        assert!(TaskMessage::decode(&[0x0a, 0x7f, b'a'][..]).is_err());
    }
}
