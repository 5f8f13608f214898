//! Limits log lines about fires: all fires at usual rates, some at high rates, where the line at the end of each run
//! suffices. Decisions are recorded in the broker regardless.

/// Lines about fires within one second of the broker's clock. At 500 fires a second more would double the log.
const MOST: u32 = 25;

/// Counts lines per second.
#[derive(Debug, Default)]
pub(super) struct FireLines {
    second: i64,
    written: u32,
    left_out: u32,
}

impl FireLines {
    /// Whether a fire decided in this second gets its own line.
    pub(super) fn allows(&mut self, second: i64) -> bool {
        if second != self.second {
            if self.left_out > 0 {
                tracing::info!(
                    fires = self.left_out,
                    "fired; more in one second than have a line of their own"
                );
            }
            *self = Self {
                second,
                ..Self::default()
            };
        }
        let allowed = self.written < MOST;
        match allowed {
            true => self.written += 1,
            false => self.left_out += 1,
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_per_second() {
        let mut lines = FireLines::default();
        assert_eq!((0..500).filter(|_| lines.allows(7)).count(), 25);
        assert_eq!(lines.left_out, 475);
        assert_eq!((0..20).filter(|_| lines.allows(8)).count(), 20);
        assert_eq!(lines.left_out, 0);
    }
}
