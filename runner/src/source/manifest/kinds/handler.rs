//! Reads `handler`: the type of the tasks, which code runs.

use runner_core::function::FunctionKind;

use super::MAX_TASK_TYPE;
use crate::text::{Field, Report, quoted};

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
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
