//! Compares the schedule sets of several instances: what differs, and whose version counts. Pure.
//!
//! On every instance the version of a schedule that appeared last counts: an edit that one instance reads before the
//! others, or a newer deployment beside an older one. When the last instance with it is gone, the version before it
//! counts again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use runner_core::schedule::{Definition, Origin, Plan, Problem, ScheduleId, Source, stable_hash};
use runner_core::task::Unique;
use serde::{Deserialize, Serialize};

/// Schedules named in one problem; the others are counted.
const NAMED: usize = 5;

/// One schedule as an instance has it: enough to compare it and to name the difference, short because there are
/// thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// Of all fields below except the place.
    #[serde(rename = "v")]
    pub(super) hash: u64,
    /// File or row.
    #[serde(rename = "p")]
    place: String,
    /// The rule as written, with its zone; `off` if it is disabled.
    #[serde(rename = "s")]
    spec: String,
    /// The task type.
    #[serde(rename = "k")]
    kind: String,
    #[serde(rename = "d")]
    payload: u64,
    #[serde(rename = "o")]
    options: u64,
}

/// All schedules of one instance.
pub(super) type ScheduleSet = BTreeMap<ScheduleId, Version>;

/// When this instance's version of each schedule first appeared on any instance, in milliseconds since 1970.
pub(super) type VersionTimes = BTreeMap<ScheduleId, i64>;

/// Another instance.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerSet {
    /// `host:pid`.
    pub(super) name: String,
    pub(super) set: ScheduleSet,
    pub(super) since: VersionTimes,
}

/// The result of comparing with all other instances.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    /// Each difference, as a warning on this instance.
    pub problems: Vec<Problem>,
    /// Schedules of which another instance has the version that counts: this instance does not fire them.
    pub superseded: BTreeSet<ScheduleId>,
}

/// The schedules of a plan in the form that other instances compare.
pub(super) fn set_of(plan: &Plan) -> ScheduleSet {
    plan.schedules.values().map(|d| (d.id.clone(), version_of(d))).collect()
}

/// As before for a lock of asynq's form, so that instances of older versions agree.
fn unique_text(unique: &Unique) -> String {
    let key = unique.key.as_ref().map_or_else(String::new, |key| format!("{key:?}"));
    format!("{}{}{key}", unique.ttl.as_millis(), unique.letters())
}

fn version_of(d: &Definition) -> Version {
    let task = &d.task;
    let spec = match d.enabled {
        true => format!("{} ({})", d.timing.text, d.timing.zone_name),
        false => "off".to_owned(),
    };
    let payload = stable_hash(&[&String::from_utf8_lossy(task.payload.as_deref().unwrap_or_default())]);
    let seconds = |length: std::time::Duration| length.as_millis().to_string();
    let headers: Vec<String> = task
        .headers
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let [overlap, catch_up, jitter] = d.policies();
    let options = stable_hash(&[
        task.queue.as_str(),
        &task.max_retry.to_string(),
        &task.timeout.map_or_else(String::new, seconds),
        &task.deadline.map_or_else(String::new, |at| at.to_string()),
        &seconds(task.retention),
        &task.unique.as_ref().map_or_else(String::new, unique_text),
        task.group.as_deref().unwrap_or_default(),
        &headers.join("\n"),
        &overlap,
        &catch_up,
        &jitter,
    ]);
    let hash = stable_hash(&[
        &d.revision(),
        &spec,
        &task.kind,
        &payload.to_string(),
        &options.to_string(),
    ]);
    Version {
        hash,
        place: d.origin.place.clone(),
        spec,
        kind: task.kind.clone(),
        payload,
        options,
    }
}

/// A fingerprint of a whole set, equal on every instance that has it from the same places.
pub(super) fn digest_of(set: &ScheduleSet) -> String {
    let text = serde_json::to_string(set).unwrap_or_default();
    format!("{:016x}", stable_hash(&[&text]))
}

/// When each version of `set` appeared: as recorded before, or by the first instance that had it, or now.
pub(super) fn since_of(
    set: &ScheduleSet,
    before: (&ScheduleSet, &VersionTimes),
    peers: &[PeerSet],
    now: Timestamp,
) -> VersionTimes {
    let known = |id: &ScheduleId, version: &Version| {
        let peers = peers.iter().map(|peer| (&peer.set, &peer.since));
        let same = |(set, since): (&ScheduleSet, &VersionTimes)| {
            let there = set.get(id).is_some_and(|other| other.hash == version.hash);
            there.then(|| since.get(id).copied()).flatten()
        };
        // The earliest wins: all instances with the same version then agree on its age.
        std::iter::once(before).chain(peers).filter_map(same).min()
    };
    let since = |(id, version): (&ScheduleId, &Version)| {
        (id.clone(), known(id, version).unwrap_or_else(|| now.as_millisecond()))
    };
    set.iter().map(since).collect()
}

/// Compares this instance's set with those of all others.
pub(super) fn differences(set: &ScheduleSet, since: &VersionTimes, peers: &[PeerSet]) -> Differences {
    let mut found = Differences::default();
    for peer in peers {
        for (id, version) in set {
            let Some(theirs) = peer.set.get(id).filter(|other| other.hash != version.hash) else {
                continue;
            };
            // The hash breaks ties, so that both instances decide alike.
            let rank = |since: &VersionTimes, version: &Version| (since.get(id).copied().unwrap_or(0), version.hash);
            let lost = rank(&peer.since, theirs) > rank(since, version);
            if lost {
                found.superseded.insert(id.clone());
            }
            found.problems.push(contested(id, version, theirs, &peer.name, lost));
        }
        found.problems.extend(only_there(set, peer));
        found.problems.extend(only_here(set, peer));
    }
    found
}

fn contested(id: &ScheduleId, ours: &Version, theirs: &Version, peer: &str, lost: bool) -> Problem {
    let differs = differing(ours, theirs, |ours, theirs| format!("{theirs} there, {ours} here"));
    let counts = if lost { "that one counts" } else { "this one counts" };
    let text = format!(
        "the instance {peer} has another version of {id} at {} ({}); {counts}, as it appeared last",
        theirs.place,
        differs.join("; ")
    );
    other_version(id, text, &ours.place)
}

fn other_version(id: &ScheduleId, text: String, place: &str) -> Problem {
    let mut problem = Problem::warning("W260", text, origin(id, place)).about(id.clone());
    problem.hint = Some("give all instances the same files and rows".to_owned());
    problem
}

/// What differs between two versions; `both` puts the two specs or types into words.
fn differing(ours: &Version, theirs: &Version, both: impl Fn(&str, &str) -> String) -> Vec<String> {
    let mut differs = Vec::new();
    if ours.spec != theirs.spec {
        differs.push(both(&ours.spec, &theirs.spec));
    }
    if ours.kind != theirs.kind {
        differs.push(format!("type {}", both(&ours.kind, &theirs.kind)));
    }
    if ours.payload != theirs.payload {
        differs.push("payload".to_owned());
    }
    if ours.options != theirs.options || differs.is_empty() {
        differs.push("queue, limits or policies".to_owned());
    }
    differs
}

/// Compares live instances with one another, for a reader that is none of them. A version that appeared after `settled`
/// may be an edit that others have not read yet: it is no difference. `superseded` are schedules with several versions.
pub(super) fn among(peers: &[PeerSet], settled: Timestamp) -> Differences {
    let mut found = Differences::default();
    let mut all: BTreeMap<&ScheduleId, Vec<(&PeerSet, &Version)>> = BTreeMap::new();
    for peer in peers {
        for (id, version) in &peer.set {
            all.entry(id).or_default().push((peer, version));
        }
    }
    let mut lacking: BTreeMap<Vec<&str>, Vec<(&ScheduleId, &Version)>> = BTreeMap::new();
    for (id, with) in all {
        let since = |peer: &PeerSet| peer.since.get(id).copied().unwrap_or(0);
        let newest = with.iter().max_by_key(|(peer, version)| (since(peer), version.hash));
        let Some((newest, counts)) = newest.filter(|(peer, _)| since(peer) <= settled.as_millisecond()) else {
            continue;
        };
        for (peer, version) in with.iter().filter(|(_, version)| version.hash != counts.hash) {
            let differs = differing(version, counts, |old, new| format!("{old} instead of {new}"));
            let text = format!(
                "the instance {} has an older version of {id} at {} than {} ({}); the newer one counts",
                peer.name,
                version.place,
                newest.name,
                differs.join("; ")
            );
            found.problems.push(other_version(id, text, &counts.place));
            found.superseded.insert(id.clone());
        }
        let has = |peer: &&PeerSet| with.iter().any(|(other, _)| std::ptr::eq(*other, *peer));
        let without: Vec<&str> = peers
            .iter()
            .filter(|peer| !has(peer))
            .map(|p| p.name.as_str())
            .collect();
        if !without.is_empty() {
            lacking.entry(without).or_default().push((id, *counts));
        }
    }
    for (without, schedules) in lacking {
        let text = format!(
            "schedules that other instances have and fire are missing on {}: {}",
            without.join(", "),
            named(&schedules)
        );
        // One for each schedule, so that each of them shows it; lists leave out repetitions.
        let place = schedules.first().map_or("", |(_, version)| version.place.as_str());
        let about = |id: &ScheduleId| Problem::warning("W261", text.clone(), origin(id, place)).about(id.clone());
        found.problems.extend(schedules.iter().map(|(id, _)| about(id)));
    }
    found
}

fn only_there(set: &ScheduleSet, peer: &PeerSet) -> Option<Problem> {
    let there: Vec<(&ScheduleId, &Version)> = peer.set.iter().filter(|(id, _)| !set.contains_key(*id)).collect();
    let (first, version) = there.first()?;
    let text = format!(
        "the instance {} has schedules that this one lacks, and fires them: {}",
        peer.name,
        named(&there)
    );
    Some(Problem::warning("W261", text, origin(first, &version.place)))
}

fn only_here(set: &ScheduleSet, peer: &PeerSet) -> Option<Problem> {
    let here: Vec<(&ScheduleId, &Version)> = set.iter().filter(|(id, _)| !peer.set.contains_key(*id)).collect();
    let (first, version) = here.first()?;
    let text = format!(
        "the instance {} lacks schedules that this one has and fires: {}",
        peer.name,
        named(&here)
    );
    Some(Problem::warning("W261", text, origin(first, &version.place)))
}

fn named(all: &[(&ScheduleId, &Version)]) -> String {
    let names: Vec<String> = all
        .iter()
        .take(NAMED)
        .map(|(id, v)| format!("{id} ({})", v.place))
        .collect();
    let rest = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{rest}", names.join(", "))
}

fn origin(id: &ScheduleId, place: &str) -> Origin {
    Origin {
        source: id.source().unwrap_or(Source::Code),
        place: place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(name: &str) -> ScheduleId {
        ScheduleId::manifest(name, "default")
    }

    fn version(spec: &str, payload: u64) -> Version {
        Version {
            hash: stable_hash(&[spec, &payload.to_string()]),
            place: format!("manifests/{payload}.yaml:2"),
            spec: spec.to_owned(),
            kind: "fn:job".to_owned(),
            payload,
            options: 0,
        }
    }

    fn peer(name: &str, versions: &[(&str, Version, i64)]) -> PeerSet {
        PeerSet {
            name: name.to_owned(),
            set: versions
                .iter()
                .map(|(name, version, _)| (id(name), version.clone()))
                .collect(),
            since: versions.iter().map(|(name, _, since)| (id(name), *since)).collect(),
        }
    }

    #[test]
    fn the_version_that_appeared_last_counts_on_both_and_both_report_it() {
        let (old, new) = (version("*/4 (UTC)", 1), version("*/6 (UTC)", 1));
        let first = peer("a:1", &[("job", old, 1000)]);
        let second = peer("b:2", &[("job", new, 2000)]);
        let at_first = differences(&first.set, &first.since, std::slice::from_ref(&second));
        assert_eq!(at_first.superseded, BTreeSet::from([id("job")]));
        let problem = &at_first.problems[0];
        assert_eq!(problem.schedule, Some(id("job")));
        assert!(
            problem.message.contains("b:2") && problem.message.contains("that one counts"),
            "{problem}"
        );
        assert!(problem.message.contains("*/6 (UTC) there, */4 (UTC) here"), "{problem}");
        let at_second = differences(&second.set, &second.since, std::slice::from_ref(&first));
        assert_eq!(at_second.superseded, BTreeSet::new());
        assert!(
            at_second.problems[0].message.contains("this one counts"),
            "{at_second:?}"
        );
        // Versions that appeared in the same instant: one of them counts, the same on both instances.
        let mut twin = second.clone();
        twin.since = first.since.clone();
        let here = differences(&first.set, &first.since, std::slice::from_ref(&twin)).superseded;
        let there = differences(&twin.set, &twin.since, std::slice::from_ref(&first)).superseded;
        assert_eq!(here.len() + there.len(), 1);
    }

    #[test]
    fn a_schedule_that_only_one_instance_has_is_reported_and_stays_in_force() {
        let here = peer("a:1", &[("both", version("x", 1), 1), ("here", version("x", 2), 1)]);
        let there: Vec<(String, Version)> = (0..7).map(|n| (format!("t{n}"), version("x", n))).collect();
        let mut all: Vec<(&str, Version, i64)> = there.iter().map(|(n, v)| (n.as_str(), v.clone(), 1)).collect();
        all.push(("both", version("x", 1), 9));
        let there = peer("b:2", &all);
        let found = differences(&here.set, &here.since, std::slice::from_ref(&there));
        assert_eq!(found.superseded, BTreeSet::new());
        let texts: Vec<&str> = found.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].contains("m:t0:default") && texts[0].ends_with("and 2 more"),
            "{texts:?}"
        );
        assert!(texts[1].contains("m:here:default (manifests/2.yaml:2)"), "{texts:?}");
        assert_eq!(
            differences(&here.set, &here.since, std::slice::from_ref(&here)),
            Differences::default()
        );
    }

    #[test]
    fn a_reader_that_is_no_instance_sees_how_the_others_differ() {
        let old = peer("a:1", &[("job", version("*/4", 1), 1000), ("both", version("x", 1), 1)]);
        let new = peer("b:2", &[("job", version("*/6", 1), 2000), ("both", version("x", 1), 9)]);
        let more = peer(
            "c:3",
            &[
                ("job", version("*/6", 1), 2000),
                ("both", version("x", 1), 9),
                ("more", version("y", 2), 5),
            ],
        );
        let peers = [old, new, more];
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let found = among(&peers, at(2000));
        assert_eq!(found.superseded, BTreeSet::from([id("job")]));
        let texts: Vec<&str> = found.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].starts_with("the instance a:1 has an older version of m:job:default"),
            "{texts:?}"
        );
        assert!(
            texts[0].contains("(*/4 instead of */6); the newer one counts"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains("missing on a:1, b:2: m:more:default (manifests/2.yaml:2)"),
            "{texts:?}"
        );
        assert_eq!(found.problems[1].schedule, Some(id("more")));
        let found = among(&peers, at(1999));
        let codes: Vec<&str> = found.problems.iter().map(|p| p.code.as_str()).collect();
        assert_eq!(
            codes,
            ["W261"],
            "an edit that others may not have read yet is no difference"
        );
        assert_eq!(
            among(&peers[1..2], at(9999)),
            Differences::default(),
            "one instance cannot differ"
        );
    }

    #[test]
    fn a_restart_does_not_renew_a_version_that_another_instance_has() {
        let old = peer("a:1", &[("job", version("x", 1), 1000)]);
        let now = Timestamp::from_millisecond(5000).unwrap();
        let nothing = (&ScheduleSet::new(), &VersionTimes::new());
        let since = since_of(&old.set, nothing, std::slice::from_ref(&old), now);
        assert_eq!(since[&id("job")], 1000);
        assert_eq!(since_of(&old.set, nothing, &[], now)[&id("job")], 5000);
        let edited = peer("a:1", &[("job", version("y", 1), 0)]);
        let since = since_of(&edited.set, (&old.set, &old.since), std::slice::from_ref(&old), now);
        assert_eq!(since[&id("job")], 5000, "an edit is a new version");
        let since = since_of(&old.set, (&old.set, &old.since), &[], now);
        assert_eq!(since[&id("job")], 1000, "what stays is as old as it was");
    }
}
