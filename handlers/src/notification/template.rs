//! The calls of channels that speak a service's own language, as data: an address and a body with places for values. Which
//! services there are is written in a file, not here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runner_core::notification::{Notification, NotifyOn};
use runner_core::template::{JsonTemplate, Template, Values};
use serde_json::Value;

use super::escape::Escapes;
use super::sign::RobotSignature;

/// The values of a notification that templates name. `action` is `resolve` for a recovery, else `trigger`; `subject` is the same
/// for all that concerns one schedule, function or workflow.
pub const NOTIFICATION_VALUES: [&str; 13] = [
    "title", "text", "event", "at", "function", "schedule", "task", "queue", "workflow", "error", "link", "action",
    "subject",
];

/// The keys of a channel that templates name.
pub const CHANNEL_VALUES: [&str; 4] = ["url", "token", "key", "to"];

/// The values of a notification that an address may have: none that holds what a function printed.
const URL_VALUES: [&str; 2] = ["event", "action"];

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
    /// How the values of a notification are written.
    pub escape: Escapes,
    /// How a call is signed if the channel states a secret.
    pub sign: Option<RobotSignature>,
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

    /// The first name in its address that may not be there.
    #[must_use]
    pub fn unfit_in_url(&self) -> Option<String> {
        let fit = |name: &&str| URL_VALUES.contains(name) || CHANNEL_VALUES.contains(name);
        names_in(std::iter::once(&self.url))
            .find(|name| !fit(name))
            .map(str::to_owned)
    }

    /// Whether the service opens an incident and closes it when it is over.
    pub(super) fn has_incidents(&self) -> bool {
        self.names().any(|name| name == "action")
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        names_in(std::iter::once(&self.url).chain(self.body.templates()))
    }
}

fn names_in<'a>(all: impl Iterator<Item = &'a Template>) -> impl Iterator<Item = &'a str> {
    all.flat_map(Template::places)
        .filter_map(|path| path.first().map(String::as_str))
}

/// What a template is filled with.
pub(super) struct TemplateValues<'a> {
    pub(super) notification: &'a Notification,
    /// Whether the incident is opened or closed.
    pub(super) action: &'static str,
    pub(super) escape: &'a Escapes,
    /// Of the channel.
    pub(super) own: &'a BTreeMap<String, String>,
}

impl Values for TemplateValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [name] = path else { return None };
        let all = self.notification;
        let plain = |text: &str| Some(Value::from(self.escape.apply(text)));
        let optional = |text: &Option<String>| text.as_deref().map_or(Some(Value::Null), plain);
        match name.as_str() {
            "title" => plain(&all.title),
            "text" => plain(&all.text),
            "event" => Some(all.event.as_str().into()),
            "at" => Some(all.at.to_string().into()),
            "function" => optional(&all.function),
            "schedule" => optional(&all.schedule),
            "task" => optional(&all.task),
            "queue" => optional(&all.queue),
            "workflow" => optional(&all.workflow),
            "error" => optional(&all.error),
            "link" => optional(&all.link),
            "action" => Some(self.action.into()),
            "subject" => plain(&subject(all)),
            other => self.own.get(other).map(|text| text.as_str().into()),
        }
    }
}

/// That closes an incident.
pub(super) const RESOLVE: &str = "resolve";

pub(super) fn action(event: NotifyOn) -> &'static str {
    match event {
        NotifyOn::Recovery => RESOLVE,
        _ => "trigger",
    }
}

/// What an incident is about. A workflow may have the name of a function as its id, so it is `workflow:ID`.
pub(super) fn subject(all: &Notification) -> Cow<'_, str> {
    match (all.function.as_ref().or(all.schedule.as_ref()), &all.workflow) {
        (Some(name), _) => name.into(),
        (None, Some(id)) => format!("workflow:{id}").into(),
        (None, None) => all.event.as_str().into(),
    }
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
            escape: Escapes::new(vec![("<".to_owned(), "&lt;".to_owned())]),
            sign: None,
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
        let notification = Notification::new("c", NotifyOn::Recovery, Timestamp::UNIX_EPOCH, "{{ not a <place> }}");
        let values = TemplateValues {
            notification: &notification,
            action: action(notification.event),
            escape: &template.escape,
            own: &own,
        };
        assert_eq!(template.url.text(&values).unwrap(), "https://x/bott");
        let body = template.body.value(&values).unwrap();
        assert_eq!(
            body,
            json!({"chat": "7", "text": "recovery: {{ not a &lt;place> }}", "at": null})
        );
        assert_eq!(
            (action(notification.event), &*subject(&notification)),
            ("resolve", "recovery")
        );
    }

    #[test]
    fn a_workflow_and_a_function_of_one_name_are_two_subjects() {
        let mut all = Notification::new("c", NotifyOn::Recovery, Timestamp::UNIX_EPOCH, "t");
        all.workflow = Some("nightly".to_owned());
        assert_eq!(subject(&all), "workflow:nightly");
        all.function = Some("nightly".to_owned());
        assert_eq!(subject(&all), "nightly");
    }

    #[test]
    fn what_a_function_printed_is_in_no_address() {
        let mut service = template(json!({"action": "{{ action }}"}));
        assert!(service.has_incidents() && service.unfit_in_url().is_none());
        service.url = Template::parse("{{ url }}/{{ event }}?e={{ error }}").unwrap();
        assert_eq!(service.unfit_in_url().as_deref(), Some("error"));
        assert!(!template(json!("{{ text }}")).has_incidents());
    }

    #[test]
    fn a_name_that_nothing_has_is_found() {
        assert_eq!(
            template(json!({"x": ["{{ txet }}"]})).unknown().as_deref(),
            Some("txet")
        );
    }
}
