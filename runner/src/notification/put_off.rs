//! Notifications that their channel has no room for: each goes into its group in the step that ends its task, so that it is sent or
//! combined with others, and never both.
//!
//! Which group that is, the handler says in its result.

use runner_core::notification::{NOTIFICATION_REMEMBER, NOTIFICATION_TYPE, Notification, PutOff};
use runner_core::task::TaskId;
use runner_queue::{Delivery, EndedTask, FollowUps, TaskEnd};

/// Puts notifications into groups.
pub struct PutOffNotifications;

impl FollowUps for PutOffNotifications {
    fn any(&self) -> bool {
        true
    }

    fn follow(&self, kind: &str) -> bool {
        kind == NOTIFICATION_TYPE
    }

    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        to_delivery(ended).into_iter().collect()
    }
}

fn to_delivery(ended: &EndedTask<'_>) -> Option<Delivery> {
    let put_off = ended.result.and_then(PutOff::of_result)?;
    if ended.end != TaskEnd::Succeeded {
        return None;
    }
    let notification: Notification = serde_json::from_slice(&ended.task.payload).ok()?;
    let id = TaskId::new(format!("{}.more", ended.task.id)).ok()?;
    Some(Delivery {
        task: notification.task().group(put_off.waits_in).id(id),
        remember: NOTIFICATION_REMEMBER,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::Timestamp;
    use runner_core::notification::{NOTIFICATION_QUEUE, NotifyOn};
    use runner_core::task::QueueName;
    use runner_queue::TaskRecord;

    use super::*;

    fn record() -> TaskRecord {
        let notification = Notification::new("ops", NotifyOn::Failure, Timestamp::UNIX_EPOCH, "x failed");
        TaskRecord {
            id: TaskId::new("ops@failure~x").unwrap(),
            kind: NOTIFICATION_TYPE.to_owned(),
            payload: notification.task().payload.unwrap_or_default(),
            queue: QueueName::new(NOTIFICATION_QUEUE).unwrap(),
            max_retry: 0,
            retried: 0,
            timeout: Duration::ZERO,
            deadline: None,
            retention: Duration::ZERO,
            unique_key: None,
            group: None,
            headers: BTreeMap::new(),
            last_error: String::new(),
            last_failed_at: None,
            completed_at: None,
        }
    }

    fn next(end: TaskEnd, result: &[u8]) -> Vec<Delivery> {
        PutOffNotifications.after(&EndedTask {
            task: &record(),
            run: 1,
            end,
            result: Some(result),
            error: None,
        })
    }

    #[test]
    fn what_was_put_off_goes_into_its_group_and_what_was_sent_does_not() {
        let put_off = PutOff {
            waits_in: "notify:ops:7".to_owned(),
        };
        let [delivery] = next(TaskEnd::Succeeded, &put_off.to_result()).try_into().unwrap();
        assert_eq!(delivery.task.group.as_deref(), Some("notify:ops:7"));
        assert_eq!(delivery.task.payload.unwrap_or_default(), record().payload);
        assert_eq!(
            delivery.task.id.map(|id| id.to_string()).as_deref(),
            Some("ops@failure~x.more")
        );
        assert!(next(TaskEnd::Succeeded, br#"{"status":200}"#).is_empty());
        assert!(next(TaskEnd::Failed, &put_off.to_result()).is_empty());
    }
}
