//! What the templates of a function are filled with: fields of the payload, and facts about the task.

use runner_core::function::TemplateScope;
use runner_sdk::Ctx;

/// Task headers in which the scheduler describes the occurrence, and their names in templates.
const OCCASION: [(&str, &str); 6] = [
    ("runner-schedule-id", "schedule.id"),
    ("runner-scheduled-at", "fire.scheduled_at"),
    ("runner-interval-start", "fire.interval_start"),
    ("runner-fire-kind", "fire.kind"),
    ("runner-catch-up", "fire.catch_up"),
    ("runner-missed", "fire.missed"),
];

/// Everything that a template may name: the same for all attempts of a task.
pub(crate) fn of(cx: &Ctx, function: &str) -> TemplateScope {
    let mut scope = TemplateScope::of_payload(cx.payload());
    for (header, name) in OCCASION {
        if let Some(value) = cx.headers().get(header) {
            scope.set(name, value.as_str());
        }
    }
    scope.set("function.name", function);
    scope.set("task.id", cx.id().as_str());
    scope.set("task.type", cx.kind());
    scope.set("task.queue", cx.queue().as_str());
    scope
}

#[cfg(test)]
mod tests {
    use runner_core::function::{FunctionTemplate, TEMPLATE_NAMES};

    use super::OCCASION;

    #[test]
    fn every_name_of_templates_has_a_source() {
        let of_task = ["function.name", "task.id", "task.type", "task.queue"];
        for name in TEMPLATE_NAMES {
            let known = of_task.contains(&name) || OCCASION.iter().any(|(_, known)| *known == name);
            assert!(known, "{name}");
            assert!(FunctionTemplate::parse(&format!("{{{{ {name} }}}}")).is_ok(), "{name}");
        }
    }
}
