//! What `runner check` says about options that manifests leave out: which defaults apply.
//!
//! Users of cron expect neither retries nor a time limit, and learn of both here before the first failure.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::duration;
use runner_core::function::{FUNCTION_MAX_RETRY, FUNCTION_TIMEOUT, Function};
use runner_core::task::{Backoff, DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT};

/// The most functions that a note names; a directory may hold thousands.
const NAMED: usize = 10;

/// One note for each set of defaults that apply to any of these functions.
pub(super) fn notes(functions: &[&Function]) -> Vec<String> {
    let mut by_default: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for function in functions {
        if let Some(defaults) = of(function) {
            by_default.entry(defaults).or_default().push(&function.name);
        }
    }
    let notes = by_default.into_iter();
    notes
        .map(|(defaults, names)| format!("{defaults}: {}", listed(&names)))
        .collect()
}

/// The defaults that apply to a function, or nothing if it states all options itself.
fn of(function: &Function) -> Option<String> {
    let is_handler = function.kind.handler_type().is_some();
    let (retry, limit) = match is_handler {
        true => (
            format!("retry {DEFAULT_MAX_RETRY} (over about 20 days)"),
            DEFAULT_TIMEOUT,
        ),
        false => (format!("retry {FUNCTION_MAX_RETRY} ({})", delays()), FUNCTION_TIMEOUT),
    };
    let options = &function.options;
    let retry = options.max_retry.is_none().then_some(retry);
    let timeout = options.timeout.is_none().then(|| format!("timeout {}", short(limit)));
    let open: Vec<String> = retry.into_iter().chain(timeout).collect();
    let whose = if is_handler {
        "default of handlers, as in asynq"
    } else {
        "default"
    };
    (!open.is_empty()).then(|| format!("{} by {whose}", open.join(" and ")))
}

fn delays() -> String {
    let steps = Backoff::Function.steps(FUNCTION_MAX_RETRY).unwrap_or_default();
    let steps: Vec<String> = steps.into_iter().map(short).collect();
    format!("about {} after a failure", steps.join(" and "))
}

/// As people write it in a manifest: `1h`, not `1h0m0s`.
fn short(length: Duration) -> String {
    let text = duration::format(length);
    let text = text.strip_suffix("m0s").map_or(text.clone(), |rest| format!("{rest}m"));
    text.strip_suffix("h0m").map_or(text.clone(), |rest| format!("{rest}h"))
}

fn listed(names: &[&str]) -> String {
    let shown = names.len().min(NAMED);
    let (shown, rest) = names.split_at(shown);
    let more = match rest.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use runner_core::function::{ExecSpec, FunctionKind, FunctionOptions, HttpSpec};

    use super::*;

    fn function(name: &str, kind: FunctionKind, options: FunctionOptions) -> Function {
        Function {
            name: name.to_owned(),
            description: String::new(),
            kind,
            options,
            payload: None,
            payload_schema: None,
            limits: Vec::new(),
            notify: Default::default(),
            revision: String::new(),
        }
    }

    #[test]
    fn what_a_manifest_leaves_open_is_named_with_its_value() {
        let exec = || FunctionKind::Exec(ExecSpec::new(["true"]));
        let said = FunctionOptions {
            max_retry: Some(0),
            timeout: Some(DEFAULT_TIMEOUT),
            ..FunctionOptions::default()
        };
        let half = FunctionOptions {
            max_retry: Some(5),
            ..FunctionOptions::default()
        };
        let kind = "task:x".to_owned();
        let functions = [
            function("backup", exec(), FunctionOptions::default()),
            function(
                "ping",
                FunctionKind::Http(HttpSpec::new("http://h/")),
                FunctionOptions::default(),
            ),
            function("all-said", exec(), said),
            function("half", exec(), half),
            function("go", FunctionKind::Handler { kind }, FunctionOptions::default()),
        ];
        assert_eq!(
            notes(&functions.iter().collect::<Vec<_>>()),
            [
                "retry 2 (about 1m and 5m after a failure) and timeout 1h by default: backup, ping",
                "retry 25 (over about 20 days) and timeout 30m by default of handlers, as in asynq: go",
                "timeout 1h by default: half",
            ]
        );
        let many: Vec<Function> = (0..12)
            .map(|n| function(&n.to_string(), exec(), FunctionOptions::default()))
            .collect();
        let notes = notes(&many.iter().collect::<Vec<_>>());
        assert!(notes[0].ends_with(", 9 and 2 more"), "{notes:?}");
    }
}
