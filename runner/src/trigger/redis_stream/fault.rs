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

/// The group that the trigger once made is not there any more; every entry up to `until` was acknowledged.
pub(super) fn group_gone(stream: &str, group: &str, until: Option<&str>) -> ConnectionFault {
    let mut why = format!("the group {group:?} of the stream {stream:?} was there and is gone");
    if let Some(until) = until {
        why.push_str(&format!(
            "; each entry up to {until} was acknowledged, so that none is missed after XGROUP CREATE {stream} {group} {until} MKSTREAM"
        ));
    }
    let hint = "a new group would begin anywhere, so none is made: XGROUP CREATE STREAM GROUP ID MKSTREAM, with the id of the last \
                entry that became a task; 0 begins at the first entry and runs those again that are older than remember";
    fault("redis_group_gone", why, hint)
}

/// The stream of dead entries does not take one.
pub(super) fn no_dead_letter(stream: &str, error: &RedisClientError) -> ConnectionFault {
    let why = format!(
        "the dead_stream {stream:?} takes no entries: {} ({})",
        error.why, error.code
    );
    let hint =
        "bad entries are kept in the broker meanwhile; the user needs XADD on dead_stream, which must be a stream";
    fault("redis_dead_letter", why, hint)
}

/// The code of a stream that nothing has written yet.
pub(super) const NOT_THERE: &str = "redis_stream_missing";

/// There is no stream, and so there cannot be a group.
pub(super) fn no_stream(stream: &str) -> ConnectionFault {
    let why = format!("there is no stream {stream:?}");
    fault(
        NOT_THERE,
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
            "user and password; the user needs XREADGROUP, XAUTOCLAIM, XACK, XGROUP, XPENDING and XINFO on the stream"
        }
        "redis_wrong_type" => "the key is of another type than a stream",
        "redis_full" => "free memory or disk of the server",
        _ => "it is tried again",
    };
    fault(error.code, error.why.clone(), hint)
}
