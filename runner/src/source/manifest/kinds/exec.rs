//! Reads `exec`: a command.

use std::path::PathBuf;
use std::time::Duration;

use runner_core::function::{ExecResult, ExecSpec, FunctionKind, Shell};

use super::{exec_doubts, exec_limits};
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// What runs a script that names no interpreter.
const DEFAULT_INTERPRETER: &str = "sh";

/// The longest time a command may be given to end after it was asked to.
const MAX_KILL_AFTER: Duration = Duration::from_secs(600);

/// What may stand under it.
pub(super) const FIELDS: &[&str] = &[
    "command",
    "shell",
    "script",
    "interpreter",
    "cwd",
    "env",
    "inherit_env",
    "stdin",
    "result",
    "exit_codes",
    "kill_after",
    "user",
    "umask",
    "limits",
];

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    read_spec(field, report).map(FunctionKind::Exec)
}

fn read_spec(field: &Field<'_>, report: &mut Report<'_>) -> Option<ExecSpec> {
    // A plain list is the command: the most common function needs no nesting.
    if let Value::List(_) = field.node.value {
        return read_command(field, None, report).map(ExecSpec::new);
    }
    if let Value::Text(text) = &field.node.value {
        let message = format!("exec must be a list of strings or a map, found {}", quoted(text));
        report.error("E301", field.node.mark, message).hint = Some(exec_doubts::instead_of(text));
        return None;
    }
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let mut spec = ExecSpec::new(Vec::<String>::new());
    read_program(&map, &mut spec, report);
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
    exec_limits::read(&map, &mut spec, report);
    Some(spec)
}

/// What to start: a command or a script.
fn read_program(map: &Fields<'_>, spec: &mut ExecSpec, report: &mut Report<'_>) {
    if let Some(f) = map.get("shell", report) {
        spec.shell = read_shell(f, report);
    }
    match (map.peek("command"), map.peek("script")) {
        (Some(_), Some(script)) => {
            let text = "exec.command and exec.script are both set; keep one";
            report.error("E301", script.key, text);
            return;
        }
        (None, None) => {
            report.error("E301", map.mark, "exec.command or exec.script is required");
            return;
        }
        _ => (),
    }
    if let Some(f) = map.get("command", report) {
        spec.command = read_command(f, spec.shell, report).unwrap_or_default();
    }
    if let Some(f) = map.get("script", report) {
        spec.script = f.text("E301", report).map(str::to_owned);
        spec.command = interpreter_of(spec.script.as_deref().unwrap_or_default());
        if let Some(shell) = map.peek("shell") {
            report
                .error("E305", shell.key, "exec.shell has no effect beside exec.script")
                .hint = Some("write interpreter: bash".to_owned());
        }
    }
    if let Some(f) = map.get("interpreter", report) {
        if map.peek("script").is_none() {
            let text = "exec.interpreter has no effect without exec.script";
            report.error("E305", f.key, text);
        }
        spec.command = read_interpreter(f, report).unwrap_or_default();
    }
}

/// The interpreter that the first line of a script names, with its one option, as the kernel reads it; otherwise `sh`.
fn interpreter_of(script: &str) -> Vec<String> {
    let named = script.lines().next().and_then(|line| line.strip_prefix("#!"));
    let words = named.map(|line| {
        let (program, option) = line.trim().split_once([' ', '\t']).unwrap_or((line.trim(), ""));
        [program, option.trim()].map(str::to_owned)
    });
    let words: Vec<String> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => vec![DEFAULT_INTERPRETER.to_owned()],
        false => words,
    }
}

/// A program, or a program and its options.
fn read_interpreter(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    if let Value::List(_) = field.node.value {
        return read_command(field, None, report);
    }
    let text = field.text("E305", report)?;
    if text.contains(char::is_whitespace) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let message = format!("{} must be one program, found {}", field.path, quoted(text));
        report.error("E305", field.node.mark, message).hint = Some(format!("write [{}]", words.join(", ")));
        return None;
    }
    Some(vec![text.to_owned()])
}

/// `true`, `false` or the name of a shell.
fn read_shell(field: &Field<'_>, report: &mut Report<'_>) -> Option<Shell> {
    if let Value::Bool(flag) = field.node.value {
        return flag.then_some(Shell::Sh);
    }
    let words = [("sh", Shell::Sh), ("bash", Shell::Bash)];
    match &field.node.value {
        Value::Text(_) => field.word("E305", &words, report),
        _ => field.mismatch("E305", "true, false, sh or bash", report),
    }
}

fn read_command(field: &Field<'_>, shell: Option<Shell>, report: &mut Report<'_>) -> Option<Vec<String>> {
    if shell.is_some() {
        return field.text("E301", report).map(|script| vec![script.to_owned()]);
    }
    if let Value::Text(text) = &field.node.value {
        field.mismatch::<()>("E301", "a list of strings", report);
        report.hint_last(exec_doubts::beside_shell(text));
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

pub(super) fn check_variables<'v>(field: &Field<'_>, names: impl Iterator<Item = &'v String>, report: &mut Report<'_>) {
    for name in names {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
            let text = format!("{}: {} is not a name of a variable", field.path, quoted(name));
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
