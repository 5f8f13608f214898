//! A note of this worker that outlives it: one that is killed is still on record as lost a day later.
//!
//! Not here: the list of live servers (`heartbeat`), which forgets a silent worker after seconds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_queue::{Broker, BrokerResult, ServerView};
use serde::{Deserialize, Serialize};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// The kind of the documents.
const KIND: &str = "worker";
/// How long a lost worker is on record.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// How often the note is renewed: one small write of each worker.
const EVERY: Duration = Duration::from_secs(30);

/// A worker as it was when it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSign {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// When it was heard of, to half a minute.
    pub at: Timestamp,
    /// How many tasks it ran.
    pub active: u32,
}

pub(super) struct SignOfLife(pub(super) Arc<WorkerContext>);

impl SignOfLife {
    /// Takes the note away: the worker ends properly.
    pub(super) async fn end(ctx: &WorkerContext) -> BrokerResult<()> {
        ctx.broker.drop_document(KIND, &ctx.instance.id).await
    }
}

#[async_trait]
impl BackgroundLoop for SignOfLife {
    fn name(&self) -> &'static str {
        "sign of life"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let ctx = &self.0;
        let sign = LastSign {
            host: ctx.instance.host.clone(),
            pid: ctx.instance.pid,
            at: ctx.clock.now(),
            active: u32::try_from(ctx.in_flight.len()).unwrap_or(u32::MAX),
        };
        let body = serde_json::to_vec(&sign).unwrap_or_default();
        let kept = ctx.broker.keep_document(KIND, &ctx.instance.id, body, KEPT_FOR).await;
        if let Err(error) = kept {
            ctx.broker_failed("leave a note of this worker", &error);
        }
        None
    }
}

/// Workers that fell silent within a day without ending properly, the last one first: none of these servers, which are
/// those that live. Workers in Go leave no notes.
///
/// # Errors
///
/// Those of the broker.
pub async fn lost_workers(broker: &dyn Broker, live: &[ServerView]) -> BrokerResult<Vec<LastSign>> {
    let notes = broker.documents(KIND).await?;
    let dead = notes
        .iter()
        .filter(|(id, _)| live.iter().all(|server| server.info.id != *id));
    let mut lost: Vec<LastSign> = dead.filter_map(|(_, body)| serde_json::from_slice(body).ok()).collect();
    lost.sort_by_key(|sign| std::cmp::Reverse(sign.at));
    Ok(lost)
}
