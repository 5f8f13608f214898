//! Clauses about cursors, commits, decisions and the leader. What an occurrence makes of the tasks that are there
//! already is in `occurrence`.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::{Ahead, MissedRange, Overlap, ScheduleId};
use runner_core::task::{QueueName, TaskState};

use super::shared::{id, secs, task};
use super::{Clause, Fresh};
use crate::{
    Commit, CommitFire, Committed, Decision, DecisionKind, HOLD_AT_MOST, Pause, Registration, Resume, Resumed, Standing,
};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_schedule_starts_from_now_at_first_sight,
        registering_again_moves_the_cursor_only_when_the_revision_changed,
        a_changed_revision_never_moves_the_cursor_back,
        a_commit_enqueues_records_and_moves_the_cursor,
        a_commit_of_several_occurrences_enqueues_them_in_order,
        a_commit_from_another_cursor_changes_nothing,
        repeating_a_commit_shows_that_it_was_ours_and_enqueues_nothing,
        a_commit_of_an_unknown_schedule_changes_nothing,
        a_commit_ahead_of_its_time_is_early_and_changes_nothing,
        all_or_nothing_holds_when_only_the_last_occurrence_is_early,
        commits_of_one_call_are_independent,
        twenty_commits_of_one_occurrence_at_once_make_one_task,
        missed_occurrences_are_recorded_as_one_decision,
        a_missed_range_is_decided_before_the_fires_beside_it,
        a_paused_schedule_fires_nothing_and_resumes_from_now,
        what_fell_into_a_pause_is_one_decision,
        resuming_a_schedule_that_is_not_paused_does_not_move_its_cursor,
        decisions_are_listed_newest_first_by_schedule_and_bounded,
        a_busy_schedule_pushes_out_no_decisions_but_its_own,
        one_instance_leads_until_it_resigns,
        a_leader_that_falls_silent_is_replaced,
    ]
}

pub(super) fn schedule(name: &str) -> ScheduleId {
    ScheduleId::code(name)
}

pub(super) async fn register(fresh: &Fresh, name: &str, revision: &str) -> Standing {
    let registration = Registration {
        id: schedule(name),
        revision: revision.to_owned(),
    };
    let mut standings = fresh.broker.register(&[registration]).await.unwrap();
    assert_eq!(standings.len(), 1);
    standings.remove(0)
}

pub(super) async fn standing(fresh: &Fresh, name: &str) -> Standing {
    let mut standings = fresh.broker.standings(&[schedule(name)]).await.unwrap();
    standings.remove(0).expect("the schedule is not registered")
}

/// The occurrence at `nominal`, its task called after it.
pub(super) fn fire(name: &str, nominal: Timestamp) -> CommitFire {
    CommitFire {
        nominal,
        fire_at: nominal,
        task: task(&format!("{name}@{}", nominal.as_second())),
        catch_up: false,
    }
}

/// A commit of one occurrence.
pub(super) fn commit(name: &str, from: Timestamp, to: Timestamp) -> Commit {
    Commit {
        id: schedule(name),
        from,
        to,
        fires: vec![fire(name, to)],
        missed: None,
        overlap: Overlap::Allow,
        unserved: false,
        instance: "host:1".to_owned(),
    }
}

pub(super) async fn send(fresh: &Fresh, commit: &Commit) -> Committed {
    let mut answers = fresh.broker.commit(std::slice::from_ref(commit)).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(super) async fn done(fresh: &Fresh, commit: &Commit) -> Vec<Decision> {
    match send(fresh, commit).await {
        Committed::Done(decisions) => decisions,
        other => panic!("not done but {other:?}"),
    }
}

/// Registers and lets a minute pass: the instant before and the one after.
pub(super) async fn minute(fresh: &Fresh, name: &str) -> (Timestamp, Timestamp) {
    let from = register(fresh, name, "1").await.cursor;
    fresh.clock.advance(secs(60));
    (from, fresh.now())
}

async fn a_schedule_starts_from_now_at_first_sight(fresh: Fresh) {
    assert_eq!(fresh.broker.standings(&[schedule("s")]).await.unwrap(), [None]);
    let first = register(&fresh, "s", "1").await;
    let expected = Standing {
        cursor: fresh.now(),
        paused: None,
        last: None,
        ahead: Ahead::default(),
        was: None,
    };
    assert_eq!(first, expected);
    let ids = [schedule("t"), schedule("s")];
    let standings = fresh.broker.standings(&ids).await.unwrap();
    assert_eq!(standings, [None, Some(expected)]);
    fresh.is_sound().await;
}

async fn registering_again_moves_the_cursor_only_when_the_revision_changed(fresh: Fresh) {
    let start = register(&fresh, "s", "1").await.cursor;
    fresh.clock.advance(secs(100));
    assert_eq!(register(&fresh, "s", "1").await.cursor, start);
    assert_eq!(register(&fresh, "s", "2").await.cursor, fresh.now());
    let moved = fresh.now();
    fresh.clock.advance(secs(100));
    assert_eq!(register(&fresh, "s", "2").await.cursor, moved);
    assert_eq!(register(&fresh, "s", "1").await.cursor, fresh.now());
    fresh.is_sound().await;
}

async fn a_changed_revision_never_moves_the_cursor_back(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    done(&fresh, &commit("s", from, to)).await;
    fresh.clock.set(from);
    assert_eq!(register(&fresh, "s", "2").await.cursor, to);
    fresh.is_sound().await;
}

async fn a_commit_enqueues_records_and_moves_the_cursor(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let decisions = done(&fresh, &commit("s", from, to)).await;
    let name = format!("s@{}", to.as_second());
    let expected = Decision {
        schedule: schedule("s"),
        nominal: to,
        kind: DecisionKind::Fired,
        reason: "on_time".to_owned(),
        task: Some(id(&name)),
        queue: Some(QueueName::default()),
        end: None,
        count: 1,
        decided_at: fresh.now(),
        instance: "host:1".to_owned(),
    };
    assert_eq!(decisions, std::slice::from_ref(&expected));
    let now = standing(&fresh, "s").await;
    assert_eq!((now.cursor, now.last), (to, Some((to, id(&name)))));
    let recorded = fresh.broker.decisions(None, 10).await.unwrap();
    assert_eq!(recorded, [expected]);
    assert_eq!(fresh.claim_ids(9).await, [name]);
    fresh.is_sound().await;
}

async fn a_commit_of_several_occurrences_enqueues_them_in_order(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let before = to.checked_sub(secs(30)).unwrap();
    let mut both = commit("s", from, to);
    both.fires.insert(0, fire("s", before));
    both.fires[0].catch_up = true;
    let decisions = done(&fresh, &both).await;
    let reasons: Vec<_> = decisions.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons, ["catch_up", "on_time"]);
    let names = [format!("s@{}", before.as_second()), format!("s@{}", to.as_second())];
    assert_eq!(fresh.claim_ids(9).await, names);
    assert_eq!(standing(&fresh, "s").await.last.unwrap().0, to);
    fresh.is_sound().await;
}

async fn a_commit_from_another_cursor_changes_nothing(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let wrong = from.checked_sub(secs(1)).unwrap();
    assert_eq!(send(&fresh, &commit("s", wrong, to)).await, Committed::Moved(from));
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    assert!(fresh.broker.decisions(None, 10).await.unwrap().is_empty());
    assert_eq!(standing(&fresh, "s").await.cursor, from);
    fresh.is_sound().await;
}

async fn repeating_a_commit_shows_that_it_was_ours_and_enqueues_nothing(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    done(&fresh, &commit("s", from, to)).await;
    for _ in 0..3 {
        assert_eq!(send(&fresh, &commit("s", from, to)).await, Committed::Moved(to));
    }
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 1);
    assert_eq!(fresh.broker.decisions(None, 10).await.unwrap().len(), 1);
    fresh.is_sound().await;
}

async fn a_commit_of_an_unknown_schedule_changes_nothing(fresh: Fresh) {
    let now = fresh.now();
    assert_eq!(send(&fresh, &commit("s", now, now)).await, Committed::Unknown);
    assert!(fresh.broker.queues().await.unwrap().iter().all(|q| q.size() == 0));
    assert_eq!(fresh.broker.standings(&[schedule("s")]).await.unwrap(), [None]);
    fresh.is_sound().await;
}

async fn a_commit_ahead_of_its_time_is_early_and_changes_nothing(fresh: Fresh) {
    let (from, _) = minute(&fresh, "s").await;
    let ahead = fresh.now().checked_add(secs(5)).unwrap();
    match send(&fresh, &commit("s", from, ahead)).await {
        Committed::Early(wait) => assert!(wait > secs(4) && wait <= secs(5), "{wait:?}"),
        other => panic!("not early but {other:?}"),
    }
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    fresh.clock.advance(Duration::from_millis(4_990));
    done(&fresh, &commit("s", from, ahead)).await;
    fresh.is_sound().await;
}

async fn all_or_nothing_holds_when_only_the_last_occurrence_is_early(fresh: Fresh) {
    let (from, now) = minute(&fresh, "s").await;
    let ahead = now.checked_add(secs(5)).unwrap();
    let mut both = commit("s", from, ahead);
    both.fires.insert(0, fire("s", now));
    both.missed = Some(MissedRange {
        first: from,
        last: from,
        count: 1,
        more: false,
        bound: None,
    });
    assert!(matches!(send(&fresh, &both).await, Committed::Early(_)));
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    assert!(fresh.broker.decisions(None, 10).await.unwrap().is_empty());
    let now = standing(&fresh, "s").await;
    assert_eq!((now.cursor, now.last), (from, None));
    fresh.is_sound().await;
}

async fn commits_of_one_call_are_independent(fresh: Fresh) {
    let (from, to) = minute(&fresh, "a").await;
    register(&fresh, "b", "1").await;
    let all = [commit("none", from, to), commit("a", from, to), commit("b", from, to)];
    let answers = fresh.broker.commit(&all).await.unwrap();
    assert_eq!(answers[0], Committed::Unknown);
    assert!(matches!(answers[1], Committed::Done(_)));
    assert_eq!(answers[2], Committed::Moved(to));
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 1);
    assert!(fresh.broker.commit(&[]).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn twenty_commits_of_one_occurrence_at_once_make_one_task(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut running = Vec::new();
    for _ in 0..20 {
        let (broker, commit) = (fresh.broker.clone(), commit("s", from, to));
        running.push(tokio::spawn(async move {
            broker.commit(&[commit]).await.unwrap().remove(0)
        }));
    }
    let mut wins = 0;
    for one in running {
        match one.await.unwrap() {
            Committed::Done(_) | Committed::Completed(..) => wins += 1,
            other => assert_eq!(other, Committed::Moved(to)),
        }
    }
    assert_eq!(wins, 1);
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 1);
    assert_eq!(fresh.broker.decisions(None, 99).await.unwrap().len(), 1);
    fresh.is_sound().await;
}

async fn missed_occurrences_are_recorded_as_one_decision(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let last = to.checked_sub(secs(10)).unwrap();
    let mut late = commit("s", from, to);
    late.fires.clear();
    late.missed = Some(MissedRange {
        first: from,
        last,
        count: 7,
        more: false,
        bound: None,
    });
    let decided = done(&fresh, &late).await;
    let recorded = fresh.broker.decisions(None, 10).await.unwrap();
    assert_eq!(decided, recorded, "what is missed is reported like what is skipped");
    assert_eq!(recorded.len(), 1);
    let missed = &recorded[0];
    assert_eq!((missed.kind, missed.count), (DecisionKind::Missed, 7));
    assert_eq!((missed.nominal, missed.task.clone()), (last, None));
    assert!(missed.reason.contains("too late"), "{}", missed.reason);
    assert_eq!(standing(&fresh, "s").await.cursor, to);
    fresh.is_sound().await;
}

async fn a_missed_range_is_decided_before_the_fires_beside_it(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut both = commit("s", from, to);
    let first = from.checked_add(secs(1)).unwrap();
    both.missed = Some(MissedRange {
        first,
        last: first,
        count: 1,
        more: true,
        bound: None,
    });
    let decided = done(&fresh, &both).await;
    let kinds: Vec<_> = decided.iter().map(|d| (d.kind, d.nominal, d.count)).collect();
    assert_eq!(kinds, [(DecisionKind::Missed, first, 1), (DecisionKind::Fired, to, 1)]);
    let reason = &decided[0].reason;
    let said = format!("too late, from {first}; older ones were not counted");
    assert_eq!(*reason, said);
    fresh.is_sound().await;
}

async fn a_paused_schedule_fires_nothing_and_resumes_from_now(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    fresh
        .broker
        .pause_schedule(&schedule("s"), &Pause::by("alice"))
        .await
        .unwrap();
    let paused = standing(&fresh, "s").await.paused.expect("it is not paused");
    assert_eq!((paused.by.as_str(), paused.until, paused.note), ("alice", None, None));
    assert_eq!(paused.at, Some(fresh.now()));
    assert_eq!(send(&fresh, &commit("s", from, to)).await, Committed::Paused);
    assert!(fresh.list(TaskState::Pending).await.is_empty());
    assert_eq!(register(&fresh, "s", "1").await.cursor, from);
    fresh.clock.advance(secs(600));
    fresh
        .broker
        .resume_schedule(&Resume::now(schedule("s"), "bob"))
        .await
        .unwrap();
    let now = standing(&fresh, "s").await;
    assert_eq!((now.cursor, now.paused), (fresh.now(), None));
    assert_eq!(
        send(&fresh, &commit("s", from, to)).await,
        Committed::Moved(fresh.now())
    );
    fresh.is_sound().await;
}

async fn what_fell_into_a_pause_is_one_decision(fresh: Fresh) {
    let (from, _) = minute(&fresh, "s").await;
    let end = fresh.now().checked_add(secs(600)).unwrap();
    let pause = Pause {
        until: Some(end),
        ..Pause::by("ann").because(Some("new disks"))
    };
    fresh.broker.pause_schedule(&schedule("s"), &pause).await.unwrap();
    let paused = standing(&fresh, "s").await.paused.unwrap();
    assert_eq!((paused.until, paused.note.as_deref()), (Some(end), Some("new disks")));
    assert!(!paused.is_over(fresh.now()));
    fresh.clock.advance(secs(660));
    assert!(paused.is_over(fresh.now()));
    let range = MissedRange {
        first: from.checked_add(secs(60)).unwrap(),
        last: end,
        count: 11,
        more: false,
        bound: None,
    };
    let mut resume = Resume {
        cursor: Some(end),
        end: Some(end),
        paused: Some((range, paused.reason(&range, end))),
        ..Resume::now(schedule("s"), "host:1")
    };
    // Counted from where the cursor does not stand.
    assert_eq!(fresh.broker.resume_schedule(&resume).await.unwrap(), Resumed::Moved);
    assert!(standing(&fresh, "s").await.paused.is_some());
    resume.cursor = Some(from);
    let Resumed::Done(Some(decision)) = fresh.broker.resume_schedule(&resume).await.unwrap() else {
        panic!("not done");
    };
    assert_eq!(
        (decision.kind, decision.nominal, decision.count),
        (DecisionKind::Paused, end, 11)
    );
    assert!(
        decision.reason.contains(" by ann: new disks; from "),
        "{}",
        decision.reason
    );
    let on_record = fresh.broker.decisions(Some(&schedule("s")), 9).await.unwrap();
    assert_eq!(on_record, [decision]);
    let now = standing(&fresh, "s").await;
    assert_eq!((now.cursor, now.paused), (end, None), "what is due since then fires");
    assert_eq!(fresh.broker.resume_schedule(&resume).await.unwrap(), Resumed::Running);
    fresh.is_sound().await;
}

async fn resuming_a_schedule_that_is_not_paused_does_not_move_its_cursor(fresh: Fresh) {
    let (from, _) = minute(&fresh, "s").await;
    fresh
        .broker
        .resume_schedule(&Resume::now(schedule("s"), "bob"))
        .await
        .unwrap();
    assert_eq!(standing(&fresh, "s").await.cursor, from);
    fresh.is_sound().await;
}

async fn decisions_are_listed_newest_first_by_schedule_and_bounded(fresh: Fresh) {
    let (mut from, mut to) = minute(&fresh, "s").await;
    let other = register(&fresh, "t", "1").await.cursor;
    for _ in 0..5 {
        done(&fresh, &commit("s", from, to)).await;
        fresh.clock.advance(secs(60));
        (from, to) = (to, fresh.now());
    }
    done(&fresh, &commit("t", other, to)).await;
    let all = fresh.broker.decisions(None, 100).await.unwrap();
    assert_eq!(all.len(), 6);
    assert_eq!(all[0].schedule, schedule("t"));
    assert!(all.windows(2).all(|two| two[0].decided_at >= two[1].decided_at));
    let ours = fresh.broker.decisions(Some(&schedule("s")), 3).await.unwrap();
    assert_eq!(ours.len(), 3);
    assert_eq!(ours[0].nominal, from);
    assert!(ours.windows(2).all(|two| two[0].nominal > two[1].nominal));
    assert!(
        fresh
            .broker
            .decisions(Some(&schedule("u")), 3)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(fresh.broker.decisions(None, 0).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_busy_schedule_pushes_out_no_decisions_but_its_own(fresh: Fresh) {
    const BUSY: u32 = 300;
    let nightly = register(&fresh, "nightly", "1").await.cursor;
    let (mut from, mut to) = minute(&fresh, "busy").await;
    done(&fresh, &commit("nightly", nightly, to)).await;
    for _ in 0..BUSY {
        let range = MissedRange {
            first: to,
            last: to,
            count: 1,
            more: false,
            bound: None,
        };
        let mut missed = commit("busy", from, to);
        (missed.fires, missed.missed) = (Vec::new(), Some(range));
        done(&fresh, &missed).await;
        fresh.clock.advance(secs(1));
        (from, to) = (to, fresh.now());
    }
    let listed = async |name| fresh.broker.decisions(Some(&schedule(name)), 1_000).await.unwrap();
    let (busy, nightly) = (listed("busy").await, listed("nightly").await);
    assert_eq!(nightly.len(), 1);
    assert!((200..250).contains(&busy.len()), "{}", busy.len());
    assert_eq!(busy[0].nominal, from, "the newest are kept");
    assert!(busy.windows(2).all(|two| two[0].nominal > two[1].nominal));
    fresh.is_sound().await;
}

async fn one_instance_leads_until_it_resigns(fresh: Fresh) {
    let broker = &fresh.broker;
    assert!(broker.lead("a", secs(10)).await.unwrap());
    assert!(!broker.lead("b", secs(10)).await.unwrap());
    assert!(broker.lead("a", secs(10)).await.unwrap());
    broker.resign("b").await.unwrap();
    assert!(!broker.lead("b", secs(10)).await.unwrap());
    broker.resign("a").await.unwrap();
    assert!(broker.lead("b", secs(10)).await.unwrap());
    assert!(!broker.lead("a", secs(10)).await.unwrap());
    fresh.is_sound().await;
}

async fn a_leader_that_falls_silent_is_replaced(fresh: Fresh) {
    assert!(fresh.broker.lead("a", secs(2)).await.unwrap());
    let replaced = async || fresh.broker.lead("b", HOLD_AT_MOST).await.unwrap();
    fresh.lapse(secs(2), replaced).await;
    assert!(!fresh.broker.lead("a", secs(10)).await.unwrap());
    fresh.is_sound().await;
}
