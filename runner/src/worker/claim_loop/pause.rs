//! The pause after a failed call: longer with each failure in a row.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// The first pause, doubled up to the longest, or to the shorter one while verdicts wait.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_WITH_VERDICTS: Duration = Duration::from_millis(500);

/// Failures in a row, and the pause after the last one.
#[derive(Default)]
pub(super) struct FailurePause {
    /// Ends with the pause.
    pub timer: Option<BoxFuture<'static, ()>>,
    failures: u32,
}

impl FailurePause {
    /// Whether no call may begin now.
    pub(super) fn is_on(&self) -> bool {
        self.timer.is_some()
    }

    /// Whether a call failed since the last one that succeeded.
    pub(super) fn has_failures(&self) -> bool {
        self.failures > 0
    }

    /// Claims arrived. That ends the row of failures unless the verdicts of the same call failed, which began
    /// a pause.
    pub(super) fn succeeded(&mut self) {
        if !self.is_on() {
            self.failures = 0;
        }
    }

    /// A call failed.
    pub(super) fn failed(&mut self, verdicts_wait: bool) {
        let longest = match verdicts_wait {
            true => LONGEST_WITH_VERDICTS,
            false => LONGEST,
        };
        let pause = spread(FIRST.saturating_mul(1 << self.failures.min(7)).min(longest));
        self.failures = self.failures.saturating_add(1);
        self.timer = Some(Box::pin(sleep(pause)));
    }
}

/// Between half of it and all of it: workers that lost the broker together must not return together.
fn spread(pause: Duration) -> Duration {
    // A random id serves as the random number.
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let half = pause / 2;
    half + half.mul_f64((random % 1024) as f64 / 1023.0)
}

#[allow(clippy::disallowed_methods)] // a named back-off, bounded by the constants above
async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_bound_that_is_lower_while_verdicts_wait() {
        for (verdicts_wait, longest) in [(false, LONGEST), (true, LONGEST_WITH_VERDICTS)] {
            let mut pause = FailurePause::default();
            let mut last = Duration::ZERO;
            for _ in 0..12 {
                pause.failed(verdicts_wait);
                assert!(pause.is_on() && pause.has_failures());
                let began = tokio::time::Instant::now();
                if let Some(timer) = pause.timer.take() {
                    timer.await;
                }
                last = began.elapsed();
                assert!(
                    last >= FIRST / 2 && last <= longest + Duration::from_millis(1),
                    "{last:?}"
                );
            }
            assert!(last >= longest / 2, "{last:?}");
            pause.succeeded();
            assert!(!pause.has_failures());
        }
    }

    #[tokio::test]
    async fn a_success_during_a_pause_does_not_end_the_row() {
        let mut pause = FailurePause::default();
        pause.failed(false);
        pause.succeeded();
        assert!(pause.has_failures());
    }
}
