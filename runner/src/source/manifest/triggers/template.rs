//! Templates of triggers: texts and payloads that name values of an event. Which values an event has, its kind says.

use runner_core::template::{JsonTemplate, MAX_TEMPLATE, Template, TemplateFault};
use serde_json::Value as Json;

use crate::source::manifest::payload::ManifestPayload;
use crate::text::yaml::Value;
use crate::text::{Field, Report, nearest, quoted};

/// The code of templates that cannot be used.
const TEMPLATE: &str = "E144";

/// The values of one kind of event.
pub(super) struct EventValues {
    /// What their names begin with: `message`.
    pub(super) root: &'static str,
    /// The event in errors: `a message`.
    pub(super) event: &'static str,
    /// Their names, after the root.
    pub(super) names: &'static [&'static str],
    /// Those whose members can be named too.
    pub(super) maps: &'static [&'static str],
}

impl EventValues {
    /// A text with values of the event.
    pub(super) fn text(&self, field: &Field<'_>, report: &mut Report<'_>) -> Option<Template> {
        let text = field.text(TEMPLATE, report)?;
        match Template::parse(text) {
            Ok(template) => self.are_in(&template, field, report).then_some(template),
            Err(error) => {
                refuse(field, text, &error, report);
                None
            }
        }
    }

    /// The payload as a template; a map is laid over the map of the function, whose texts are no templates.
    pub(super) fn payload(
        &self,
        field: &Field<'_>,
        base: Option<&ManifestPayload>,
        report: &mut Report<'_>,
    ) -> Option<JsonTemplate> {
        if let Value::Text(text) = &field.node.value {
            if text.len() > MAX_TEMPLATE {
                let text = format!("{} has at most {MAX_TEMPLATE} bytes", field.path);
                report.error(TEMPLATE, field.node.mark, text);
                return None;
            }
            return self.text(field, report).map(JsonTemplate::Text);
        }
        let own = json(&ManifestPayload::read(field.node, &field.path, report)?);
        let template = match JsonTemplate::new(own) {
            Ok(template) => template,
            Err(error) => {
                let text = format!("template error in {}: {error}", field.path);
                report.error(TEMPLATE, field.node.mark, text);
                return None;
            }
        };
        for one in template.templates() {
            if !self.are_in(one, field, report) {
                return None;
            }
        }
        let (JsonTemplate::Object(own), Some(Json::Object(base))) = (&template, base.map(json)) else {
            return Some(template);
        };
        let kept = base
            .into_iter()
            .filter(|(key, _)| !own.iter().any(|(known, _)| known == key));
        let kept = kept.map(|(key, value)| (key, JsonTemplate::Plain(value)));
        Some(JsonTemplate::Object(kept.chain(own.iter().cloned()).collect()))
    }

    /// Whether all values that a template names are those of the event.
    fn are_in(&self, template: &Template, field: &Field<'_>, report: &mut Report<'_>) -> bool {
        for place in template.places() {
            let known = match place {
                [root, value] => root == self.root && self.names.contains(&value.as_str()),
                [root, map, ..] => root == self.root && self.maps.contains(&map.as_str()),
                _ => false,
            };
            if !known {
                let (root, event) = (self.root, self.event);
                let named = quoted(&place.join("."));
                let text = format!("template error in {}: {event} has no value {named}", field.path);
                let likely = place
                    .get(1)
                    .and_then(|value| nearest(value, self.names.iter().copied()));
                let hint = likely.map_or_else(
                    || format!("{root}. and one of {}", self.names.join(", ")),
                    |value| format!("did you mean \"{root}.{value}\"?"),
                );
                report.error(TEMPLATE, field.node.mark, text).hint = Some(hint);
                return false;
            }
        }
        true
    }
}

/// Whether a payload names this value of an event.
pub(super) fn names(payload: &JsonTemplate, value: &str) -> bool {
    let mut places = payload.templates().into_iter().flat_map(Template::places);
    places.any(|place| place.get(1).is_some_and(|named| named == value))
}

fn refuse(field: &Field<'_>, text: &str, error: &TemplateFault, report: &mut Report<'_>) {
    let place = report.inside(field.node.mark, text, error.at.clone());
    report.error(TEMPLATE, place, format!("template error in {}: {error}", field.path));
}

/// A payload that was written as JSON is JSON.
fn json(payload: &ManifestPayload) -> Json {
    serde_json::from_str(&payload.to_json()).unwrap_or_default()
}
