//! What a function runs: exactly one kind, each with a file here that reads its keys.

mod enqueue;
mod exec;
mod exec_doubts;
mod exec_limits;
mod handler;
mod http;
mod mail;
mod publish;
mod sql;
mod template;
#[cfg(test)]
mod tests;
mod wasm;

use runner_core::function::FunctionKind;

use crate::text::{Field, Fields, Report, one_of};

/// The longest task type, in characters, a little more than the column of the table holds.
pub const MAX_TASK_TYPE: usize = 100;

/// One kind of function in a manifest.
pub struct Kind {
    /// The key that defines it.
    pub key: &'static str,
    /// Keys below it that stand nowhere else in a manifest, so that a hint can say where they belong.
    pub own: &'static [&'static str],
    /// The first of them to write, and an example of its value, for the same hints.
    pub main: (&'static str, &'static str),
    read: fn(&Field<'_>, &mut Report<'_>) -> Option<FunctionKind>,
}

/// All of them.
pub const KINDS: &[Kind] = &[
    Kind {
        key: "handler",
        own: &[],
        main: ("", ""),
        read: handler::read,
    },
    Kind {
        key: "exec",
        own: exec::FIELDS,
        main: ("command", "[program, argument]"),
        read: exec::read,
    },
    Kind {
        key: "http",
        own: http::OWN,
        main: ("url", "…"),
        read: http::read,
    },
    Kind {
        key: "mail",
        own: mail::FIELDS,
        main: ("to", "ann@example.com"),
        read: mail::read,
    },
    Kind {
        key: "sql",
        own: sql::OWN,
        main: ("statement", "DELETE FROM …"),
        read: sql::read,
    },
    Kind {
        key: "enqueue",
        own: enqueue::OWN,
        main: ("type", "task:report"),
        read: enqueue::read,
    },
    Kind {
        key: "publish",
        own: publish::OWN,
        main: ("exchange", "events"),
        read: publish::read,
    },
    Kind {
        key: "wasm",
        own: wasm::OWN,
        main: ("module", "/srv/functions/thumbnail.wasm"),
        read: wasm::read,
    },
];

/// The keys that say what to run.
pub fn keys() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.key).collect()
}

/// Reads the one kind of a function.
pub fn read_kind(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let given: Vec<(&Kind, &Field<'_>)> = KINDS
        .iter()
        .filter_map(|kind| fields.peek(kind.key).map(|field| (kind, field)))
        .collect();
    match given.as_slice() {
        [] => {
            let text = format!("nothing to run: add one of {}", one_of(&keys()));
            report.error("E130", fields.mark, text);
            None
        }
        [(kind, _)] => {
            let field = fields.get(kind.key, report)?;
            (kind.read)(field, report)
        }
        [(first, a), (second, b), ..] => {
            let text = format!(
                "both \"{}\" (line {}) and \"{}\" (line {}) are set; keep one",
                first.key, a.key.line, second.key, b.key.line
            );
            report.error("E131", b.key, text);
            None
        }
    }
}

/// What is doubtful about a function as it is written, each with what would be right.
pub fn doubts(kind: &FunctionKind) -> Vec<(String, String)> {
    match kind {
        FunctionKind::Exec(spec) => exec_doubts::doubts(spec),
        FunctionKind::Handler { .. }
        | FunctionKind::Http(_)
        | FunctionKind::Mail(_)
        | FunctionKind::Sql(_)
        | FunctionKind::Enqueue(_)
        | FunctionKind::Publish(_)
        | FunctionKind::Wasm(_) => Vec::new(),
    }
}
