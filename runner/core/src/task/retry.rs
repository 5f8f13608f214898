//! Delays before retries: asynq's back-off, so that mixed fleets behave alike, and a shorter one for commands and calls of
//! manifests, which are retried within minutes or not at all.

use std::time::Duration;

/// The random part of the delay is a whole number of seconds in `0..RETRY_JITTER_SECONDS`, times `retried + 1`.
pub const RETRY_JITTER_SECONDS: u64 = 30;

/// The longest delay; reached after about 50 retries.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// The delay before the next attempt of a task that was retried `retried` times before this failure.
///
/// `random` is any number; only its remainder by [`RETRY_JITTER_SECONDS`] counts.
///
/// ```
/// use runner_core::task::retry_delay;
/// assert_eq!(retry_delay(0, 0).as_secs(), 15);
/// assert_eq!(retry_delay(1, 29).as_secs(), 1 + 15 + 29 * 2);
/// ```
#[must_use]
pub fn retry_delay(retried: u32, random: u64) -> Duration {
    let n = u64::from(retried);
    let seconds = n
        .saturating_pow(4)
        .saturating_add(15)
        .saturating_add((random % RETRY_JITTER_SECONDS).saturating_mul(n + 1));
    Duration::from_secs(seconds).min(LONGEST)
}

/// The delays between the attempts of a command or call of a manifest; the last one repeats.
///
/// A transient fault (a restart, a full queue) is over after a minute or five; anything that still fails then needs a
/// person, or the next occurrence of the schedule.
const FUNCTION_DELAYS: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
];

/// The random part of such a delay is less than a tenth of it.
const FUNCTION_JITTER_SHARE: u64 = 10;

/// The delays for failed tasks of a handler, unless the handler itself states one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backoff {
    /// Those of asynq: [`retry_delay`].
    #[default]
    Asynq,
    /// Those of commands and calls of manifests: about 1, 5, 15 and 30 minutes, then an hour each time.
    Function,
}

impl Backoff {
    /// The delay before the next attempt of a task that was retried `retried` times before this failure.
    ///
    /// ```
    /// use runner_core::task::Backoff;
    /// assert_eq!(Backoff::Asynq.delay(0, 0).as_secs(), 15);
    /// assert_eq!(Backoff::Function.delay(0, 0).as_secs(), 60);
    /// assert_eq!(Backoff::Function.delay(1, 29).as_secs(), 329);
    /// ```
    #[must_use]
    pub fn delay(self, retried: u32, random: u64) -> Duration {
        match self {
            Self::Asynq => retry_delay(retried, random),
            Self::Function => {
                let delay = function_delay(retried);
                let room = (delay.as_secs() / FUNCTION_JITTER_SHARE).max(1);
                delay + Duration::from_secs(random % room)
            }
        }
    }

    /// The delays of the first `retries` retries without their random part, for people; `None` if they follow a formula.
    #[must_use]
    pub fn steps(self, retries: u32) -> Option<Vec<Duration>> {
        match self {
            Self::Asynq => None,
            Self::Function => Some((0..retries).map(function_delay).collect()),
        }
    }
}

fn function_delay(retried: u32) -> Duration {
    let [.., last] = FUNCTION_DELAYS;
    let index = usize::try_from(retried).unwrap_or(usize::MAX);
    FUNCTION_DELAYS.get(index).copied().unwrap_or(last)
}

/// The minimum stated delay: a server or command that always says "now" must not be called without a pause.
const SHORTEST_STATED: Duration = Duration::from_secs(1);

/// The delay before the next attempt of a task whose handler stated how long to wait: at least 1 s, at most 90 days.
///
/// ```
/// use runner_core::task::stated_delay;
/// use std::time::Duration;
/// assert_eq!(stated_delay(Duration::ZERO).as_secs(), 1);
/// assert_eq!(stated_delay(Duration::from_secs(30)).as_secs(), 30);
/// ```
#[must_use]
pub fn stated_delay(stated: Duration) -> Duration {
    stated.clamp(SHORTEST_STATED, LONGEST)
}

/// Tasks that were lost together are retried over this many seconds.
pub const RECOVERY_SPREAD_SECONDS: u64 = 4;

/// The delay before a task whose worker fell silent is tried again.
///
/// The task has already waited for a lease to end, and the fault is rarely its own, so the first retry comes almost at once.
/// A task that kills its workers must not loop quickly, so the delay grows by a factor of four up to [`retry_delay`].
/// `random` spreads tasks that were lost together, because one of them may have been the cause.
///
/// ```
/// use runner_core::task::recovery_delay;
/// assert_eq!(recovery_delay(0, 0).as_secs(), 1);
/// assert_eq!(recovery_delay(0, 7).as_secs(), 4);
/// assert_eq!(recovery_delay(2, 0).as_secs(), 16);
/// assert_eq!(recovery_delay(10, 0).as_secs(), 10_015);
/// ```
#[must_use]
pub fn recovery_delay(retried: u32, random: u64) -> Duration {
    let seconds = 4u64.saturating_pow(retried);
    let delay = Duration::from_secs(seconds).min(retry_delay(retried, random));
    delay + Duration::from_secs(random % RECOVERY_SPREAD_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_the_fourth_power_and_is_capped() {
        assert_eq!(retry_delay(10, 0).as_secs(), 10_015);
        assert_eq!(retry_delay(u32::MAX, 29), LONGEST);
        assert_eq!(stated_delay(Duration::MAX), LONGEST);
    }

    #[test]
    fn functions_are_tried_again_after_minutes_and_then_every_hour() {
        for (retried, minutes) in [(0, 1), (1, 5), (2, 15), (3, 30), (4, 60), (5, 60), (u32::MAX, 60)] {
            for random in [0, 1, 29, u64::MAX] {
                let delay = Backoff::Function.delay(retried, random).as_secs();
                let least = minutes * 60;
                assert!((least..least + least / 10).contains(&delay), "{retried}: {delay}");
            }
        }
        let steps = Backoff::Function.steps(2).unwrap_or_default();
        assert_eq!(steps, [Duration::from_secs(60), Duration::from_secs(300)]);
        assert_eq!(Backoff::Asynq.steps(2), None);
    }
}
