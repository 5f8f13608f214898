//! The kinds of functions. Each is plain data in a file beside this one.
//!
//! Other rooms ask the methods here instead of matching, so that a new kind is an answer to each question below, a reader
//! and a runner. How a kind is read and run is not known here.

use super::{EnqueueSpec, ExecSpec, HttpSpec, MailSpec, PublishSpec, SqlSpec, WasmSpec};
use crate::task::check_json;

/// The action of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionKind {
    /// A handler registered in code, here or in any other worker of the queue.
    Handler {
        /// The task type.
        kind: String,
    },
    /// A command.
    Exec(ExecSpec),
    /// An HTTP call.
    Http(HttpSpec),
    /// A message by mail.
    Mail(Box<MailSpec>),
    /// Statements for a database.
    Sql(SqlSpec),
    /// Another task.
    Enqueue(Box<EnqueueSpec>),
    /// A message for RabbitMQ or Redis.
    Publish(Box<PublishSpec>),
    /// A module of WebAssembly.
    Wasm(Box<WasmSpec>),
}

impl FunctionKind {
    /// The key that defines it in a manifest.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Handler { .. } => "handler",
            Self::Exec(_) => "exec",
            Self::Http(_) => "http",
            Self::Mail(_) => "mail",
            Self::Sql(_) => "sql",
            Self::Enqueue(_) => "enqueue",
            Self::Publish(_) => "publish",
            Self::Wasm(_) => "wasm",
        }
    }

    /// The type of its tasks, if a handler in code runs them, here or in another worker of the queue.
    #[must_use]
    pub fn handler_type(&self) -> Option<&str> {
        match self {
            Self::Handler { kind } => Some(kind),
            Self::Exec(_)
            | Self::Http(_)
            | Self::Mail(_)
            | Self::Sql(_)
            | Self::Enqueue(_)
            | Self::Publish(_)
            | Self::Wasm(_) => None,
        }
    }

    /// Why it cannot use this payload, and the remedy, as far as both can be seen before it runs. An empty payload is none.
    #[must_use]
    pub fn payload_fault(&self, payload: &[u8]) -> Option<PayloadFault> {
        let (use_of_json, remedy) = match self {
            Self::Http(spec) if spec.sends_json() => (
                "sends its payload as JSON",
                "for other payloads set http.headers.Content-Type in the manifest",
            ),
            Self::Mail(spec) if spec.uses_payload() => {
                ("reads fields of its payload", "write the payload as a JSON object")
            }
            Self::Sql(spec) if spec.uses_payload() => {
                ("reads fields of its payload", "write the payload as a JSON object")
            }
            Self::Enqueue(spec) if spec.uses_payload() => {
                ("reads fields of its payload", "write the payload as a JSON object")
            }
            Self::Publish(spec) if spec.uses_payload() => {
                ("reads fields of its payload", "write the payload as a JSON object")
            }
            Self::Handler { .. }
            | Self::Exec(_)
            | Self::Http(_)
            | Self::Mail(_)
            | Self::Sql(_)
            | Self::Enqueue(_)
            | Self::Publish(_)
            | Self::Wasm(_) => return None,
        };
        if payload.is_empty() {
            return None;
        }
        let why = check_json(payload).err()?.to_string();
        Some(PayloadFault {
            use_of_json,
            why,
            remedy,
        })
    }
}

/// Why a function cannot use a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFault {
    /// What the function does with JSON, to stand after its name.
    pub use_of_json: &'static str,
    /// Why the payload is no JSON.
    pub why: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What a worker finds wrong with a function as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFinding {
    /// Whether the function would never run here; otherwise it cannot run on this host as it is now.
    pub refused: bool,
    /// A stable code.
    pub code: &'static str,
    /// In one sentence.
    pub message: String,
    /// What to do about it, if the message does not say so.
    pub hint: Option<&'static str>,
}
