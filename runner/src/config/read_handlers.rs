//! Reads what functions of manifests may do: `handlers`, a section for each kind; mail has one of its own.

use std::path::Path;

use runner_handlers::{
    Channels, ExecSettings, HandlerSettings, HttpProxy, HttpSettings, MailSettings, ProxyUrl, PublishConnections,
    SqlConnection, SqlConnections,
};

use super::reader::Located;
use super::section::Section;
use crate::text::one_of;

const URL_SCHEMES: [&str; 5] = ["mysql://", "mariadb://", "postgres://", "postgresql://", "sqlite:"];

/// Reads `handlers`; the others are read elsewhere, because others use them too.
pub fn handlers(
    root: &Section<'_>,
    mail: Option<MailSettings>,
    publish: PublishConnections,
    channels: Channels,
) -> HandlerSettings {
    let section = root.section("handlers");
    let settings = HandlerSettings {
        exec: exec(section.section("exec")),
        http: http(section.section("http")),
        mail,
        sql: sql(section.section("sql")),
        publish,
        channels,
    };
    section.finish();
    settings
}

fn exec(section: Section<'_>) -> ExecSettings {
    let default = ExecSettings::default();
    let allowed = section.list("allowed_commands").unwrap_or_default();
    for found in &allowed {
        check_allowed(&section, found);
    }
    let settings = ExecSettings {
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        may_gain_privileges: section
            .flag("no_new_privs")
            .map_or(default.may_gain_privileges, |forbidden| !forbidden),
        allowed_commands: allowed.into_iter().map(|found| found.value).collect(),
        ..default
    };
    section.finish();
    settings
}

fn http(section: Section<'_>) -> HttpSettings {
    let default = HttpSettings::default();
    let settings = HttpSettings {
        allow_private: section.flag("allow_private").unwrap_or(default.allow_private),
        allowed_hosts: section.texts("allowed_hosts").unwrap_or(default.allowed_hosts),
        proxy: proxy(&section),
        ..default
    };
    section.finish();
    settings
}

/// The proxy of calls. Its URL is read again for each client, and only its form is checked now.
fn proxy(section: &Section<'_>) -> Option<HttpProxy> {
    let except = section.texts("no_proxy").unwrap_or_default();
    let found = section.secret("proxy")?;
    if found.value.is_empty() {
        return None;
    }
    if !["http://", "https://"]
        .iter()
        .any(|scheme| found.value.expose().starts_with(scheme))
    {
        // The rest may hold a password.
        let message = "handlers.http.proxy must begin with http:// or https://";
        let hint = "for example http://proxy.example.com:3128";
        section.reader().error_hint("CFG_VALUE", &found.place, message, hint);
    }
    let url = ProxyUrl::read_from(move || found.value.read());
    Some(HttpProxy { url, except })
}

/// The databases that functions may reach. Where one is is looked up again for each connection; only its form is checked
/// now.
fn sql(section: Section<'_>) -> SqlConnections {
    let mut connections = SqlConnections::new();
    for (name, url) in section.secrets("connections") {
        let known = URL_SCHEMES.iter().any(|scheme| url.expose().starts_with(scheme));
        if !known && !url.expose().is_empty() {
            // The rest may hold a password.
            let path = format!("{}.{}", section.path_of("connections"), name.value);
            let message = format!("{path} must begin with {}", one_of(&URL_SCHEMES));
            let hint = "for example postgres://user:password@db/name or sqlite:data/app.db";
            section.reader().error_hint("CFG_DATABASE", &name.place, message, hint);
        }
        let base = section.beside("");
        let read = move || url.read().map(|url| beside(&base, &url));
        connections.insert(name.value, SqlConnection::read_from(read));
    }
    section.finish();
    connections
}

/// A file of SQLite that is relative begins at the directory of the settings.
fn beside(base: &Path, url: &str) -> String {
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return url.to_owned();
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    format!("sqlite:{}", base.join(path).display())
}

/// An entry that can never match is a mistake that would block every command.
fn check_allowed(section: &Section<'_>, found: &Located<String>) {
    let entry = &found.value;
    let climbs = entry.split('/').any(|part| part == "..");
    if entry.is_empty() || climbs || (entry.contains('/') && !entry.starts_with('/')) {
        let message =
            format!("handlers.exec.allowed_commands {entry:?} must be a name or an absolute path without \"..\"");
        section.reader().error("CFG_VALUE", &found.place, message);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, Settings};

    #[test]
    fn databases_have_names_and_their_urls_are_not_shown() {
        let text = "handlers: {sql: {connections: {main: 'mysql://a:hunter2@db/x', other: '${env:URL}'}}}";
        let environment = Environment::of(&[("URL", "postgres://a:hunter2@db/x")]);
        let settings = Settings::parse("c", text, &environment).unwrap();
        let names: Vec<_> = settings.handlers.sql.keys().map(String::as_str).collect();
        assert_eq!(names, ["main", "other"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let variable = Environment::of(&[("RUNNER_HANDLERS_SQL_CONNECTIONS", r#"{"only":"sqlite:a.db"}"#)]);
        let settings = Settings::parse("c", text, &variable).unwrap();
        assert_eq!(settings.handlers.sql.keys().collect::<Vec<_>>(), ["only"]);
    }

    #[test]
    fn the_url_of_a_proxy_is_not_shown() {
        let text = "handlers: {http: {proxy: 'http://a:hunter2@proxy:3128', no_proxy: [.example.com]}}";
        let settings = Settings::parse("c", text, &Environment::default()).unwrap();
        assert_eq!(settings.handlers.http.proxy.as_ref().unwrap().except, [".example.com"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let refused = Settings::parse("c", &text.replace("http://a", "ftp://a"), &Environment::default());
        assert!(!format!("{:?}", refused.unwrap_err()).contains("hunter2"));
    }

    #[test]
    fn a_url_of_another_kind_is_refused_without_its_text() {
        for text in [
            "{main: 'http://a:hunter2@db'}",
            "{main: [x]}",
            "[x]",
            "{main: '${env:NONE}'}",
        ] {
            let text = format!("handlers: {{sql: {{connections: {text}}}}}");
            let refused = Settings::parse("c", &text, &Environment::default()).unwrap_err();
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }

    #[test]
    fn files_begin_at_the_directory_of_the_settings() {
        let base = Path::new("/etc/runner");
        assert_eq!(beside(base, "sqlite:a.db"), "sqlite:/etc/runner/a.db");
        assert_eq!(beside(base, "sqlite:///var/a.db"), "sqlite:/var/a.db");
        assert_eq!(beside(base, "mysql://db/x"), "mysql://db/x");
    }
}
