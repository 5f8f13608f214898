//! The shared plan by itself: parts are merged, failures keep what was known, watchers are notified of changes only.

#![allow(clippy::unwrap_used)]

use jiff::tz::TimeZone;
use runner_core::clock::ManualClock;
use runner_core::cron::DstRule;
use runner_core::schedule::{Origin, Timing};
use runner_core::task::Task;

use super::*;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()))
}

fn shared() -> Shared {
    let shared = Shared::new(Functions::default(), clock());
    for (source, place) in [
        (Source::Manifest, "manifests"),
        (Source::Table, "db"),
        (Source::Code, "code"),
    ] {
        shared.expect(source, place.to_owned());
    }
    shared
}

/// A part with one schedule of this type.
fn part(source: Source, name: &str) -> SourcePart {
    let id = ScheduleId::code(name);
    let timing = Timing::parse(id.as_str(), "@daily", "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
    let origin = Origin {
        source,
        place: name.to_owned(),
    };
    let definition = Definition::new(id, name, origin, timing, Task::new(name));
    SourcePart {
        definitions: vec![definition],
        ..SourcePart::default()
    }
}

fn names(shared: &Shared) -> Vec<String> {
    let plan = shared.plan().borrow();
    plan.schedules.values().map(|d| d.name.clone()).collect()
}

fn codes(shared: &Shared) -> Vec<String> {
    let plan = shared.plan().borrow();
    plan.problems.iter().map(|p| p.code.clone()).collect()
}

fn failed(why: &str) -> SourceError {
    SourceError::Failed(why.to_owned())
}

#[test]
fn parts_of_all_sources_make_one_plan_and_replace_their_former_selves() {
    let shared = shared();
    let now = shared.now();
    shared.publish(Source::Code, part(Source::Code, "c"), now);
    shared.publish(Source::Table, part(Source::Table, "t"), now);
    assert_eq!(names(&shared), ["c", "t"]);
    shared.publish(Source::Table, part(Source::Table, "u"), now);
    assert_eq!(names(&shared), ["c", "u"]);
    let statuses = shared.statuses();
    let counts: Vec<_> = statuses.iter().map(|s| (s.place.as_str(), s.schedules)).collect();
    assert_eq!(counts, [("manifests", 0), ("db", 1), ("code", 1)]);
    assert_eq!(statuses[0].state, SourceState::Loading);
}

#[test]
fn a_source_that_was_not_announced_adds_nothing() {
    let shared = Shared::new(Functions::default(), clock());
    shared.publish(Source::Code, part(Source::Code, "c"), shared.now());
    assert_eq!((names(&shared), shared.state_of(Source::Code)), (Vec::new(), None));
    assert!(!shared.fail(Source::Code, &failed("gone")));
}

#[test]
fn what_cannot_be_read_stays_in_force_and_is_stale_since_the_first_failure() {
    let clock = clock();
    let shared = Shared::new(Functions::default(), clock.clone());
    shared.expect(Source::Table, "db".to_owned());
    let first = shared.now();
    assert!(shared.fail(Source::Table, &failed("refused")));
    let never = SourceState::Unavailable {
        since: first,
        reason: "refused".to_owned(),
        absent: false,
    };
    assert_eq!(shared.state_of(Source::Table), Some(never));
    shared.publish(Source::Table, part(Source::Table, "t"), first);
    assert!(!shared.recovered(Source::Table));
    clock.advance(Duration::from_secs(1));
    let since = shared.now();
    assert!(
        shared.fail(Source::Table, &failed("refused")),
        "a failure after a success is news"
    );
    clock.advance(Duration::from_secs(1));
    assert!(
        !shared.fail(Source::Table, &failed("timed out")),
        "a further one is not"
    );
    let reason = "timed out".to_owned();
    assert_eq!(
        shared.state_of(Source::Table),
        Some(SourceState::Stale { since, reason })
    );
    assert!(shared.recovered(Source::Table));
    assert_eq!(names(&shared), ["t"]);
}

#[test]
fn what_was_saved_is_in_force_before_the_first_look() {
    let shared = shared();
    let before = shared.now();
    shared.restore(Source::Manifest, part(Source::Manifest, "m"), before);
    assert_eq!(names(&shared), ["m"]);
    assert_eq!(shared.state_of(Source::Manifest), Some(SourceState::Loading));
    assert!(!shared.plan().borrow().scopes[&Source::Manifest].complete);
    shared.publish(Source::Manifest, part(Source::Manifest, "m"), before);
    assert!(shared.plan().borrow().scopes[&Source::Manifest].complete);
    let partly = SourcePart {
        incomplete: true,
        ..part(Source::Manifest, "m")
    };
    shared.publish(Source::Manifest, partly, before);
    assert!(!shared.plan().borrow().scopes[&Source::Manifest].complete);
}

#[test]
fn watchers_hear_of_another_plan_only() {
    let shared = shared();
    let mut plan = shared.plan().subscribe();
    shared.publish(Source::Code, part(Source::Code, "c"), shared.now());
    assert!(plan.has_changed().unwrap());
    plan.mark_unchanged();
    shared.publish(Source::Code, part(Source::Code, "c"), shared.now());
    shared.set_taken(Taken::default());
    shared.set_others(Vec::new(), BTreeSet::new());
    assert!(!plan.has_changed().unwrap());
}

#[test]
fn what_servers_take_and_what_other_instances_have_is_merged_as_well() {
    let shared = shared();
    shared.publish(Source::Code, part(Source::Code, "c"), shared.now());
    assert_eq!(codes(&shared), Vec::<String>::new(), "nothing is known of servers yet");
    let taken = |types: &[&str], queues: &[&str]| {
        let set = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        Taken {
            types: set(types),
            queues: set(queues),
        }
    };
    shared.set_taken(taken(&["other"], &["low"]));
    let mut found = codes(&shared);
    found.sort();
    assert_eq!(found, ["W210", "W211"]);
    assert!(shared.plan().borrow().unserved.contains("default"));
    shared.set_taken(taken(&["c"], &["*"]));
    assert_eq!(codes(&shared), Vec::<String>::new());
    let left = BTreeSet::from([ScheduleId::code("c")]);
    let origin = part(Source::Code, "c").definitions.remove(0).origin;
    shared.set_others(vec![Problem::warning("W260", "another", origin)], left.clone());
    assert_eq!(
        (codes(&shared), shared.plan().borrow().superseded.clone()),
        (vec!["W260".to_owned()], left)
    );
}

#[tokio::test]
async fn a_refresh_is_done_when_a_look_that_began_after_it_has_ended() {
    let refresh = Refresh::default();
    let early = refresh.begin();
    let number = refresh.ask();
    refresh.end(early);
    assert!(!refresh.wait(number, Duration::ZERO).await, "that look began before");
    refresh.end(refresh.begin());
    assert!(refresh.wait(number, Duration::from_secs(60)).await);
}
