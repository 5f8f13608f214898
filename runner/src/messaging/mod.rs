//! RabbitMQ, and Redis where it is not the broker, as carriers of messages: how they are reached, what goes wrong with them, and
//! publishing.
//!
//! Not here: what is made of messages that arrive (`trigger`), and which messages functions send (`handlers::publish`).

#[cfg(feature = "amqp")]
pub mod amqp;
mod publishers;
mod settings;

pub use publishers::publishers;
pub use settings::{RabbitMqSettings, ReadUrl};

/// Why a trigger or a connection does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFault {
    /// The stable code.
    pub code: &'static str,
    /// What happened; never a password.
    pub why: String,
    /// What to do about it.
    pub hint: &'static str,
}
