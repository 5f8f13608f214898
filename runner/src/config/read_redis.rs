//! Reads `redis`: which server, how it is reached, and the login; and `redis_connections`, where each entry says so of one more
//! server.
//!
//! One of `host`, `url`, `sentinel` and `cluster` says where; what a URL leaves out, the other keys may add. A
//! variable of the environment overrides what the file says instead of contradicting it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner_queue::redis::{Password, RedisSentinels, RedisSettings, RedisTarget, RedisTls};

use super::Secret;
use super::host::split_host;
use super::reader::{Located, SettingPlace};
use super::section::Section;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// The most addresses of sentinels or nodes; more could not be tried in a useful time.
const MAX_ADDRESSES: usize = 64;

/// How many replicas must confirm an enqueue.
const DURABILITY: [(&str, u32); 2] = [("acknowledged", 0), ("replicated", 1)];

/// Connections besides that of the broker.
const MAX_CONNECTIONS: usize = 50;

/// Reads `redis_connections`: servers that messages come from and go to, by the names that manifests use.
pub fn connections(root: &Section<'_>) -> BTreeMap<String, RedisSettings> {
    let sections = root.named("redis_connections", "url");
    if sections.len() > MAX_CONNECTIONS {
        let message = format!("redis_connections names more than {MAX_CONNECTIONS}");
        root.reader().error("CFG_RANGE", &root.place(), message);
    }
    let mut all = BTreeMap::new();
    for (name, section) in sections.into_iter().take(MAX_CONNECTIONS) {
        // A command reads the references that it needs only; one that it cannot read leaves a connection without a server.
        let url = section.late_secret("url");
        let unread = url.as_ref().is_some_and(|found| found.value.is_empty());
        let settings = server(&section, !unread, url.filter(|_| !unread));
        section.finish();
        all.insert(name, settings.unwrap_or_else(|| RedisSettings::at("")));
    }
    all
}

/// The server that a section describes, with its `url` if it has one.
fn server(section: &Section<'_>, written: bool, url: Option<Located<Secret>>) -> Option<RedisSettings> {
    let settings = target(section, written, url).map(|settings| {
        let settings = login(section, settings);
        no_half_login(section, &settings);
        tls(section, settings)
    });
    if settings.is_none() {
        // Read anyway, so that the keys are known.
        let nothing = RedisSettings::of(RedisTarget::Cluster(Vec::new()));
        let _known = tls(section, login(section, nothing));
    }
    settings
}

/// Reads `redis`; `None` if there is no such section, nor a variable that names a server.
pub fn read(root: &Section<'_>) -> Option<RedisSettings> {
    let redis = root.section("redis");
    let written = redis.written();
    let settings = server(&redis, written, redis.secret("url"));
    let allow_eviction = redis.flag("allow_eviction").unwrap_or(false);
    let replicas = redis.choice("durability", &DURABILITY).unwrap_or(0);
    redis.finish();
    match settings {
        Some(settings) => Some(RedisSettings {
            allow_eviction,
            replicas,
            ..settings
        }),
        // The errors are reported; only the section's existence matters now.
        None => written.then(|| RedisSettings::at("")),
    }
}

/// Whether it is `redis.url` that says where: a variable goes before what the file says.
pub fn is_in_url(root: &Section<'_>) -> bool {
    // Read by `read` too, which reports its problems.
    let redis = root.reader().without_findings(|| root.section("redis"));
    redis.variable("url").is_some() || (redis.variable("host").is_none() && redis.place_of("url").is_some())
}

/// One way to name the server, and its place in the settings.
struct RedisRoute {
    key: &'static str,
    place: SettingPlace,
    settings: Option<RedisSettings>,
}

fn target(redis: &Section<'_>, written: bool, url: Option<Located<Secret>>) -> Option<RedisSettings> {
    let mut ways = Vec::new();
    ways.extend(url.map(|found| from_url(redis, &found)));
    ways.extend(redis.text("host").map(|found| from_host(redis, &found)));
    let sentinel = sentinels(redis, &mut ways);
    ways.extend(cluster(redis));
    let said_outside = ways.iter().any(|way| matches!(way.place, SettingPlace::Variable(_)));
    ways.retain(|way| !said_outside || matches!(way.place, SettingPlace::Variable(_)));
    let mut ways = ways.into_iter();
    let Some(way) = ways.next() else {
        if written || sentinel.written {
            let hint = "write host: 127.0.0.1:6379, or remove the section to keep tasks in a file";
            let of = |key| redis.path_of(key);
            let (host, url, sentinel, cluster) = (of("host"), of("url"), of("sentinel"), of("cluster"));
            let message = format!("{host} is missing (or {url}, {sentinel}, {cluster})");
            fault(redis, &redis.place(), &message, hint);
        }
        return None;
    };
    for other in ways {
        let (one, two) = (redis.path_of(way.key), redis.path_of(other.key));
        let message = format!("{one} and {two} both say where the server is");
        redis
            .reader()
            .error_hint("CFG_TWICE", &other.place, message, "keep one of them");
    }
    let mut settings = way.settings?;
    match &mut settings.target {
        RedisTarget::Sentinels(target) => sentinel.complete(redis, &way.place, target),
        _ if sentinel.written && !said_outside => {
            let message = format!(
                "{} does not go with {}",
                redis.path_of("sentinel"),
                redis.path_of(way.key)
            );
            fault(redis, &sentinel.place, &message, "keep one of them");
        }
        _ => {}
    }
    Some(settings)
}

fn from_url(redis: &Section<'_>, found: &Located<Secret>) -> RedisRoute {
    let mut settings = RedisSettings::from_url(found.value.expose()).map_err(|why| {
        let hint =
            "for example redis://host:6379/0, rediss://host:6379 or redis-sentinel://a:26379,b:26379?master=name";
        // The text itself may hold a password, so only the reason is said.
        let path = redis.path_of("url");
        fault(redis, &found.place, &format!("{path} cannot be used: {why}"), hint);
    });
    if let Ok(settings) = &mut settings
        && found.value.is_reference()
    {
        let url = found.value.clone();
        let read = move || {
            let mut settings = RedisSettings::from_url(&url.read()?)?;
            // A password without a place in the URL is refused, as before.
            password_of(&mut settings)
                .take()
                .map(|p| p.expose().to_owned())
                .ok_or_else(|| "the URL has none".to_owned())
        };
        let password = password_of(settings);
        *password = password.take().map(|password| password.read_from(read));
    }
    RedisRoute {
        key: "url",
        place: found.place.clone(),
        settings: settings.ok(),
    }
}

fn from_host(redis: &Section<'_>, found: &Located<String>) -> RedisRoute {
    let text = found.value.trim();
    let target = if text.starts_with('/') {
        Some(RedisTarget::Socket(PathBuf::from(text)))
    } else {
        address(redis, &redis.path_of("host"), found, PORT).map(RedisTarget::Server)
    };
    RedisRoute {
        key: "host",
        place: found.place.clone(),
        settings: target.map(RedisSettings::of),
    }
}

/// The password that a URL names: that of the sentinels, if it names some.
fn password_of(settings: &mut RedisSettings) -> &mut Option<Password> {
    match &mut settings.target {
        RedisTarget::Sentinels(sentinels) => &mut sentinels.password,
        _ => &mut settings.password,
    }
}

/// `host:port` with the port filled in.
fn address(redis: &Section<'_>, key: &str, found: &Located<String>, port: u16) -> Option<String> {
    match split_host(found.value.trim(), port) {
        Ok((host, port)) => Some(format!("{host}:{port}")),
        Err(why) => {
            // The text is not repeated: it may be a URL with a password.
            let message = format!("{key} is not host:port: {why}");
            fault(
                redis,
                &found.place,
                &message,
                &format!("for example redis:6379; a URL goes under {}", redis.path_of("url")),
            );
            None
        }
    }
}

fn addresses(redis: &Section<'_>, key: &str, found: &[Located<String>], port: u16) -> Option<Vec<String>> {
    let first = found.first()?;
    if found.len() > MAX_ADDRESSES {
        let message = format!("{key} holds {} addresses; {MAX_ADDRESSES} are enough", found.len());
        fault(
            redis,
            &first.place,
            &message,
            "name a few; the others are found by asking",
        );
        return None;
    }
    // All are checked, so that all errors are reported at once.
    let read: Vec<_> = found.iter().map(|one| address(redis, key, one, port)).collect();
    read.into_iter().collect()
}

/// The keys of the section `sentinel` besides addresses.
struct Sentinel {
    written: bool,
    place: SettingPlace,
    master: Option<String>,
    username: Option<String>,
    password: Option<Password>,
}

fn sentinels(redis: &Section<'_>, ways: &mut Vec<RedisRoute>) -> Sentinel {
    let section = redis.section("sentinel");
    let found = section.list("addresses");
    let text = |key| {
        section
            .text(key)
            .map(|found| found.value)
            .filter(|text| !text.is_empty())
    };
    let sentinel = Sentinel {
        written: section.written(),
        place: section.place(),
        master: text("master"),
        username: text("username"),
        password: given(section.late_secret("password").map(|found| found.value)),
    };
    if let Some(found) = found
        && let Some(first) = found.first()
    {
        let addresses = addresses(redis, &section.path_of("addresses"), &found, SENTINEL_PORT);
        ways.push(RedisRoute {
            key: "sentinel",
            place: first.place.clone(),
            settings: addresses.map(|addresses| {
                RedisSettings::of(RedisTarget::Sentinels(RedisSentinels {
                    master: String::new(),
                    addresses,
                    username: None,
                    password: None,
                }))
            }),
        });
    }
    section.finish();
    sentinel
}

impl Sentinel {
    /// Adds settings that the addresses do not contain.
    fn complete(self, redis: &Section<'_>, place: &SettingPlace, target: &mut RedisSentinels) {
        if let Some(master) = self.master {
            target.master = master;
        }
        target.username = self.username.or(target.username.take());
        target.password = self.password.or(target.password.take());
        if target.master.is_empty() {
            let message = "the name of the server that the sentinels watch is missing";
            fault(
                redis,
                place,
                message,
                &format!(
                    "{}.master: mymaster, or ?master=mymaster in the URL",
                    redis.path_of("sentinel")
                ),
            );
        }
    }
}

fn cluster(redis: &Section<'_>) -> Option<RedisRoute> {
    let section = redis.section("cluster");
    let found = section.list("addresses");
    let path = section.path_of("addresses");
    section.finish();
    let found = found?;
    let place = found.first()?.place.clone();
    let addresses = addresses(redis, &path, &found, PORT);
    Some(RedisRoute {
        key: "cluster",
        place,
        settings: addresses.map(|nodes| RedisSettings::of(RedisTarget::Cluster(nodes))),
    })
}

/// Adds the login; what the URL contains may only be overridden by the environment.
fn login(redis: &Section<'_>, mut settings: RedisSettings) -> RedisSettings {
    let username = redis.text("username").filter(|found| !found.value.is_empty());
    let password = redis.late_secret("password").filter(|found| !found.value.is_empty());
    if let Some(found) = username {
        twice(redis, "username", settings.username.is_some(), &found.place);
        settings.username = Some(found.value);
    }
    if let Some(found) = password {
        twice(redis, "password", settings.password.is_some(), &found.place);
        settings.password = given(Some(found.value));
    }
    // Redis itself knows how many it has; this bound only catches obvious mistakes.
    if let Some(database) = redis.number("database", 0..=65_535_i64) {
        let place = redis.place_of("database").unwrap_or_else(|| redis.place());
        let outside = redis.variable("database").map(|found| found.place);
        twice(redis, "database", settings.database != 0, &outside.unwrap_or(place));
        settings.database = database;
    }
    settings
}

/// A username alone would be ignored and the default user be used, which may have other rights.
fn no_half_login(redis: &Section<'_>, settings: &RedisSettings) {
    let half = |key: &str, username: &Option<String>, password: &Option<Password>| {
        if username.is_some() && password.is_none() {
            let place = redis.place_of("username").unwrap_or_else(|| redis.place());
            let message = format!("a username without a password is not a login: {key} is missing");
            let hint = format!("{key}: ${{file:/run/secrets/redis}}; a user without one (nopass) accepts any");
            fault(redis, &place, &message, &hint);
        }
    };
    half(&redis.path_of("password"), &settings.username, &settings.password);
    if let RedisTarget::Sentinels(sentinels) = &settings.target {
        let key = format!("{}.password", redis.path_of("sentinel"));
        half(&key, &sentinels.username, &sentinels.password);
    }
}

fn twice(redis: &Section<'_>, key: &str, in_url: bool, place: &SettingPlace) {
    if in_url && matches!(place, SettingPlace::File(_)) {
        let message = format!(
            "{} and {} both say it; keep one of them",
            redis.path_of(key),
            redis.path_of("url")
        );
        redis.reader().error("CFG_TWICE", place, message);
    }
}

fn given(secret: Option<Secret>) -> Option<Password> {
    let secret = secret.filter(|secret| !secret.is_empty())?;
    Some(match secret.is_reference() {
        true => Password::new(secret.expose()).read_from(move || secret.read()),
        false => Password::new(secret.expose()),
    })
}

fn tls(redis: &Section<'_>, mut settings: RedisSettings) -> RedisSettings {
    let section = redis.section("tls");
    let file = |key| section.path(key).map(|found| found.value);
    let tls = RedisTls {
        ca_file: file("ca_file"),
        cert_file: file("cert_file"),
        key_file: file("key_file"),
        server_name: section.text("server_name").map(|found| found.value),
    };
    let (written, place) = (section.written(), section.place());
    section.finish();
    if !written && tls == RedisTls::default() {
        return settings;
    }
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let hint = "a client certificate needs both cert_file and key_file";
        let message = format!("{} names one half of a client certificate", redis.path_of("tls"));
        fault(redis, &place, &message, hint);
    }
    let plain_url = redis.place_of("url").is_some() || redis.variable("url").is_some();
    match &settings.target {
        RedisTarget::Socket(_) => {
            let path = redis.path_of("tls");
            let message = format!("{path} does not go with a socket, which never leaves this machine");
            fault(redis, &place, &message, &format!("remove {path}"));
        }
        RedisTarget::Server(_) if plain_url && settings.tls.is_none() => {
            let (url, tls) = (redis.path_of("url"), redis.path_of("tls"));
            let message = format!("{url} begins with redis://, which is without TLS, and {tls} asks for it");
            fault(redis, &place, &message, &format!("write rediss://, or remove {tls}"));
        }
        _ => settings.tls = Some(tls),
    }
    settings
}

fn fault(redis: &Section<'_>, place: &SettingPlace, message: &str, hint: &str) {
    redis.reader().error_hint("CFG_REDIS", place, message, hint);
}
