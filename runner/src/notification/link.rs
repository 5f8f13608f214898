//! The page of the dashboard that a notification leads to.
//!
//! Not here: the pages themselves. Nothing asks whether the page still exists: a task may have been deleted since.

use runner_core::notification::{Notification, NotifyOn};

use crate::access::segment;

/// Adds the address of the page, as a value and as the last line of the text. Without the address of the dashboard it stays as it
/// is.
pub(super) fn add_link(notification: &mut Notification, dashboard: Option<&str>) {
    let Some(root) = dashboard else { return };
    let link = format!("{root}{}", page(notification));
    notification.text = format!("{}\n{link}", notification.text);
    notification.link = Some(link);
}

/// What succeeded or did not run has no task that could be looked at.
const fn is_about_a_task(event: NotifyOn) -> bool {
    matches!(
        event,
        NotifyOn::Failure | NotifyOn::FirstFailure | NotifyOn::Late | NotifyOn::TooLong | NotifyOn::TooOften
    )
}

fn page(notification: &Notification) -> String {
    let of = |name: &str| segment(name.as_bytes());
    if let (true, Some(queue), Some(task)) = (
        is_about_a_task(notification.event),
        &notification.queue,
        &notification.task,
    ) {
        return format!("/tasks/{}/{}", of(queue), of(task));
    }
    if let Some(workflow) = &notification.workflow {
        return format!("/workflows/{}", of(workflow));
    }
    match (&notification.schedule, &notification.function) {
        (Some(schedule), _) => format!("/schedules/{}", of(schedule)),
        (None, Some(function)) => format!("/functions/{}", of(function)),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(event: NotifyOn, task: Option<&str>, schedule: Option<&str>, function: Option<&str>) -> Option<String> {
        let mut notification = Notification::new("ops", event, jiff::Timestamp::UNIX_EPOCH, "a");
        (notification.task, notification.queue) = (task.map(str::to_owned), task.map(|_| "low/a".to_owned()));
        (notification.schedule, notification.function) = (schedule.map(str::to_owned), function.map(str::to_owned));
        add_link(&mut notification, Some("https://ops.example.com/queue"));
        let link = notification.link.clone();
        assert_eq!(notification.text, format!("a\n{}", link.as_deref().unwrap_or_default()));
        link.map(|link| link.replace("https://ops.example.com/queue", ""))
    }

    #[test]
    fn it_leads_to_what_can_be_looked_at() {
        let (task, schedule, function) = (Some("m:a@1"), Some("m:a"), Some("a b"));
        for (event, page) in [
            (NotifyOn::Failure, "/tasks/low%2Fa/m%3Aa%401"),
            (NotifyOn::Recovery, "/schedules/m%3Aa"),
            (NotifyOn::Missed, "/schedules/m%3Aa"),
        ] {
            assert_eq!(linked(event, task, schedule, function).as_deref(), Some(page));
        }
        assert_eq!(
            linked(NotifyOn::Overdue, None, None, function).as_deref(),
            Some("/functions/a%20b")
        );
        assert_eq!(linked(NotifyOn::Problem, None, None, None).as_deref(), Some(""));
    }

    #[test]
    fn without_an_address_of_the_dashboard_there_is_none() {
        let mut notification = Notification::new("ops", NotifyOn::Failure, jiff::Timestamp::UNIX_EPOCH, "a");
        add_link(&mut notification, None);
        assert_eq!((notification.link, notification.text.as_str()), (None, "a"));
    }
}
