//! Which schedules fail and which are paused, for the whole list: cached, whatever the number of readers.
//!
//! Not here: what a page shows of one schedule.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_core::schedule::{Plan, ScheduleId};
use runner_queue::{Broker, BrokerResult};
use tokio::time::{Instant, timeout};

use crate::diagnose::failed_in_a_row;

/// How long an answer is valid.
const GOOD_FOR: Duration = Duration::from_secs(3);
/// How long other pages repeat it in their title.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long the broker may take; a page shows the previous answer instead of waiting longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Schedules that are looked at, by id: one answer of about 2 MB. The page says so if there are more.
const LOOKED_AT: usize = 2_000;
/// Decisions read of each: the last run may still be running, and some occurrences may have been skipped since.
const DECISIONS: usize = 4;

/// Schedules that need a look.
#[derive(Debug, Default)]
pub(super) struct ScheduleHealth {
    /// The last run that ended failed for good.
    pub(super) failing: BTreeSet<ScheduleId>,
    /// An operator paused them.
    pub(super) paused: BTreeSet<ScheduleId>,
    /// How many were looked at, if there are more.
    pub(super) looked_at: Option<usize>,
}

/// The last answer.
#[derive(Default)]
pub(super) struct ScheduleHealthCache {
    last: Mutex<Option<(Instant, Arc<ScheduleHealth>)>>,
    looking: tokio::sync::Mutex<()>,
}

impl ScheduleHealthCache {
    /// The schedules of the plan that fail or are paused. While one caller reads, others get the previous answer.
    pub(super) async fn look(&self, broker: &dyn Broker, plan: &Plan) -> Arc<ScheduleHealth> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, health)) = &last
            && at.elapsed() < GOOD_FOR
        {
            return Arc::clone(health);
        }
        let last = last.map(|(_, health)| health).unwrap_or_default();
        let Ok(_looking) = self.looking.try_lock() else {
            return last;
        };
        let health = match timeout(PATIENCE, read(broker, plan)).await {
            Ok(Ok(health)) => Arc::new(health),
            Ok(Err(_)) | Err(_) => last,
        };
        let answer = (Instant::now(), Arc::clone(&health));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        health
    }

    /// How many schedules fail, as far as a recent look knows: pages that do not look themselves show it beside their own.
    pub(super) fn failing(&self) -> usize {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = last.as_ref().filter(|(at, _)| at.elapsed() < KNOWN_FOR);
        recent.map_or(0, |(_, health)| health.failing.len())
    }

    /// Drops the answer, after an action that changes it.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn read(broker: &dyn Broker, plan: &Plan) -> BrokerResult<ScheduleHealth> {
    // Of one that is disabled the last outcome is history.
    let enabled = plan.schedules.iter().filter(|(_, schedule)| schedule.enabled);
    let enabled: Vec<ScheduleId> = enabled.map(|(id, _)| id.clone()).collect();
    let ids: Vec<ScheduleId> = enabled.iter().take(LOOKED_AT).cloned().collect();
    let (each, standings) = tokio::try_join!(broker.decisions_each(&ids, DECISIONS), broker.standings(&ids))?;
    let failing = ids
        .iter()
        .zip(&each)
        .filter(|(_, decisions)| failed_in_a_row(decisions) > 0);
    let paused = ids
        .iter()
        .zip(&standings)
        .filter(|(_, standing)| standing.as_ref().is_some_and(|standing| standing.paused.is_some()));
    Ok(ScheduleHealth {
        failing: failing.map(|(id, _)| id.clone()).collect(),
        paused: paused.map(|(id, _)| id.clone()).collect(),
        looked_at: (enabled.len() > LOOKED_AT).then_some(LOOKED_AT),
    })
}
