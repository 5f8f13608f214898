//! Reads `rabbitmq`: connections by the names that triggers use.

use runner_queue::tls::TlsFiles;

use super::Secret;
use super::section::Section;
use crate::messaging::{RabbitMqSettings, ReadUrl};
use crate::trigger::TriggerSettings;

/// Connections; each is a socket and a supervisor.
const MAX_CONNECTIONS: usize = 50;

/// Reads the section.
pub fn read(root: &Section<'_>) -> TriggerSettings {
    let section = root.section("rabbitmq");
    let mut settings = TriggerSettings::default();
    let connections = section.named("connections", "url");
    if connections.len() > MAX_CONNECTIONS {
        let message = format!("rabbitmq.connections names more than {MAX_CONNECTIONS}");
        section.reader().error("CFG_RANGE", &section.place(), message);
    }
    for (name, connection) in connections.into_iter().take(MAX_CONNECTIONS) {
        let read = one(&connection);
        connection.finish();
        if let Some(read) = read {
            settings.rabbitmq.insert(name, read);
        }
    }
    if cfg!(not(feature = "amqp")) && !settings.rabbitmq.is_empty() {
        let message = "this program was built without RabbitMQ (feature amqp)";
        section.reader().error("CFG_RABBITMQ", &section.place(), message);
    }
    section.finish();
    settings
}

fn one(connection: &Section<'_>) -> Option<RabbitMqSettings> {
    let url = connection.late_secret("url");
    let tls = tls(connection);
    let Some(url) = url else {
        let message = format!("{} is missing", connection.path_of("url"));
        let hint = "url: ${env:AMQP_URL}, such as amqp://user:password@host:5672/vhost";
        connection
            .reader()
            .error_hint("CFG_RABBITMQ", &connection.place(), message, hint);
        return None;
    };
    if !url.value.is_empty()
        && let Err(why) = check(&url.value, &tls)
    {
        // The text itself may hold a password, so only the reason is said.
        let message = format!("{} cannot be used: {why}", connection.path_of("url"));
        let hint = "for example amqp://user:password@host:5672/vhost";
        connection
            .reader()
            .error_hint("CFG_RABBITMQ", &url.place, message, hint);
    }
    let secret = url.value;
    Some(RabbitMqSettings {
        url: ReadUrl::new(move || secret.read()),
        tls,
    })
}

#[cfg(feature = "amqp")]
fn check(url: &Secret, tls: &TlsFiles) -> Result<(), String> {
    crate::messaging::amqp::check_url(url.expose(), tls)
}

#[cfg(not(feature = "amqp"))]
fn check(_url: &Secret, _tls: &TlsFiles) -> Result<(), String> {
    Ok(())
}

fn tls(connection: &Section<'_>) -> TlsFiles {
    let section = connection.section("tls");
    let file = |key| section.path(key).map(|found| found.value);
    let tls = TlsFiles {
        ca_file: file("ca_file"),
        cert_file: file("cert_file"),
        key_file: file("key_file"),
        server_name: section.text("server_name").map(|found| found.value),
    };
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let message = format!("{} names one half of a client certificate", connection.path_of("tls"));
        let hint = "a client certificate needs both cert_file and key_file";
        connection
            .reader()
            .error_hint("CFG_RABBITMQ", &section.place(), message, hint);
    }
    section.finish();
    tls
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{Environment, Settings};

    #[test]
    fn files_of_tls_beside_a_url_without_tls_are_refused() {
        for (text, code) in [
            (
                "rabbitmq: {connections: {main: {url: 'amqp://a:hunter2@h/', tls: {ca_file: a.pem}}}}",
                "CFG_RABBITMQ",
            ),
            (
                "redis_connections: {main: {url: 'redis://a:hunter2@h/', tls: {ca_file: a.pem}}}",
                "CFG_REDIS",
            ),
        ] {
            let refused = Settings::parse("c", text, &Environment::default()).unwrap_err();
            let said = format!("{refused:?}");
            assert!(said.contains(code) && said.contains("is without TLS"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn every_form_of_a_connection_is_read() {
        let text =
            "redis_connections: {a: 'redis://h', b: {host: 'h:1', database: 3}, c: {cluster: {addresses: ['h:2']}}}";
        let settings = Settings::parse("c", text, &Environment::default()).unwrap();
        let places: Vec<String> = settings.triggers.redis.values().map(|one| one.place()).collect();
        assert_eq!(places, ["h:6379/0", "h:1/3", "cluster h:2"]);
        assert_eq!(settings.handlers.publish.redis.len(), 3);
        let refused = Settings::parse("c", "redis_connections: {a: {}}", &Environment::default()).unwrap_err();
        assert!(format!("{refused:?}").contains("redis_connections.a.host is missing"));
    }
}
