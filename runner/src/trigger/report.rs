//! What each instance says about its triggers to the others: a document in the broker, renewed while it runs.
//!
//! So a dashboard or a command in another process shows them too. Readers take what they understand of a document, because
//! another version may have written it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_queue::{Broker, BrokerResult};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use crate::background::{self, BackgroundLoop};
use crate::messaging::ConnectionFault;

/// The kind of the documents.
const KIND: &str = "triggers";

/// How often an instance says how its triggers are doing.
const EVERY: Duration = Duration::from_secs(5);

/// For how long that holds: two rounds may fail.
const VALID: Duration = Duration::from_secs(20);

/// An instance that has said nothing for longer may be gone: it missed two rounds.
const SILENT: Duration = Duration::from_secs(12);

/// Why something does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub why: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: String,
}

impl From<&ConnectionFault> for FaultReport {
    fn from(fault: &ConnectionFault) -> Self {
        Self {
            code: fault.code.to_owned(),
            why: fault.why.clone(),
            hint: fault.hint.to_owned(),
        }
    }
}

/// One trigger of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerReport {
    /// `<function>:<id>`.
    pub id: String,
    /// What it listens to.
    pub what: String,
    /// `disabled`, `starting`, `waiting`, `listening`, `holding` or `failing`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Tasks that were enqueued since the instance began.
    pub enqueued: u64,
    /// Messages whose task was enqueued before.
    pub repeated: u64,
    /// Messages of which no task could be made.
    pub bad: u64,
    /// Messages that are becoming tasks.
    pub unacked: u64,
    /// Calls without a credential that is accepted.
    #[serde(default)]
    pub refused: u64,
    /// Why it does not listen.
    #[serde(default)]
    pub fault: Option<FaultReport>,
    /// When the last bad message came, and why it is bad.
    #[serde(default)]
    pub last_bad: Option<(Timestamp, String)>,
}

/// One connection of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Its name in the settings.
    pub name: String,
    /// The server, without a password.
    pub server: String,
    /// Whether it is there.
    pub connected: bool,
    /// Why the server takes nothing from publishers.
    #[serde(default)]
    pub blocked: Option<String>,
    /// Why it is not there.
    #[serde(default)]
    pub fault: Option<FaultReport>,
    /// Since when.
    pub since: Timestamp,
}

/// All of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct InstanceReport {
    /// `host:pid`.
    #[serde(default)]
    pub instance: String,
    /// When it said this, by the broker's clock.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Its triggers, by id.
    #[serde(default)]
    pub triggers: Vec<TriggerReport>,
    /// Its connections, by name.
    #[serde(default)]
    pub connections: Vec<ConnectionReport>,
}

impl InstanceReport {
    /// What this process says now.
    #[must_use]
    pub fn of(board: &Board, instance: &str) -> Self {
        let triggers = board.triggers().into_iter().map(|status| TriggerReport {
            id: status.trigger.id.to_string(),
            what: status.trigger.describe(),
            state: status.state.as_str().to_owned(),
            since: status.since,
            enqueued: status.counts.enqueued.load(Ordering::Relaxed),
            repeated: status.counts.repeated.load(Ordering::Relaxed),
            bad: status.counts.bad.load(Ordering::Relaxed),
            unacked: status.counts.unacked.load(Ordering::Relaxed),
            refused: status.counts.refused.load(Ordering::Relaxed),
            fault: status.state.fault().map(FaultReport::from),
            last_bad: status.last_bad,
        });
        let connections = board.connections().into_iter().map(|status| ConnectionReport {
            name: status.name,
            server: status.server,
            connected: status.connected,
            blocked: status.blocked,
            fault: status.fault.as_ref().map(FaultReport::from),
            since: status.since,
        });
        Self {
            instance: instance.to_owned(),
            at: None,
            triggers: triggers.collect(),
            connections: connections.collect(),
        }
    }
}

impl InstanceReport {
    /// How long the instance has been silent, if it may be gone. `now`: by the broker's clock.
    #[must_use]
    pub fn silent_for(&self, now: Timestamp) -> Option<Duration> {
        let silent = Duration::try_from(now.duration_since(self.at?)).ok()?;
        (silent >= SILENT).then_some(silent)
    }
}

impl TriggerReport {
    /// Why it does not listen, unless that is no fault.
    #[must_use]
    pub fn failure(&self) -> Option<&FaultReport> {
        self.fault.as_ref().filter(|_| self.state != "waiting")
    }
}

/// What all live instances said last, by name.
///
/// # Errors
///
/// Those of the broker.
pub async fn reports(broker: &dyn Broker) -> BrokerResult<Vec<InstanceReport>> {
    let documents = broker.documents(KIND).await?;
    let read = |(name, body): (String, Vec<u8>)| {
        let report: InstanceReport = serde_json::from_slice(&body).ok()?;
        Some(InstanceReport {
            instance: name,
            ..report
        })
    };
    let mut all: Vec<InstanceReport> = documents.into_iter().filter_map(read).collect();
    all.sort_by(|a, b| a.instance.cmp(&b.instance));
    Ok(all)
}

struct ReportLoop {
    broker: Arc<dyn Broker>,
    board: Arc<Board>,
    instance: String,
    /// Whether the broker may have its document.
    published: bool,
}

/// Keeps the document of this process until `stop`, then drops it.
pub(super) async fn publish(broker: Arc<dyn Broker>, board: Arc<Board>, instance: String, stop: CancellationToken) {
    let (dropping, name) = (broker.clone(), instance.clone());
    let role = ReportLoop {
        broker,
        board,
        instance,
        published: false,
    };
    background::run(role, &Notify::new(), &stop).await;
    // It would lapse by itself; a broker that is away drops nothing.
    drop(tokio::time::timeout(Duration::from_secs(1), dropping.drop_document(KIND, &name)).await);
}

#[async_trait]
impl BackgroundLoop for ReportLoop {
    fn name(&self) -> &'static str {
        "trigger reports"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        // Others compare it with the broker's clock, which is the one that they share.
        let at = self.broker.now().await.ok();
        let report = InstanceReport {
            at,
            ..InstanceReport::of(&self.board, &self.instance)
        };
        let empty = report.triggers.is_empty() && report.connections.is_empty();
        if empty && !self.published {
            return None;
        }
        if let Ok(body) = serde_json::to_vec(&report) {
            // The broker's own failures are reported by those who need it.
            let kept = self.broker.keep_document(KIND, &self.instance, body, VALID).await;
            self.published = !empty || kept.is_err();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_missed_two_rounds_may_be_gone() {
        let now: Timestamp = "2026-11-22T06:39:12Z".parse().unwrap();
        let silent = |seconds: i64| {
            let at = now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok();
            InstanceReport {
                at,
                ..InstanceReport::default()
            }
            .silent_for(now)
        };
        assert_eq!((silent(0), silent(11), silent(-60)), (None, None, None));
        assert_eq!(silent(12), Some(Duration::from_secs(12)));
        assert_eq!(
            InstanceReport::default().silent_for(now),
            None,
            "an older version does not say when"
        );
    }
}
