//! Reads what runs: `worker`, `scheduler`, `manifests`, and the switches of `feature`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use runner_core::cron::DstRule;
use runner_core::limit::{
    LimitKey, LimitRule, Limits, MAX_LIMIT, MAX_RATE_PER, SemaphoreReach, SharedSemaphore, StartRate, TaskLimit,
};
use runner_core::task::{FUNCTION_PREFIX, QueueName};
use runner_queue::{ArchiveBounds, GroupRule, MAX_SET};

use super::read_server::place_of;
use super::reader::Located;
use super::section::Section;
use crate::source::{ManifestSettings, SourceSettings};
use crate::worker::{SHORTEST_LEASE, WorkerSettings};

/// Tasks at once in one process; each may hold a connection or a child.
const MAX_CONCURRENCY: usize = 10_000;

/// Weight of a queue: its number of tickets in the draw.
const MAX_WEIGHT: u32 = 10_000;

/// Each failed task is kept in full; a million of them is a gigabyte or more.
const MAX_ARCHIVE: usize = 1_000_000;

/// Each is compared with the type of every run.
const MAX_RECORDED_TYPES: usize = 50;

const LONGEST_KEEP: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Each such run costs a process.
const MAX_POISON_AFTER: u32 = 1000;

/// Reading more often would keep a database or a disk busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Instants at which tasks join a group are kept in whole seconds; asynq's bound too.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);

const DST_RULES: [(&str, DstRule); 2] = [("vixie", DstRule::Vixie), ("go", DstRule::Go)];

/// Reads `worker`. `semaphores`: those that the broker can count.
pub fn worker(root: &Section<'_>, semaphores: SemaphoreReach) -> WorkerSettings {
    let section = root.section("worker");
    let default = WorkerSettings::default();
    let settings = WorkerSettings {
        concurrency: section
            .number("concurrency", 1..=MAX_CONCURRENCY)
            .unwrap_or(default.concurrency),
        queues: queues(&section).unwrap_or(default.queues),
        strict_priority: section.flag("strict_priority").unwrap_or(default.strict_priority),
        shutdown_timeout: section
            .duration("shutdown_timeout", Duration::ZERO..=HOUR)
            .unwrap_or(default.shutdown_timeout),
        lease: section
            .duration("lease", SHORTEST_LEASE..=HOUR)
            .unwrap_or(default.lease),
        archive: archive(&section, default.archive),
        poison_after: section
            .number("poison_after", 0..=MAX_POISON_AFTER)
            .unwrap_or(default.poison_after),
        groups: groups(&section, default.groups),
        limits: limits(&section, semaphores),
        recorded_types: recorded_types(&section),
        notification_slots: default.notification_slots,
    };
    section.finish();
    settings
}

/// A bound of 0 is none, as in asynq.
fn groups(section: &Section<'_>, default: GroupRule) -> GroupRule {
    let delay = section.duration("group_max_delay", Duration::ZERO..=DAY);
    let size = section.number("group_max_size", 0..=MAX_SET);
    GroupRule {
        grace: section
            .duration("group_grace_period", SHORTEST_GRACE..=DAY)
            .unwrap_or(default.grace),
        max_delay: delay.map_or(default.max_delay, |delay| Some(delay).filter(|delay| !delay.is_zero())),
        max_size: size.map_or(default.max_size, |size| Some(size).filter(|size| *size > 0)),
    }
}

/// Types whose runs are recorded.
fn recorded_types(section: &Section<'_>) -> Vec<String> {
    let listed = section.list("record_runs").unwrap_or_default();
    if listed.len() > MAX_RECORDED_TYPES {
        let message = format!(
            "worker.record_runs has {} entries, at most {MAX_RECORDED_TYPES} are allowed; a prefix and * names many types",
            listed.len()
        );
        section
            .reader()
            .error("CFG_VALUE", &place_of(section, "record_runs"), message);
    }
    for entry in &listed {
        let text = entry.value.trim();
        let why = match text.strip_suffix('*').unwrap_or(text) {
            "" if text.is_empty() => "a task type must not be blank",
            rest if rest.contains('*') => "* is allowed at the end only",
            rest if rest.starts_with(FUNCTION_PREFIX) => "functions of manifests have records anyway",
            _ => continue,
        };
        section.reader().error("CFG_VALUE", &entry.place, why);
    }
    listed.into_iter().map(|entry| entry.value.trim().to_owned()).collect()
}

/// Limits of queues, by their names.
fn limits(section: &Section<'_>, semaphores: SemaphoreReach) -> Limits {
    let mut limits = Limits::default();
    for (name, section) in section.named("limits", "concurrency") {
        let key = section.text("key").and_then(|text| limit_key(&section, &text));
        let most = section.number("concurrency", 1..=MAX_LIMIT);
        let scope = section.text("semaphore");
        let rate = rate(section.section("rate_limit"));
        // A blank name was reported where names are read.
        let queue = QueueName::new(name);
        let running = match (scope, &queue) {
            (Some(scope), Ok(queue)) => semaphore(&section, &scope, most, (semaphores, queue)),
            _ => most.map(LimitRule::Concurrency),
        };
        section.finish();
        let Ok(queue) = queue else { continue };
        for rule in [running, rate].into_iter().flatten() {
            let limit = TaskLimit {
                key: key.clone(),
                ..TaskLimit::new(rule)
            };
            limits.add_of_queue(queue.clone(), limit);
        }
    }
    limits
}

/// A semaphore for the tasks of a queue.
fn semaphore(
    section: &Section<'_>,
    scope: &Located<String>,
    most: Option<u32>,
    (semaphores, queue): (SemaphoreReach, &QueueName),
) -> Option<LimitRule> {
    let Some(most) = most else {
        let (why, hint) = (
            "semaphore needs concurrency",
            "it says how many tasks may run at a time",
        );
        section.reader().error_hint("CFG_VALUE", &scope.place, why, hint);
        return None;
    };
    let semaphore = SharedSemaphore::new(scope.value.clone(), most)
        .map_err(|why| section.reader().error("CFG_VALUE", &scope.place, why.to_string()))
        .ok()?;
    if let Some(fault) = semaphores.fault(&semaphore, queue) {
        let reader = section.reader();
        reader.error_hint("CFG_VALUE", &scope.place, fault.to_string(), fault.hint());
        return None;
    }
    Some(LimitRule::Semaphore(semaphore))
}

fn limit_key(section: &Section<'_>, text: &Located<String>) -> Option<LimitKey> {
    LimitKey::new(text.value.trim())
        .map_err(|why| section.reader().error("CFG_VALUE", &text.place, why.to_string()))
        .ok()
}

fn rate(section: Section<'_>) -> Option<LimitRule> {
    let count = section.number("count", 1..=MAX_LIMIT);
    let per = section.duration("per", Duration::from_millis(1)..=MAX_RATE_PER);
    let burst = section.number("burst", 1..=MAX_LIMIT);
    if section.written() && (count.is_none() || per.is_none()) {
        section
            .reader()
            .error("CFG_VALUE", &section.place(), "rate_limit needs count and per");
    }
    section.finish();
    let (count, per) = (count?, per?);
    let burst = burst.unwrap_or(count);
    Some(LimitRule::Rate(StartRate { count, per, burst }))
}

fn archive(section: &Section<'_>, default: ArchiveBounds) -> ArchiveBounds {
    let keep = section.duration("archive_keep", Duration::from_secs(60)..=LONGEST_KEEP);
    ArchiveBounds {
        most: section.number("archive_max", 1..=MAX_ARCHIVE).unwrap_or(default.most),
        keep: keep.unwrap_or(default.keep),
    }
}

fn queues(section: &Section<'_>) -> Option<BTreeMap<QueueName, u32>> {
    let mut queues = BTreeMap::new();
    for (name, weight) in section.weights("queues", 1..=MAX_WEIGHT)? {
        match QueueName::new(name.value) {
            Ok(queue) => drop(queues.insert(queue, weight)),
            Err(_) => {
                let message = "a queue name must not be blank";
                section.reader().error("CFG_VALUE", &name.place, message);
            }
        }
    }
    if queues.is_empty() {
        let message = "worker.queues is empty; the worker would claim nothing";
        let place = place_of(section, "queues");
        section.reader().error("CFG_VALUE", &place, message);
    }
    Some(queues)
}

/// Reads `scheduler`: whether it is on, and the rule for clock changes.
pub fn scheduler(root: &Section<'_>) -> (bool, DstRule) {
    let section = root.section("scheduler");
    let enabled = section.flag("enabled").unwrap_or(true);
    let dst = section.choice("dst", &DST_RULES).unwrap_or_default();
    section.finish();
    (enabled, dst)
}

/// Reads `manifests`, `db` and `source`: when sources are read, and where manifests are. The table, the zone and the rule
/// for changing clocks are read elsewhere.
pub fn sources(root: &Section<'_>) -> SourceSettings {
    let (db, source) = (root.section("db"), root.section("source"));
    let default = SourceSettings::default();
    let (sync, keep) = (
        db.duration("sync_interval", SHORTEST_INTERVAL..=DAY),
        source.duration("mass_delete", Duration::ZERO..=DAY),
    );
    db.finish();
    source.finish();
    SourceSettings {
        manifests: manifests(root),
        sync_interval: sync.unwrap_or(default.sync_interval),
        mass_delete: keep.unwrap_or(default.mass_delete),
        ..default
    }
}

fn manifests(root: &Section<'_>) -> Option<ManifestSettings> {
    let section = root.section("manifests");
    let default = ManifestSettings::default();
    let enabled = section.flag("enabled").unwrap_or(true);
    let dir = section.path("dir");
    if let Some(found) = &dir {
        check_dir(&section, found);
    }
    let settings = ManifestSettings {
        dir: dir.map_or_else(|| section.beside(default.dir), |found| found.value),
        rescan: section
            .duration("rescan", SHORTEST_INTERVAL..=HOUR)
            .unwrap_or(default.rescan),
    };
    section.finish();
    enabled.then_some(settings)
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

/// Reads `feature`, and accepts sections of the Go service that have no meaning here.
pub fn features(root: &Section<'_>) -> bool {
    let feature = root.section("feature");
    let dash = feature.flag("queueDash").unwrap_or(true);
    feature.legacy("metrics", "metrics are always served");
    feature.legacy("profiling", "there is no profiler to switch on");
    feature.legacy("apiDoc", "there is no HTTP API to describe");
    feature.finish();
    root.legacy("code", "it configures another service");
    dash
}
