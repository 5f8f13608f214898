//! Whether notifications can be sent: the channels of the settings, instances that send, and what was refused.
//!
//! Sends nothing: a test is `runner notify test`.

use runner_core::notification::{NOTIFICATION_QUEUE, NOTIFICATION_TYPE, NotifyOn};
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Broker, BrokerResult, Page};

use super::diagnosis::{Diagnosis, Level};
use crate::cli::print;
use crate::config::Settings;

/// The area.
const AREA: &str = "notifications";

pub(super) async fn look(settings: &Settings, broker: &dyn Broker) -> Vec<Diagnosis> {
    let channels = &settings.notification.channels;
    if channels.is_empty() {
        let text = "the settings name no channel: failures are not reported";
        return vec![Diagnosis::new(Level::Ok, AREA, text).hint("notify.channels, see docs/notifications.md")];
    }
    match asked(settings, broker).await {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => {
            let text = format!("{}: {}", print::counted(channels.len(), "channel"), channels.join(", "));
            vec![Diagnosis::new(Level::Ok, AREA, text)]
        }
        Err(error) => {
            let text = format!("it cannot be asked: {}", runner_core::chain::chain(&error));
            vec![Diagnosis::new(Level::Error, AREA, text).code(error.code())]
        }
    }
}

async fn asked(settings: &Settings, broker: &dyn Broker) -> BrokerResult<Vec<Diagnosis>> {
    let mut found = Vec::new();
    // The name is ours.
    let Ok(queue) = QueueName::new(NOTIFICATION_QUEUE) else {
        return Ok(found);
    };
    let default = &settings.notification.default;
    let heard = NotifyOn::KEYS.iter().any(|(_, on)| !default.channels(*on).is_empty());
    if !heard {
        let text = "notify.default names no channel: only functions that say so are reported";
        found.push(Diagnosis::new(Level::Warning, AREA, text).hint("notify: {default: {on_failure: [CHANNEL]}}"));
    }
    let servers = broker.servers().await?;
    let sends = servers
        .iter()
        .filter(|server| server.info.handlers.iter().any(|kind| kind == NOTIFICATION_TYPE));
    if sends.count() == 0 {
        let text = format!("no running worker serves {queue}: nothing is sent");
        found.push(
            Diagnosis::new(Level::Error, AREA, text).hint("start an instance with the role worker and these settings"),
        );
    }
    let paused = broker.queues_of(std::slice::from_ref(&queue)).await?;
    if paused.iter().any(|one| one.paused) {
        let text = format!("the queue {queue} is paused: nothing is sent");
        found.push(Diagnosis::new(Level::Error, AREA, text).hint(format!("runner queue resume {queue}")));
    }
    for (state, word) in [
        (TaskState::Archived, "failed for good"),
        (TaskState::Retry, "wait to be tried again"),
    ] {
        let page = broker.tasks(&queue, state, Page { number: 1, size: 1 }).await?;
        if let Some(last) = page.tasks.first() {
            let counted = print::counted(usize::try_from(page.total).unwrap_or(usize::MAX), "notification");
            let text = format!(
                "{counted} {word}, the first: {} {}",
                last.record.id, last.record.last_error
            );
            let hint = format!("runner ls tasks --queue {queue} --state {}", state.as_str());
            found.push(Diagnosis::new(Level::Warning, AREA, text).hint(hint));
        }
    }
    Ok(found)
}
