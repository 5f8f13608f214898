//! Reports log lines that did not reach their output: to the metrics, to a note for people, to the log itself once it
//! works again. The log room counts them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::background::{self, BackgroundLoop};
use crate::log::LostLines;
use crate::metrics::Metrics;

/// How often the counts are compared; a loss is known within that time.
const EVERY: Duration = Duration::from_secs(10);
/// Turns between two reports while lines are still being lost: a minute.
const TURNS_A_REPORT: u32 = 6;

/// Compares from now on until `stop`. `note` prints a text on standard error, beside the log.
pub fn watch(lost: LostLines, metrics: Arc<Metrics>, note: fn(&str), stop: CancellationToken) {
    let lost_lines = LostLinesLoop {
        lost,
        metrics,
        note,
        counted: Vec::new(),
        unreported: 0,
        turns: TURNS_A_REPORT,
    };
    tokio::spawn(async move { background::run(lost_lines, &Notify::new(), &stop).await });
}

struct LostLinesLoop {
    lost: LostLines,
    metrics: Arc<Metrics>,
    note: fn(&str),
    /// What the metrics were given, by output.
    counted: Vec<(&'static str, usize)>,
    unreported: usize,
    /// Since the last report.
    turns: u32,
}

impl LostLinesLoop {
    /// Updates the metrics. Returns how many lines to report now.
    fn compare(&mut self) -> Option<usize> {
        self.counted.resize(self.lost.by_output().count(), ("", 0));
        for (now, before) in self.lost.by_output().zip(&mut self.counted) {
            let more = now.1.saturating_sub(before.1);
            if more > 0 {
                self.metrics.log_lines_lost(now.0, more);
                self.unreported += more;
            }
            *before = now;
        }
        self.turns = self.turns.saturating_add(1);
        if self.unreported == 0 || self.turns < TURNS_A_REPORT {
            return None;
        }
        self.turns = 0;
        Some(std::mem::take(&mut self.unreported))
    }
}

#[async_trait]
impl BackgroundLoop for LostLinesLoop {
    fn name(&self) -> &'static str {
        "lost log lines"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        if let Some(lines) = self.compare() {
            // The output that still works shows it.
            (self.note)(&format!("{lines} log lines were lost: an output is full or too slow"));
            tracing::warn!(
                code = "log_lines_lost",
                lines,
                "log lines were lost: an output is full or too slow"
            );
        }
        None
    }
}
