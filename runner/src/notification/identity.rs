//! A notification as a task whose id follows from the channel and from what happened, so that it is accepted once.

use runner_core::notification::{NOTIFICATION_REMEMBER, Notification};
use runner_core::task::TaskId;
use runner_queue::Delivery;
use sha2::{Digest as _, Sha256};

/// An id longer than this ends in a hash: it is part of a key.
const MAX_ID: usize = 240;

/// Joins what identifies something; other parts never make the same text, whatever is in them.
pub(super) fn joined<const N: usize>(parts: [&str; N]) -> String {
    parts.map(|part| part.replace('=', "=e").replace('~', "=t")).join("~")
}

/// The task of a notification. `what` identifies what happened among all that happens under this event.
pub(super) fn to_delivery(notification: &Notification, what: &str) -> Option<Delivery> {
    let text = format!("{}@{}~{what}", notification.channel, notification.event.as_str());
    let mut task = notification.task();
    task.id = TaskId::new(bounded(&text)).ok();
    task.id.is_some().then_some(Delivery {
        task,
        remember: NOTIFICATION_REMEMBER,
    })
}

fn bounded(text: &str) -> String {
    if text.len() <= MAX_ID && !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let digest = Sha256::digest(text.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("{}-{digits}", &plain[..plain.floor_char_boundary(MAX_ID / 2)])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use runner_core::notification::NotifyOn;

    use super::*;

    #[test]
    fn an_id_follows_from_channel_event_and_what_happened() {
        let notification = Notification::new("ops", NotifyOn::Failure, Timestamp::UNIX_EPOCH, "x failed");
        let id = |what: &str| {
            let made = to_delivery(&notification, what).and_then(|delivery| delivery.task.id);
            made.map_or_else(String::new, |id| id.to_string())
        };
        assert_eq!(id("default~t1~3"), "ops@failure~default~t1~3");
        let (long, other) = ("é".repeat(500), "é".repeat(501));
        assert!(id(&long).len() <= MAX_ID, "{}", id(&long));
        assert_ne!(id(&long), id(&other));
        assert_eq!(id(&long), id(&long));
    }

    #[test]
    fn other_parts_never_make_the_same_text() {
        assert_eq!(joined(["default", "m:a:b@2026", "3"]), "default~m:a:b@2026~3");
        for (one, other) in [
            (["a-b", "c", ""], ["a", "b-c", ""]),
            (["a~b", "c", ""], ["a", "b~c", ""]),
            (["a~", "b", ""], ["a", "~b", ""]),
            (["=t", "", ""], ["~", "", ""]),
            (["a=", "t", ""], ["a", "=t", ""]),
        ] {
            assert_ne!(joined(one), joined(other), "{one:?} {other:?}");
        }
    }
}
