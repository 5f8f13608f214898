//! Clauses about one occurrence and the tasks that are there already: overlap, identity, locks, queues.

use jiff::Timestamp;
use runner_core::schedule::Overlap;
use runner_core::task::{QueueName, Run, TaskState};

use super::schedule::{commit, done, fire, minute, standing};
use super::shared::{archive, id, queue, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Action, Decision, DecisionKind, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        an_occurrence_is_skipped_while_the_previous_task_is_pending_active_or_scheduled,
        an_occurrence_fires_when_the_previous_task_is_archived_completed_or_gone,
        a_task_that_waits_for_its_retry_blocks_unless_the_policy_ignores_retries,
        overlap_allow_fires_whatever_the_state_of_the_previous_task,
        a_task_left_in_another_queue_blocks_only_while_a_worker_holds_it,
        a_skip_says_that_no_server_serves_the_queue,
        several_occurrences_under_overlap_skip_make_one_task,
        an_occurrence_whose_task_exists_is_not_enqueued_twice,
        an_occurrence_that_meets_a_uniqueness_lock_is_skipped,
        the_task_of_an_occurrence_takes_its_uniqueness_lock,
        the_task_of_an_occurrence_goes_to_its_own_queue,
        a_task_of_an_occurrence_may_itself_be_delayed,
    ]
}

/// Fires a first time, brings its task about, fires a second time; the second decision.
async fn overlap(fresh: &Fresh, name: &str, policy: Overlap, between: impl AsyncFnOnce(&str)) -> Decision {
    let (from, first) = minute(fresh, name).await;
    let mut one = commit(name, from, first);
    one.overlap = policy;
    done(fresh, &one).await;
    between(&format!("{name}@{}", first.as_second())).await;
    fresh.clock.advance(secs(60));
    let mut two = commit(name, first, fresh.now());
    two.overlap = policy;
    let decision = done(fresh, &two).await.remove(0);
    assert_eq!(standing(fresh, name).await.cursor, fresh.now());
    decision
}

async fn an_occurrence_is_skipped_while_the_previous_task_is_pending_active_or_scheduled(fresh: Fresh) {
    let skipped = async |name: &str, decision: Decision, state: TaskState| {
        assert_eq!(decision.kind, DecisionKind::Skipped, "{state}");
        let previous = decision.task.unwrap().to_string();
        assert!(previous.starts_with(&format!("{name}@")), "{previous}");
        let why = decision.reason;
        assert!(
            why.starts_with("overlap: previous task") && why.contains(state.as_str()),
            "{why}"
        );
        assert_eq!(fresh.state(&previous).await, Some(state));
        let last = standing(&fresh, name).await.last.unwrap();
        assert_eq!(last.1.as_str(), previous, "a skipped occurrence is not the last fire");
    };
    let decision = overlap(&fresh, "a", Overlap::Skip, async |_| {}).await;
    skipped("a", decision, TaskState::Pending).await;
    fresh.claim(9).await;
    let decision = overlap(&fresh, "b", Overlap::Skip, async |_| drop(fresh.claim(1).await)).await;
    skipped("b", decision, TaskState::Active).await;
    let decision = overlap(&fresh, "c", Overlap::Skip, async |_| {
        let how = Verdict::Snooze {
            delay: secs(3600),
            waiting_for: None,
        };
        fresh.end(&fresh.claim_one().await, how).await;
    });
    skipped("c", decision.await, TaskState::Scheduled).await;
    fresh.is_sound().await;
}

/// Fires a minute of a schedule whose tasks go to `queue`; the decision.
async fn fires_in(fresh: &Fresh, name: &str, queue: &str, from: Timestamp) -> (Decision, Timestamp) {
    let to = fresh.now();
    let mut commit = commit(name, from, to);
    commit.overlap = Overlap::Skip;
    for fire in &mut commit.fires {
        fire.task.queue = QueueName::new(queue).unwrap();
    }
    (done(fresh, &commit).await.remove(0), to)
}

async fn a_task_left_in_another_queue_blocks_only_while_a_worker_holds_it(fresh: Fresh) {
    let lease = secs(30);
    for (name, held) in [("waiting", false), ("held", true)] {
        let old = format!("{name}-old");
        let (from, _) = minute(&fresh, name).await;
        let (first, to) = fires_in(&fresh, name, &old, from).await;
        assert_eq!(first.kind, DecisionKind::Fired);
        if held {
            let old = [QueueName::new(old.clone()).unwrap()];
            assert_eq!(fresh.broker.claim(&old, 1, lease).await.unwrap().len(), 1);
        }
        // The schedule is edited: its tasks go to another queue from now on.
        fresh.clock.advance(secs(20));
        let (second, to) = fires_in(&fresh, name, "new", to).await;
        let expected = if held {
            DecisionKind::Skipped
        } else {
            DecisionKind::Fired
        };
        assert_eq!(second.kind, expected, "{name}: {}", second.reason);
        if held {
            // The worker died, and no other one serves its queue: the task stays active forever.
            fresh.clock.advance(secs(20));
            let (third, _) = fires_in(&fresh, name, "new", to).await;
            assert_eq!(third.kind, DecisionKind::Fired, "{}", third.reason);
        }
    }
}

async fn a_skip_says_that_no_server_serves_the_queue(fresh: Fresh) {
    let (from, first) = minute(&fresh, "s").await;
    let mut one = commit("s", from, first);
    (one.overlap, one.unserved) = (Overlap::Skip, true);
    let fired = done(&fresh, &one).await.remove(0);
    assert_eq!((fired.kind, fired.reason.as_str()), (DecisionKind::Fired, "on_time"));
    fresh.clock.advance(secs(60));
    let mut two = commit("s", first, fresh.now());
    (two.overlap, two.unserved) = (Overlap::Skip, true);
    let skipped = done(&fresh, &two).await.remove(0);
    assert_eq!(skipped.kind, DecisionKind::Skipped);
    assert!(
        skipped.reason.ends_with("is pending; no live server serves its queue"),
        "{}",
        skipped.reason
    );
    fresh.is_sound().await;
}

async fn an_occurrence_fires_when_the_previous_task_is_archived_completed_or_gone(fresh: Fresh) {
    let fired = |decision: Decision| {
        assert_eq!(decision.kind, DecisionKind::Fired, "{}", decision.reason);
        assert_eq!(decision.reason, "on_time");
    };
    let clear = async || {
        for name in fresh.list(TaskState::Pending).await {
            let delete = fresh
                .broker
                .act(&QueueName::default(), &id(&name), Action::Delete)
                .await;
            delete.unwrap();
        }
    };
    for (name, how) in [("archived", archive("no")), ("gone", Verdict::Done)] {
        let between = async |_: &str| fresh.end(&fresh.claim_one().await, how).await;
        fired(overlap(&fresh, name, Overlap::Skip, between).await);
        clear().await;
    }
    let (from, first) = minute(&fresh, "kept").await;
    let mut one = commit("kept", from, first);
    one.fires[0].task.retention = secs(3600);
    done(&fresh, &one).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    fresh.clock.advance(secs(60));
    let mut two = commit("kept", first, fresh.now());
    two.overlap = Overlap::Skip;
    fired(done(&fresh, &two).await.remove(0));
    fresh.is_sound().await;
}

async fn a_task_that_waits_for_its_retry_blocks_unless_the_policy_ignores_retries(fresh: Fresh) {
    let fail = async |_: &str| fresh.end(&fresh.claim_one().await, retry(3600, "no")).await;
    let failed_at = fresh.now().checked_add(secs(60)).unwrap();
    let decision = overlap(&fresh, "a", Overlap::Skip, fail).await;
    assert_eq!(decision.kind, DecisionKind::Skipped);
    let due = failed_at.checked_add(secs(3600)).unwrap();
    let expected = format!(
        "overlap: previous task a@{} waits for its retry at {due:.0}",
        failed_at.as_second()
    );
    assert_eq!(decision.reason, expected);
    let decision = overlap(&fresh, "b", Overlap::SkipIgnoringRetries, fail).await;
    assert_eq!(decision.kind, DecisionKind::Fired, "{}", decision.reason);
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let decision = overlap(&fresh, "c", Overlap::SkipIgnoringRetries, async |_| {}).await;
    assert_eq!(decision.kind, DecisionKind::Skipped, "it is pending");
    // One that waits in a queue that the schedule has left blocks nothing.
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let (from, _) = minute(&fresh, "d").await;
    let (_, to) = fires_in(&fresh, "d", "old", from).await;
    let claims = fresh.broker.claim(&[queue("old")], 1, secs(30)).await.unwrap();
    fresh.end(&claims[0], retry(3600, "no")).await;
    fresh.clock.advance(secs(20));
    let (decision, _) = fires_in(&fresh, "d", "new", to).await;
    assert_eq!(decision.kind, DecisionKind::Fired, "{}", decision.reason);
    fresh.is_sound().await;
}

async fn overlap_allow_fires_whatever_the_state_of_the_previous_task(fresh: Fresh) {
    let decision = overlap(&fresh, "a", Overlap::Allow, async |_| {}).await;
    assert_eq!(decision.kind, DecisionKind::Fired);
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 2);
    fresh.is_sound().await;
}

async fn several_occurrences_under_overlap_skip_make_one_task(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut both = commit("s", from, to);
    both.overlap = Overlap::Skip;
    both.fires.insert(0, fire("s", to.checked_sub(secs(30)).unwrap()));
    let kinds: Vec<_> = done(&fresh, &both).await.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [DecisionKind::Fired, DecisionKind::Skipped]);
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 1);
    fresh.is_sound().await;
}

async fn an_occurrence_whose_task_exists_is_not_enqueued_twice(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    fresh.put([task(&format!("s@{}", to.as_second()))]).await;
    let decisions = done(&fresh, &commit("s", from, to)).await;
    assert_eq!(decisions[0].kind, DecisionKind::Fired);
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 1);
    assert_eq!(standing(&fresh, "s").await.cursor, to);
    fresh.is_sound().await;
}

async fn an_occurrence_that_meets_a_uniqueness_lock_is_skipped(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut one = commit("s", from, to);
    one.fires[0].task = one.fires[0].task.clone().unique(secs(600));
    let mut holder = one.fires[0].task.clone();
    holder.id = Some(id("holder"));
    fresh.put([holder.clone()]).await;
    let decisions = done(&fresh, &one).await;
    assert_eq!(decisions[0].kind, DecisionKind::Skipped, "{}", decisions[0].reason);
    assert!(decisions[0].reason.contains("unique"), "{}", decisions[0].reason);
    assert_eq!(fresh.list(TaskState::Pending).await, ["holder"]);
    assert_eq!(standing(&fresh, "s").await.cursor, to);
    fresh.is_sound().await;
}

async fn the_task_of_an_occurrence_takes_its_uniqueness_lock(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut one = commit("s", from, to);
    one.fires[0].task = one.fires[0].task.clone().unique(secs(600));
    let mut second = one.fires[0].task.clone();
    done(&fresh, &one).await;
    second.id = Some(id("second"));
    assert_eq!(fresh.try_put(second.clone()).await, Err(Refusal::Duplicate));
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    fresh.put([second]).await;
    fresh.is_sound().await;
}

async fn the_task_of_an_occurrence_goes_to_its_own_queue(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut one = commit("s", from, to);
    one.fires[0].task.queue = queue("reports");
    done(&fresh, &one).await;
    let queues = fresh.broker.queues().await.unwrap();
    let reports = queues.iter().find(|q| q.name.as_str() == "reports").unwrap();
    assert_eq!(reports.counts[&TaskState::Pending], 1);
    // The overlap policy looks for the previous task where it is.
    fresh.clock.advance(secs(60));
    let mut two = commit("s", to, fresh.now());
    two.fires[0].task.queue = queue("reports");
    two.overlap = Overlap::Skip;
    assert_eq!(done(&fresh, &two).await[0].kind, DecisionKind::Skipped);
    fresh.is_sound().await;
}

async fn a_task_of_an_occurrence_may_itself_be_delayed(fresh: Fresh) {
    let (from, to) = minute(&fresh, "s").await;
    let mut one = commit("s", from, to);
    one.fires[0].task.run = Run::In(secs(30));
    assert_eq!(done(&fresh, &one).await[0].kind, DecisionKind::Fired);
    assert_eq!(fresh.list(TaskState::Scheduled).await.len(), 1);
    fresh.is_sound().await;
}
