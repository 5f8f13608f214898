//! Reads `notify`: channels by the names that manifests use, and the rules of functions and schedules that state none.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_core::notification::{MAX_CHANNEL_NAME, NotifyOn, NotifyRules, is_channel_name};
use runner_handlers::{
    CHANNEL_VALUES, Channel, ChannelTemplate, ChannelText, Channels, DEFAULT_PER_MINUTE, LimitedChannel,
};

use super::Secret;
use super::read_services::{self, ChannelServices};
use super::section::Section;
use crate::notification::NotificationSettings;
use crate::text::{nearest, quoted};

/// The most channels.
const MAX_CHANNELS: usize = 100;

/// The most notifications of a channel in a minute.
const MAX_PER_MINUTE: u32 = 10_000;

/// Reads the section.
pub fn read(root: &Section<'_>, has_mail: bool) -> (NotificationSettings, Channels) {
    let section = root.section("notify");
    let services = own_services(&section);
    let mut channels = BTreeMap::new();
    let sections = section.named("channels", "url");
    if sections.len() > MAX_CHANNELS {
        let message = format!("notify.channels names more than {MAX_CHANNELS}");
        section.reader().error("CFG_RANGE", &section.place(), message);
    }
    let mut names = Vec::new();
    for (name, written) in sections.into_iter().take(MAX_CHANNELS) {
        check_name(&name, &written);
        let read = one(&written, &services, has_mail);
        let limit = written.number("per_minute", 1..=MAX_PER_MINUTE);
        written.finish();
        channels.extend(read.map(|channel| {
            let per_minute = limit.unwrap_or(DEFAULT_PER_MINUTE);
            (name.clone(), LimitedChannel { channel, per_minute })
        }));
        names.push(name);
    }
    let default = default_rules(&section.section("default"), &names);
    section.finish();
    let settings = NotificationSettings {
        channels: names,
        default,
        dashboard: None,
    };
    (settings, Channels::new(channels))
}

fn check_name(name: &str, section: &Section<'_>) {
    if !is_channel_name(name) {
        let message = format!(
            "notify.channels: the name {} may use letters, digits, \".\", \"_\", \"-\", at most {MAX_CHANNEL_NAME}",
            quoted(name)
        );
        section.reader().error("CFG_NOTIFY", &section.place(), message);
    }
}

/// All services; those of the settings' own file among them.
fn own_services(section: &Section<'_>) -> ChannelServices {
    let file = section.path("kinds");
    let own = file.as_ref().map(|found| read_services::read_file(&found.value));
    let text = own.transpose();
    let read = text.and_then(|text| read_services::services(text.as_deref()));
    read.unwrap_or_else(|why| {
        let place = file
            .as_ref()
            .map_or_else(|| section.place(), |found| found.place.clone());
        let name = file.map_or_else(String::new, |found| found.value.display().to_string());
        let message = format!("notify.kinds {name}: {why}");
        section.reader().error("CFG_NOTIFY", &place, message);
        // One mistake is reported, and not each channel of a built-in kind as well.
        read_services::services(None).unwrap_or_default()
    })
}

fn one(section: &Section<'_>, services: &ChannelServices, has_mail: bool) -> Option<Channel> {
    let kind = section.text("kind");
    match kind.as_ref().map_or("webhook", |found| found.value.as_str()) {
        "webhook" => {
            let url = required(section, "url");
            let secret = section.late_secret("secret").map(|found| text(found.value));
            Some(Channel::Webhook { url: url?, secret })
        }
        "mail" => mail(section, has_mail),
        name => match services.get(name) {
            Some(service) => of_service(section, service),
            None => {
                let place = kind
                    .as_ref()
                    .map_or_else(|| section.place(), |found| found.place.clone());
                let known = ["webhook", "mail"]
                    .into_iter()
                    .chain(services.keys().map(String::as_str));
                let known: Vec<&str> = known.collect();
                let message = format!(
                    "{} is {}, which is no kind of channel",
                    section.path_of("kind"),
                    quoted(name)
                );
                let hint = match nearest(name, known.iter().copied()) {
                    Some(likely) => format!("did you mean \"{likely}\"?"),
                    None => format!("known: {}", known.join(", ")),
                };
                section.reader().error_hint("CFG_NOTIFY", &place, message, hint);
                None
            }
        },
    }
}

fn mail(section: &Section<'_>, has_mail: bool) -> Option<Channel> {
    let to = section.texts("to").unwrap_or_default();
    let wrong = |message: String, hint: &str| {
        let place = section.place();
        section.reader().error_hint("CFG_NOTIFY", &place, message, hint);
    };
    if to.is_empty() {
        let message = format!("{} is missing", section.path_of("to"));
        wrong(message, "to: [ops@example.com]");
        return None;
    }
    if !has_mail {
        let message = format!(
            "{} sends mail, and the settings name no mail server",
            section.path_of("kind")
        );
        wrong(message, "mail: {host: smtp.example.com, fromAddr: runner@example.com}");
    }
    let made = Channel::mail(&to);
    made.map_err(|why| wrong(why, "for example ops@example.com")).ok()
}

fn of_service(section: &Section<'_>, service: &Arc<ChannelTemplate>) -> Option<Channel> {
    let needed = service.needs();
    let mut values = BTreeMap::new();
    let mut complete = true;
    for key in CHANNEL_VALUES {
        let found = match key {
            // The id of a chat is shown, and may be a number.
            "to" => section.reference(key, true),
            _ => section.late_secret(key),
        };
        match found {
            Some(found) => {
                values.insert(key.to_owned(), text(found.value));
            }
            None if needed.contains(&key) => complete &= required(section, key).is_some(),
            None => {}
        }
    }
    if service.sign.is_some()
        && let Some(secret) = section.late_secret("secret")
    {
        values.insert("secret".to_owned(), text(secret.value));
    }
    complete.then(|| Channel::Service {
        template: Arc::clone(service),
        values,
    })
}

/// A secret that a channel cannot do without.
fn required(section: &Section<'_>, key: &'static str) -> Option<ChannelText> {
    let Some(found) = section.late_secret(key) else {
        let message = format!("{} is missing", section.path_of(key));
        let hint = format!("{key}: ${{file:/run/secrets/{key}}}");
        section
            .reader()
            .error_hint("CFG_NOTIFY", &section.place(), message, hint);
        return None;
    };
    if key == "url" && !found.value.expose().is_empty() && !is_url(found.value.expose()) {
        // The text itself may hold a token.
        let message = format!("{} must begin with https:// or http://", section.path_of(key));
        section.reader().error("CFG_NOTIFY", &found.place, message);
    }
    Some(text(found.value))
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn text(secret: Secret) -> ChannelText {
    ChannelText::read_from(move || secret.read())
}

fn default_rules(section: &Section<'_>, known: &[String]) -> NotifyRules {
    let mut rules = NotifyRules::default();
    for (key, on) in NotifyOn::KEYS.into_iter().chain(NotifyOn::OWN_KEYS) {
        let Some(named) = section.list(key) else { continue };
        for found in named.iter().filter(|found| !known.contains(&found.value)) {
            let message = format!(
                "{} names the channel {}, which is not under notify.channels",
                section.path_of(key),
                quoted(&found.value)
            );
            let likely = nearest(&found.value, known.iter().map(String::as_str));
            let hint = likely.map_or_else(
                || format!("known: {}", known.join(", ")),
                |name| format!("did you mean \"{name}\"?"),
            );
            section.reader().error_hint("CFG_NOTIFY", &found.place, message, hint);
        }
        rules.set(on, named.into_iter().map(|found| found.value).collect());
    }
    rules
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, Settings};

    fn parse(text: &str) -> Result<Settings, String> {
        let read = Settings::parse("c", text, &Environment::default());
        read.map_err(|refused| format!("{refused:?}"))
    }

    #[test]
    fn channels_are_read_and_served() {
        let text = "notify:\n  channels:\n    hook: {url: 'https://h.example.com/t0ken99', secret: s3cret}\n    short: https://h/x\n  \
                    default: {on_failure: [hook]}\n";
        let settings = parse(text).unwrap();
        assert_eq!(settings.notification.channels, ["hook", "short"]);
        assert_eq!(settings.notification.default.channels(NotifyOn::Failure), ["hook"]);
        assert_eq!(settings.source.channels, ["hook", "short"]);
        assert!(settings.worker.queues.contains_key("runner-notifications"));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("t0ken99") && !shown.contains("s3cret"), "{shown}");
        let without = parse("").unwrap();
        assert!(!without.worker.queues.contains_key("runner-notifications"));
    }

    #[test]
    fn a_bad_file_of_services_is_the_only_mistake() {
        let text = "notify: {kinds: nowhere.yaml, channels: {a: {kind: slack, url: 'https://x'}}}";
        let refused = parse(text).unwrap_err();
        assert!(refused.contains("notify.kinds"), "{refused}");
        assert!(!refused.contains("no kind of channel"), "{refused}");
    }

    #[test]
    fn a_robot_may_have_a_secret() {
        for kind in ["dingtalk", "feishu"] {
            let text = format!("notify: {{channels: {{a: {{kind: {kind}, url: 'https://x', secret: s3cret}}}}}}");
            assert!(parse(&text).is_ok(), "{kind}");
        }
    }

    #[test]
    fn what_could_not_be_sent_is_refused() {
        for (text, expected) in [
            ("{channels: {a: {kind: webhook}}}", "notify.channels.a.url is missing"),
            ("{channels: {a: {url: 'ftp://x'}}}", "must begin with https://"),
            ("{channels: {'a b': 'https://x'}}", "may use letters"),
            (
                "{channels: {a: {kind: pigeon, url: 'https://x'}}}",
                "notify.channels.a.kind",
            ),
            ("{channels: {a: {url: 'https://x', tokn: b}}}", "unknown key"),
            (
                "{channels: {a: {kind: slack, url: 'https://x', secret: b}}}",
                "unknown key",
            ),
            (
                "{channels: {ops: 'https://x'}, default: {on_failure: [opps]}}",
                "did you mean \\\\\\\"ops\\\\\\\"",
            ),
        ] {
            let refused = parse(&format!("notify: {text}")).unwrap_err();
            assert!(refused.contains(&expected.replace("\\\\\\", "\\")), "{text}: {refused}");
        }
    }
}
