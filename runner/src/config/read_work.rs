//! Reads what runs: `worker`, `scheduler`, `manifests`, `handlers`, and the switches of `feature`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use runner_core::cron::DstRule;
use runner_queue::{ArchiveBounds, GroupRule, MAX_SET};

use super::read_server::place_of;
use super::reader::Located;
use super::section::Section;
use super::settings::{ExecSection, HttpSection, ManifestSection, SchedulerSettings, WorkerSection};
use crate::source::DEFAULT_MASS_DELETE;
use crate::worker::{DEFAULT_LEASE, SHORTEST_LEASE};

/// Tasks mostly wait for others, so a few more than processors; enough of them on a small machine too.
const MIN_DEFAULT_CONCURRENCY: usize = 10;

/// Tasks at once in one process; each may hold a connection or a child.
const MAX_CONCURRENCY: u64 = 10_000;

/// Weight of a queue; it is how often its name stands in the draw.
const MAX_WEIGHT: u32 = 10_000;

/// Matches the time that service managers give before they kill.
const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(25);

/// A run may be lost by accident, and so may the next; hardly a third one in a row.
const DEFAULT_POISON_AFTER: u32 = 3;

/// Each failed task is kept whole; a million of them is a gigabyte or more.
const MAX_ARCHIVE: u64 = 1_000_000;

const LONGEST_KEEP: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Each such run takes a process with it.
const MAX_POISON_AFTER: u64 = 1000;

/// Events are hints; this is how late a change without an event is seen.
const DEFAULT_RESCAN: Duration = Duration::from_secs(30);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Instants at which tasks join a group are kept in whole seconds; asynq's bound too.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);

/// Reads `worker`.
pub fn worker(root: &Section<'_>) -> WorkerSection {
    let section = root.section("worker");
    let concurrency = section
        .number("concurrency", 1..=MAX_CONCURRENCY)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or_else(default_concurrency);
    let queues = queues(&section);
    let strict_priority = section.flag("strict_priority").unwrap_or(false);
    let shutdown_timeout = section
        .duration("shutdown_timeout", Duration::ZERO..=HOUR)
        .unwrap_or(DEFAULT_SHUTDOWN);
    let lease = section
        .duration("lease", SHORTEST_LEASE..=HOUR)
        .unwrap_or(DEFAULT_LEASE);
    let archive = archive(&section);
    let poison_after = section
        .number("poison_after", 0..=MAX_POISON_AFTER)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(DEFAULT_POISON_AFTER);
    let groups = groups(&section);
    section.finish();
    WorkerSection {
        concurrency,
        queues,
        strict_priority,
        shutdown_timeout,
        lease,
        archive,
        poison_after,
        groups,
    }
}

fn groups(section: &Section<'_>) -> GroupRule {
    let default = GroupRule::default();
    GroupRule {
        grace: section
            .duration("group_grace_period", SHORTEST_GRACE..=DAY)
            .unwrap_or(default.grace),
        max_delay: section
            .duration("group_max_delay", Duration::ZERO..=DAY)
            .filter(|delay| !delay.is_zero()),
        max_size: section
            .number("group_max_size", 0..=MAX_SET as u64)
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size > 0),
    }
}

fn archive(section: &Section<'_>) -> ArchiveBounds {
    let usual = ArchiveBounds::default();
    ArchiveBounds {
        most: section
            .number("archive_max", 1..=MAX_ARCHIVE)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(usual.most),
        keep: section
            .duration("archive_keep", Duration::from_secs(60)..=LONGEST_KEEP)
            .unwrap_or(usual.keep),
    }
}

fn default_concurrency() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let wanted = (2 * cpus).max(MIN_DEFAULT_CONCURRENCY);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

fn queues(section: &Section<'_>) -> BTreeMap<String, u32> {
    let default = || BTreeMap::from([("default".to_owned(), 1)]);
    let Some(weights) = section.weights("queues", 1..=MAX_WEIGHT) else {
        return default();
    };
    let mut queues = BTreeMap::new();
    for (name, weight) in weights {
        if name.value.trim().is_empty() {
            let message = "a queue name must not be blank";
            section.reader().error("CFG_VALUE", &name.place, message);
        } else {
            queues.insert(name.value, weight);
        }
    }
    if queues.is_empty() {
        let message = "worker.queues is empty; the worker would take nothing";
        section
            .reader()
            .error("CFG_VALUE", &place_of(section, "queues"), message);
        return default();
    }
    queues
}

/// Reads `scheduler`.
pub fn scheduler(root: &Section<'_>) -> SchedulerSettings {
    let section = root.section("scheduler");
    let rules = [("vixie", DstRule::Vixie), ("go", DstRule::Go)];
    let settings = SchedulerSettings {
        enabled: section.flag("enabled").unwrap_or(true),
        dst: section.choice("dst", &rules).unwrap_or_default(),
    };
    section.finish();
    settings
}

/// Reads `manifests`.
pub fn manifests(root: &Section<'_>) -> Option<ManifestSection> {
    let section = root.section("manifests");
    let enabled = section.flag("enabled").unwrap_or(true);
    let dir = section.path("dir");
    let rescan = section
        .duration("rescan", Duration::from_millis(100)..=HOUR)
        .unwrap_or(DEFAULT_RESCAN);
    if let Some(found) = &dir {
        check_dir(&section, found);
    }
    let standard = section.beside("manifests");
    section.finish();
    enabled.then(|| ManifestSection {
        dir: dir.map_or(standard, |f| f.value),
        rescan,
    })
}

/// Reads `source`: how long the last known set stays in force when all of it is gone.
pub fn mass_delete(root: &Section<'_>) -> Duration {
    let section = root.section("source");
    let guard = section.duration("mass_delete", Duration::ZERO..=Duration::from_secs(24 * 3600));
    section.finish();
    guard.unwrap_or(DEFAULT_MASS_DELETE)
}

fn check_dir(section: &Section<'_>, found: &Located<PathBuf>) {
    let path = &found.value;
    let shown = path.display();
    let fault = if shown.to_string().trim().is_empty() {
        "is blank"
    } else if path.canonicalize().is_ok_and(|p| p.parent().is_none()) {
        "is the root of the file system"
    } else if path.exists() && !path.is_dir() {
        "is not a directory"
    } else {
        if !path.exists() {
            let message = format!("manifests.dir {shown} does not exist yet");
            let hint = Some("it is read once it appears; `runner init` makes a directory with a sample".to_owned());
            section.reader().warning("CFG_DIR", &found.place, message, hint);
        }
        return;
    };
    let message = format!("manifests.dir {shown} {fault}");
    section.reader().error("CFG_DIR", &found.place, message);
}

/// Reads `handlers`.
pub fn handlers(root: &Section<'_>) -> (ExecSection, HttpSection) {
    let section = root.section("handlers");
    let (exec, http) = (section.section("exec"), section.section("http"));
    let texts =
        |found: Option<Vec<Located<String>>>| found.map_or_else(Vec::new, |l| l.into_iter().map(|f| f.value).collect());
    let allowed_commands = exec.list("allowed_commands");
    for found in allowed_commands.iter().flatten() {
        check_allowed(&exec, found);
    }
    let settings = (
        ExecSection {
            enabled: exec.flag("enabled").unwrap_or(true),
            allowed_commands: texts(allowed_commands),
        },
        HttpSection {
            allow_private: http.flag("allow_private").unwrap_or(false),
            allowed_hosts: texts(http.list("allowed_hosts")),
        },
    );
    for section in [exec, http, section] {
        section.finish();
    }
    settings
}

/// An entry that could never allow anything is a mistake that would stop every command.
fn check_allowed(section: &Section<'_>, found: &Located<String>) {
    let entry = &found.value;
    let climbs = entry.split('/').any(|part| part == "..");
    if entry.is_empty() || climbs || (entry.contains('/') && !entry.starts_with('/')) {
        let message =
            format!("handlers.exec.allowed_commands {entry:?} must be a name or an absolute path without \"..\"");
        section.reader().error("CFG_VALUE", &found.place, message);
    }
}

/// Reads `feature`, and accepts the sections of the Go service that mean nothing here.
pub fn features(root: &Section<'_>) -> bool {
    let feature = root.section("feature");
    let dash = feature.flag("queueDash").unwrap_or(true);
    feature.legacy("metrics", "metrics are always served");
    feature.legacy("profiling", "there is no profiler to switch on");
    feature.legacy("apiDoc", "there is no HTTP API to describe");
    feature.finish();
    root.legacy(
        "mail",
        "this program sends no mail; a function that does has settings of its own",
    );
    root.legacy("code", "it configures another service");
    dash
}
