//! What `runner check` finds in the broker: whether it answers and is configured well, and which schedules it knows.
//!
//! It creates no store and writes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runner_core::schedule::{Definition, ScheduleId};
use runner_queue::{Broker, BrokerError};
use serde_json::Value;

use super::check_findings::finding;
use super::{CommandContext, open};
use crate::config::{BrokerSettings, Settings};

/// How long the broker may take to answer: a check must be quick where there is none.
const LIMIT: Duration = Duration::from_secs(3);

/// Codes of a broker that is unreachable or busy now, which no setting can change.
const AWAY: [&str; 4] = [
    "broker_unavailable",
    "broker_slow",
    "broker_full",
    "broker_not_replicated",
];

/// What was found.
#[derive(Default)]
pub(super) struct BrokerFindings {
    /// Problems.
    pub(super) findings: Vec<Value>,
    /// Schedules that some instance has run before.
    pub(super) known: BTreeSet<ScheduleId>,
    /// The broker, if it has answered.
    pub(super) broker: Option<Arc<dyn Broker>>,
    /// Whether it could not be asked now, for a reason that no setting can change.
    pub(super) unseen: bool,
}

/// Asks the broker of these settings.
pub(super) async fn look(context: &CommandContext, settings: &Settings, definitions: &[Definition]) -> BrokerFindings {
    if matches!(&settings.broker, BrokerSettings::Embedded { path } if !path.exists()) {
        return BrokerFindings::default();
    }
    let looked = async {
        let broker = open::open_broker(settings, context.clock.clone()).await?;
        anyhow::Ok(ask(settings, &broker, definitions).await)
    };
    match tokio::time::timeout(LIMIT, looked).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => {
            let code = error
                .downcast_ref::<BrokerError>()
                .map_or("broker_refused", BrokerError::code);
            wrong("error", code, settings, &format!("{error:#}"), None)
        }
        Err(_) => {
            let text = format!(
                "no answer within {}s; nothing is known about what it holds",
                LIMIT.as_secs()
            );
            away("broker_slow", settings, &text, None)
        }
    }
}

async fn ask(settings: &Settings, broker: &Arc<dyn Broker>, definitions: &[Definition]) -> BrokerFindings {
    let answer = async {
        broker.now().await?;
        let ids: Vec<ScheduleId> = definitions.iter().map(|d| d.id.clone()).collect();
        let standings = broker.standings(&ids).await?;
        let known = ids
            .into_iter()
            .zip(standings)
            .filter_map(|(id, standing)| standing.map(|_| id));
        Ok::<_, BrokerError>((broker.caveats().await?, known.collect()))
    };
    match answer.await {
        Ok((caveats, known)) => {
            let found = caveats.iter().map(|caveat| {
                let severity = if caveat.grave { "error" } else { "warning" };
                finding(
                    severity,
                    caveat.code,
                    &place(settings),
                    &caveat.message,
                    None,
                    Some(caveat.hint),
                )
            });
            let findings = found.collect();
            BrokerFindings {
                findings,
                known,
                broker: Some(Arc::clone(broker)),
                unseen: false,
            }
        }
        Err(error) => {
            let (hint, text) = (open::hint(settings, Some(&error)), runner_core::chain::chain(&error));
            match AWAY.contains(&error.code()) {
                true => away(error.code(), settings, &text, Some(&hint)),
                false => wrong("error", error.code(), settings, &text, Some(&hint)),
            }
        }
    }
}

fn away(code: &str, settings: &Settings, text: &str, hint: Option<&str>) -> BrokerFindings {
    BrokerFindings {
        unseen: true,
        ..wrong("warning", code, settings, text, hint)
    }
}

fn wrong(severity: &str, code: &str, settings: &Settings, text: &str, hint: Option<&str>) -> BrokerFindings {
    let message = format!("the broker cannot be used now: {text}");
    BrokerFindings {
        findings: vec![finding(severity, code, &place(settings), &message, None, hint)],
        ..BrokerFindings::default()
    }
}

fn place(settings: &Settings) -> String {
    match &settings.broker {
        BrokerSettings::Embedded { path } => path.display().to_string(),
        BrokerSettings::Redis(redis) => format!("redis {}", redis.place()),
    }
}
