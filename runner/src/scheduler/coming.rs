//! The next fires, for pages and commands: from the broker's cursors, without paused schedules or decided occurrences.

use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_queue::{BrokerResult, Schedules};

/// Schedules queried in one call, the soonest first.
const BATCH: usize = 50;

/// Maximum number of calls: schedules beyond this many paused ones are not searched.
const CALLS: usize = 4;

/// The next occurrences of all enabled schedules that will be decided, soonest first, up to `most`.
///
/// # Errors
///
/// If the broker does not return the cursors.
pub async fn coming<'a>(
    broker: &dyn Schedules,
    plan: &'a Plan,
    now: Timestamp,
    most: usize,
) -> BrokerResult<Vec<(Timestamp, &'a Definition)>> {
    let enabled = plan.schedules.values().filter(|d| d.enabled);
    let mut all: Vec<_> = enabled.filter_map(|d| Some((d.timing.next(now)?, d))).collect();
    all.sort_by_key(|(at, _)| *at);
    let mut coming = Vec::new();
    for batch in all.chunks(BATCH).take(CALLS) {
        let ids: Vec<ScheduleId> = batch.iter().map(|(_, d)| d.id.clone()).collect();
        for ((at, definition), standing) in batch.iter().zip(broker.standings(&ids).await?) {
            match standing {
                Some(standing) if standing.paused.is_some() => {}
                Some(standing) => coming.extend(standing.next(&definition.timing, now).map(|at| (at, *definition))),
                None => coming.push((*at, *definition)),
            }
        }
        if coming.len() >= most {
            break;
        }
    }
    coming.sort_by_key(|(at, _)| *at);
    coming.truncate(most);
    Ok(coming)
}
