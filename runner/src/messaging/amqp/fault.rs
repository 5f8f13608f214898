//! What goes wrong with RabbitMQ, each with a stable code and what to do about it.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::messaging::ConnectionFault;

fn fault(code: &'static str, why: String, hint: &'static str) -> ConnectionFault {
    ConnectionFault { code, why, hint }
}

/// The settings refer to what cannot be read.
pub fn secret(why: String) -> ConnectionFault {
    fault(
        "amqp_secret",
        why,
        "the file or variable that rabbitmq.connections refers to",
    )
}

/// The URL cannot be used.
pub fn url(why: String) -> ConnectionFault {
    let hint = "amqp://user:password@host:5672/vhost, with %2f for the vhost /";
    fault(
        "amqp_url",
        format!("the URL of the connection cannot be used: {why}"),
        hint,
    )
}

/// The code of a connection that is not there, or broke.
pub const UNREACHABLE: &str = "amqp_unreachable";

/// No socket.
pub fn unreachable(error: &std::io::Error) -> ConnectionFault {
    let hint = "is RabbitMQ running, and the address right?";
    fault(UNREACHABLE, error.to_string(), hint)
}

/// Certificates, names or files of TLS.
pub fn tls(why: String) -> ConnectionFault {
    fault(
        "amqp_tls",
        why,
        "rabbitmq.connections.NAME.tls: ca_file, cert_file, key_file, server_name",
    )
}

/// No answer in time.
pub fn slow(limit: Duration) -> ConnectionFault {
    let why = format!("no answer within {} s", limit.as_secs());
    fault(
        "amqp_no_answer",
        why,
        "the server or the network hangs, or something else listens at that port",
    )
}

/// The consumer was ended by the server.
pub fn cancelled(queue: &str) -> ConnectionFault {
    let why = format!("the server ended the consumer: the queue {queue:?} was deleted or has moved");
    fault(
        "amqp_consumer_cancelled",
        why,
        "it is tried again; with declare: passive its owner makes the queue",
    )
}

/// The code of a message that reached no queue.
pub const UNROUTABLE: &str = "amqp_unroutable";

/// The message was returned.
pub fn unroutable(why: &str) -> ConnectionFault {
    let hint = "no queue is bound to the exchange for this routing key; mandatory: false lets such messages go";
    fault(UNROUTABLE, format!("the message reached no queue: {why}"), hint)
}

/// The server says that it could not keep the message.
pub fn nacked() -> ConnectionFault {
    let why = "the server refused to keep the message".to_owned();
    fault(
        "amqp_nacked",
        why,
        "a queue of the exchange is full, or has lost its leader",
    )
}

/// The channel was opened without confirms, which this program never does.
pub fn not_asked() -> ConnectionFault {
    let why = "the channel has no confirms".to_owned();
    fault("amqp_failed", why, "this is a fault of runner, please report it")
}

/// No confirm in time.
pub fn unconfirmed(limit: Duration) -> ConnectionFault {
    let why = format!(
        "no confirm within {} s; the server may have the message",
        limit.as_secs()
    );
    fault("amqp_unconfirmed", why, "the server, its disk or the network hangs")
}

/// The server takes nothing from publishers.
pub fn blocked() -> ConnectionFault {
    fault("amqp_blocked", ALARM.to_owned(), FREE)
}

/// The same, found out with a message that it may still take when the alarm is over.
pub fn unconfirmed_in_alarm(limit: Duration) -> ConnectionFault {
    let seconds = limit.as_secs();
    let why = format!("{ALARM}; no confirm within {seconds} s, it may take this message later");
    fault("amqp_blocked", why, FREE)
}

const ALARM: &str = "the server takes no messages from publishers: its memory or disk alarm is on";

const FREE: &str = "free memory or disk of the server, or raise its limits: rabbitmq-diagnostics alarms";

/// Our own code failed.
pub fn panicked(why: &str) -> ConnectionFault {
    fault(
        "trigger_panicked",
        format!("a panic: {why}"),
        "this is a fault of runner, please report it; the trigger starts again",
    )
}

/// The connection broke.
pub fn lost() -> ConnectionFault {
    fault("amqp_lost", "the connection broke".to_owned(), "it is made again")
}

/// A connection could not be made.
pub fn of_connecting(error: &Error) -> ConnectionFault {
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

/// The code of a message that is larger than the server takes.
pub const TOO_LARGE: &str = "amqp_too_large";

/// A message was not taken, or the exchange for it not declared.
pub fn of_publishing(error: &Error) -> ConnectionFault {
    let why = words(error);
    match kind(error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)) => {
            let hint = "no exchange of this name is in the vhost: its owner makes it, or correct the name";
            fault("amqp_not_found", why, hint)
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            let hint = "rabbitmqctl set_permissions: writing to the exchange; events also need configure";
            fault("amqp_forbidden", why, hint)
        }
        // Only the text tells it from an exchange with other properties.
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) if why.contains("larger than") => {
            let hint = "max_message_size of RabbitMQ, or a smaller body";
            fault(TOO_LARGE, why, hint)
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            let hint = "the exchange exists with other properties: delete it, or use another name";
            fault("amqp_precondition", why, hint)
        }
        _ => of_use(error),
    }
}

/// A call on a connection or a channel failed.
pub fn of_use(error: &Error) -> ConnectionFault {
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
            ErrorKind::IOError(_) => fault(UNREACHABLE, why, "is RabbitMQ running, and the address right?"),
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
