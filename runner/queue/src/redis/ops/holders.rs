//! The seam's `Holders`: the leader, the schedules of each instance, and the withdrawal of schedules that no instance
//! has any more.
//!
//! An instance counts as alive until its stated end; that an instance died does not withdraw its schedules. Not here:
//! what a withdrawal does to the cursor, which is `register.lua`.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::or_nothing;
use crate::{BrokerResult, HOLD_AFTER_END, HOLD_AT_MOST, Held, Holders, Pause, Standing};

/// Schedules a script call.
const BATCH: usize = 500;
/// The most schedules of one source that are read: far more than any installation has.
const MOST: usize = 200_000;

#[async_trait]
impl Holders for RedisBroker {
    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("become the leading scheduler").await?;
        trip.script(Script::Lead, &[keys::leader(self.conn.is_cluster())])
            .arg(instance)
            .arg(convert::millis(ttl).max(1))
            .arg(HOLD_AT_MOST.as_secs());
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    async fn resign(&self, instance: &str) -> BrokerResult<()> {
        let mut trip = self.conn.trip("resign as the leading scheduler").await?;
        trip.script(Script::Lead, &[keys::leader(self.conn.is_cluster())])
            .arg(instance)
            .arg("")
            .arg(HOLD_AT_MOST.as_secs());
        trip.one().await?;
        // Leadership first, so that another instance takes over at once; the rest is not urgent.
        self.let_go(instance, HOLD_AFTER_END).await?;
        self.hide_entries(instance).await
    }

    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool> {
        let cluster = self.conn.is_cluster();
        let mut known = true;
        let mut batches = held.chunks(BATCH);
        // Even without schedules one call is made: it renews the instance's time.
        let first = batches.next().unwrap_or_default();
        for (nth, batch) in std::iter::once(first).chain(batches).enumerate() {
            let mut scopes: Vec<&str> = batch.iter().map(|held| held.scope.as_str()).collect();
            scopes.sort_unstable();
            scopes.dedup();
            let mut names = vec![keys::holders(cluster), keys::held(instance, cluster)];
            names.extend(scopes.iter().map(|scope| keys::scope(scope, cluster)));
            let mut trip = self.conn.trip("report which schedules an instance has").await?;
            trip.script(Script::Hold, &names)
                .arg(instance)
                .arg(convert::whole_seconds(ttl).max(1))
                .arg(HOLD_AT_MOST.as_secs());
            for held in batch {
                let scope = scopes.binary_search(&held.scope.as_str()).unwrap_or_default();
                trip.arg(scope + 3).arg(held.id.as_str()).arg(&held.revision);
            }
            let answer = reply::number(trip.one().await?);
            // Only the first call can see that the time was over: it renews it, so later ones find it valid.
            if nth == 0 {
                known = answer == Some(1);
            }
        }
        Ok(known)
    }

    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>> {
        let cluster = self.conn.is_cluster();
        let (before, after) = keys::around_held(cluster);
        let names = [
            keys::CURSORS.to_owned(),
            keys::holders(cluster),
            keys::held(instance, cluster),
            keys::scope(scope, cluster),
        ];
        let mut withdrawn = Vec::new();
        for batch in ids.chunks(BATCH) {
            let mut trip = self.conn.trip("withdraw schedules").await?;
            trip.script(Script::Withdraw, &names)
                .arg(instance)
                .arg(before)
                .arg(after)
                .arg(HOLD_AT_MOST.as_secs());
            for id in batch {
                trip.arg(id.as_str());
            }
            let ids = reply::list(trip.one().await?).into_iter().filter_map(reply::text);
            withdrawn.extend(ids.map(ScheduleId::from_text));
        }
        Ok(withdrawn)
    }

    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>> {
        let mut trip = self.conn.trip("ask for the schedules of a source").await?;
        trip.command("SMEMBERS").arg(keys::scope(scope, self.conn.is_cluster()));
        let ids = reply::list(or_nothing(trip.one().await)?)
            .into_iter()
            .filter_map(reply::text);
        Ok(ids.take(MOST).map(ScheduleId::from_text).collect())
    }
}

impl RedisBroker {
    /// The schedules of an instance that ended properly are kept for a shorter time than those of one that fell silent.
    async fn let_go(&self, instance: &str, soon: Duration) -> BrokerResult<()> {
        let mut trip = self.conn.trip("report that an instance ends").await?;
        trip.command("ZSCORE")
            .arg(keys::holders(self.conn.is_cluster()))
            .arg(instance);
        // An instance that held nothing must not be listed by its end.
        if or_nothing(trip.one().await)? != redis::Value::Nil {
            self.hold(instance, &[], soon).await?;
        }
        Ok(())
    }
}

/// Reads the five values that `register.lua` and the cursors' fields have for a schedule. `None` also without a cursor;
/// it consumes them in any case.
pub(in crate::redis) fn next_standing(row: &mut impl Iterator<Item = redis::Value>) -> Option<Standing> {
    let (cursor, paused, nominal) = (row.next()?, row.next()?, row.next()?);
    let (task, ahead) = (row.next()?, row.next()?);
    let task = reply::text(task).and_then(|id| runner_core::task::TaskId::new(id).ok());
    Some(Standing {
        cursor: reply::seconds(cursor)?,
        paused: reply::shown(paused).and_then(|text| Pause::of_text(&text)),
        last: reply::seconds(nominal).zip(task),
        ahead: reply::text(ahead).unwrap_or_default().parse().unwrap_or_default(),
        was: None,
    })
}
