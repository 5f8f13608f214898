//! The loop that sends: spans in batches as they come, figures at their interval.
//!
//! A receiver that is away is logged once, and again when it is back. Spans wait for it as long as there is room; figures do
//! not, because the next ones say the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::call::{CallFault, OtlpCaller};
use super::encode::{Sender, nanoseconds};
use super::points;
use crate::metrics::Metrics;
use crate::telemetry::outbox::SpanOutbox;
use crate::telemetry::{OtlpSettings, Telemetry};

/// How often spans are sent that make no batch.
const EVERY: Duration = Duration::from_secs(1);

/// The pause after a call that did not work; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: spans flow again within this time of the receiver's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The code of a receiver that takes a part only.
const PARTLY: &str = "otlp_partly_refused";

const TRACES: &str = "/v1/traces";
const METRICS: &str = "/v1/metrics";

/// Sends until `stopped` says until when what is left may take.
pub async fn send(
    telemetry: Telemetry,
    settings: OtlpSettings,
    instance: String,
    metrics: Arc<Metrics>,
    stopped: oneshot::Receiver<Instant>,
) {
    let Telemetry(Some(outbox)) = telemetry else { return };
    let mut figures = interval(settings.interval);
    figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once, when there is nothing to say.
    figures.tick().await;
    let wants_figures = settings.metrics;
    let sender = Sender::of_process(&settings.service_name, &instance);
    let caller = match OtlpCaller::new(settings) {
        Ok(caller) => caller,
        Err(why) => {
            tracing::error!(code = "otlp_client", why, "spans and figures cannot be sent");
            return;
        }
    };
    let start = nanoseconds(outbox.clock.now());
    let mut sending = Sending {
        outbox,
        sender,
        caller,
        metrics,
        start,
        fault: None,
        pause: FIRST_PAUSE,
        not_before: Instant::now(),
    };
    tokio::pin!(stopped);
    let mut spans = interval(EVERY);
    spans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let outbox = Arc::clone(&sending.outbox);
        let turn = async {
            tokio::select! {
                () = outbox.filled.notified() => sending.spans().await,
                _ = spans.tick() => sending.spans().await,
                _ = figures.tick(), if wants_figures => sending.figures().await,
            }
        };
        tokio::select! {
            biased;
            until = &mut stopped => {
                let until = until.unwrap_or_else(|_| Instant::now());
                return sending.last(until, wants_figures).await;
            }
            () = turn => {}
        }
    }
}

struct Sending {
    outbox: Arc<SpanOutbox>,
    sender: Sender,
    caller: OtlpCaller,
    metrics: Arc<Metrics>,
    /// When the counters began.
    start: u64,
    /// What is wrong at the moment, by its code.
    fault: Option<&'static str>,
    pause: Duration,
    not_before: Instant,
}

/// Spans that were taken out, and are put back unless they are handed over or given up: a call may be dropped by a stop.
struct Taken<'a> {
    outbox: &'a SpanOutbox,
    spans: Vec<crate::telemetry::TraceSpan>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.spans.is_empty() {
            self.outbox.put_back(std::mem::take(&mut self.spans));
        }
    }
}

impl Sending {
    /// Sends batch after batch, until nothing waits or a call fails.
    async fn spans(&mut self) {
        while Instant::now() >= self.not_before && self.batch().await {}
        if self.outbox.take_dropped() {
            tracing::warn!(
                code = "otlp_dropped",
                "spans are dropped: they are not sent as fast as they are made; runner_otlp_spans_total counts them"
            );
        }
    }

    /// Returns whether to go on at once.
    async fn batch(&mut self) -> bool {
        let mut taken = Taken {
            outbox: &self.outbox,
            spans: self.outbox.take(),
        };
        if taken.spans.is_empty() {
            return false;
        }
        let count = taken.spans.len();
        let answer = self.caller.post(TRACES, &self.sender.traces(&taken.spans)).await;
        let given_up = match &answer {
            Ok(Some((refused, _))) => usize::try_from(*refused).unwrap_or(count).min(count),
            Ok(None) => 0,
            Err(fault) if fault.again.is_none() => count,
            Err(_) => {
                drop(taken);
                self.note(answer);
                return false;
            }
        };
        taken.spans.clear();
        drop(taken);
        self.outbox.metrics.spans_sent(count - given_up);
        if given_up > 0 {
            self.outbox.metrics.spans_dropped(given_up);
        }
        let fine = answer.is_ok();
        self.note(answer);
        fine
    }

    async fn figures(&mut self) {
        if Instant::now() < self.not_before {
            return;
        }
        let text = self.metrics.render();
        let span = points::CountedFor {
            start: self.start,
            now: nanoseconds(self.outbox.clock.now()),
        };
        if let Some(request) = points::request(&self.sender, &text, span) {
            let answer = self.caller.post(METRICS, &request).await;
            self.note(answer);
        }
    }

    /// Logs what has changed, and sets the next pause.
    fn note(&mut self, answer: Result<Option<(u64, String)>, CallFault>) {
        let place = self.caller.place();
        match answer {
            Ok(refused) => {
                match (self.fault, refused) {
                    (Some(PARTLY), Some(_)) | (None, None) => {}
                    (_, Some((count, why))) => {
                        self.fault = Some(PARTLY);
                        tracing::warn!(
                            code = PARTLY,
                            endpoint = place,
                            count,
                            why,
                            "the receiver refused a part of what was sent"
                        );
                    }
                    (Some(was), None) => {
                        self.fault = None;
                        let waiting = self.outbox.len();
                        tracing::info!(
                            code = "otlp_back",
                            was,
                            endpoint = place,
                            waiting,
                            "spans and figures are sent again"
                        );
                    }
                }
                (self.pause, self.not_before) = (FIRST_PAUSE, Instant::now());
            }
            Err(fault) => {
                if self.fault != Some(fault.code) {
                    let CallFault { code, why, hint, .. } = &fault;
                    tracing::warn!(code, endpoint = place, why, hint, "spans and figures cannot be sent");
                    self.fault = Some(fault.code);
                }
                let pause = self.pause.max(fault.again.unwrap_or_default());
                self.not_before = Instant::now() + pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// One more try with all that is left.
    async fn last(mut self, until: Instant, wants_figures: bool) {
        self.not_before = Instant::now();
        let rest = async {
            while self.batch().await {}
            if wants_figures && self.fault.is_none() {
                self.figures().await;
            }
        };
        let in_time = timeout_at(until, rest).await.is_ok();
        let left = self.outbox.len();
        if left > 0 {
            self.outbox.count_dropped(left);
            tracing::warn!(
                code = "otlp_lost",
                spans = left,
                in_time,
                "spans were not sent before the stop"
            );
        }
    }
}
