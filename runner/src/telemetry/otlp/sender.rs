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
        of_spans: PathState::new("spans"),
        of_figures: PathState::new("figures"),
        said_dropped: false,
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
    of_spans: PathState,
    of_figures: PathState,
    /// Whether it was logged that spans are dropped, since the last ones were sent.
    said_dropped: bool,
}

/// How one of the two calls is doing: a receiver may take spans and no figures.
struct PathState {
    /// What is sent.
    what: &'static str,
    /// What is wrong at the moment, by its code.
    fault: Option<&'static str>,
    pause: Duration,
    not_before: Instant,
}

impl PathState {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            fault: None,
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
        }
    }

    /// Logs what has changed, and sets the next pause.
    fn note(&mut self, place: &str, answer: Result<Option<(u64, String)>, CallFault>) {
        let what = self.what;
        match answer {
            Ok(refused) => {
                match (self.fault, refused) {
                    (Some(PARTLY), Some(_)) | (None, None) => {}
                    (_, Some((count, why))) => {
                        self.fault = Some(PARTLY);
                        tracing::warn!(
                            code = PARTLY,
                            endpoint = place,
                            what,
                            count,
                            why,
                            "the receiver refused a part of what was sent"
                        );
                    }
                    (Some(was), None) => {
                        self.fault = None;
                        tracing::info!(
                            code = "otlp_back",
                            was,
                            endpoint = place,
                            what,
                            "the receiver takes them again"
                        );
                    }
                }
                (self.pause, self.not_before) = (FIRST_PAUSE, Instant::now());
            }
            Err(fault) => {
                if self.fault != Some(fault.code) {
                    let CallFault { code, why, hint, .. } = &fault;
                    tracing::warn!(code, endpoint = place, what, why, hint, "they cannot be sent");
                    self.fault = Some(fault.code);
                }
                let pause = self.pause.max(fault.again.unwrap_or_default());
                self.not_before = Instant::now() + pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
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
        while Instant::now() >= self.of_spans.not_before && self.batch().await {}
        if self.outbox.take_dropped() && !self.said_dropped {
            self.said_dropped = true;
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
                self.of_spans.note(self.caller.place(), answer);
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
        self.said_dropped &= !fine;
        self.of_spans.note(self.caller.place(), answer);
        fine
    }

    async fn figures(&mut self) {
        if Instant::now() < self.of_figures.not_before {
            return;
        }
        let text = self.metrics.render();
        let span = points::CountedFor {
            start: self.start,
            now: nanoseconds(self.outbox.clock.now()),
        };
        if let Some(request) = points::request(&self.sender, &text, span) {
            let answer = self.caller.post(METRICS, &request).await;
            self.of_figures.note(self.caller.place(), answer);
        }
    }

    /// One more try with all that is left.
    async fn last(mut self, until: Instant, wants_figures: bool) {
        self.of_figures.not_before = Instant::now();
        let rest = async {
            while self.batch().await {}
            if wants_figures && self.of_figures.fault.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_on_one_way_is_no_matter_of_the_other() {
        let refused = CallFault {
            code: "otlp_refused",
            why: "404".to_owned(),
            hint: "",
            again: None,
        };
        let (mut spans, mut figures) = (PathState::new("spans"), PathState::new("figures"));
        for _ in 0..9 {
            figures.note("here", Err(refused.clone()));
            spans.note("here", Ok(None));
        }
        assert_eq!((figures.fault, spans.fault), (Some("otlp_refused"), None));
        assert_eq!((figures.pause, spans.pause), (LONGEST_PAUSE, FIRST_PAUSE));
        for _ in 0..2 {
            figures.note("here", Ok(Some((1, "too old".to_owned()))));
        }
        assert_eq!(figures.fault, Some(PARTLY));
        figures.note("here", Ok(None));
        assert_eq!((figures.fault, figures.pause), (None, FIRST_PAUSE));
    }
}
