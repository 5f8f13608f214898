//! The last manual run of a schedule, for lists: the broker's standing of a schedule knows only fires.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use runner_core::schedule::ScheduleId;
use runner_queue::{BrokerResult, Decision, DecisionKind, Schedules};

/// Decisions read of each schedule. An older manual run has been followed by others, or by a series of skips.
const LOOKED_AT: usize = 5;

/// Schedules queried at the same time: their queries share round trips.
const AT_ONCE: usize = 32;

/// Those of these schedules whose manual run is newer than their last fire, with that run.
///
/// # Errors
///
/// Those of the broker.
pub async fn last_by_hand(broker: &dyn Schedules, ids: &[ScheduleId]) -> BrokerResult<BTreeMap<ScheduleId, Decision>> {
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
