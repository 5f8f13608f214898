//! Reads `events`: where lifecycle events go, and which.

use super::section::Section;
use crate::events::{EVENT_TYPES, EventSettings};
use crate::trigger::TriggerSettings;

/// The exchange unless another one is named.
const EXCHANGE: &str = "runner.events";

/// The longest name of an exchange: AMQP's bound.
const MAX_NAME: usize = 255;

/// Reads the section; `None`: no events.
pub fn read(root: &Section<'_>, servers: &TriggerSettings) -> Option<EventSettings> {
    let section = root.section("events");
    let types = section.list("types").unwrap_or_default();
    for found in &types {
        let fits = |kind: &&str| match found.value.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => **kind == found.value,
        };
        if !EVENT_TYPES.iter().any(fits) {
            let message = format!("events.types {:?} is no type of an event", found.value);
            let hint = format!("known: {}, or a beginning with *", EVENT_TYPES.join(", "));
            section.reader().error_hint("CFG_VALUE", &found.place, message, hint);
        }
    }
    let rabbitmq = section.section("rabbitmq");
    let connection = rabbitmq.text("connection");
    let exchange = rabbitmq.text("exchange").map(|found| found.value);
    let exchange = exchange.unwrap_or_else(|| EXCHANGE.to_owned());
    if exchange.is_empty() || exchange.len() > MAX_NAME {
        let message = format!("{} must have 1-{MAX_NAME} bytes", rabbitmq.path_of("exchange"));
        rabbitmq.reader().error("CFG_VALUE", &rabbitmq.place(), message);
    }
    if connection.is_none() && (rabbitmq.written() || section.written()) {
        let message = "events.rabbitmq.connection is missing";
        let hint = "a name under rabbitmq.connections; without the section events there are none";
        section
            .reader()
            .error_hint("CFG_RABBITMQ", &section.place(), message, hint);
    }
    if let Some(found) = connection
        .as_ref()
        .filter(|found| !servers.rabbitmq.contains_key(&found.value))
    {
        let message = format!(
            "{} {:?} is not under rabbitmq.connections",
            rabbitmq.path_of("connection"),
            found.value
        );
        rabbitmq.reader().error("CFG_RABBITMQ", &found.place, message);
    }
    rabbitmq.finish();
    section.finish();
    Some(EventSettings {
        connection: connection?.value,
        exchange,
        types: types.into_iter().map(|found| found.value).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{Environment, Settings};

    fn parse(events: &str) -> Result<Settings, crate::config::Refused> {
        let text = format!("rabbitmq: {{connections: {{main: 'amqp://h/'}}}}\n{events}");
        Settings::parse("c", &text, &Environment::default())
    }

    #[test]
    fn events_need_a_connection_that_is_there_and_types_that_exist() {
        assert_eq!(parse("").unwrap().events, None);
        let events = parse("events: {rabbitmq: {connection: main}, types: ['task.*']}").unwrap();
        assert_eq!(events.events.unwrap().exchange, "runner.events");
        for (text, expected) in [
            ("events: {}", "events.rabbitmq.connection is missing"),
            (
                "events: {rabbitmq: {connection: other}}",
                "is not under rabbitmq.connections",
            ),
            (
                "events: {rabbitmq: {connection: main}, types: [tasks]}",
                "no type of an event",
            ),
            (
                "events: {rabbitmq: {connection: main, exchange: ''}}",
                "must have 1-255 bytes",
            ),
        ] {
            let refused = format!("{:?}", parse(text).unwrap_err());
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
