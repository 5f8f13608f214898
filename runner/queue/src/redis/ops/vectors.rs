//! Compares single messages, key names and option texts with what the original library wrote.
//!
//! Whole operations are compared by the integration tests, against a server.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use crate::redis::format::wire::{
    EnqueueEventMessage, EntryMessage, Header, Instant, QueuePriority, ServerMessage, TaskMessage, WorkerMessage,
};
use crate::redis::format::{convert, keys};
use crate::redis::ops::asynq_entries;

macro_rules! vector {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../../../../../tests/data/asynq-vectors/", $name))).unwrap()
    };
}

fn unhex(value: &Value) -> Vec<u8> {
    let hex = value.as_str().unwrap_or_default();
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn small(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap_or_default()).unwrap()
}

fn long(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn instant(value: &Value) -> Option<Instant> {
    Some(Instant {
        seconds: long(&value["unix_seconds"]),
        nanos: small(&value["nanos"]),
    })
}

fn task(f: &Value) -> TaskMessage {
    let headers = f["headers"].as_object().into_iter().flatten();
    TaskMessage {
        kind: text(&f["type"]),
        payload: unhex(&f["payload_hex"]).into(),
        id: text(&f["id"]),
        queue: text(&f["queue"]),
        retry: small(&f["retry"]),
        retried: small(&f["retried"]),
        error_msg: text(&f["error_msg"]),
        timeout: long(&f["timeout"]),
        deadline: long(&f["deadline"]),
        unique_key: text(&f["unique_key"]),
        last_failed_at: long(&f["last_failed_at"]),
        retention: long(&f["retention"]),
        completed_at: long(&f["completed_at"]),
        group_key: text(&f["group_key"]),
        headers: headers
            .map(|(key, value)| Header {
                key: Some(key.clone()),
                value: Some(text(value)),
            })
            .collect(),
    }
}

fn server(f: &Value) -> ServerMessage {
    let queues = f["queues"].as_object().into_iter().flatten();
    ServerMessage {
        host: text(&f["host"]),
        pid: small(&f["pid"]),
        server_id: text(&f["server_id"]),
        concurrency: small(&f["concurrency"]),
        queues: queues
            .map(|(name, priority)| QueuePriority {
                name: Some(name.clone()),
                priority: Some(small(priority)),
            })
            .collect(),
        strict_priority: f["strict_priority"].as_bool().unwrap(),
        status: text(&f["status"]),
        start_time: instant(&f["start_time"]),
        active_worker_count: small(&f["active_worker_count"]),
    }
}

fn worker(f: &Value) -> WorkerMessage {
    WorkerMessage {
        host: text(&f["host"]),
        pid: small(&f["pid"]),
        server_id: text(&f["server_id"]),
        task_id: text(&f["task_id"]),
        task_type: text(&f["task_type"]),
        task_payload: Bytes::from(unhex(&f["task_payload_hex"])),
        queue: text(&f["queue"]),
        start_time: instant(&f["start_time"]),
        deadline: instant(&f["deadline"]),
    }
}

fn entry(f: &Value) -> EntryMessage {
    let options = f["enqueue_options"].as_array().into_iter().flatten();
    EntryMessage {
        id: text(&f["id"]),
        spec: text(&f["spec"]),
        task_type: text(&f["task_type"]),
        task_payload: unhex(&f["task_payload_hex"]).into(),
        enqueue_options: options.map(text).collect(),
        next_enqueue_time: instant(&f["next_enqueue_time"]),
        prev_enqueue_time: instant(&f["prev_enqueue_time"]),
    }
}

#[test]
fn messages_are_written_and_read_byte_for_byte() {
    let vectors = vector!("messages.json");
    let mut compared = 0;
    for vector in vectors.as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let (f, expected) = (&vector["fields"], unhex(&vector["hex"]));
        let written = match vector["message"].as_str().unwrap() {
            // A string here is always UTF-8: what Go cannot encode cannot be made.
            "TaskMessage" if !vector["encode_error"].is_null() => continue,
            "TaskMessage" => {
                let message = task(f);
                let mut read = TaskMessage::decode(&expected[..]).unwrap();
                // Go writes the entries of a map in any order.
                read.headers.sort_by(|a, b| a.key.cmp(&b.key));
                assert_eq!(read, message, "{name}");
                message.encode_to_vec()
            }
            "ServerInfo" => server(f).encode_to_vec(),
            "WorkerInfo" => worker(f).encode_to_vec(),
            // An absent instant is the epoch to a reader; we always write one.
            "SchedulerEntry" if name == "scheduler_entry_times_absent" => {
                let read = EntryMessage::decode(&expected[..]).unwrap();
                assert_eq!(read.next_enqueue_time, None);
                continue;
            }
            "SchedulerEntry" => entry(f).encode_to_vec(),
            "SchedulerEnqueueEvent" => EnqueueEventMessage {
                task_id: text(&f["task_id"]),
                enqueue_time: instant(&f["enqueue_time"]),
            }
            .encode_to_vec(),
            other => panic!("{name} is a {other}"),
        };
        if name == "two_headers_order_unspecified" {
            assert_eq!(written.len(), expected.len(), "{name}");
        } else {
            assert_eq!(written, expected, "{name}");
        }
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} messages were compared");
}

#[test]
fn a_record_goes_through_the_seam_and_comes_back_the_same() {
    for vector in vector!("messages.json").as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let odd = ["empty", "negative_timeout", "two_headers_order_unspecified"].contains(&name);
        if vector["message"] != "TaskMessage" || !vector["encode_error"].is_null() || odd {
            continue;
        }
        let expected = unhex(&vector["hex"]);
        let fields = &vector["fields"];
        let queue = text(&fields["queue"]).parse().unwrap();
        let record = convert::decode(expected.clone(), &queue, text(&fields["id"]).as_bytes()).unwrap();
        assert_eq!(convert::encode(&record), expected, "{name}");
    }
}

#[test]
fn keys_are_spelled_alike() {
    let vectors = vector!("keys.json");
    let known = &vectors["keys"];
    assert_eq!(known["all_queues"], keys::QUEUES);
    assert_eq!(known["all_servers"], keys::SERVERS);
    assert_eq!(known["all_workers"], keys::WORKERS);
    assert_eq!(known["all_schedulers"], keys::SCHEDULERS);
    assert_eq!(known["cancel_channel"], keys::CANCEL);
    assert_eq!(known["server(web-1,4321,S)"], keys::server("web-1", 4321, "S"));
    assert_eq!(known["workers(web-1,4321,S)"], keys::workers("web-1", 4321, "S"));
    assert_eq!(known["scheduler(web-1:4321:S)"], keys::scheduler("web-1:4321:S"));
    assert_eq!(known["scheduler_history(E)"], keys::history("E"));
    for (name, key) in known["for_queue_default"].as_object().unwrap() {
        let ours = match name.split('(').next().unwrap() {
            "task" => keys::task("default", "abc"),
            "processed_total" => keys::part("default", "processed"),
            "failed_total" => keys::part("default", "failed"),
            "processed_day" => keys::part("default", "processed:2030-01-03"),
            "failed_day" => keys::part("default", "failed:2030-01-03"),
            "group" => keys::group("default", "g1"),
            "aggregation_set" => keys::staged("default", "g1", "S"),
            part => keys::part("default", part),
        };
        assert_eq!(key.as_str().unwrap(), ours, "{name}");
    }
    for lock in vectors["unique_keys"].as_array().unwrap() {
        let payload = unhex(&lock["payload_hex"]);
        let payload = (lock["payload_is_nil"] == false).then_some(&payload[..]);
        let ours = keys::unique(
            &text(&lock["queue"]),
            &text(&lock["type"]),
            &(payload.map(Into::into), ""),
        );
        assert_eq!(lock["key"], ours);
    }
}

#[test]
fn queues_are_quoted_alike() {
    let vectors = vector!("options.json");
    let quoted = vectors
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|option| option["string"].as_str()?.strip_prefix("Queue("));
    let names = ["low", "a \"b\"\n✓\u{1}"];
    let ours: Vec<String> = names.iter().map(|name| asynq_entries::quoted(name)).collect();
    let theirs: Vec<&str> = quoted.map(|q| q.trim_end_matches(')')).collect();
    assert_eq!(ours, theirs);
}
