//! Verdicts that the broker refused together are sent one by one, so that one that it never accepts does not block the
//! others.
//!
//! A verdict that is refused by itself is replaced by an archive with the reason. If that is refused too, the task is
//! left to its lease. Not here: verdicts that the broker cannot accept right now. They wait, and are sent again
//! unchanged.

use std::slice;
use std::time::Duration;

use runner_queue::{BrokerError, BrokerResult, Claims, Exchanged, MAX_ERROR_BYTES, Settled, Settlement, Verdict};

use super::call_result::VerdictBatch;
use crate::worker::in_flight::Slot;

/// The result of a call once its verdicts were sent one by one.
pub(super) struct SettledEach {
    /// The verdicts that `answer` is about.
    pub sent: VerdictBatch,
    pub answer: BrokerResult<Exchanged>,
    /// Slots of verdicts that the broker accepts in no form: their leases are not extended from now on.
    pub given_up: Vec<Slot>,
}

/// Whether the broker refused verdicts for what they contain: neither an outage nor a missing permission.
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

/// Sends each verdict of a call that was refused.
pub(super) async fn settle_each(
    broker: &dyn Claims,
    sent: VerdictBatch,
    answer: BrokerResult<Exchanged>,
    lease: Duration,
) -> SettledEach {
    let (claims, more) = match answer {
        Ok(exchanged) => (exchanged.claims, exchanged.more),
        // It may have been the claims that were refused; the next call shows it.
        Err(error) => (Err(error), false),
    };
    let (mut answered, mut settled, mut given_up) = (VerdictBatch::default(), Vec::new(), Vec::new());
    // Once it is unreachable the rest is not sent: a timeout for each would outlast the leases.
    let mut away = false;
    for (slot, settlement) in sent.into_pairs() {
        let offered = match away {
            true => Offered::Later,
            false => offer(broker, &settlement, lease).await,
        };
        let (settlement, answer) = match offered {
            Offered::Settled(answer) => (settlement, answer),
            // What is reported of the task is what the broker has.
            Offered::Archived(archive, answer) => (*archive, answer),
            Offered::Later => {
                away = true;
                (settlement, Settled::Unknown)
            }
            Offered::Never => {
                given_up.push(slot);
                continue;
            }
        };
        answered.push(slot, settlement);
        settled.push(answer);
    }
    let settled = Ok(settled);
    SettledEach {
        sent: answered,
        answer: Ok(Exchanged { settled, claims, more }),
        given_up,
    }
}

enum Offered {
    Settled(Settled),
    /// This was written instead.
    Archived(Box<Settlement>, Settled),
    /// The broker is unreachable, or refuses everything.
    Later,
    Never,
}

/// Sends a verdict, and an archive if that is refused.
async fn offer(broker: &dyn Claims, settlement: &Settlement, lease: Duration) -> Offered {
    let refusal = match settle(broker, settlement).await {
        Ok(answer) => return Offered::Settled(answer),
        Err(error) if refuses(&error) => error,
        Err(_) => return Offered::Later,
    };
    let task = settlement.claim.task();
    let why = runner_core::chain::chain(&refusal).to_string();
    if !matches!(settlement.verdict, Verdict::HandBack | Verdict::Snooze { .. }) {
        let archive = archived(settlement, &why);
        match settle(broker, &archive).await {
            Ok(answer) => {
                tracing::error!(
                    task_id = %task.id, task_type = %task.kind, queue = %task.queue, error = why,
                    "the broker refuses the verdict of the task; it was archived instead"
                );
                return Offered::Archived(Box::new(archive), answer);
            }
            Err(error) if refuses(&error) => (),
            Err(_) => return Offered::Later,
        }
    }
    // A broker that refuses an extension as well refuses everything.
    if broker.extend(slice::from_ref(&settlement.claim), lease).await.is_err() {
        return Offered::Later;
    }
    tracing::error!(
        task_id = %task.id, task_type = %task.kind, queue = %task.queue, error = why,
        "verdict given up: the broker refuses it; the task runs again when its lease ends"
    );
    Offered::Never
}

async fn settle(broker: &dyn Claims, settlement: &Settlement) -> BrokerResult<Settled> {
    let answers = broker.settle(slice::from_ref(settlement)).await?;
    Ok(answers.first().copied().unwrap_or(Settled::Unknown))
}

/// The smallest verdict that ends the task for good.
fn archived(settlement: &Settlement, why: &str) -> Settlement {
    let mut error = format!("the broker refused the verdict of the task: {why}");
    error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
    Settlement {
        claim: settlement.claim.clone(),
        verdict: Verdict::Archive { error },
        result: None,
        attempt: None,
    }
}
