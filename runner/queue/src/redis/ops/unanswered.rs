//! Claims that the server may have made although their answer did not arrive.
//!
//! If a connection breaks after the script ran, tasks are active that no worker knows of. Without this they would wait
//! for the end of their lease and then count as crashes of their worker.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use runner_core::task::QueueName;
use tokio::time::Instant;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::PartialFailure;
use crate::{BrokerError, BrokerResult, Claim, Suspicion};

/// How far back the script looks beyond the first lost call: it counts from the server's clock when it runs, so the
/// time that this call takes, and a little difference between two servers' clocks, must not hide a claim. Earlier
/// claims than the lost ones do no harm: their runs are known.
const SLACK: Duration = Duration::from_secs(10);

/// Calls that claim and were not answered, since the last look at what they did.
#[derive(Default)]
pub(in crate::redis) struct UnansweredCalls(Mutex<Option<LostCalls>>);

struct LostCalls {
    /// When the first of them began.
    since: Instant,
    queues: BTreeSet<QueueName>,
}

impl UnansweredCalls {
    fn lock(&self) -> MutexGuard<'_, Option<LostCalls>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call on `queues` that began at `began`, if its result leaves open what the server did.
    fn note<T>(&self, result: &BrokerResult<T>, queues: &[QueueName], began: Instant) {
        // Every other error is an answer: the script refused, or did not run.
        if let Err(BrokerError::Unreachable { .. }) = result {
            self.put_back(LostCalls {
                since: began,
                queues: queues.iter().cloned().collect(),
            });
        }
    }

    fn take(&self) -> Option<LostCalls> {
        self.lock().take()
    }

    /// Without replacing what was noted meanwhile.
    fn put_back(&self, calls: LostCalls) {
        let mut lost = self.lock();
        match &mut *lost {
            None => *lost = Some(calls),
            Some(noted) => {
                noted.since = noted.since.min(calls.since);
                noted.queues.extend(calls.queues);
            }
        }
    }
}

impl RedisBroker {
    /// Behaves as if calls that claim from these queues were not answered from now on. For tests.
    #[cfg(feature = "contract")]
    pub fn lose_answers(&self, queues: &[QueueName]) {
        let doing = "claim tasks";
        let source = "no answer".into();
        let lost: BrokerResult<()> = Err(BrokerError::Unreachable { doing, source });
        self.note_unanswered(&lost, queues, Instant::now());
    }

    /// Notes a call on `queues` that began at `began`, if its result leaves open what the server did. Not in a cluster:
    /// there the queues of other servers would wait for the question to one that hangs. What it claimed is left until
    /// its leases end.
    pub(in crate::redis) fn note_unanswered<T>(&self, result: &BrokerResult<T>, queues: &[QueueName], began: Instant) {
        if !self.conn.is_cluster() {
            self.unanswered.note(result, queues, began);
        }
    }

    pub(in crate::redis) fn any_unanswered(&self) -> bool {
        self.unanswered.lock().is_some()
    }

    /// Asks for them once. If the server does not answer, ask again: nothing else can be done meanwhile.
    pub(in crate::redis) async fn claims_unanswered(
        &self,
        known: &[Claim],
        lease: Duration,
    ) -> BrokerResult<Vec<Claim>> {
        const DOING: &str = "look for claims that were not answered";
        // Taken out, so that calls that are lost while this one is under way are noted for the next question. If this
        // call is dropped the note is gone too: the tasks then come back when their leases end.
        let Some(lost) = self.unanswered.take() else {
            return Ok(Vec::new());
        };
        // Without a claimant, claims cannot be distinguished from those of other processes.
        let Some(claimant) = self.claimant.get() else {
            return Ok(Vec::new());
        };
        let answers = async {
            let mut trip = self.conn.trip(DOING).await?;
            for queue in &lost.queues {
                let of_queue = known.iter().filter(|claim| claim.task().queue == *queue);
                // Tasks that were claimed together share a run, so these are few. All other runs of this claimant since
                // then are claims that never arrived.
                let runs: BTreeSet<u64> = of_queue.map(Claim::run).collect();
                trip.script(Script::Unanswered, &[keys::part(queue.as_str(), "active")])
                    .arg(keys::queue(queue.as_str()))
                    .arg(keys::own(queue.as_str()))
                    .arg(claimant)
                    .arg(convert::millis(lost.since.elapsed() + SLACK))
                    .arg(convert::millis(lease));
                for run in runs {
                    trip.arg(run);
                }
            }
            trip.each().await
        };
        let answers = answers.await;
        let (mut claims, mut failures, mut answered) = (Vec::new(), PartialFailure::default(), false);
        match answers {
            Err(error) => failures.failed(error),
            Ok(answers) => {
                for (queue, answer) in lost.queues.iter().zip(answers) {
                    if let Some(answer) = failures.part(queue, answer) {
                        answered = true;
                        claims.extend(claims_of(queue, reply::list(answer)));
                    }
                }
            }
        }
        // Only "unreachable" leaves the question open. Any other error would come again, and the worker makes no other
        // call until this is settled.
        match failures.unless(answered) {
            Err(error @ BrokerError::Unreachable { .. }) => {
                self.unanswered.put_back(lost);
                return Err(error);
            }
            Err(error) => tracing::debug!(%error, "unanswered claims are left until their leases end"),
            Ok(()) => (),
        }
        let stripped = claims.iter_mut().filter(|claim| convert::lost_headers(claim.task()));
        self.give_back_headers(stripped.map(Claim::record_mut).collect()).await;
        Ok(claims)
    }
}

/// See `unanswered.lua`. What cannot be read stays active, and is found when its lease has expired.
fn claims_of(queue: &QueueName, answer: Vec<Value>) -> Vec<Claim> {
    let mut answer = answer.into_iter();
    let Some(lease_until) = answer.next().and_then(reply::seconds) else {
        return Vec::new();
    };
    let next = || {
        let (id, message) = (reply::bytes(answer.next()?)?, reply::bytes(answer.next()?)?);
        let mut number = || {
            answer
                .next()
                .and_then(reply::text)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let (run, crashes, ran) = (number(), number(), number());
        let refused = answer.next().and_then(reply::shown).filter(|limit| !limit.is_empty());
        Some((id, message, run, (crashes, ran), refused))
    };
    let rows = std::iter::from_fn(next);
    rows.filter_map(|(id, message, run, (crashes, ran), refused)| {
        let record = convert::decode(message, queue, &id).ok()?;
        let suspicion = crashes.map(|crashes| Suspicion {
            crashes: u32::try_from(crashes).unwrap_or(u32::MAX).max(1),
            ran: Duration::from_millis(ran.unwrap_or(0)),
        });
        let claim = Claim::new(record, run?, lease_until).suspected(suspicion);
        Some(claim.refused(refused.as_deref()))
    })
    .collect()
}
