//! Spans that wait to be sent: bounded, and each one for which there is no room is counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_core::clock::Clock;
use tokio::sync::Notify;

use super::span::TraceSpan;
use crate::metrics::Metrics;

/// Spans that wait: four seconds at a thousand tasks a second.
pub(super) const MOST: usize = 4096;

/// Bytes of all that wait.
const MOST_BYTES: usize = 8 << 20;

/// Bytes of one call, below the 4 MiB that receivers take.
const BATCH_BYTES: usize = 1 << 20;

/// Spans of one call.
pub(super) const BATCH: usize = 512;

#[derive(Default)]
struct Waiting {
    spans: VecDeque<TraceSpan>,
    bytes: usize,
}

impl Waiting {
    fn has_room(&self, bytes: usize) -> bool {
        self.spans.len() < MOST && self.bytes + bytes <= MOST_BYTES
    }
}

/// See the module documentation.
pub(super) struct SpanOutbox {
    /// Which part of the traces that begin here is recorded.
    ratio: f64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    /// Falls when there is a whole batch to send.
    pub(super) filled: Notify,
    /// Whether spans were dropped since the sender has said so.
    dropped: AtomicBool,
}

impl SpanOutbox {
    pub(super) fn new(ratio: f64, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            ratio,
            clock,
            metrics,
            waiting: Mutex::default(),
            filled: Notify::new(),
            dropped: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a trace that begins here is recorded: by its id, so that all who ask for the same part agree.
    #[allow(clippy::cast_precision_loss)] // a part of many
    pub(super) fn samples(&self, trace: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        (number as f64) < self.ratio * (1_u64 << 63) as f64
    }

    /// Adds a span, or counts it as dropped.
    pub(super) fn put(&self, span: TraceSpan) {
        let bytes = span.size();
        let mut waiting = self.lock();
        if !waiting.has_room(bytes) {
            drop(waiting);
            return self.count_dropped(1);
        }
        waiting.bytes += bytes;
        waiting.spans.push_back(span);
        let full = waiting.spans.len() == BATCH;
        drop(waiting);
        if full {
            self.filled.notify_one();
        }
    }

    /// Takes the oldest out, at most a batch.
    pub(super) fn take(&self) -> Vec<TraceSpan> {
        let mut waiting = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < BATCH && bytes < BATCH_BYTES {
            let Some(span) = waiting.spans.pop_front() else { break };
            bytes += span.size();
            taken.push(span);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        taken
    }

    /// Puts spans back that could not be sent; they are the oldest, and those for which there is no room any more are dropped.
    pub(super) fn put_back(&self, spans: Vec<TraceSpan>) {
        let mut waiting = self.lock();
        let mut over = 0;
        for span in spans.into_iter().rev() {
            let bytes = span.size();
            match waiting.has_room(bytes) {
                true => {
                    waiting.bytes += bytes;
                    waiting.spans.push_front(span);
                }
                false => over += 1,
            }
        }
        drop(waiting);
        if over > 0 {
            self.count_dropped(over);
        }
    }

    pub(super) fn count_dropped(&self, count: usize) {
        // Logged by the sender: this may be called while a span is closed.
        self.dropped.store(true, Ordering::Relaxed);
        self.metrics.spans_dropped(count);
    }

    /// Whether any were dropped since the last time this was asked.
    pub(super) fn take_dropped(&self) -> bool {
        self.dropped.swap(false, Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().spans.len()
    }
}

#[cfg(test)]
mod tests {
    use runner_core::clock::SystemClock;
    use runner_core::task::TraceContext;

    use super::*;
    use crate::telemetry::span::SpanKind;

    fn outbox(ratio: f64) -> SpanOutbox {
        SpanOutbox::new(ratio, Arc::new(SystemClock), Arc::default())
    }

    fn span(name: &str) -> TraceSpan {
        let context = TraceContext::root(true);
        TraceSpan::new(context, None, name, SpanKind::Internal, jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn spans_beyond_the_bound_are_dropped_and_counted() {
        let outbox = outbox(1.0);
        for n in 0..MOST + 3 {
            outbox.put(span(&n.to_string()));
        }
        assert_eq!((outbox.len(), outbox.take_dropped()), (MOST, true));
        assert!(!outbox.take_dropped());
        let first = outbox.take();
        assert_eq!((first.len(), first[0].name.as_str()), (BATCH, "0"));
        for n in 0..10 {
            outbox.put(span(&n.to_string()));
        }
        outbox.put_back(first);
        assert_eq!(outbox.take()[0].name, "10", "the oldest give way");
        let dropped = r#"runner_otlp_spans_total{outcome="dropped"} 13"#;
        assert!(outbox.metrics.render().contains(dropped));
    }

    #[test]
    fn a_part_of_the_traces_is_recorded() {
        let count = |ratio| {
            let outbox = outbox(ratio);
            let traces = (0..2000).map(|_| TraceContext::root(true).trace_id().to_bytes());
            traces.filter(|trace| outbox.samples(*trace)).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 2000));
        let half = count(0.5);
        assert!((800..1200).contains(&half), "{half} of 2000");
    }
}
