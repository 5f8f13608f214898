//! What a function runs: exactly one of `handler`, `exec` and `http`, with its options.

use std::path::PathBuf;
use std::time::Duration;

use runner_core::function::{ExecResult, ExecSpec, FunctionKind, HttpBody, HttpSpec};

use super::command;
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, one_of, quoted};

/// The longest task type, in characters, as in the column of the table and then some.
pub const MAX_TASK_TYPE: usize = 100;

/// The longest time a command may be given to end after it was asked to.
const MAX_KILL_AFTER: Duration = Duration::from_secs(600);

/// The fields that say what to run.
pub const ACTIONS: [&str; 3] = ["handler", "exec", "http"];

/// Reads the one action of a function.
pub fn read_action(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let given: Vec<(&str, &Field<'_>)> = ACTIONS
        .iter()
        .filter_map(|name| fields.peek(name).map(|field| (*name, field)))
        .collect();
    match given.as_slice() {
        [] => {
            let text = format!("nothing to run: add one of {}", one_of(&ACTIONS));
            report.error("E130", fields.mark, text);
            None
        }
        [(name, _)] => {
            let field = fields.get(name, report)?;
            match *name {
                "handler" => read_handler(field, report),
                "exec" => read_exec(field, report).map(FunctionKind::Exec),
                _ => read_http(field, report).map(FunctionKind::Http),
            }
        }
        [(first, a), (second, b), ..] => {
            let text = format!(
                "both \"{first}\" (line {}) and \"{second}\" (line {}) are set; keep one",
                a.key.line, b.key.line
            );
            report.error("E131", b.key, text);
            None
        }
    }
}

fn read_handler(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let kind = field.text("E132", report)?.trim();
    if kind.chars().count() > MAX_TASK_TYPE || kind.chars().any(char::is_control) {
        let text = format!(
            "handler {} must be at most {MAX_TASK_TYPE} characters on one line",
            quoted(kind)
        );
        report.error("E132", field.node.mark, text);
        return None;
    }
    Some(FunctionKind::Handler { kind: kind.to_owned() })
}

const EXEC_FIELDS: [&str; 9] = [
    "command",
    "shell",
    "cwd",
    "env",
    "inherit_env",
    "stdin",
    "result",
    "exit_codes",
    "kill_after",
];

fn read_exec(field: &Field<'_>, report: &mut Report<'_>) -> Option<ExecSpec> {
    // A plain list is the command: the commonest function needs no nesting.
    if let Value::List(_) = field.node.value {
        return read_command(field, false, report).map(ExecSpec::new);
    }
    if let Value::Text(text) = &field.node.value {
        let message = format!("exec must be a list of strings or a map, found {}", quoted(text));
        report.error("E301", field.node.mark, message).hint = Some(command::instead_of(text));
        return None;
    }
    let map = Fields::read(field.node, &field.path, &EXEC_FIELDS, report)?;
    let mut spec = ExecSpec::new(Vec::<String>::new());
    if let Some(f) = map.get("shell", report) {
        spec.shell = f.flag("E305", report).unwrap_or_default();
    }
    match map.get("command", report) {
        Some(f) => spec.command = read_command(f, spec.shell, report).unwrap_or_default(),
        None if map.peek("command").is_none() => {
            report.error("E301", map.mark, "exec.command is required");
        }
        None => (),
    }
    read_surroundings(&map, &mut spec, report);
    if let Some(f) = map.get("stdin", report) {
        let words = [("payload", true), ("none", false)];
        spec.stdin_payload = f.word("E305", &words, report).unwrap_or_default();
    }
    if let Some(f) = map.get("result", report) {
        let words = [
            ("file", ExecResult::File),
            ("stdout", ExecResult::Stdout),
            ("none", ExecResult::None),
        ];
        spec.result = f.word("E305", &words, report).unwrap_or_default();
    }
    if let Some(f) = map.get("exit_codes", report) {
        read_exit_codes(f, &mut spec, report);
    }
    if let Some(f) = map.get("kill_after", report)
        && let Some(d) = f.seconds("E305", Duration::ZERO..=MAX_KILL_AFTER, report)
    {
        spec.kill_after = d;
    }
    Some(spec)
}

fn read_command(field: &Field<'_>, shell: bool, report: &mut Report<'_>) -> Option<Vec<String>> {
    if shell {
        return field.text("E301", report).map(|script| vec![script.to_owned()]);
    }
    if let Value::Text(text) = &field.node.value {
        field.mismatch::<()>("E301", "a list of strings", report);
        report.hint_last(command::beside_shell(text));
        return None;
    }
    let command = field.texts("E301", report)?;
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        let text = format!("{} must begin with a program", field.path);
        report.error("E301", field.node.mark, text);
        return None;
    }
    Some(command)
}

fn read_surroundings(map: &Fields<'_>, spec: &mut ExecSpec, report: &mut Report<'_>) {
    if let Some(f) = map.get("cwd", report)
        && let Some(path) = f.text("E305", report)
        && path != "temp"
    {
        if !path.starts_with('/') {
            let text = format!("exec.cwd must be \"temp\" or an absolute path, found {}", quoted(path));
            report.error("E305", f.node.mark, text);
        }
        spec.cwd = Some(PathBuf::from(path));
    }
    if let Some(f) = map.get("env", report) {
        spec.env = f.text_map("E305", report).unwrap_or_default();
        check_variables(f, spec.env.keys(), report);
    }
    if let Some(f) = map.get("inherit_env", report) {
        spec.inherit_env = f.texts("E305", report).unwrap_or_default();
        check_variables(f, spec.inherit_env.iter(), report);
    }
}

fn check_variables<'v>(field: &Field<'_>, names: impl Iterator<Item = &'v String>, report: &mut Report<'_>) {
    for name in names {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
            let text = format!("{}: {} is no name of a variable", field.path, quoted(name));
            report.error("E305", field.node.mark, text);
        }
    }
}

fn read_exit_codes(field: &Field<'_>, spec: &mut ExecSpec, report: &mut Report<'_>) {
    let known = ["success", "retry", "fatal", "revoke"];
    let Some(map) = Fields::read(field.node, &field.path, &known, report) else {
        return;
    };
    let codes = &mut spec.exit_codes;
    for (name, list) in [
        ("success", &mut codes.success),
        ("retry", &mut codes.retry),
        ("fatal", &mut codes.fatal),
        ("revoke", &mut codes.revoke),
    ] {
        let Some(f) = map.get(name, report) else { continue };
        let Value::List(items) = &f.node.value else {
            f.mismatch::<()>("E305", "a list of numbers 0-255", report);
            continue;
        };
        list.clear();
        for item in items {
            match item.value {
                Value::Int(code @ 0..=255) => list.push(i32::try_from(code).unwrap_or_default()),
                _ => {
                    let text = format!("{}: an exit code is 0-255, found {}", f.path, item.value.describe());
                    report.error("E305", item.mark, text);
                }
            }
        }
    }
}

const HTTP_FIELDS: [&str; 6] = ["method", "url", "headers", "body", "success", "retry_on"];

fn read_http(field: &Field<'_>, report: &mut Report<'_>) -> Option<HttpSpec> {
    if let Value::Text(url) = &field.node.value {
        let url = url.trim();
        check_url(field, url, report);
        return Some(HttpSpec::new(url));
    }
    let map = Fields::read(field.node, &field.path, &HTTP_FIELDS, report)?;
    let mut spec = HttpSpec::new("");
    match map.get("url", report) {
        Some(f) => {
            if let Some(url) = f.text("E310", report) {
                spec.url = url.trim().to_owned();
                check_url(f, &spec.url, report);
            }
        }
        None if map.peek("url").is_none() => {
            report.error("E310", map.mark, "http.url is required");
        }
        None => (),
    }
    if let Some(f) = map.get("method", report) {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let words = METHODS.map(|m| (m, m));
        if let Some(method) = f.word("E312", &words, report) {
            method.clone_into(&mut spec.method);
        }
    }
    if let Some(f) = map.get("headers", report) {
        spec.headers = f.text_map("E312", report).unwrap_or_default();
        check_headers(f, &spec, report);
    }
    if let Some(f) = map.peek("body") {
        spec.body = match &f.node.value {
            Value::Text(text) if text == "payload" => HttpBody::Payload,
            Value::Text(text) if text == "none" => HttpBody::None,
            Value::Null => HttpBody::None,
            Value::Text(text) => HttpBody::Text(text.clone()),
            _ => f
                .mismatch("E312", "payload, none or a text", report)
                .unwrap_or_default(),
        };
    }
    if let Some(f) = map.get("success", report) {
        spec.success = read_statuses(f, report);
    }
    if let Some(f) = map.get("retry_on", report) {
        spec.retry_on = read_statuses(f, report);
    }
    Some(spec)
}

fn check_url(field: &Field<'_>, url: &str, report: &mut Report<'_>) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_some_and(|h| h.contains('@')) {
        // Neither the value nor its line is shown: it may hold a password.
        let text = "http.url must not hold a user or a password; use headers";
        report.error("E310", field.node.mark, text);
        report.hide_line(field.node.mark);
        return;
    }
    let wrong = match host {
        None => "must be http:// or https://",
        Some("") => "has no host",
        Some(_) if url.chars().any(|c| c.is_whitespace() || c.is_control()) => "must not hold white space",
        Some(_) => return,
    };
    report.error("E310", field.node.mark, format!("http.url {} {wrong}", quoted(url)));
}

fn check_headers(field: &Field<'_>, spec: &HttpSpec, report: &mut Report<'_>) {
    for (name, value) in &spec.headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let wrong = if name.is_empty() || !name.chars().all(token) {
            "is no name of a header"
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            "has a control character in its value"
        } else if ["host", "content-length", "transfer-encoding", "connection"].contains(&name.to_lowercase().as_str())
        {
            "cannot be set"
        } else {
            continue;
        };
        let text = format!("{}: {} {wrong}", field.path, quoted(name));
        report.error("E312", field.node.mark, text);
    }
}

/// A list of statuses and ranges: `[200, 500-599]`.
fn read_statuses(field: &Field<'_>, report: &mut Report<'_>) -> Vec<(u16, u16)> {
    let Value::List(items) = &field.node.value else {
        field.mismatch::<()>("E312", "a list such as [200, 500-599]", report);
        return Vec::new();
    };
    let status = |n: &str| n.trim().parse().ok().filter(|s| (100..=599).contains(s));
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let range = match &item.value {
            Value::Int(n) => status(&n.to_string()).map(|s: u16| (s, s)),
            Value::Text(t) => t
                .split_once('-')
                .map_or_else(
                    || Some((status(t)?, status(t)?)),
                    |(a, b)| Some((status(a)?, status(b)?)),
                )
                .filter(|(a, b)| a <= b),
            _ => None,
        };
        match range {
            Some(range) => ranges.push(range),
            None => {
                let text = format!(
                    "{}: expected a status 100-599 or a range, found {}",
                    field.path,
                    item.value.describe()
                );
                report.error("E312", item.mark, text);
            }
        }
    }
    ranges
}
