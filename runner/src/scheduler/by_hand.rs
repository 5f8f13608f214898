//! The last run of a schedule that a person asked for, for lists: where a schedule stands says only what fired.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use runner_core::schedule::ScheduleId;
use runner_queue::{Broker, BrokerResult, Decision, DecisionKind};

/// Decisions looked at of each schedule. A run that is older than these was followed by others, or by a row of skips.
const LOOKED_AT: usize = 5;

/// Schedules asked about at the same time: their questions travel together.
const AT_ONCE: usize = 32;

/// Of these schedules, those that a person ran after their last fire, with that run.
///
/// # Errors
///
/// Those of the broker.
pub async fn last_by_hand(broker: &dyn Broker, ids: &[ScheduleId]) -> BrokerResult<BTreeMap<ScheduleId, Decision>> {
    let mut found = BTreeMap::new();
    for part in ids.chunks(AT_ONCE) {
        let looks = part.iter().map(|id| broker.decisions(Some(id), LOOKED_AT));
        for (id, decisions) in part.iter().zip(try_join_all(looks).await?) {
            let last = decisions.into_iter().find(|decision| ran(decision.kind));
            if let Some(run) = last.filter(|last| last.kind == DecisionKind::Manual) {
                found.insert(id.clone(), run);
            }
        }
    }
    Ok(found)
}

fn ran(kind: DecisionKind) -> bool {
    matches!(kind, DecisionKind::Fired | DecisionKind::Manual)
}
