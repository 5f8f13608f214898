//! Clauses about staged tasks of a group: their owner, how they end, how they return.

use std::time::Duration;

use runner_core::task::{Event, QueueName, Task, TaskState};

use super::group::{grouped, rule};
use super::shared::{id, queue, secs, task};
use super::{Clause, Fresh};
use crate::{
    Acted, Action, ActionError, GroupRule, Page, Reclaimed, Refusal, RemoveError, Repaired, SET_DEADLINE, StagedSet,
};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_staged_task_is_read_as_its_producer_stated_it,
        staged_tasks_are_on_no_list_and_in_no_count,
        a_staged_task_is_found_but_no_operator_can_touch_it,
        the_id_of_a_staged_task_is_taken,
        dropping_a_set_deletes_its_tasks_and_counts_nothing,
        dropping_a_set_releases_no_lock,
        a_set_is_not_taken_back_before_its_deadline,
        a_stale_set_returns_to_its_group_in_its_old_order,
        a_stale_set_joins_tasks_that_were_added_meanwhile,
        a_set_that_returned_can_be_neither_read_nor_dropped,
        reclaim_takes_no_more_than_its_limit,
        tasks_whose_aggregator_died_after_the_enqueue_are_combined_again,
        a_large_set_is_read_and_dropped_whole,
        removing_a_queue_removes_its_staged_sets,
        a_repair_does_not_touch_staged_tasks,
    ]
}

async fn take(fresh: &Fresh, group: &str) -> StagedSet {
    fresh.clock.advance(secs(60));
    fresh.stage(group, &rule()).await.expect("ripe")
}

async fn reclaim(fresh: &Fresh) -> Vec<(String, usize)> {
    let queues = [QueueName::default()];
    let reclaimed = fresh.broker.reclaim(&queues, Duration::ZERO, 100).await.unwrap();
    reclaimed.into_iter().map(|r| (r.group, r.tasks)).collect()
}

async fn a_staged_task_is_read_as_its_producer_stated_it(fresh: Fresh) {
    let stated = grouped("a", "g").payload("p").header("k", "v").max_retry(7);
    fresh.put([stated]).await;
    let before = fresh.see("a").await.record;
    let set = take(&fresh, "g").await;
    assert_eq!(fresh.broker.read_staged(&set).await.unwrap(), [before]);
    assert_eq!(fresh.staged_ids(&set).await, ["a"], "it may be read again");
    fresh.is_sound().await;
}

async fn staged_tasks_are_on_no_list_and_in_no_count(fresh: Fresh) {
    fresh.put([grouped("a", "g"), grouped("b", "g"), task("c")]).await;
    take(&fresh, "g").await;
    fresh.put([grouped("d", "g")]).await;
    let glance = fresh.glance().await;
    assert_eq!((glance.size(), glance.counts[&TaskState::Aggregating]), (2, 1));
    assert_eq!(fresh.list(TaskState::Aggregating).await, ["d"]);
    assert_eq!(fresh.group_ids("g").await, ["d"]);
    let groups = fresh.broker.groups(&QueueName::default(), Page::default()).await;
    assert_eq!(groups.unwrap().groups[0].tasks, 1);
    let all = fresh
        .broker
        .act_all(&QueueName::default(), TaskState::Aggregating, Action::Run)
        .await;
    assert_eq!(all.unwrap(), Acted { tasks: 1, more: false });
    assert_eq!(fresh.claim_ids(9).await, ["c", "d"]);
    fresh.is_sound().await;
}

async fn a_staged_task_is_found_but_no_operator_can_touch_it(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    let set = take(&fresh, "g").await;
    assert_eq!(fresh.state("a").await, Some(TaskState::Aggregating));
    assert_eq!(fresh.broker.find(&id("a")).await.unwrap(), [QueueName::default()]);
    for action in [Action::Run, Action::Archive, Action::Delete] {
        let refused = fresh.broker.act(&QueueName::default(), &id("a"), action).await;
        let staged = matches!(refused, Err(ActionError::WrongState { state, .. }) if state == TaskState::Aggregating);
        assert!(staged, "{action:?}: {refused:?}");
        let group = fresh.broker.act_group(&QueueName::default(), "g", action).await;
        assert_eq!(group.unwrap().tasks, 0);
    }
    assert_eq!(fresh.staged_ids(&set).await, ["a"]);
    fresh.is_sound().await;
}

async fn the_id_of_a_staged_task_is_taken(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    let set = take(&fresh, "g").await;
    assert_eq!(fresh.try_put(task("a")).await, Err(Refusal::IdTaken));
    assert_eq!(fresh.try_put(grouped("a", "g")).await, Err(Refusal::IdTaken));
    fresh.broker.drop_staged(&set).await.unwrap();
    fresh.put([task("a")]).await;
    fresh.is_sound().await;
}

async fn dropping_a_set_deletes_its_tasks_and_counts_nothing(fresh: Fresh) {
    fresh
        .put([grouped("a", "g"), grouped("b", "g"), grouped("c", "h")])
        .await;
    let set = take(&fresh, "g").await;
    fresh.put([grouped("d", "g")]).await;
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 2);
    let gone = TaskState::Aggregating.after(Event::Aggregated).unwrap();
    assert_eq!([fresh.state("a").await, fresh.state("b").await], [gone; 2]);
    assert_eq!(fresh.group_ids("g").await, ["d"]);
    assert_eq!(fresh.group_ids("h").await, ["c"]);
    assert_eq!(fresh.counted().await, (0, 0));
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 0, "once");
    fresh.clock.advance(SET_DEADLINE);
    assert!(reclaim(&fresh).await.is_empty());
    fresh.is_sound().await;
}

async fn dropping_a_set_releases_no_lock(fresh: Fresh) {
    let locked = |name: &str| Task::new("u").id(id(name)).payload("p").unique(secs(3600)).group("g");
    fresh.put([locked("a")]).await;
    let set = take(&fresh, "g").await;
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 1);
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    fresh.put([locked("c").payload("q")]).await;
    fresh.is_sound().await;
}

async fn a_set_is_not_taken_back_before_its_deadline(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    let set = take(&fresh, "g").await;
    let queues = [QueueName::default()];
    let after = async |grace| fresh.broker.reclaim(&queues, grace, 100).await.unwrap().len();
    fresh.clock.advance(SET_DEADLINE - secs(1));
    assert_eq!(after(secs(0)).await, 0);
    assert_eq!(fresh.staged_ids(&set).await, ["a"]);
    fresh.clock.advance(secs(1));
    assert_eq!(after(secs(5)).await, 0, "the grace is not over");
    fresh.clock.advance(secs(4));
    assert_eq!(after(secs(5)).await, 0);
    fresh.clock.advance(secs(1));
    assert_eq!(after(secs(5)).await, 1);
    fresh.is_sound().await;
}

async fn a_stale_set_returns_to_its_group_in_its_old_order(fresh: Fresh) {
    for name in ["c", "a", "b"] {
        fresh.put([grouped(name, "g:x")]).await;
        fresh.clock.advance(secs(1));
    }
    fresh.put([grouped("z", "h").queue(queue("low"))]).await;
    take(&fresh, "g:x").await;
    fresh.clock.advance(SET_DEADLINE);
    let nowhere = fresh.broker.reclaim(&[queue("low")], Duration::ZERO, 100).await;
    assert!(nowhere.unwrap().is_empty());
    let back = fresh.broker.reclaim(&[QueueName::default()], Duration::ZERO, 100).await;
    let expected = Reclaimed {
        queue: QueueName::default(),
        group: "g:x".to_owned(),
        tasks: 3,
    };
    assert_eq!(back.unwrap(), [expected]);
    assert_eq!(fresh.group_ids("g:x").await, ["c", "a", "b"]);
    assert_eq!(fresh.glance().await.counts[&TaskState::Aggregating], 3);
    assert!(reclaim(&fresh).await.is_empty(), "once");
    let names = fresh.broker.group_names(&QueueName::default(), None).await.unwrap();
    assert_eq!(names.names, ["g:x"], "the group is visited again");
    let again = fresh.stage("g:x", &rule()).await.expect("it is as old as it was");
    assert_eq!(fresh.staged_ids(&again).await, ["c", "a", "b"]);
    fresh.is_sound().await;
}

async fn a_stale_set_joins_tasks_that_were_added_meanwhile(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    take(&fresh, "g").await;
    fresh.put([grouped("b", "g")]).await;
    take(&fresh, "g").await;
    fresh.put([grouped("c", "g")]).await;
    fresh.clock.advance(SET_DEADLINE);
    assert_eq!(reclaim(&fresh).await, [("g".to_owned(), 2)]);
    assert_eq!(fresh.group_ids("g").await, ["a", "b", "c"]);
    fresh.is_sound().await;
}

async fn a_set_that_returned_can_be_neither_read_nor_dropped(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    let set = take(&fresh, "g").await;
    fresh.clock.advance(SET_DEADLINE);
    assert_eq!(reclaim(&fresh).await.len(), 1);
    assert!(fresh.broker.read_staged(&set).await.unwrap().is_empty());
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 0);
    let again = fresh.stage("g", &rule()).await.expect("ripe");
    assert_ne!(again.id, set.id);
    assert_eq!(
        fresh.broker.drop_staged(&set).await.unwrap(),
        0,
        "the old set is not the new one"
    );
    assert_eq!(fresh.staged_ids(&again).await, ["a"]);
    fresh.is_sound().await;
}

async fn reclaim_takes_no_more_than_its_limit(fresh: Fresh) {
    for group in ["g", "h"] {
        fresh.put((0..3).map(|n| grouped(&format!("{group}{n}"), group))).await;
        take(&fresh, group).await;
    }
    fresh.clock.advance(SET_DEADLINE);
    let queues = [QueueName::default()];
    let part = async || {
        let back = fresh.broker.reclaim(&queues, Duration::ZERO, 4).await.unwrap();
        back.iter().map(|r| r.tasks).collect::<Vec<_>>()
    };
    assert_eq!(part().await, [3, 1]);
    assert_eq!(fresh.group_ids("h").await, ["h0"]);
    assert_eq!(part().await, [2]);
    assert_eq!(fresh.group_ids("h").await, ["h0", "h1", "h2"]);
    assert!(part().await.is_empty());
    fresh.is_sound().await;
}

async fn tasks_whose_aggregator_died_after_the_enqueue_are_combined_again(fresh: Fresh) {
    fresh.put([grouped("a", "g"), grouped("b", "g")]).await;
    let set = take(&fresh, "g").await;
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b"]);
    fresh.put([task("one of two")]).await;
    // The set is not dropped.
    fresh.clock.advance(SET_DEADLINE);
    assert_eq!(reclaim(&fresh).await, [("g".to_owned(), 2)]);
    let again = fresh.stage("g", &rule()).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&again).await, ["a", "b"]);
    fresh.put([task("the other of two")]).await;
    assert_eq!(fresh.broker.drop_staged(&again).await.unwrap(), 2);
    assert_eq!(fresh.claim_ids(9).await, ["one of two", "the other of two"]);
    fresh.is_sound().await;
}

async fn a_large_set_is_read_and_dropped_whole(fresh: Fresh) {
    let many = 2345;
    fresh.put((0..many).map(|n| grouped(&format!("{n:05}"), "g"))).await;
    let size = GroupRule {
        max_size: Some(2000),
        ..rule()
    };
    let set = fresh.stage("g", &size).await.expect("ripe");
    let ids = fresh.staged_ids(&set).await;
    assert_eq!(
        (ids.len(), ids[0].as_str(), ids[1999].as_str()),
        (2000, "00000", "01999")
    );
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 2000);
    let rest = take(&fresh, "g").await;
    fresh.clock.advance(SET_DEADLINE);
    assert_eq!(reclaim(&fresh).await, [("g".to_owned(), 100)]);
    let queues = [QueueName::default()];
    let back = fresh.broker.reclaim(&queues, Duration::ZERO, 1000).await.unwrap();
    assert_eq!(back[0].tasks, many - 2100);
    assert!(fresh.staged_ids(&rest).await.is_empty());
    fresh.is_sound().await;
}

async fn removing_a_queue_removes_its_staged_sets(fresh: Fresh) {
    let default = QueueName::default();
    let locked = || Task::new("u").payload("p").unique(secs(3600)).group("g");
    fresh.put([locked(), grouped("a", "g")]).await;
    let set = take(&fresh, "g").await;
    let refused = fresh.broker.remove_queue(&default, false).await;
    assert!(
        matches!(refused, Err(RemoveError::NotEmpty { tasks: 2, .. })),
        "{refused:?}"
    );
    let removed = fresh.broker.remove_queue(&default, true).await.unwrap();
    assert_eq!(removed, Acted { tasks: 2, more: false });
    assert!(fresh.broker.read_staged(&set).await.unwrap().is_empty());
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 0);
    fresh.put([locked()]).await;
    fresh.is_sound().await;
}

async fn a_repair_does_not_touch_staged_tasks(fresh: Fresh) {
    let eager = GroupRule {
        max_size: Some(1),
        ..rule()
    };
    // More sets than a look at one task goes through.
    fresh.put((0..120).map(|n| grouped(&format!("{n}"), "g"))).await;
    for _ in 0..120 {
        fresh.stage("g", &eager).await.expect("ripe");
    }
    fresh.put([grouped("a", "h"), grouped("b", "h")]).await;
    let set = take(&fresh, "h").await;
    let queues = [QueueName::default()];
    for _ in 0..5 {
        let repaired = fresh.broker.repair(&queues, 100).await.unwrap();
        assert_eq!(repaired, Repaired::default());
    }
    assert_eq!(fresh.glance().await.size(), 0);
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b"]);
    fresh.is_sound().await;
}
