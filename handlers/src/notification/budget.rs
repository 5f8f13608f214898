//! How many notifications a channel gets in a minute: the others wait in a group and are combined into one.
//!
//! Counted by each process for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runner_core::notification::{Notification, NotifyOn};
use runner_sdk::{Group, Task};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// How many of a group are named.
const NAMED: usize = 10;

/// What the names of groups of notifications begin with.
const GROUP: &str = "notify:";

/// The pattern of these groups.
pub(crate) const GROUPS: &str = "notify:*";

/// The present minute of each channel.
#[derive(Default)]
pub(super) struct ChannelBudget(Mutex<HashMap<String, Window>>);

struct Window {
    since: Instant,
    sent: u32,
    number: u64,
}

impl ChannelBudget {
    /// Takes one of the `most` that a channel gets in a minute; else the group in which it waits, of which there is another one in each
    /// minute, so that none is filled without an end.
    pub(super) fn take(&self, channel: &str, most: u32, now: Instant) -> Result<(), String> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(channel.to_owned()).or_insert(Window {
            since: now,
            sent: 0,
            number: 0,
        });
        if now.duration_since(window.since) >= MINUTE {
            (window.since, window.sent) = (now, 0);
            window.number += 1;
        }
        if window.sent < most {
            window.sent += 1;
            return Ok(());
        }
        Err(format!("{GROUP}{channel}:{}-{}", std::process::id(), window.number))
    }
}

/// Combines the notifications of a group into one.
pub(crate) async fn combine(group: Group) -> Result<Task, serde_json::Error> {
    let read = |payload: &[u8]| serde_json::from_slice::<Notification>(payload);
    let all = group
        .tasks()
        .iter()
        .map(|task| read(&task.payload))
        .collect::<Result<Vec<_>, _>>()?;
    let channel = all.first().map_or("", |first| first.channel.as_str());
    Ok(combined(channel, &all).task())
}

fn combined(channel: &str, all: &[Notification]) -> Notification {
    let newest = all.iter().map(|one| one.at).max().unwrap_or_default();
    let title = format!("{} more notifications", all.len());
    let mut several = Notification::new(channel, NotifyOn::Several, newest, title);
    let mut lines: Vec<&str> = all.iter().take(NAMED).map(|one| one.title.as_str()).collect();
    let rest = format!("and {} more", all.len().saturating_sub(NAMED));
    if all.len() > NAMED {
        lines.push(&rest);
    }
    several.text = format!("{}:\n{}", several.title, lines.join("\n"));
    several
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_channel_has_a_budget_and_the_rest_waits_in_a_group_of_its_minute() {
        let (budget, now) = (ChannelBudget::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(budget.take("ops", 20, now), Ok(()));
        }
        let first = budget.take("ops", 20, now + MINUTE / 2).expect_err("a group");
        assert!(first.starts_with("notify:ops:"), "{first}");
        assert_eq!(budget.take("chat", 20, now), Ok(()), "each has its own");
        assert_eq!(budget.take("ops", 20, now + MINUTE), Ok(()));
        for _ in 1..20 {
            assert_eq!(budget.take("ops", 20, now + MINUTE), Ok(()));
        }
        assert_ne!(budget.take("ops", 20, now + MINUTE).expect_err("a group"), first);
    }

    #[test]
    fn what_is_combined_names_the_first_and_counts_the_rest() {
        let one = |n: i64| {
            let at = Timestamp::from_second(n).unwrap_or_default();
            Notification::new("ops", NotifyOn::Failure, at, format!("f{n} failed for good"))
        };
        let all: Vec<Notification> = (0..47).map(one).collect();
        let several = combined("ops", &all);
        assert_eq!(
            (several.channel.as_str(), several.title.as_str()),
            ("ops", "47 more notifications")
        );
        assert!(
            several.text.contains("f9 failed for good\nand 37 more"),
            "{}",
            several.text
        );
        assert_eq!(several.at.as_second(), 46);
        assert!(!combined("ops", &all[..3]).text.contains("and "));
    }
}
