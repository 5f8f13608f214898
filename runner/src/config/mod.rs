//! Settings: read at the start, and again when the file changes; fully checked, valid from then on.
//!
//! Together with `cli` the only room that reads settings and the environment; every other room gets
//! plain values. It starts nothing.

mod access;
mod environment;
mod forms;
mod host;
mod ignored;
mod load;
mod masking;
mod own;
mod read_auth;
mod read_events;
mod read_handlers;
mod read_log;
mod read_mail;
mod read_notify;
mod read_proxy;
mod read_rabbitmq;
mod read_redis;
mod read_server;
mod read_services;
mod read_stores;
mod read_telemetry;
mod read_tokens;
mod read_work;
mod reader;
mod secret;
mod section;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
mod url;
mod written_keys;
mod zone;

pub use access::{Access, AccessError, SealingKey, resolve_access, sealing_key};
pub use environment::Environment;
pub use load::{Purpose, Refused};
pub use own::OwnSection;
pub use secret::Secret;
pub use settings::{BrokerSettings, Credential, Settings, UserSettings};
pub use written_keys::WrittenKeys;
