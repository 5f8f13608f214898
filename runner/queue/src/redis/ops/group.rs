//! Groups: ripe ones, the sets in which their tasks are combined, and abandoned sets.
//!
//! A set is a key beside its group's, listed with its deadline; any aggregator, ours or asynq's, takes a stale one
//! back. Unlike asynq, this program also adds the name of the group again: a group without it is never visited.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskState};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::{PartialFailure, or_nothing};
use crate::redis::ops::task_views::bounds;
use crate::{
    BrokerResult, GroupInfo, GroupNames, GroupPage, GroupRule, Groups, MAX_SET, Page, Reclaimed, SET_DEADLINE,
    StagedSet, TaskPage, TaskRecord,
};

/// Names of groups a call.
const NAMES: usize = 500;

/// Tasks a script call, during which Redis does nothing else.
const BATCH: usize = 500;

/// Stale sets a script call.
const SETS: usize = 20;

/// Script calls of one pass over a queue's stale sets: bounds a pass over sets that have no task left.
const CALLS: usize = 100;

#[async_trait]
impl Groups for RedisBroker {
    async fn group_names(&self, queue: &QueueName, from: Option<&str>) -> BrokerResult<GroupNames> {
        let mut trip = self.conn.trip("look for groups").await?;
        trip.command("SSCAN")
            .arg(keys::part(queue.as_str(), "groups"))
            .arg(from.unwrap_or("0"))
            .arg("COUNT")
            .arg(NAMES);
        let mut answer = reply::list(or_nothing(trip.one().await)?).into_iter();
        let next = answer.next().and_then(reply::text).filter(|cursor| cursor != "0");
        let names = answer.next().map(reply::list).unwrap_or_default();
        // No producer of this program or of asynq writes a name that is not text.
        let names = names.into_iter().filter_map(reply::text).collect();
        Ok(GroupNames { names, next })
    }

    async fn stage(&self, queue: &QueueName, group: &str, rule: &GroupRule) -> BrokerResult<Option<StagedSet>> {
        // Made by the caller, not by the script: it becomes the id of the combined task, and a script that is repeated
        // must not draw another one.
        let id = uuid::Uuid::new_v4().to_string();
        let mut trip = self.conn.trip("check whether a group is ripe").await?;
        trip.script(Script::Stage, &[keys::group(queue.as_str(), group)])
            .arg(keys::queue(queue.as_str()))
            .arg(group)
            .arg(&id)
            .arg(convert::whole_seconds(rule.grace))
            .arg(rule.max_delay.map_or(0, convert::whole_seconds))
            .arg(rule.size())
            .arg(convert::whole_seconds(SET_DEADLINE));
        let deadline = reply::list(trip.one().await?).into_iter().next();
        Ok(deadline.and_then(reply::seconds).map(|deadline| StagedSet {
            queue: queue.clone(),
            group: group.to_owned(),
            id,
            deadline,
        }))
    }

    async fn read_staged(&self, set: &StagedSet) -> BrokerResult<Vec<TaskRecord>> {
        let key = key_of(set);
        let (mut tasks, mut odd) = (Vec::new(), Vec::new());
        for skip in (0..MAX_SET).step_by(BATCH) {
            let mut trip = self.conn.trip("read the tasks of a group").await?;
            trip.script(Script::ReadStaged, &[&key])
                .arg(keys::queue(set.queue.as_str()))
                .arg(skip)
                .arg(BATCH);
            let mut rows = reply::list(trip.one().await?).into_iter();
            let mut shown = 0;
            while let (Some(id), Some(message), Some(state)) = (rows.next(), rows.next(), rows.next()) {
                shown += 1;
                let (Some(id), Some(message)) = (reply::bytes(id), reply::bytes(message)) else {
                    continue;
                };
                let found = match reply::text(state).as_deref() {
                    Some("aggregating") => convert::decode(message, &set.queue, &id),
                    _ => Err("its task is gone, or is elsewhere".to_owned()),
                };
                match found {
                    Ok(record) => tasks.push(record),
                    Err(why) => odd.push((id, why)),
                }
            }
            if shown < BATCH {
                break;
            }
        }
        // After the reading, in a call of its own: if it fails, the caller gets an error and the whole set is read
        // again. Otherwise the unreadable tasks would be deleted with the set.
        self.archive_unreadable_staged(set, &odd).await?;
        Ok(tasks)
    }

    async fn drop_staged(&self, set: &StagedSet) -> BrokerResult<usize> {
        let key = key_of(set);
        let mut dropped = 0;
        for _ in 0..MAX_SET.div_ceil(BATCH) {
            let mut trip = self.conn.trip("delete combined tasks").await?;
            // In parts, the set itself with the last: after a crash in between, the rest is combined once more.
            trip.script(Script::DropStaged, &[&key])
                .arg(keys::queue(set.queue.as_str()))
                .arg(BATCH);
            let mut answer = reply::list(trip.one().await?).into_iter();
            dropped += usize::try_from(answer.next().map_or(0, reply::count)).unwrap_or(0);
            if answer.next().map_or(0, reply::count) == 0 {
                break;
            }
        }
        Ok(dropped)
    }

    async fn reclaim(&self, queues: &[QueueName], grace: Duration, limit: usize) -> BrokerResult<Vec<Reclaimed>> {
        let mut reclaimed: Vec<Reclaimed> = Vec::new();
        let (mut left, mut failures) = (limit, PartialFailure::default());
        for queue in queues {
            for _ in 0..CALLS {
                if left == 0 {
                    return Ok(reclaimed);
                }
                let part = self.reclaim_part(queue, grace, &mut left, &mut reclaimed).await;
                // A bound cut the call short, so there may be more: calls go on until one was complete.
                if failures.part(queue, part) != Some(true) {
                    break;
                }
            }
        }
        failures.unless(!reclaimed.is_empty())?;
        Ok(reclaimed)
    }

    async fn groups(&self, queue: &QueueName, page: Page) -> BrokerResult<GroupPage> {
        let (skip, size) = bounds(page);
        let mut trip = self.conn.trip("list groups").await?;
        trip.script(Script::Groups, &[keys::part(queue.as_str(), "groups")])
            .arg(keys::queue(queue.as_str()))
            .arg(skip)
            .arg(size);
        let mut row = reply::list(trip.one().await?).into_iter();
        let total = row.next().map_or(0, reply::count);
        let mut groups = Vec::new();
        while let (Some(name), Some(tasks)) = (row.next(), row.next()) {
            if let Some(name) = reply::text(name) {
                let tasks = reply::count(tasks);
                groups.push(GroupInfo { name, tasks });
            }
        }
        Ok(GroupPage { groups, total })
    }

    async fn group_tasks(&self, queue: &QueueName, group: &str, page: Page) -> BrokerResult<TaskPage> {
        self.page_of(queue, TaskState::Aggregating, Some(group), page).await
    }
}

impl RedisBroker {
    /// Whether a bound cut it short.
    async fn reclaim_part(
        &self,
        queue: &QueueName,
        grace: Duration,
        left: &mut usize,
        reclaimed: &mut Vec<Reclaimed>,
    ) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("take back sets of groups").await?;
        trip.script(Script::Reclaim, &[keys::part(queue.as_str(), "aggregation_sets")])
            .arg(keys::queue(queue.as_str()))
            .arg(convert::millis(grace))
            .arg((*left).min(BATCH))
            .arg(SETS)
            .arg(SET_DEADLINE.as_secs() + 1);
        let mut answer = reply::list(trip.one().await?).into_iter();
        let more = answer.next().map_or(0, reply::count) > 0;
        while let (Some(group), Some(tasks)) = (answer.next(), answer.next()) {
            let tasks = usize::try_from(reply::count(tasks)).unwrap_or(0);
            *left = left.saturating_sub(tasks);
            let group = String::from_utf8_lossy(&reply::bytes(group).unwrap_or_default()).into_owned();
            match reclaimed.iter_mut().find(|r| r.queue == *queue && r.group == group) {
                Some(known) => known.tasks += tasks,
                None => reclaimed.push(Reclaimed {
                    queue: queue.clone(),
                    group,
                    tasks,
                }),
            }
        }
        Ok(more)
    }

    async fn archive_unreadable_staged(&self, set: &StagedSet, odd: &[(Vec<u8>, String)]) -> BrokerResult<()> {
        for part in odd.chunks(BATCH) {
            let mut trip = self.conn.trip("archive tasks that cannot be read").await?;
            trip.script(Script::ReadStagedArchive, &[key_of(set)])
                .arg(keys::queue(set.queue.as_str()));
            for (id, why) in part {
                let task = String::from_utf8_lossy(id);
                tracing::warn!(queue = %set.queue, group = %set.group, %task, why, "a task cannot be read; archived");
                trip.arg(&id[..]);
            }
            trip.one().await?;
        }
        Ok(())
    }
}

fn key_of(set: &StagedSet) -> String {
    keys::staged(set.queue.as_str(), &set.group, &set.id)
}
