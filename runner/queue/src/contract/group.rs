//! Clauses about groups: when one is ripe, what is taken, which tasks go back to theirs, what an operator sees.
//!
//! What happens to the staged tasks is in `staged`.

use std::time::Duration;

use runner_core::task::{Event, QueueName, Run, Task, TaskState};

use super::shared::{LEASE, id, queue, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Acted, Action, GroupInfo, GroupRule, Page, StagedSet, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_group_is_ripe_when_no_task_joined_for_the_grace_period,
        a_task_that_joins_restarts_the_grace_period,
        a_group_is_ripe_when_its_first_task_waited_for_the_longest_delay,
        a_group_is_ripe_when_it_has_its_largest_size,
        no_more_than_the_largest_size_is_taken_and_those_that_joined_first,
        tasks_that_joined_at_the_same_instant_are_taken_in_the_order_of_their_ids,
        an_empty_group_is_never_ripe,
        groups_of_other_queues_and_of_similar_names_are_not_touched,
        all_names_of_groups_are_found_part_by_part,
        a_delayed_task_of_a_group_runs_alone,
        a_failed_task_of_a_group_returns_to_it,
        a_snoozed_task_of_a_group_returns_to_it,
        groups_are_listed_by_name_with_their_sizes,
        the_tasks_of_one_group_are_listed_in_its_order,
        one_group_is_acted_on_and_the_others_are_not,
    ]
}

/// A minute of grace and no other rule.
pub(super) fn rule() -> GroupRule {
    GroupRule {
        grace: secs(60),
        max_delay: None,
        max_size: None,
    }
}

pub(super) fn grouped(name: &str, group: &str) -> Task {
    task(name).group(group)
}

impl Fresh {
    /// Stages a group of `default`, if it is ripe.
    pub(super) async fn stage(&self, group: &str, rule: &GroupRule) -> Option<StagedSet> {
        self.broker.stage(&QueueName::default(), group, rule).await.unwrap()
    }

    /// Ids of the tasks of a set, in order.
    pub(super) async fn staged_ids(&self, set: &StagedSet) -> Vec<String> {
        let tasks = self.broker.read_staged(set).await.unwrap();
        tasks.into_iter().map(|task| task.id.to_string()).collect()
    }

    /// Ids of the tasks that wait in a group of `default`, in order.
    pub(super) async fn group_ids(&self, group: &str) -> Vec<String> {
        let page = Page { number: 1, size: 1000 };
        let page = self.broker.group_tasks(&QueueName::default(), group, page).await;
        let page = page.unwrap();
        assert_eq!(page.total, page.tasks.len() as u64);
        page.tasks.into_iter().map(|info| info.record.id.to_string()).collect()
    }
}

async fn a_group_is_ripe_when_no_task_joined_for_the_grace_period(fresh: Fresh) {
    fresh.put([grouped("a", "g"), grouped("b", "g")]).await;
    assert_eq!(fresh.stage("g", &rule()).await, None);
    fresh.clock.advance(secs(59));
    assert_eq!(fresh.stage("g", &rule()).await, None);
    fresh.clock.advance(secs(1));
    let set = fresh.stage("g", &rule()).await.expect("ripe");
    assert_eq!((set.queue.as_str(), set.group.as_str()), ("default", "g"));
    assert_eq!(set.deadline, fresh.now().checked_add(crate::SET_DEADLINE).unwrap());
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b"]);
    assert_eq!(fresh.stage("g", &rule()).await, None, "it is taken once");
    fresh.is_sound().await;
}

async fn a_task_that_joins_restarts_the_grace_period(fresh: Fresh) {
    fresh.put([grouped("a", "g")]).await;
    for name in ["b", "c"] {
        fresh.clock.advance(secs(59));
        fresh.put([grouped(name, "g")]).await;
        assert_eq!(fresh.stage("g", &rule()).await, None);
    }
    fresh.clock.advance(secs(60));
    let set = fresh.stage("g", &rule()).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b", "c"]);
    fresh.is_sound().await;
}

async fn a_group_is_ripe_when_its_first_task_waited_for_the_longest_delay(fresh: Fresh) {
    let rule = GroupRule {
        max_delay: Some(secs(100)),
        ..rule()
    };
    fresh.put([grouped("a", "g")]).await;
    fresh.clock.advance(secs(50));
    fresh.put([grouped("b", "g")]).await;
    fresh.clock.advance(secs(49));
    fresh.put([grouped("c", "g")]).await;
    assert_eq!(fresh.stage("g", &rule).await, None);
    fresh.clock.advance(secs(1));
    let set = fresh.stage("g", &rule).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b", "c"], "all that are there");
    fresh.is_sound().await;
}

async fn a_group_is_ripe_when_it_has_its_largest_size(fresh: Fresh) {
    let rule = GroupRule {
        max_size: Some(3),
        ..rule()
    };
    fresh.put([grouped("a", "g"), grouped("b", "g")]).await;
    assert_eq!(fresh.stage("g", &rule).await, None);
    fresh.put([grouped("c", "g")]).await;
    let set = fresh.stage("g", &rule).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&set).await, ["a", "b", "c"]);
    assert!(fresh.group_ids("g").await.is_empty());
    fresh.is_sound().await;
}

async fn no_more_than_the_largest_size_is_taken_and_those_that_joined_first(fresh: Fresh) {
    let rule = GroupRule {
        max_size: Some(2),
        ..rule()
    };
    for name in ["e", "d", "c", "b", "a"] {
        fresh.put([grouped(name, "g")]).await;
        fresh.clock.advance(secs(1));
    }
    for expected in [["e", "d"], ["c", "b"]] {
        let set = fresh.stage("g", &rule).await.expect("ripe");
        assert_eq!(fresh.staged_ids(&set).await, expected);
    }
    assert_eq!(fresh.stage("g", &rule).await, None);
    assert_eq!(fresh.group_ids("g").await, ["a"]);
    fresh.clock.advance(secs(60));
    let set = fresh.stage("g", &rule).await.expect("ripe by its age");
    assert_eq!(fresh.staged_ids(&set).await, ["a"]);
    fresh.is_sound().await;
}

async fn tasks_that_joined_at_the_same_instant_are_taken_in_the_order_of_their_ids(fresh: Fresh) {
    fresh
        .put(["é", "b", "B", "a", "10", "9"].map(|n| grouped(n, "g")))
        .await;
    assert_eq!(fresh.group_ids("g").await, ["10", "9", "B", "a", "b", "é"]);
    fresh.clock.advance(secs(60));
    let set = fresh.stage("g", &rule()).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&set).await, ["10", "9", "B", "a", "b", "é"]);
    fresh.is_sound().await;
}

async fn an_empty_group_is_never_ripe(fresh: Fresh) {
    let eager = GroupRule {
        max_delay: Some(secs(1)),
        max_size: Some(1),
        ..rule()
    };
    assert_eq!(fresh.stage("absent", &eager).await, None);
    fresh.put([grouped("a", "g")]).await;
    let set = fresh.stage("g", &eager).await.expect("ripe");
    fresh.clock.advance(secs(3600));
    assert_eq!(fresh.stage("g", &eager).await, None);
    assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 1);
    assert_eq!(fresh.stage("g", &eager).await, None);
    fresh.is_sound().await;
}

async fn groups_of_other_queues_and_of_similar_names_are_not_touched(fresh: Fresh) {
    let names = ["g", "g:1", "g:", "G", "g 1", "ünï→🦀", "%", "_"];
    for name in names {
        fresh.put([grouped(&format!("in {name}"), name)]).await;
    }
    fresh.put([grouped("there", "g").queue(queue("low"))]).await;
    fresh.clock.advance(secs(60));
    for name in names {
        let set = fresh.stage(name, &rule()).await.expect(name);
        assert_eq!(set.group, name);
        assert_eq!(fresh.staged_ids(&set).await, [format!("in {name}")]);
        assert_eq!(fresh.broker.drop_staged(&set).await.unwrap(), 1);
    }
    let low = fresh.broker.groups(&queue("low"), Page::default()).await.unwrap();
    assert_eq!((low.total, low.groups[0].tasks), (1, 1));
    fresh.is_sound().await;
}

async fn all_names_of_groups_are_found_part_by_part(fresh: Fresh) {
    let names: Vec<String> = (0..1200).map(|n| format!("group {n:04}")).collect();
    let tasks = names
        .iter()
        .enumerate()
        .map(|(n, group)| grouped(&n.to_string(), group));
    fresh.put(tasks.collect::<Vec<_>>()).await;
    fresh
        .put([grouped("x", "elsewhere").queue(queue("low")), task("y")])
        .await;
    let mut found = std::collections::BTreeSet::new();
    let mut from: Option<String> = None;
    for _ in 0..names.len() {
        let part = fresh.broker.group_names(&QueueName::default(), from.as_deref()).await;
        let part = part.unwrap();
        found.extend(part.names);
        from = part.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(from, None, "it never ends");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), names);
    fresh.is_sound().await;
}

async fn a_delayed_task_of_a_group_runs_alone(fresh: Fresh) {
    fresh.put([grouped("a", "g").run(Run::In(secs(10)))]).await;
    assert_eq!(fresh.state("a").await, Some(TaskState::Scheduled));
    fresh.clock.advance(secs(10));
    assert_eq!(fresh.forward().await, 1);
    assert_eq!(fresh.state("a").await, Some(TaskState::Pending));
    let claim = fresh.claim_one().await;
    assert_eq!(claim.task().group.as_deref(), Some("g"));
    fresh.end(&claim, retry(5, "no")).await;
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 1);
    assert_eq!(fresh.state("a").await, Some(TaskState::Pending), "and its retries too");
    fresh.is_sound().await;
}

/// A task that was put in a group, run by an operator and claimed.
async fn run_alone(fresh: &Fresh, name: &str) -> crate::Claim {
    fresh.put([grouped(name, "g")]).await;
    let run = fresh.broker.act(&QueueName::default(), &id(name), Action::Run).await;
    run.unwrap();
    fresh.claim_one().await
}

async fn goes_back(fresh: &Fresh, name: &str) {
    fresh.put([grouped("other", "g")]).await;
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 1);
    let from = [TaskState::Retry, TaskState::Scheduled].map(|state| state.after(Event::Regrouped).unwrap());
    assert_eq!(from, [fresh.state(name).await; 2]);
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.group_ids("g").await, ["other", name], "it joined again just now");
    fresh.clock.advance(secs(60));
    let set = fresh.stage("g", &rule()).await.expect("ripe");
    assert_eq!(fresh.staged_ids(&set).await, ["other", name]);
}

async fn a_failed_task_of_a_group_returns_to_it(fresh: Fresh) {
    let claim = run_alone(&fresh, "a").await;
    fresh.end(&claim, retry(5, "no")).await;
    goes_back(&fresh, "a").await;
    let names = fresh.broker.group_names(&QueueName::default(), None).await.unwrap();
    assert!(names.names.is_empty());

    let claim = run_alone(&fresh, "silent").await;
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    let recovered = fresh.broker.recover(&queues, Duration::ZERO, 9, 0).await.unwrap();
    assert_eq!(recovered[0].id, claim.task().id);
    fresh.clock.advance(secs(3600));
    assert_eq!(fresh.forward().await, 1);
    assert_eq!(fresh.group_ids("g").await, ["silent"]);
    let names = fresh.broker.group_names(&QueueName::default(), None).await.unwrap();
    assert_eq!(names.names, ["g"], "its group is visited again");
    fresh.is_sound().await;
}

async fn a_snoozed_task_of_a_group_returns_to_it(fresh: Fresh) {
    let claim = run_alone(&fresh, "a").await;
    let snooze = Verdict::Snooze {
        delay: secs(5),
        waiting_for: Some("a handler".to_owned()),
    };
    fresh.end(&claim, snooze).await;
    goes_back(&fresh, "a").await;
    assert_eq!(fresh.see("a").await.waiting_for, None);
    fresh.is_sound().await;
}

async fn groups_are_listed_by_name_with_their_sizes(fresh: Fresh) {
    let info = |name: &str, tasks| GroupInfo {
        name: name.to_owned(),
        tasks,
    };
    let list = async |number, size| {
        let page = Page { number, size };
        fresh.broker.groups(&QueueName::default(), page).await.unwrap()
    };
    assert_eq!(list(1, 9).await.total, 0);
    let names = [("a", "y"), ("b", "x"), ("c", "y"), ("d", "z")];
    fresh.put(names.map(|(name, group)| grouped(name, group))).await;
    fresh.put([task("alone"), grouped("e", "w").queue(queue("low"))]).await;
    let page = list(1, 2).await;
    assert_eq!((page.groups, page.total), (vec![info("x", 1), info("y", 2)], 3));
    let page = list(2, 2).await;
    assert_eq!((page.groups, page.total), (vec![info("z", 1)], 3));
    assert!(list(3, 2).await.groups.is_empty());
    let delete = fresh.broker.act(&QueueName::default(), &id("b"), Action::Delete).await;
    delete.unwrap();
    let page = list(1, 9).await;
    assert_eq!((page.groups, page.total), (vec![info("y", 2), info("z", 1)], 2));
    fresh.is_sound().await;
}

async fn the_tasks_of_one_group_are_listed_in_its_order(fresh: Fresh) {
    for name in ["c", "a", "b"] {
        fresh
            .put([grouped(name, "g"), grouped(&format!("not {name}"), "h")])
            .await;
        fresh.clock.advance(secs(1));
    }
    assert_eq!(fresh.group_ids("g").await, ["c", "a", "b"]);
    assert!(fresh.group_ids("absent").await.is_empty());
    let page = Page { number: 2, size: 2 };
    let page = fresh
        .broker
        .group_tasks(&QueueName::default(), "g", page)
        .await
        .unwrap();
    assert_eq!((page.total, page.tasks.len()), (3, 1));
    let last = &page.tasks[0];
    assert_eq!((last.record.id.as_str(), last.state), ("b", TaskState::Aggregating));
    assert_eq!(last.record.group.as_deref(), Some("g"));
    assert_eq!(fresh.list(TaskState::Aggregating).await.len(), 6);
    fresh.is_sound().await;
}

async fn one_group_is_acted_on_and_the_others_are_not(fresh: Fresh) {
    let acted = |tasks| Acted { tasks, more: false };
    let act = async |group, action| {
        let queue = QueueName::default();
        fresh.broker.act_group(&queue, group, action).await.unwrap()
    };
    let names = [("a", "x"), ("b", "y"), ("c", "x")];
    for (action, state) in [
        (Action::Run, Some(TaskState::Pending)),
        (Action::Archive, Some(TaskState::Archived)),
        (Action::Delete, None),
    ] {
        fresh.put(names.map(|(name, group)| grouped(name, group))).await;
        assert_eq!(act("absent", action).await, acted(0), "{action:?}");
        assert_eq!(act("x", action).await, acted(2), "{action:?}");
        assert_eq!((fresh.state("a").await, fresh.state("c").await), (state, state));
        assert_eq!(fresh.state("b").await, Some(TaskState::Aggregating));
        assert_eq!(fresh.group_ids("y").await, ["b"]);
        for list in TaskState::ALL.into_iter().filter(|s| *s != TaskState::Active) {
            let all = fresh.broker.act_all(&QueueName::default(), list, Action::Delete).await;
            all.unwrap();
        }
    }
    fresh.is_sound().await;
}
