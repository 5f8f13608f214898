//! How many entries are asked for at once: fewer after an answer that was too late, because all entries of one arrive together.

use std::sync::atomic::{AtomicU32, Ordering};

/// Grows by a step with each batch, so that a slow line is not overstrained again at once.
pub(super) struct BatchSize {
    most: u32,
    now: AtomicU32,
}

impl BatchSize {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            now: AtomicU32::new(most),
        }
    }

    /// What to ask for.
    pub(super) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// An answer was late.
    pub(super) fn shrink(&self) {
        self.now.store((self.now() / 2).max(1), Ordering::Relaxed);
    }

    /// An answer came in time.
    pub(super) fn grow(&self) {
        let step = (self.most / 100).max(1);
        self.now.store((self.now() + step).min(self.most), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_down_to_one_and_grows_in_steps() {
        let size = BatchSize::new(100);
        size.shrink();
        assert_eq!(size.now(), 50);
        (0..10).for_each(|_| size.shrink());
        assert_eq!(size.now(), 1);
        size.grow();
        assert_eq!(size.now(), 2);
        (0..100).for_each(|_| size.grow());
        assert_eq!(size.now(), 100);
    }
}
