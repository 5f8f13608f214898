//! Clauses about manual runs of schedules.

use runner_core::schedule::Overlap;
use runner_core::task::{Task, TaskState};

use super::schedule::{commit, done, minute, schedule, standing};
use super::shared::{id, queue, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Decision, DecisionKind, ManualRun, ManuallyRun, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_run_by_hand_is_recorded_and_does_not_move_the_cursor,
        a_run_by_hand_is_refused_while_another_run_has_not_ended_unless_overlap_is_allowed,
        an_occurrence_is_skipped_while_a_run_by_hand_has_not_ended,
        a_run_by_hand_that_is_refused_leaves_no_record,
        a_schedule_that_was_never_registered_can_be_run_by_hand,
    ]
}

async fn ask(fresh: &Fresh, name: &str, task: Task, overlap: Overlap) -> ManuallyRun {
    let run = ManualRun {
        id: schedule(name),
        task,
        overlap,
        by: "ann".to_owned(),
    };
    fresh.broker.run_now(&run).await.unwrap()
}

async fn asked(fresh: &Fresh, name: &str, task: Task, overlap: Overlap) -> Decision {
    match ask(fresh, name, task, overlap).await {
        ManuallyRun::Done(decision) => decision,
        other => panic!("not done but {other:?}"),
    }
}

async fn a_run_by_hand_is_recorded_and_does_not_move_the_cursor(fresh: Fresh) {
    let (from, _) = minute(&fresh, "s").await;
    let decision = asked(&fresh, "s", task("by-hand"), Overlap::Skip).await;
    assert_eq!(
        (decision.kind, decision.reason.as_str()),
        (DecisionKind::Manual, "by ann")
    );
    assert_eq!(decision.task, Some(id("by-hand")));
    let on_record = fresh.broker.decisions(Some(&schedule("s")), 9).await.unwrap();
    assert_eq!(on_record, [decision]);
    let state = standing(&fresh, "s").await;
    assert_eq!((state.cursor, state.last), (from, None));
    assert_eq!(fresh.claim_ids(9).await, ["by-hand"]);
    fresh.is_sound().await;
}

async fn a_run_by_hand_is_refused_while_another_run_has_not_ended_unless_overlap_is_allowed(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    done(&fresh, &commit("s", from, to)).await;
    let fired = id(&format!("s@{}", to.as_second()));
    let busy = |what: &str| ManuallyRun::Busy {
        task: fired.clone(),
        what: what.to_owned(),
    };
    assert_eq!(ask(&fresh, "s", task("a"), Overlap::Skip).await, busy("is pending"));
    let claim = fresh.claim_one().await;
    assert_eq!(ask(&fresh, "s", task("a"), Overlap::Skip).await, busy("is active"));
    let due = fresh.now().checked_add(secs(3600)).unwrap();
    fresh.end(&claim, retry(3600, "no")).await;
    let waits = busy(&format!("waits for its retry at {due:.0}"));
    assert_eq!(ask(&fresh, "s", task("a"), Overlap::Skip).await, waits);
    assert!(fresh.look("a").await.is_none(), "nothing was written");
    asked(&fresh, "s", task("a"), Overlap::SkipIgnoringRetries).await;
    // A manual run blocks the next one too.
    let second = ask(&fresh, "s", task("b"), Overlap::SkipIgnoringRetries).await;
    assert!(matches!(second, ManuallyRun::Busy { task, .. } if task == id("a")));
    asked(&fresh, "s", task("b"), Overlap::Allow).await;
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 2);
    fresh.is_sound().await;
}

async fn an_occurrence_is_skipped_while_a_run_by_hand_has_not_ended(fresh: Fresh) {
    for (name, there) in [("same", "default"), ("other", "elsewhere")] {
        let (from, to) = minute(&fresh, name).await;
        let by_hand = format!("{name}-by-hand");
        let mut asked_for = task(&by_hand);
        asked_for.queue = queue(there);
        asked(&fresh, name, asked_for, Overlap::Skip).await;
        let claims = fresh.broker.claim(&[queue(there)], 1, secs(30)).await.unwrap();
        let mut one = commit(name, from, to);
        one.overlap = Overlap::Skip;
        let skipped = done(&fresh, &one).await.remove(0);
        assert_eq!(skipped.kind, DecisionKind::Skipped, "{name}");
        assert_eq!(skipped.reason, format!("overlap: previous task {by_hand} is active"));
        fresh.end(&claims[0], Verdict::Done).await;
        fresh.clock.advance(secs(60));
        let mut two = commit(name, to, fresh.now());
        two.overlap = Overlap::Skip;
        assert_eq!(done(&fresh, &two).await.remove(0).kind, DecisionKind::Fired, "{name}");
        fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    }
    fresh.is_sound().await;
}

async fn a_run_by_hand_that_is_refused_leaves_no_record(fresh: Fresh) {
    minute(&fresh, "s").await;
    fresh.put([task("a")]).await;
    let refused = ask(&fresh, "s", task("a"), Overlap::Skip).await;
    assert_eq!(refused, ManuallyRun::Refused(Refusal::IdTaken));
    assert!(fresh.broker.decisions(None, 9).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_schedule_that_was_never_registered_can_be_run_by_hand(fresh: Fresh) {
    let decision = asked(&fresh, "new", task("a"), Overlap::Skip).await;
    let on_record = fresh.broker.decisions(Some(&schedule("new")), 9).await.unwrap();
    assert_eq!(on_record, [decision]);
    fresh.clock.advance(secs(60));
    let (from, to) = minute(&fresh, "new").await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert_eq!(
        done(&fresh, &commit("new", from, to)).await[0].kind,
        DecisionKind::Fired
    );
    fresh.is_sound().await;
}
