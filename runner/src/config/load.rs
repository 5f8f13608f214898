//! Finds the file, reads all of it, and returns settings or all of their problems.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use runner_core::schedule::Problem;

use super::access::is_strong;
use super::environment::{Environment, interpolate};
use super::masking::{Keys, masked};
use super::own::OwnSection;
use super::reader::Reader;
use super::section::Section;
use super::settings::{AuthSettings, BrokerSettings, Settings};
use super::{
    WrittenKeys, read_auth, read_events, read_handlers, read_log, read_mail, read_notify, read_rabbitmq, read_redis,
    read_server, read_stores, read_telemetry, read_work,
};
use crate::access::{PublicUrl, WebSettings};
use crate::messaging::publishers;
use crate::source::SourceSettings;
use crate::text::Report;
use crate::text::yaml::{self, MAX_BYTES, Node};
use crate::trigger::SecretReader;

/// All problems of the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refused(pub Vec<Problem>);

/// The purpose of reading settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run a process: the users of the dashboard are needed if it is served.
    Serve,
    /// To find all problems.
    Check,
    /// For a command that ends soon. It serves no dashboard and needs no users: their secrets may be known to the
    /// service only. The same holds for its key and passwords, which are read where they are used.
    Command,
}

/// Where a file is searched when none is named, in this order.
#[must_use]
pub fn candidates(environment: &Environment) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("config.yaml"), PathBuf::from("bingo-scheduler.yaml")];
    if let Some(dir) = environment.directory("XDG_CONFIG_HOME") {
        places.push(dir.join("runner/config.yaml"));
    }
    if let Some(home) = environment.directory("HOME") {
        places.push(home.join(".config/runner/config.yaml"));
        places.push(home.join(".bingo/bingo-scheduler.yaml"));
    }
    places.push(PathBuf::from("/etc/runner/config.yaml"));
    places.push(PathBuf::from("/etc/bingo/bingo-scheduler.yaml"));
    places
}

impl Settings {
    /// Loads the named file, or the first that exists of [`candidates`], or the defaults, with sections of the program's own.
    ///
    /// # Errors
    ///
    /// Every problem of the file and of the overrides at once.
    pub fn load(
        named: Option<&Path>,
        environment: &Environment,
        purpose: Purpose,
        own: &[OwnSection],
    ) -> Result<Self, Refused> {
        let path = match named {
            Some(path) => Some(path.to_owned()),
            None => candidates(environment).into_iter().find(|p| p.exists()),
        };
        let text = match &path {
            Some(path) => read_file(path)?,
            None => String::new(),
        };
        let name = path
            .as_ref()
            .map_or_else(|| "(defaults)".to_owned(), |path| path.display().to_string());
        let base = path.as_deref().map(base_of).unwrap_or_default();
        let mut settings = Self::parse_for(&name, &text, &environment.beside(base.clone()), purpose, own)?;
        settings.warnings.extend(left_behind(&name, &base, &settings));
        settings.warnings.extend(own_secrets(&name, &settings));
        settings.origin = path;
        Ok(settings)
    }

    /// Reads all of `text`, which came from the file called `name`.
    ///
    /// # Errors
    ///
    /// Every problem at once.
    pub fn parse(name: &str, text: &str, environment: &Environment) -> Result<Self, Refused> {
        Self::parse_for(name, text, environment, Purpose::Check, &[])
    }

    /// The same for one purpose, with sections of the program's own.
    ///
    /// # Errors
    ///
    /// All problems, except those of users that this command does not need.
    pub fn parse_for(
        name: &str,
        text: &str,
        environment: &Environment,
        purpose: Purpose,
        own: &[OwnSection],
    ) -> Result<Self, Refused> {
        let node = document(name, text)?;
        let mut reader = Reader::new(name, text, environment);
        reader.for_command = purpose == Purpose::Command;
        let root = Section::root(&reader, &node);
        let mut settings = read(&root, purpose);
        if settings.is_open_to_others() {
            let message = "server.public_url is for other machines, and no users are configured: every client that the proxy admits is an admin";
            let hint = "set auth.users, unless the proxy requires a login itself".to_owned();
            // Read before, and its problems were reported.
            let server = reader.without_findings(|| root.section("server"));
            let place = read_server::place_of(&server, "public_url");
            reader.warning("CFG_AUTH", &place, message.to_owned(), Some(hint));
        }
        own.iter().for_each(|section| section.read(&root));
        root.finish();
        let in_file = reader.holds_secrets();
        let (errors, mut warnings): (Vec<_>, Vec<_>) = reader.finish().into_iter().partition(Problem::is_error);
        if !errors.is_empty() {
            return Err(Refused(errors));
        }
        if in_file {
            warnings.extend(readable_by_others(Path::new(name)));
        }
        settings.warnings = warnings;
        settings.written = WrittenKeys::of(&node);
        Ok(settings)
    }
}

/// The one document of a settings file.
fn document(name: &str, text: &str) -> Result<Node, Refused> {
    let mut report = Report::of_settings(name, text);
    match yaml::parse(text).map(yaml::only) {
        Ok(Ok(node)) => return Ok(node),
        Ok(Err(second)) => {
            let code = report.codes().syntax;
            report.error(code, second, "a second document; settings are one");
        }
        Err(fault) => report.fault(&fault),
    }
    // No key is known yet, so any value may be a secret.
    Err(Refused(report.finish_showing(|line| masked(line, &Keys::new()))))
}

/// The paths of all keys that are read.
#[cfg(test)]
pub(super) fn known_keys() -> std::collections::BTreeSet<String> {
    let environment = Environment::default();
    let reader = Reader::new("", "", &environment);
    if let Ok(node) = document("", "") {
        read(&Section::root(&reader, &node), Purpose::Check);
    }
    reader.paths.take().into_iter().collect()
}

/// The directory that relative paths of this file begin at: its own, as it is named. Empty for the working directory:
/// for a file in it, and for a pipe, which has none.
fn base_of(path: &Path) -> PathBuf {
    let dir = path.parent().filter(|dir| *dir != Path::new("."));
    dir.filter(|_| path.is_file()).map(Path::to_owned).unwrap_or_default()
}

/// Warnings about a store and manifests in the working directory that earlier versions used with the same settings.
fn left_behind(name: &str, base: &Path, settings: &Settings) -> Vec<Problem> {
    let dir = settings
        .source
        .manifests
        .as_ref()
        .map(|m| (m.dir.clone(), "manifests.dir"));
    let store = match &settings.broker {
        BrokerSettings::Embedded { path } => Some((path.clone(), "data.dir")),
        BrokerSettings::Redis(_) => None,
    };
    let moved = |(now, key): (PathBuf, &str)| {
        let before = now.strip_prefix(base).ok().filter(|_| !base.as_os_str().is_empty())?;
        let same = before.canonicalize().ok()? == now.canonicalize().unwrap_or_default();
        if now.exists() || same {
            return None;
        }
        let (before, now) = (before.display(), now.display());
        let text = format!("{now} does not exist and {before} does: relative paths begin at the directory of the file");
        let hint = format!("move {before} there, or write the full path of its directory under {key}");
        Some(Problem::of_settings("CFG_MOVED", name, text).as_warning().hint(hint))
    };
    dir.into_iter().chain(store).filter_map(moved).collect()
}

/// Warnings about keys and passwords that each instance would generate for itself although several may serve one
/// dashboard: those that share a Redis and can be reached from other machines.
fn own_secrets(name: &str, settings: &Settings) -> Vec<Problem> {
    let shared = matches!(settings.broker, BrokerSettings::Redis(_)) && settings.roles.web && !settings.is_loopback();
    let own_key = !settings.key.as_ref().is_some_and(|key| is_strong(key.expose()));
    let warning =
        |code: &str, message: &str, hint: &str| Problem::of_settings(code, name, message).as_warning().hint(hint);
    let mut warnings = Vec::new();
    if shared && own_key {
        warnings.push(warning(
            "CFG_OWN_KEY",
            "server.key is not set, or too weak: each instance signs sessions with a key of its own in data.dir, so a login \
             at one does not hold at another",
            "set server.key (or RUNNER_SERVER_KEY) to the same 32 random bytes or more everywhere: `openssl rand -hex 32`",
        ));
    }
    if shared && settings.auth.users.is_empty() {
        warnings.push(warning(
            "CFG_OWN_PASSWORD",
            "auth.users is empty: each instance makes an admin password of its own in data.dir",
            "name users under auth.users, or in RUNNER_AUTH_USERS as JSON",
        ));
    }
    warnings
}

/// The users of the dashboard, if they are needed; otherwise none.
fn auth(root: &Section<'_>, purpose: Purpose, web: bool) -> AuthSettings {
    match purpose {
        Purpose::Serve if web => read_auth::read(root),
        Purpose::Check => read_auth::read(root),
        // Read anyway, so that its keys are known and its secrets are not shown.
        Purpose::Serve | Purpose::Command => {
            let _unused = root.reader().without_findings(|| read_auth::read(root));
            AuthSettings::default()
        }
    }
}

fn read(root: &Section<'_>, purpose: Purpose) -> Settings {
    let server = read_server::read(root);
    let mut roles = read_server::roles(root);
    let (scheduler, dst) = read_work::scheduler(root);
    let queue_dash = read_work::features(root);
    roles.scheduler &= scheduler;
    roles.web &= server.http_enabled;
    let mut triggers = read_rabbitmq::read(root);
    triggers.redis = read_redis::connections(root);
    let environment = root.reader().environment.clone();
    triggers.secrets = SecretReader::new(move |reference| interpolate(reference, &environment));
    let mail = read_mail::mail(root);
    let (mut notification, channels) = read_notify::read(root, mail.is_some());
    notification.dashboard = server
        .web
        .public_url
        .as_ref()
        .filter(|_| queue_dash)
        .map(PublicUrl::first_page);
    let broker = read_stores::broker(root, &server.data_dir);
    let semaphores = broker.semaphores();
    let mut worker = read_work::worker(root, semaphores);
    if !channels.is_empty() {
        worker.serve_notifications();
    }
    let table = read_stores::table(root, &server.data_dir);
    let publish = publishers(&triggers.rabbitmq, &triggers.redis);
    Settings {
        origin: None,
        addr: server.addr,
        metrics_addr: server.metrics_addr,
        key: server.key,
        roles,
        broker,
        redis_in_url: read_redis::is_in_url(root),
        source: SourceSettings {
            table: table.table,
            writable: table.writable,
            zone_name: server.web.zone_name.clone(),
            zone: server.web.zone.clone(),
            dst,
            rabbitmq: triggers.rabbitmq.keys().cloned().collect(),
            redis: triggers.redis.keys().cloned().collect(),
            channels: notification.channels.clone(),
            semaphores,
            ..read_work::sources(root)
        },
        events: read_events::read(root, &triggers),
        triggers,
        telemetry: read_telemetry::read(root),
        data_dir: server.data_dir,
        notification,
        worker,
        handlers: read_handlers::handlers(root, mail, publish, channels),
        web: WebSettings {
            queue_dash,
            ..server.web
        },
        auth: auth(root, purpose, roles.web),
        log: read_log::read(root),
        written: WrittenKeys::default(),
        warnings: Vec::new(),
    }
}

fn read_file(path: &Path) -> Result<String, Refused> {
    let name = path.display().to_string();
    let failed = |what: String| {
        let message = format!("cannot read {name:?}: {what}");
        Refused(vec![Problem::of_settings("CFG_READ", name.clone(), message)])
    };
    if path.is_dir() {
        return Err(failed("it is a directory".to_owned()));
    }
    let file = File::open(path).map_err(|e| {
        failed(match e.kind() {
            std::io::ErrorKind::NotFound => "not found".to_owned(),
            _ => e.to_string(),
        })
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(e.to_string()))?;
    if bytes.len() > MAX_BYTES {
        return Err(failed(format!("it is longer than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        failed(format!("line {line} is not UTF-8"))
    })
}

/// A warning if the file contains secrets and every user of this machine may read it.
fn readable_by_others(path: &Path) -> Option<Problem> {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then(|| {
        let name = path.display().to_string();
        let message = format!("the file holds secrets and has mode {mode:04o}: every user may read it");
        Problem::of_settings("CFG_PERM", name.clone(), message)
            .as_warning()
            .hint(format!("chmod o= {name}, or write ${{env:NAME}} or ${{file:PATH}}"))
    })
}
