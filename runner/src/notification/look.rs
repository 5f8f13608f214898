//! What one look for notifications has found, which of its calls failed, and what is written down of successes.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_queue::{Broker, BrokerError, BrokerResult};

use super::identity::joined;
use super::successes::SuccessState;
use super::watched::NoticedEvent;

/// After this number of failed calls in a row a look asks nothing more.
const MOST_FAILURES: u32 = 3;

/// A function, and one of its schedules, or nothing.
pub(super) type Line = (String, String);

/// What a look has found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) found: Vec<NoticedEvent>,
    pub(super) failing: BTreeMap<Line, String>,
    /// What is known of successes from now on, and whether it must be written down.
    pub(super) successes: BTreeMap<Line, (KnownSuccesses, bool)>,
    pub(super) failures: LookFailures,
}

/// What this process knows of the successes of a line, and what is written down.
#[derive(Clone, Default)]
pub(super) struct KnownSuccesses {
    pub(super) state: Option<SuccessState>,
    pub(super) stored: Option<SuccessState>,
}

/// The kind of the documents in which successes are written down.
const SUCCESSES: &str = "notification-successes";

/// How long what is written down is kept: as long as runs, and the longest expectation.
const SUCCESSES_KEPT_FOR: Duration = Duration::from_secs(91 * 24 * 3600);

pub(super) async fn kept_successes(
    broker: &dyn Broker,
    (function, schedule): &Line,
) -> BrokerResult<Option<SuccessState>> {
    let kept = broker.document(SUCCESSES, &joined([function, schedule])).await?;
    // What cannot be read was written by someone else.
    Ok(kept.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// Instances may overwrite each other: all see the same runs.
pub(super) async fn keep_successes(broker: &dyn Broker, line: &Line, state: &SuccessState) -> BrokerResult<()> {
    let (function, schedule) = line;
    let body = serde_json::to_vec(state).unwrap_or_default();
    let name = joined([function, schedule]);
    broker.keep_document(SUCCESSES, &name, body, SUCCESSES_KEPT_FOR).await
}

/// The calls of a look that failed: one of them must not end the look for all that comes after it.
#[derive(Default)]
pub(super) struct LookFailures {
    pub(super) first: Option<BrokerError>,
    in_a_row: u32,
}

impl LookFailures {
    /// Makes a call unless too many have failed in a row: each may take as long as a call to a store that is gone.
    pub(super) async fn ask<T>(&mut self, call: impl Future<Output = BrokerResult<T>>) -> Option<T> {
        if self.in_a_row >= MOST_FAILURES {
            return None;
        }
        match call.await {
            Ok(answer) => {
                self.in_a_row = 0;
                Some(answer)
            }
            Err(error) => {
                self.in_a_row += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_call_does_not_end_a_look_and_many_in_a_row_do() {
        let failed = || async {
            Err::<u8, _>(BrokerError::Unreachable {
                doing: "look",
                source: "gone".into(),
            })
        };
        let mut failures = LookFailures::default();
        for _ in 0..2 {
            assert_eq!(failures.ask(failed()).await, None);
            assert_eq!(failures.ask(async { Ok(1) }).await, Some(1));
        }
        for _ in 0..MOST_FAILURES {
            assert_eq!(failures.ask(failed()).await, None);
        }
        assert_eq!(failures.ask(async { Ok(1) }).await, None);
        assert!(failures.first.is_some());
    }
}
