//! Notifications that a channel has no room for: in which group they wait, and how a group becomes one notification.
//!
//! Instances share the groups. Each minute has its own, so that none is filled without an end. A channel that opens and closes incidents
//! gets a group for each function, because a recovery closes the incident of one function only.

use jiff::Timestamp;
use runner_core::notification::{NOTIFICATION_GROUPS, Notification, NotifyOn};
use runner_sdk::{Group, Task, TaskError};
use sha2::{Digest as _, Sha256};

use super::template::subject;

/// How many of a group are named.
const NAMED: usize = 10;

/// The pattern of these groups.
pub(crate) const GROUPS: &str = "notify:*";

/// The longest name of a function that is part of the name of a group.
const MAX_SUBJECT: usize = 100;

/// The group in which a notification waits.
pub(super) fn group_of(notification: &Notification, incidents: bool, now: Timestamp) -> String {
    let minute = now.as_second().div_euclid(60);
    let group = format!("{NOTIFICATION_GROUPS}{}:{minute}", notification.channel);
    match incidents {
        true => format!("{group}:{}", bounded(&subject(notification))),
        false => group,
    }
}

fn bounded(subject: &str) -> String {
    if subject.len() <= MAX_SUBJECT && !subject.chars().any(char::is_control) {
        return subject.to_owned();
    }
    let digest = Sha256::digest(subject.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the name of a group says: the channel, and whether it concerns one function.
fn read_name(group: &str) -> Option<(&str, bool)> {
    let mut parts = group.strip_prefix(NOTIFICATION_GROUPS)?.splitn(3, ':');
    let (channel, _minute) = (parts.next()?, parts.next()?);
    Some((channel, parts.next().is_some()))
}

/// Combines the notifications of a group into one.
pub(crate) async fn combine(group: Group) -> Result<Task, TaskError> {
    let Some((channel, incidents)) = read_name(group.name()) else {
        return Err(TaskError::skip("the name of the group names no channel"));
    };
    let payloads = group.tasks().iter().map(|task| task.payload.as_ref());
    Ok(combined(channel, incidents, payloads).task())
}

/// One bad payload must not keep the others: it is counted and not named.
fn combined<'a>(channel: &str, incidents: bool, payloads: impl Iterator<Item = &'a [u8]>) -> Notification {
    let (mut all, mut unreadable) = (Vec::new(), 0_usize);
    for payload in payloads {
        match serde_json::from_slice::<Notification>(payload) {
            Ok(one) if one.channel == channel => all.push(one),
            _ => unreadable += 1,
        }
    }
    all.sort_by_key(|one| one.at);
    let count = all.len() + unreadable;
    let newest = all.last();
    let mut several = match newest.filter(|_| incidents) {
        // The present state of the incident.
        Some(newest) => {
            let title = match count {
                1 => newest.title.clone(),
                count => format!("{} ({} more before)", newest.title, count - 1),
            };
            Notification {
                title,
                ..newest.clone()
            }
        }
        None => {
            let at = newest.map(|one| one.at).unwrap_or_default();
            let title = match count {
                1 => "1 more notification".to_owned(),
                count => format!("{count} more notifications"),
            };
            Notification::new(channel, NotifyOn::Several, at, title)
        }
    };
    several.combined = count;
    several.text = format!("{}:\n{}", several.title, lines(&all, unreadable).join("\n"));
    several
}

fn lines(all: &[Notification], unreadable: usize) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().take(NAMED).map(|one| one.title.clone()).collect();
    if all.len() > NAMED {
        lines.push(format!("and {} more", all.len() - NAMED));
    }
    if unreadable > 0 {
        lines.push(format!("and {unreadable} that cannot be read"));
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(n: i64, on: NotifyOn) -> Notification {
        let at = Timestamp::from_second(n).unwrap();
        let mut one = Notification::new("ops", on, at, format!("f{n} {}", on.as_str()));
        one.function = Some("f".to_owned());
        one
    }

    fn made(incidents: bool, all: &[Notification], rest: &[&[u8]]) -> Notification {
        let written: Vec<Vec<u8>> = all.iter().map(|one| serde_json::to_vec(one).unwrap()).collect();
        let all = rest.iter().copied().chain(written.iter().map(Vec::as_slice));
        combined("ops", incidents, all)
    }

    #[test]
    fn what_is_combined_names_the_first_and_counts_the_rest() {
        let all: Vec<Notification> = (0..47).map(|n| one(n, NotifyOn::Failure)).collect();
        let several = made(false, &all, &[]);
        assert_eq!(
            (several.channel.as_str(), several.title.as_str(), several.combined),
            ("ops", "47 more notifications", 47)
        );
        assert!(several.text.contains("f9 failure\nand 37 more"), "{}", several.text);
        assert_eq!((several.at.as_second(), several.event), (46, NotifyOn::Several));
        assert!(!made(false, &all[..3], &[]).text.contains("and "));
    }

    #[test]
    fn what_cannot_be_read_keeps_nothing_from_being_sent() {
        let elsewhere = Notification {
            channel: "other".to_owned(),
            ..one(1, NotifyOn::Failure)
        };
        let elsewhere = serde_json::to_vec(&elsewhere).unwrap();
        let several = made(false, &[one(2, NotifyOn::Failure)], &[b"{", &elsewhere]);
        assert_eq!((several.channel.as_str(), several.combined), ("ops", 3));
        assert!(
            several.text.ends_with("f2 failure\nand 2 that cannot be read"),
            "{}",
            several.text
        );
        assert_eq!(made(true, &[], &[b"{"]).title, "1 more notification");
    }

    #[test]
    fn the_newest_of_one_function_decides_whether_its_incident_is_over() {
        let (bad, good) = (one(1, NotifyOn::Failure), one(2, NotifyOn::Recovery));
        let several = made(true, &[good.clone(), bad.clone()], &[]);
        assert_eq!((several.event, &*subject(&several)), (NotifyOn::Recovery, "f"));
        assert_eq!(several.title, "f2 recovery (1 more before)");
        assert_eq!(
            made(true, &[good, one(3, NotifyOn::Failure)], &[]).event,
            NotifyOn::Failure
        );
    }

    #[test]
    fn instances_share_the_group_of_a_minute() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let failure = one(1, NotifyOn::Failure);
        let group = group_of(&failure, false, at(120));
        assert_eq!(group, group_of(&failure, false, at(179)));
        assert_ne!(group, group_of(&failure, false, at(180)));
        assert_eq!(read_name(&group), Some(("ops", false)));
        let own = group_of(&failure, true, at(120));
        assert_eq!(read_name(&own), Some(("ops", true)));
        let long = Notification {
            function: Some("m:".repeat(300)),
            ..failure
        };
        assert!(group_of(&long, true, at(120)).len() < 120);
        assert_eq!(read_name("other"), None);
    }
}
