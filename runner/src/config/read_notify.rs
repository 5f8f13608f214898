//! Reads `notify`: channels by the names that manifests use, and the rules of functions and schedules that state none.

use std::collections::BTreeMap;

use runner_core::notification::{NotifyOn, NotifyRules};
use runner_handlers::{Channel, ChannelText, Channels};

use super::Secret;
use super::section::Section;
use crate::notification::NotificationSettings;
use crate::text::{nearest, quoted};

/// The most channels.
const MAX_CHANNELS: usize = 100;

/// The longest name of a channel, which is part of the ids of its notifications.
const MAX_NAME: usize = 40;

/// How a channel is reached, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelKind {
    Webhook,
}

const KINDS: [(&str, ChannelKind); 1] = [("webhook", ChannelKind::Webhook)];

/// Reads the section.
pub fn read(root: &Section<'_>) -> (NotificationSettings, Channels) {
    let section = root.section("notify");
    let mut channels = BTreeMap::new();
    let sections = section.named("channels", "url");
    if sections.len() > MAX_CHANNELS {
        let message = format!("notify.channels names more than {MAX_CHANNELS}");
        section.reader().error("CFG_RANGE", &section.place(), message);
    }
    let mut names = Vec::new();
    for (name, written) in sections.into_iter().take(MAX_CHANNELS) {
        check_name(&name, &written);
        let read = one(&written);
        written.finish();
        channels.extend(read.map(|channel| (name.clone(), channel)));
        names.push(name);
    }
    let default = default_rules(&section.section("default"), &names);
    section.finish();
    let settings = NotificationSettings {
        channels: names,
        default,
    };
    (settings, Channels::new(channels))
}

fn check_name(name: &str, section: &Section<'_>) {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain || name.len() > MAX_NAME {
        let message = format!(
            "notify.channels: the name {} may use letters, digits, \".\", \"_\", \"-\", at most {MAX_NAME}",
            quoted(name)
        );
        section.reader().error("CFG_NOTIFY", &section.place(), message);
    }
}

fn one(section: &Section<'_>) -> Option<Channel> {
    match section.choice("kind", &KINDS).unwrap_or(ChannelKind::Webhook) {
        ChannelKind::Webhook => {
            let url = required(section, "url");
            let secret = section.late_secret("secret").map(|found| text(found.value));
            Some(Channel::Webhook { url: url?, secret })
        }
    }
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
    for (key, on) in NotifyOn::KEYS {
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
                "{channels: {ops: 'https://x'}, default: {on_failure: [opps]}}",
                "did you mean \\\\\\\"ops\\\\\\\"",
            ),
        ] {
            let refused = parse(&format!("notify: {text}")).unwrap_err();
            assert!(refused.contains(&expected.replace("\\\\\\", "\\")), "{text}: {refused}");
        }
    }
}
