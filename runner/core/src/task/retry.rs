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

/// The random part of a delay that is not asynq's is less than a tenth of it.
const JITTER_SHARE: u64 = 10;

/// The delays for failed tasks of a handler, unless the handler itself states one. How often a task is retried is an option of the
/// task, not of its handler.
///
/// ```
/// use std::time::Duration;
///
/// use runner_core::task::Backoff;
///
/// let minute = Duration::from_secs(60);
/// assert_eq!(Backoff::fixed(minute).delay(7, 0), minute);
/// // 1, 2, 4, 8 … minutes, at most an hour.
/// assert_eq!(Backoff::exponential(minute, 60 * minute).delay(2, 0), 4 * minute);
/// // Of how many retries went before: 0 at the first one.
/// assert_eq!(Backoff::by(|retried| Duration::from_secs(10) * (retried + 1)).delay(2, 0).as_secs(), 30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// Those of asynq: 15 s, then with the fourth power of the retries, and a random part ([`retry_delay`]).
    #[default]
    Asynq,
    /// Those of commands and calls of manifests: about 1, 5, 15 and 30 minutes, then an hour each time.
    Function,
    /// The same each time.
    Fixed(Duration),
    /// Doubled each time.
    Exponential {
        /// The first delay.
        first: Duration,
        /// The longest delay, without its random part.
        longest: Duration,
    },
    /// Of a function of the retries that went before.
    By(DelayFunction),
}

/// Computes a delay from how often a task was retried before: 0 at the first retry. It has no state, so that all workers agree.
#[derive(Debug, Clone, Copy)]
pub struct DelayFunction(fn(u32) -> Duration);

/// Two names for one function may have two addresses, so these may differ that are the same; nothing depends on it.
impl PartialEq for DelayFunction {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for DelayFunction {}

impl Backoff {
    /// The same delay each time; a random part of less than a tenth is added to this and to the others, at least 1 s and at most
    /// 90 days in all.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self::Fixed(delay)
    }

    /// `first`, then twice as long each time, up to `longest`.
    #[must_use]
    pub const fn exponential(first: Duration, longest: Duration) -> Self {
        Self::Exponential { first, longest }
    }

    /// What `delay` says, of how often the task was retried before: 0 at the first retry. A function or a closure that captures
    /// nothing. If it panics, the delay is asynq's.
    #[must_use]
    pub const fn by(delay: fn(u32) -> Duration) -> Self {
        Self::By(DelayFunction(delay))
    }

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
        match self.step(retried) {
            None => retry_delay(retried, random),
            Some(step) => {
                // Bounded above, since adding the random part could overflow, and below, since no pause at all would be a busy loop.
                let step = stated_delay(step);
                let room = (step.as_secs() / JITTER_SHARE).max(1);
                stated_delay(step + Duration::from_secs(random % room))
            }
        }
    }

    /// The delays of the first `retries` retries without their random part, for people; `None` if they follow asynq's formula.
    #[must_use]
    pub fn steps(self, retries: u32) -> Option<Vec<Duration>> {
        (0..retries).map(|retried| self.step(retried)).collect()
    }

    /// The delay without its random part.
    fn step(self, retried: u32) -> Option<Duration> {
        match self {
            Self::Asynq => None,
            Self::Function => Some(function_delay(retried)),
            Self::Fixed(delay) => Some(delay),
            Self::Exponential { first, longest } => {
                let factor = 2u32.saturating_pow(retried);
                Some(first.saturating_mul(factor).min(longest))
            }
            // A panic must not end what writes the verdict: the delay is asynq's then.
            Self::By(delay) => std::panic::catch_unwind(|| (delay.0)(retried)).ok(),
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

    #[test]
    fn delays_of_ones_own_have_a_random_part_and_bounds() {
        let seconds = Duration::from_secs;
        let fixed = Backoff::fixed(seconds(100));
        assert_eq!(fixed.delay(3, 0), seconds(100));
        assert!((0..1000).all(|random| (100..110).contains(&fixed.delay(0, random).as_secs())));
        let growing = Backoff::exponential(seconds(5), seconds(60))
            .steps(6)
            .unwrap_or_default();
        assert_eq!(growing, [5, 10, 20, 40, 60, 60].map(seconds));
        assert_eq!(
            Backoff::exponential(seconds(5), Duration::MAX).delay(u32::MAX, u64::MAX),
            LONGEST
        );
        assert_eq!(Backoff::fixed(Duration::ZERO).delay(0, 0), SHORTEST_STATED);
        assert_eq!(
            Backoff::by(|retried| Duration::MAX * (retried + 2)).delay(1, 0),
            retry_delay(1, 0),
            "a panic"
        );
        assert_eq!(Backoff::by(|_| Duration::MAX).delay(0, u64::MAX), LONGEST);
        assert_eq!(
            Backoff::by(|retried| Duration::from_secs(60) * retried).delay(4, 0),
            seconds(240)
        );
    }
}
