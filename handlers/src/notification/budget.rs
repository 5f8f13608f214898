//! How many notifications a channel gets in a minute. The others are in `combine`.
//!
//! Counted by each process for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// The present minute of each channel.
#[derive(Default)]
pub(super) struct ChannelBudget(Mutex<HashMap<String, Window>>);

struct Window {
    since: Instant,
    sent: u32,
}

impl ChannelBudget {
    /// Takes one of the `most` that a channel gets in a minute. Returns whether there was one.
    pub(super) fn take(&self, channel: &str, most: u32, now: Instant) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows
            .entry(channel.to_owned())
            .or_insert(Window { since: now, sent: 0 });
        if now.duration_since(window.since) >= MINUTE {
            (window.since, window.sent) = (now, 0);
        }
        let free = window.sent < most;
        window.sent += u32::from(free);
        free
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&self, channel: &str) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(channel) {
            window.sent = window.sent.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_budget_in_each_minute() {
        let (budget, now) = (ChannelBudget::default(), Instant::now());
        for _ in 0..20 {
            assert!(budget.take("ops", 20, now));
        }
        assert!(!budget.take("ops", 20, now + MINUTE / 2));
        budget.give_back("ops");
        assert!(budget.take("ops", 20, now + MINUTE / 2));
        assert!(!budget.take("ops", 20, now + MINUTE / 2));
        assert!(budget.take("chat", 20, now), "each has its own");
        for _ in 0..20 {
            assert!(budget.take("ops", 20, now + MINUTE));
        }
        assert!(!budget.take("ops", 20, now + MINUTE));
    }
}
