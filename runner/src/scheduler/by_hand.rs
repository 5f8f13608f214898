//! The last manual run of a schedule, for lists: the broker's standing of a schedule knows only fires.

use std::collections::BTreeMap;

use runner_core::schedule::ScheduleId;
use runner_queue::{BrokerResult, Decision, DecisionKind, Schedules};

/// Decisions read of each schedule. An older manual run has been followed by others, or by a series of skips.
const LOOKED_AT: usize = 5;

/// Those of these schedules whose manual run is newer than their last fire, with that run.
///
/// # Errors
///
/// Those of the broker.
pub async fn last_by_hand(broker: &dyn Schedules, ids: &[ScheduleId]) -> BrokerResult<BTreeMap<ScheduleId, Decision>> {
    let each = broker.decisions_each(ids, LOOKED_AT).await?;
    let last = each.into_iter().zip(ids).filter_map(|(decisions, id)| {
        let last = decisions.into_iter().find(|decision| ran(decision.kind))?;
        Some((id.clone(), last))
    });
    Ok(last.filter(|(_, last)| last.kind == DecisionKind::Manual).collect())
}

fn ran(kind: DecisionKind) -> bool {
    matches!(kind, DecisionKind::Fired | DecisionKind::Manual)
}
