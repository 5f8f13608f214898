//! What goes wrong with RabbitMQ, each with a stable code and what to do about it.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::trigger::TriggerFault;

fn fault(code: &'static str, why: String, hint: &'static str) -> TriggerFault {
    TriggerFault { code, why, hint }
}

/// The settings refer to what cannot be read.
pub(super) fn secret(why: String) -> TriggerFault {
    fault(
        "amqp_secret",
        why,
        "the file or variable that rabbitmq.connections refers to",
    )
}

/// The URL cannot be used.
pub(super) fn url(why: String) -> TriggerFault {
    let hint = "amqp://user:password@host:5672/vhost, with %2f for the vhost /";
    fault(
        "amqp_url",
        format!("the URL of the connection cannot be used: {why}"),
        hint,
    )
}

/// No socket.
pub(super) fn unreachable(error: &std::io::Error) -> TriggerFault {
    let hint = "is RabbitMQ running, and the address right?";
    fault("amqp_unreachable", error.to_string(), hint)
}

/// Certificates, names or files of TLS.
pub(super) fn tls(why: String) -> TriggerFault {
    fault(
        "amqp_tls",
        why,
        "rabbitmq.connections.NAME.tls: ca_file, cert_file, key_file, server_name",
    )
}

/// No answer in time.
pub(super) fn slow(limit: Duration) -> TriggerFault {
    let why = format!("no answer within {} s", limit.as_secs());
    fault(
        "amqp_no_answer",
        why,
        "the server or the network hangs, or something else listens at that port",
    )
}

/// The consumer was ended by the server.
pub(super) fn cancelled(queue: &str) -> TriggerFault {
    let why = format!("the server ended the consumer: the queue {queue:?} was deleted or has moved");
    fault(
        "amqp_consumer_cancelled",
        why,
        "it is tried again; with declare: passive its owner makes the queue",
    )
}

/// Our own code failed.
pub(super) fn panicked(why: &str) -> TriggerFault {
    fault(
        "trigger_panicked",
        format!("a panic: {why}"),
        "this is a fault of runner, please report it; the trigger starts again",
    )
}

/// The connection broke.
pub(super) fn lost() -> TriggerFault {
    fault("amqp_lost", "the connection broke".to_owned(), "it is made again")
}

/// A connection could not be made.
pub(super) fn of_connecting(error: &Error) -> TriggerFault {
    let why = words(error);
    match kind(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            fault("amqp_login", why, "user and password in the URL of the connection")
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => {
            let hint =
                "does the vhost exist, and may the user use it? rabbitmqctl list_vhosts, list_permissions -p VHOST";
            fault("amqp_vhost", why, hint)
        }
        _ => of_use(error),
    }
}

/// A call on a connection or a channel failed.
pub(super) fn of_use(error: &Error) -> TriggerFault {
    let why = words(error);
    match kind(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)) => {
            let hint = "its owner makes it, or the trigger with declare: create";
            fault("amqp_not_found", why, hint)
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            let hint = "rabbitmqctl set_permissions: reading the queue; to create or bind also configure and write";
            fault("amqp_forbidden", why, hint)
        }
        // The same reply code as that of a queue with other properties; only the text says which.
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) if why.contains("timed out") => {
            let hint = "the broker took no tasks for longer than consumer_timeout of RabbitMQ; its messages went back to the queue";
            fault("amqp_ack_timeout", why, hint)
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            let hint = "the queue or exchange exists with other properties: declare: passive uses it as it is";
            fault("amqp_precondition", why, hint)
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED)) => {
            fault("amqp_locked", why, "another consumer uses the queue alone")
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED)) => fault(
            "amqp_shut_down",
            why,
            "the server was stopped, or closed the connection; it is made again",
        ),
        _ => match error.kind() {
            ErrorKind::MissingHeartbeatError => fault("amqp_no_answer", why, "the server or the network hangs"),
            ErrorKind::IOError(_) => fault("amqp_unreachable", why, "is RabbitMQ running, and the address right?"),
            _ => fault("amqp_failed", why, "it is tried again"),
        },
    }
}

fn kind(error: &Error) -> Option<AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind().clone()),
        _ => None,
    }
}

/// The server's own words where there are any.
fn words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}
