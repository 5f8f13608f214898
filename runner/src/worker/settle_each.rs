//! Verdicts that the store refused together are offered alone, so that one that it never takes holds up no other.
//!
//! Not here: verdicts that the store cannot take right now. They wait, and are offered again as they are.

use std::slice;
use std::time::Duration;

use runner_queue::{Broker, BrokerError, BrokerResult, Exchanged, MAX_ERROR_BYTES, Settled, Settlement, Verdict};

use super::claim_loop::VerdictBatch;
use super::in_flight::Slot;

/// What came of a call once its verdicts were offered alone.
pub(super) struct SettledEach {
    pub sent: VerdictBatch,
    pub answer: BrokerResult<Exchanged>,
    /// Of verdicts that the store does not take in any form: nobody keeps their leases from now on.
    pub given_up: Vec<Slot>,
}

/// Whether the store refused verdicts for what they are; not what passes, and not what we are not allowed.
pub(super) fn is_refusal(answer: &BrokerResult<Exchanged>) -> bool {
    match answer {
        Err(error)
        | Ok(Exchanged {
            settled: Err(error), ..
        }) => refuses(error),
        Ok(_) => false,
    }
}

fn refuses(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Refused { .. } | BrokerError::Corrupt { .. })
}

/// Offers each verdict of a call that was refused.
pub(super) async fn sift(
    broker: &dyn Broker,
    sent: VerdictBatch,
    answer: BrokerResult<Exchanged>,
    lease: Duration,
) -> SettledEach {
    let claims = match answer {
        Ok(exchanged) => exchanged.claims,
        // It may have been the claims that were refused; the next call tells.
        Err(error) => Err(error),
    };
    let (mut kept, mut settled, mut given_up) = (VerdictBatch::default(), Vec::new(), Vec::new());
    let mut away = false;
    for (place, settlement) in sent.places.into_iter().zip(sent.settlements) {
        let offered = match away {
            true => Offered::Later,
            false => offer(broker, &settlement, lease).await,
        };
        let answer = match offered {
            Offered::Settled(answer) => answer,
            Offered::Later => {
                away = true;
                Settled::Unknown
            }
            Offered::Never => {
                given_up.push(place);
                continue;
            }
        };
        kept.places.push(place);
        kept.settlements.push(settlement);
        settled.push(answer);
    }
    let settled = Ok(settled);
    SettledEach {
        sent: kept,
        answer: Ok(Exchanged { settled, claims }),
        given_up,
    }
}

enum Offered {
    Settled(Settled),
    /// The store is away, or refuses everything.
    Later,
    Never,
}

/// Offers a verdict, and an archive's if that is refused.
async fn offer(broker: &dyn Broker, settlement: &Settlement, lease: Duration) -> Offered {
    let refusal = match settle(broker, settlement).await {
        Ok(answer) => return Offered::Settled(answer),
        Err(error) if refuses(&error) => error,
        Err(_) => return Offered::Later,
    };
    let task = settlement.claim.task();
    let why = runner_core::chain::chain(&refusal).to_string();
    if !matches!(settlement.verdict, Verdict::HandBack | Verdict::Snooze { .. }) {
        match settle(broker, &archived(settlement, &why)).await {
            Ok(answer) => {
                tracing::error!(
                    task_id = %task.id, task_type = %task.kind, queue = %task.queue, error = why,
                    "the broker refuses what became of the task; it was archived instead"
                );
                return Offered::Settled(answer);
            }
            Err(error) if refuses(&error) => (),
            Err(_) => return Offered::Later,
        }
    }
    // A store that refuses this too refuses everything, whatever it is offered.
    if broker.extend(slice::from_ref(&settlement.claim), lease).await.is_err() {
        return Offered::Later;
    }
    tracing::error!(
        task_id = %task.id, task_type = %task.kind, queue = %task.queue, error = why,
        "verdict given up: the broker refuses it; the task runs again when its lease ends"
    );
    Offered::Never
}

async fn settle(broker: &dyn Broker, settlement: &Settlement) -> BrokerResult<Settled> {
    let answers = broker.settle(slice::from_ref(settlement)).await?;
    Ok(answers.first().copied().unwrap_or(Settled::Unknown))
}

/// The least that can be said of a task that ended.
fn archived(settlement: &Settlement, why: &str) -> Settlement {
    let mut error = format!("the broker refused what became of the task: {why}");
    error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
    Settlement {
        claim: settlement.claim.clone(),
        verdict: Verdict::Archive { error },
        result: None,
        attempt: None,
    }
}
