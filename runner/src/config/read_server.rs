//! Reads the name and addresses of this service: `server`, and `app` and `http` of the newer shape.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use runner_core::cron::find_zone;

use super::Secret;
use super::read_proxy;
use super::reader::{Located, SettingPlace};
use super::section::Section;
use super::settings::Roles;
use super::zone;
use crate::access::WebSettings;

/// Where the dashboard listens by default: reachable from this machine only.
const DEFAULT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

const MODES: [(&str, bool); 3] = [("release", false), ("debug", true), ("test", false)];

/// What [`read`] yields.
pub struct ServerSection {
    pub web: WebSettings,
    pub addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    pub key: Option<Secret>,
    pub http_enabled: bool,
    pub data_dir: PathBuf,
}

/// Reads `server`, `app`, `http` and `data`.
pub fn read(root: &Section<'_>) -> ServerSection {
    let (server, app, http, data) = (
        root.section("server"),
        root.section("app"),
        root.section("http"),
        root.section("data"),
    );
    let addr = match either(&server, "addr", &http, "addr") {
        Some(found) => addr(&server, &found),
        None => DEFAULT_ADDR,
    };
    let metrics_addr = metrics_addr(&server, addr);
    clash(&server, "key", &app, "key");
    let key = server.late_secret("key").or_else(|| app.late_secret("key"));
    let section = ServerSection {
        web: web(&server, &app, &http, metrics_addr.is_none()),
        addr,
        metrics_addr,
        key: key.map(|found| found.value),
        http_enabled: http.flag("enabled").unwrap_or(true),
        data_dir: data.path("dir").map_or_else(|| default_data_dir(&data), |f| f.value),
    };
    app.legacy("url", "links have no host name; behind a proxy write server.public_url");
    for section in [server, app, http, data] {
        section.finish();
    }
    section
}

/// The settings of the dashboard. Metrics with an address of their own are only served there.
fn web(server: &Section<'_>, app: &Section<'_>, http: &Section<'_>, metrics_open: bool) -> WebSettings {
    let default = WebSettings::default();
    let (zone_name, zone) = default_zone(server, app);
    clash(server, "mode", http, "ginMode");
    let debug = server.choice("mode", &MODES).or_else(|| http.choice("ginMode", &MODES));
    WebSettings {
        name: either(server, "name", app, "name").map_or(default.name, |found| found.value),
        allowed_hosts: server.texts("allowed_hosts").unwrap_or(default.allowed_hosts),
        public_url: read_proxy::public_url(server),
        trusted_proxies: read_proxy::trusted_proxies(server),
        metrics_open,
        zone,
        zone_name,
        templates: debug.unwrap_or(false).then(|| "templates".into()),
        ..default
    }
}

fn metrics_addr(server: &Section<'_>, addr: SocketAddr) -> Option<SocketAddr> {
    let found = server.text("metrics_addr")?;
    if cfg!(not(feature = "web")) {
        server.reader().error("CFG_WEB", &found.place, NOT_BUILT);
    }
    let own = self::addr(server, &found);
    if own == addr && own.port() != 0 {
        let message = format!("server.metrics_addr and server.addr are both {own}; they need a port each");
        server.reader().error("CFG_TWICE", &found.place, message);
    }
    Some(own)
}

/// `data` beside the file; for a file under `/etc`, where data does not belong, the usual place for it.
fn default_data_dir(data: &Section<'_>) -> PathBuf {
    let beside = data.beside("data");
    let absolute = std::path::absolute(&beside).unwrap_or_else(|_| beside.clone());
    match absolute.starts_with("/etc") {
        true => PathBuf::from("/var/lib/runner"),
        false => beside,
    }
}

const NOT_BUILT: &str = "this program was built without pages, probes and metrics (feature web)";

/// Reads `roles`; what `http.enabled`, `feature.queueDash` and `scheduler.enabled` say is applied later.
pub fn roles(root: &Section<'_>) -> Roles {
    let all = Roles {
        scheduler: true,
        worker: true,
        web: cfg!(feature = "web"),
    };
    let Some(words) = root.list("roles") else {
        return all;
    };
    let mut roles = Roles {
        scheduler: false,
        worker: false,
        web: false,
    };
    for word in &words {
        match word.value.as_str() {
            "scheduler" => roles.scheduler = true,
            "worker" => roles.worker = true,
            "web" if cfg!(feature = "web") => roles.web = true,
            "web" => root.reader().error("CFG_WEB", &word.place, NOT_BUILT),
            other => root.reader().error(
                "CFG_VALUE",
                &word.place,
                format!("unknown role {other:?}; expected scheduler, worker or web"),
            ),
        }
    }
    if words.is_empty() {
        let place = root.place_of("roles").unwrap_or_else(|| root.place());
        let message = "roles is empty; this process would do nothing";
        root.reader().error("CFG_VALUE", &place, message);
    }
    roles
}

/// The value of one setting that has two names; an error if the file uses both.
fn either(a: &Section<'_>, a_key: &'static str, b: &Section<'_>, b_key: &'static str) -> Option<Located<String>> {
    clash(a, a_key, b, b_key);
    let (a, b) = (a.text(a_key), b.text(b_key));
    a.or(b)
}

fn clash(a: &Section<'_>, a_key: &str, b: &Section<'_>, b_key: &str) {
    if let (Some(_), Some(place)) = (a.place_of(a_key), b.place_of(b_key)) {
        let (a_path, b_path) = (a.path_of(a_key), b.path_of(b_key));
        let message = format!("{b_path} and {a_path} are the same setting; keep one of them");
        a.reader().error("CFG_TWICE", &place, message);
    }
}

fn default_zone(server: &Section<'_>, app: &Section<'_>) -> (String, TimeZone) {
    let utc = || ("UTC".to_owned(), TimeZone::UTC);
    let found = either(server, "timezone", app, "timezone");
    let Some(found) = found.filter(|found| found.value.trim() != "Local") else {
        return machine_zone(server).unwrap_or_else(utc);
    };
    match find_zone(found.value.trim()) {
        Ok(zone) => (found.value.trim().to_owned(), zone),
        Err(unknown) => {
            let hint = unknown.suggestion.as_deref().map_or_else(
                || "a name of the IANA database, such as Asia/Shanghai or UTC".to_owned(),
                |meant| format!("did you mean {meant:?}?"),
            );
            let message = format!("unknown time zone {:?}", found.value);
            server.reader().error_hint("CFG_TZ", &found.place, message, hint);
            utc()
        }
    }
}

/// The zone without a setting. `None` if it cannot be used, which is reported.
fn machine_zone(server: &Section<'_>) -> Option<zone::NamedZone> {
    let reader = server.reader();
    if let Some(value) = reader.environment.get("TZ") {
        let read = zone::of_variable(value);
        let report = |bad: zone::Unusable| {
            let meant = bad
                .meant
                .map(|name| format!("did you mean TZ={name}? "))
                .unwrap_or_default();
            let hint = format!("{meant}server.timezone: Asia/Shanghai, for example, goes before TZ");
            let message = format!("TZ={value} cannot be used: {}", bad.why);
            reader.error_hint("CFG_TZ", &SettingPlace::Variable("TZ".to_owned()), message, hint);
        };
        return read.map_err(report).ok();
    }
    let report = |bad: zone::Unusable| {
        let message = format!(
            "the time zone of this machine cannot be used, UTC is in force: {}",
            bad.why
        );
        let hint = "set server.timezone or TZ, or repair the file".to_owned();
        reader.warning(
            "CFG_TZ",
            &SettingPlace::Variable(zone::LOCALTIME.to_owned()),
            message,
            Some(hint),
        );
    };
    zone::of_machine(Path::new(zone::LOCALTIME)).map_err(report).ok()
}

fn addr(server: &Section<'_>, found: &Located<String>) -> SocketAddr {
    parse_addr(found.value.trim()).unwrap_or_else(|why| {
        let message = format!("{:?} is not an address to listen on: {why}", found.value);
        let hint = "for example 127.0.0.1:8080, :8080 (all interfaces) or [::1]:8080";
        server.reader().error_hint("CFG_ADDR", &found.place, message, hint);
        DEFAULT_ADDR
    })
}

/// `host:port`; an empty host is every interface, as in Go.
fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    if host.starts_with('[') != host.ends_with(']') {
        return Err("the brackets of the IPv6 address do not match".to_owned());
    }
    if port.is_empty() {
        return Err("the port is missing".to_owned());
    }
    let port: u16 = port
        .parse()
        .map_err(|_| format!("port {port:?} is not a number from 0 to 65535"))?;
    let ip = match host {
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(
                inner
                    .parse::<Ipv6Addr>()
                    .map_err(|_| format!("{inner:?} is not an IPv6 address"))?,
            ),
            None => IpAddr::V4(host.parse().map_err(|_| format!("{host:?} is not an IP address"))?),
        },
    };
    Ok(SocketAddr::new(ip, port))
}

/// The place of a key for a finding about it, or of its section.
pub fn place_of(section: &Section<'_>, key: &str) -> SettingPlace {
    section
        .variable(key)
        .map(|f| f.place)
        .or_else(|| section.place_of(key))
        .unwrap_or_else(|| section.place())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_as_go_writes_them() {
        for (text, expected) in [
            (":8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(parse_addr(text).unwrap().to_string(), expected);
        }
        for bad in [
            "localhost",
            "0.0.0.0:99999",
            "[::1",
            "[::1:80",
            "::1:80x",
            "a.example:80",
            "1.2.3.4:",
        ] {
            assert!(parse_addr(bad).is_err(), "{bad}");
        }
    }
}
