//! Reads `after`: another function, whose tasks start this one when they have ended.
//!
//! Whether the other function exists, and whether functions start each other in a circle, shows only when all manifests are
//! read: `source::after`.

use std::collections::BTreeMap;

use runner_core::trigger::{AfterTrigger, ENDED_VALUES, FollowOn, TriggerKind};

use super::TriggerContext;
use super::template::EventValues;
use crate::source::manifest::places::{MAX_FUNCTION_NAME, is_name};
use crate::text::{Field, Fields, Report, quoted};

/// The code of what cannot be used.
const CODE: &str = "E147";

/// What templates can name.
const VALUES: EventValues = EventValues {
    root: "after",
    event: "the end of a task",
    names: &ENDED_VALUES,
    maps: &["payload", "result"],
};

pub(super) fn read(field: &Field<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> Option<TriggerKind> {
    let map = Fields::read(field.node, &field.path, &["function", "on", "payload"], report)?;
    let function = match map.get("function", report) {
        Some(f) => read_function(f, report),
        None => {
            if map.peek("function").is_none() {
                let text = format!(
                    "{}.function is required: the function that this one follows",
                    field.path
                );
                report.error(CODE, map.mark, text);
            }
            None
        }
    };
    let on = map
        .get("on", report)
        .and_then(|f| f.word(CODE, &FollowOn::WORDS, report));
    let payload = map
        .get("payload", report)
        .and_then(|f| VALUES.payload(f, context.payload, report));
    Some(TriggerKind::After(AfterTrigger {
        function: function?,
        follows: BTreeMap::new(),
        on: on.unwrap_or_default(),
        payload,
    }))
}

fn read_function(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let name = field.text(CODE, report)?;
    if is_name(&name.replace('*', "x"), MAX_FUNCTION_NAME) {
        return Some(name.to_owned());
    }
    let text = format!(
        "{} {} is not the name of a function, nor a pattern of names such as billing.*",
        field.path,
        quoted(name)
    );
    let hint = name.strip_prefix("fn:").map(|name| format!("write {name}"));
    report.error(CODE, field.node.mark, text).hint = hint;
    None
}
