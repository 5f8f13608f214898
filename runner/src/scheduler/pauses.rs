//! Pauses of schedules. When one ends, by a person or because its time is over, the occurrences that fell into it are
//! counted and recorded as one decision.

use jiff::Timestamp;
use runner_core::schedule::{Definition, MissedRange, paused_range};
use runner_queue::{Broker, BrokerResult, Decision, Pause, Registration, Resume, Resumed, Schedules, Standing};

/// Recounts when the cursor moves meanwhile, as after an edit; this many times.
const TRIES: usize = 5;

/// Pauses a schedule, or changes the terms of its pause. Works before any scheduler has registered it: the broker stores
/// the pause beside the cursor.
///
/// # Errors
///
/// Those of the broker.
pub async fn pause(broker: &dyn Schedules, definition: &Definition, pause: &Pause) -> BrokerResult<()> {
    let id = &definition.id;
    let standing = broker
        .standings(std::slice::from_ref(id))
        .await?
        .into_iter()
        .next()
        .flatten();
    if standing.is_none() {
        let registration = Registration {
            id: id.clone(),
            revision: definition.revision(),
        };
        broker.register(&[registration]).await?;
    }
    match standing.and_then(|s| s.paused) {
        Some(before) => broker.pause_schedule(id, &pause.clone().after(&before)).await,
        None => broker.pause_schedule(id, pause).await,
    }
}

/// The occurrences that fell into a pause up to `end`.
#[must_use]
pub fn fallen(definition: &Definition, standing: &Standing, end: Timestamp) -> Option<MissedRange> {
    match definition.enabled {
        true => paused_range(definition, standing.cursor, &standing.ahead, end),
        false => None,
    }
}

/// Ends the pause of a schedule at `end`, or now. Returns the decision recorded about the occurrences that fell into it.
///
/// # Errors
///
/// Those of the broker.
pub async fn resume(
    broker: &dyn Broker,
    definition: &Definition,
    end: Option<Timestamp>,
    by: &str,
) -> BrokerResult<Option<Decision>> {
    let ids = [definition.id.clone()];
    for _ in 0..TRIES {
        let standing = broker.standings(&ids).await?.into_iter().next().flatten();
        let Some((standing, pause)) = standing.as_ref().and_then(|s| Some((s, s.paused.as_ref()?))) else {
            return Ok(None);
        };
        let now = broker.now().await?;
        let end = end.map_or(now, |end| end.min(now));
        // Occurrences are whole seconds, and so are the cursors of some stores.
        let end = Timestamp::from_second(end.as_second()).unwrap_or(end);
        let range = fallen(definition, standing, end);
        let resume = Resume {
            id: definition.id.clone(),
            by: by.to_owned(),
            cursor: Some(standing.cursor),
            end: Some(end),
            paused: range.map(|range| (range, pause.reason(&range, end))),
        };
        match broker.resume_schedule(&resume).await? {
            Resumed::Done(decision) => return Ok(decision),
            Resumed::Running => return Ok(None),
            Resumed::Moved => {}
        }
    }
    Ok(None)
}
