//! The calls of channels that speak a service's own language, as data: an address and a body with places for values. Which
//! services there are is written in a file, not here.

use std::collections::BTreeMap;

use runner_core::notification::{Notification, NotifyOn};
use runner_core::template::{JsonTemplate, Template, Values};
use serde_json::Value;

/// The values of a notification that templates name. `action` is `resolve` for a recovery, else `trigger`; `subject` is the same
/// for all that concerns one schedule or function.
pub const NOTIFICATION_VALUES: [&str; 11] = [
    "title", "text", "event", "at", "function", "schedule", "task", "queue", "error", "action", "subject",
];

/// The keys of a channel that templates name.
pub const CHANNEL_VALUES: [&str; 4] = ["url", "token", "key", "to"];

/// How a service is called.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelTemplate {
    /// The address.
    pub url: Template,
    /// The body, sent as JSON.
    pub body: JsonTemplate,
    /// Values of keys that the channel does not state.
    pub defaults: BTreeMap<String, String>,
    /// What the answer must say besides its status: a member of the JSON, and its value.
    pub accept: Option<(String, Value)>,
}

impl ChannelTemplate {
    /// The keys that a channel must state.
    #[must_use]
    pub fn needs(&self) -> Vec<&'static str> {
        let named: Vec<&str> = self.names().collect();
        let needed = CHANNEL_VALUES.iter().copied();
        needed
            .filter(|key| named.contains(key) && !self.defaults.contains_key(*key))
            .collect()
    }

    /// The first name in it that no notification and no channel has.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        let known = |name: &&str| NOTIFICATION_VALUES.contains(name) || CHANNEL_VALUES.contains(name);
        self.names().find(|name| !known(name)).map(str::to_owned)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let all = std::iter::once(&self.url).chain(self.body.templates());
        all.flat_map(Template::places)
            .filter_map(|path| path.first().map(String::as_str))
    }
}

/// What a template is filled with.
pub(super) struct TemplateValues<'a> {
    pub(super) notification: &'a Notification,
    /// Of the channel.
    pub(super) own: &'a BTreeMap<String, String>,
}

impl Values for TemplateValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [name] = path else { return None };
        let all = self.notification;
        let optional = |text: &Option<String>| Some(text.as_deref().map_or(Value::Null, Value::from));
        match name.as_str() {
            "title" => Some(all.title.as_str().into()),
            "text" => Some(all.text.as_str().into()),
            "event" => Some(all.event.as_str().into()),
            "at" => Some(all.at.to_string().into()),
            "function" => optional(&all.function),
            "schedule" => optional(&all.schedule),
            "task" => optional(&all.task),
            "queue" => optional(&all.queue),
            "error" => optional(&all.error),
            "action" => Some(action(all.event).into()),
            "subject" => Some(subject(all).into()),
            other => self.own.get(other).map(|text| text.as_str().into()),
        }
    }
}

fn action(event: NotifyOn) -> &'static str {
    match event {
        NotifyOn::Recovery => "resolve",
        _ => "trigger",
    }
}

fn subject(all: &Notification) -> &str {
    let named = all.function.as_deref().or(all.schedule.as_deref());
    named.unwrap_or(all.event.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn template(body: Value) -> ChannelTemplate {
        ChannelTemplate {
            url: Template::parse("{{ url }}/bot{{ token }}").unwrap(),
            body: JsonTemplate::new(body).unwrap(),
            defaults: BTreeMap::from([("url".to_owned(), "https://x".to_owned())]),
            accept: None,
        }
    }

    #[test]
    fn values_of_notification_and_channel_are_filled_in() {
        let template = template(json!({"chat": "{{ to }}", "text": "{{ event }}: {{ text }}", "at": "{{ task }}"}));
        assert_eq!(template.needs(), ["token", "to"]);
        assert_eq!(template.unknown(), None);
        let own = BTreeMap::from([
            ("to".to_owned(), "7".to_owned()),
            ("token".to_owned(), "t".to_owned()),
            ("url".to_owned(), "https://x".to_owned()),
        ]);
        let notification = Notification::new("c", NotifyOn::Recovery, Timestamp::UNIX_EPOCH, "{{ not a place }}");
        let values = TemplateValues {
            notification: &notification,
            own: &own,
        };
        assert_eq!(template.url.text(&values).unwrap(), "https://x/bott");
        let body = template.body.value(&values).unwrap();
        assert_eq!(
            body,
            json!({"chat": "7", "text": "recovery: {{ not a place }}", "at": null})
        );
        assert_eq!(
            (action(notification.event), subject(&notification)),
            ("resolve", "recovery")
        );
    }

    #[test]
    fn a_name_that_nothing_has_is_found() {
        assert_eq!(
            template(json!({"x": ["{{ txet }}"]})).unknown().as_deref(),
            Some("txet")
        );
    }
}
