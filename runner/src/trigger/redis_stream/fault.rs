//! What goes wrong with a stream, each with a stable code and what to do about it.

use runner_queue::redis::RedisClientError;

use crate::messaging::ConnectionFault;

fn fault(code: &'static str, why: String, hint: &'static str) -> ConnectionFault {
    ConnectionFault { code, why, hint }
}

/// The settings have no such connection.
pub(super) fn unknown_connection(name: &str) -> ConnectionFault {
    let why = format!("no connection {name:?} is defined under redis_connections");
    let hint = "define it in config.yaml and restart, or correct the connection in the manifest";
    fault("redis_connection_unknown", why, hint)
}

/// The group that the trigger once made is not there any more.
pub(super) fn group_gone(stream: &str, group: &str) -> ConnectionFault {
    let why = format!("the group {group:?} of the stream {stream:?} was there and is gone");
    let hint = "a new group would begin anywhere, so none is made: XGROUP CREATE STREAM GROUP ID, with the id of the last entry \
                that became a task, or 0 for all (known entries become no second task)";
    fault("redis_group_gone", why, hint)
}

/// There is no stream, and so there cannot be a group.
pub(super) fn no_stream(stream: &str) -> ConnectionFault {
    let why = format!("there is no stream {stream:?}");
    fault(
        "redis_stream_missing",
        why,
        "the first entry makes it, or the trigger with create: true",
    )
}

/// Our own code failed.
pub(super) fn panicked(why: &str) -> ConnectionFault {
    let hint = "this is a fault of runner, please report it; the trigger starts again";
    fault("trigger_panicked", format!("a panic: {why}"), hint)
}

/// A call failed.
pub(super) fn of(error: &RedisClientError) -> ConnectionFault {
    let hint = match error.code {
        "redis_unreachable" => "is the Redis of redis_connections running, and the address right?",
        "redis_denied" => {
            "user and password; the user needs XREADGROUP, XAUTOCLAIM, XACK, XGROUP and XINFO on the stream"
        }
        "redis_wrong_type" => "the key is of another type than a stream",
        "redis_full" => "free memory or disk of the server",
        _ => "it is tried again",
    };
    fault(error.code, error.why.clone(), hint)
}
