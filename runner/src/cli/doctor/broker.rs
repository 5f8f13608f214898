//! Whether the broker answers, takes writes and is configured well, and whether its clock agrees with ours.

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerError, BrokerResult};
use tokio::time::Instant;

use super::diagnosis::{Diagnosis, Level};
use crate::cli::{CommandContext, exit, open, print};
use crate::config::{BrokerSettings, Settings};
use crate::facts;

/// The area.
const AREA: &str = "broker";

/// How long the answers may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Clocks that differ by more than this make instants of logs and pages hard to compare.
const CLOCK_NOTED: Duration = Duration::from_secs(2);

/// Clocks that differ by more than this make schedules fire late or early.
const CLOCK_WRONG: Duration = Duration::from_secs(60);

/// The broker, if it answers.
pub(super) async fn look(
    context: &CommandContext,
    settings: &Settings,
    found: &mut Vec<Diagnosis>,
) -> Option<Arc<dyn Broker>> {
    if let BrokerSettings::Embedded { path } = &settings.broker
        && !path.exists()
    {
        let text = format!("{} does not exist yet; the first start makes it", path.display());
        found.push(Diagnosis::new(Level::Ok, AREA, text));
        return None;
    }
    let looked = async {
        let broker = context.looked_at().await?;
        let more = ask(context, broker.as_ref()).await?;
        anyhow::Ok((broker, more))
    };
    let (text, error) = match tokio::time::timeout(LIMIT, looked).await {
        Ok(Ok((broker, more))) => {
            found.extend(more);
            return Some(broker);
        }
        Ok(Err(error)) => match error.downcast::<BrokerError>() {
            Ok(error) => (runner_core::chain::chain(&error), Some(error)),
            Err(error) => (exit::line(&error), None),
        },
        Err(_) => (format!("no answer within {} s", LIMIT.as_secs()), None),
    };
    let finding = Diagnosis::new(Level::Error, AREA, text).hint(open::hint(settings, error.as_ref()));
    found.push(match error {
        Some(error) => finding.code(error.code()),
        None => finding,
    });
    None
}

async fn ask(context: &CommandContext, broker: &dyn Broker) -> BrokerResult<Vec<Diagnosis>> {
    let mut found = Vec::new();
    broker.now().await?;
    let asked = Instant::now();
    let now = broker.now().await?;
    let took = asked.elapsed();
    let apart = context.clock.now().duration_since(now).unsigned_abs();
    let text = format!(
        "{} answers in {}",
        broker.describe(),
        print::took(took.max(Duration::from_millis(1)))
    );
    found.push(Diagnosis::new(Level::Ok, AREA, text));
    if let Some(fault) = facts::fault_of(broker, &QueueName::default()).await? {
        let finding = Diagnosis::new(Level::Error, AREA, format!("it takes no writes: {}", fault.why));
        found.push(finding.code(fault.code));
    }
    for caveat in broker.caveats().await? {
        let level = if caveat.grave { Level::Error } else { Level::Warning };
        let finding = Diagnosis::new(level, AREA, caveat.message.clone());
        found.push(finding.code(caveat.code).hint(caveat.hint));
    }
    found.push(clock(apart.saturating_sub(took)));
    Ok(found)
}

fn clock(apart: Duration) -> Diagnosis {
    let text = format!("this machine and the broker differ by {}", print::took(apart));
    match apart {
        apart if apart > CLOCK_WRONG => Diagnosis::new(Level::Error, "clock", text),
        apart if apart > CLOCK_NOTED => Diagnosis::new(Level::Warning, "clock", text),
        _ => return Diagnosis::new(Level::Ok, "clock", text),
    }
    .hint("keep both by NTP (timedatectl status); docs/clock.md says what follows from a wrong clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_noted_and_then_wrong() {
        let levels = [0, 1, 3, 61].map(|seconds| clock(Duration::from_secs(seconds)).level);
        assert_eq!(levels, [Level::Ok, Level::Ok, Level::Warning, Level::Error]);
    }
}
