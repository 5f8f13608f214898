//! Traces and figures for OpenTelemetry: the spans of this program, and what sends them by OTLP.
//!
//! Spans begin and end where things happen; a handle that is off costs a comparison there. What has ended waits in a bounded
//! outbox, so no run waits for the receiver. Not here: which trace a task belongs to (`core::task`), which holds without any
//! receiver, and the spans that handlers make by `tracing` (`log`).

#[cfg(feature = "otlp")]
mod otlp;
mod outbox;
mod settings;
mod span;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::{
    AttemptOutcome, FUNCTION_PREFIX, MAX_TRACESTATE, QueueName, TRACEPARENT, TRACESTATE, Task, TaskId, TraceContext,
};

#[cfg(feature = "otlp")]
pub use otlp::send;
use outbox::SpanOutbox;
pub use settings::{HeaderText, METRICS_INTERVAL, OtlpSettings, SERVICE_NAME};
pub use span::{AttributeValue, SpanAttributes, SpanEvent, SpanKind, TraceSpan};

use crate::metrics::Metrics;

/// How long what has not been sent yet may take at a stop.
pub const LAST_SPANS: Duration = Duration::from_secs(2);

/// The name of this queue among messaging systems.
const SYSTEM: &str = "runner";

/// Takes spans. Cheap to clone; one that is off costs a comparison.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<SpanOutbox>>);

/// An attempt that has not ended, or an enqueue whose answer has not come.
#[derive(Debug)]
pub struct OpenSpan(Box<TraceSpan>);

/// The task of a span, as its attributes say it.
#[derive(Debug, Clone, Copy)]
pub struct TaskOfAttempt<'a> {
    /// Its id.
    pub id: &'a TaskId,
    /// Its type.
    pub kind: &'a str,
    /// Its queue.
    pub queue: &'a QueueName,
    /// Counted from 1.
    pub attempt: u32,
    /// Bytes of its payload.
    pub payload: usize,
}

impl Telemetry {
    /// Takes spans for the sender.
    #[must_use]
    pub fn new(settings: &OtlpSettings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self(Some(Arc::new(SpanOutbox::new(settings.traces, clock, metrics))))
    }

    /// Keeps all spans of a part of the traces, for a test.
    #[cfg(test)]
    pub(crate) fn recording(ratio: f64) -> Self {
        let clock = Arc::new(runner_core::clock::SystemClock);
        Self(Some(Arc::new(SpanOutbox::new(ratio, clock, Arc::default()))))
    }

    /// Those that were kept.
    #[cfg(test)]
    pub(crate) fn recorded(&self) -> Vec<TraceSpan> {
        self.0.as_ref().map_or_else(Vec::new, |outbox| outbox.take())
    }

    /// Whether spans are taken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The clock of spans; `None` while it is off.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|outbox| outbox.clock.now())
    }

    /// Takes a span that has ended.
    pub fn put(&self, span: TraceSpan) {
        if let Some(outbox) = &self.0 {
            outbox.put(span);
        }
    }

    /// A new trace. Where spans are sent, the settings say which part of the traces is recorded; elsewhere those who follow
    /// decide, so nothing speaks against it.
    #[must_use]
    pub fn root(&self) -> TraceContext {
        let trace = TraceContext::root(true);
        match &self.0 {
            Some(outbox) => trace.sampled(outbox.samples(trace.trace_id().to_bytes())),
            None => trace,
        }
    }

    /// Makes the headers of a task those of an attempt at it: the span that the handler sees as its own. Without a trace, and
    /// while this is off, that is one look.
    pub fn attempt(
        &self,
        headers: &mut BTreeMap<String, String>,
        run: u64,
        task: &TaskOfAttempt<'_>,
        now: Timestamp,
    ) -> Option<OpenSpan> {
        let entered = TraceContext::enter(headers, task.id.as_str(), run);
        let Self(Some(_)) = self else { return None };
        let (context, parent) = match entered {
            Some((attempt, parent)) => (attempt, Some(parent.span_id())),
            None => {
                let root = self.root();
                headers.insert(TRACEPARENT.to_owned(), root.to_string());
                (root, None)
            }
        };
        if !context.is_sampled() {
            return None;
        }
        let mut span = TraceSpan::new(
            context,
            parent,
            &format!("attempt {}", task.kind),
            SpanKind::Consumer,
            now,
        );
        span.state = headers.get(TRACESTATE).cloned();
        let facts = &mut span.attributes;
        messaging(facts, "process", task.queue.as_str(), task.kind);
        facts.set("messaging.message.id", task.id.as_str());
        facts.set("messaging.message.body.size", whole(task.payload));
        facts.set("runner.attempt", i64::from(task.attempt));
        if let Some(schedule) = headers.get("runner-schedule-id") {
            facts.set("runner.schedule", schedule.as_str());
        }
        Some(OpenSpan(Box::new(span)))
    }

    /// Ends the span of an attempt. `outcome` is `None` if its lease was lost and nothing was written.
    pub fn attempt_ended(&self, span: Option<OpenSpan>, outcome: Option<AttemptOutcome>, error: Option<&str>) {
        let (Some(OpenSpan(mut span)), Some(outbox)) = (span, &self.0) else {
            return;
        };
        span.ended_at = outbox.clock.now();
        let word = outcome.map_or("lease_lost", AttemptOutcome::as_str);
        span.attributes.set("runner.outcome", word);
        if outcome.is_none_or(AttemptOutcome::is_failure) {
            span.attributes.set("error.type", word);
            span.fail(error.unwrap_or(word));
        }
        outbox.put(*span);
    }

    /// An occurrence of a schedule was fired: the span that its task names as the one that enqueued it.
    pub fn fired(&self, schedule: &str, nominal: Timestamp, fire_at: Timestamp, task: &Task) {
        let Some(outbox) = &self.0 else { return };
        let Some(context) = TraceContext::of(&task.headers).filter(|context| context.is_sampled()) else {
            return;
        };
        let now = outbox.clock.now();
        let mut span = TraceSpan::new(context, None, "schedule fire", SpanKind::Producer, fire_at.min(now));
        span.ended_at = now;
        let facts = &mut span.attributes;
        messaging(facts, "send", task.queue.as_str(), &task.kind);
        if let Some(id) = &task.id {
            facts.set("messaging.message.id", id.as_str());
        }
        facts.set("runner.schedule", schedule);
        facts.set("runner.scheduled_at", nominal.to_string().as_str());
        outbox.put(span);
    }

    /// A task is about to be enqueued within its trace, or begins one: from now on it names the span of that. `None` while this
    /// is off, and for a trace that is not recorded.
    pub fn enqueue(&self, task: &mut Task) -> Option<OpenSpan> {
        let outbox = self.0.as_ref()?;
        let parent = TraceContext::of(&task.headers);
        let context = parent.map_or_else(|| self.root(), TraceContext::child);
        if parent.is_none()
            || task
                .headers
                .get(TRACESTATE)
                .is_some_and(|state| state.len() > MAX_TRACESTATE)
        {
            task.headers.remove(TRACESTATE);
        }
        task.headers.insert(TRACEPARENT.to_owned(), context.to_string());
        if !context.is_sampled() {
            return None;
        }
        let (parent, now) = (parent.map(TraceContext::span_id), outbox.clock.now());
        let mut span = TraceSpan::new(
            context,
            parent,
            &format!("enqueue {}", task.kind),
            SpanKind::Producer,
            now,
        );
        span.state = task.headers.get(TRACESTATE).cloned();
        messaging(&mut span.attributes, "send", task.queue.as_str(), &task.kind);
        if let Some(id) = &task.id {
            span.attributes.set("messaging.message.id", id.as_str());
        }
        Some(OpenSpan(Box::new(span)))
    }

    /// Ends such a span: the task has this id, or was refused for this reason.
    pub fn enqueued(&self, span: Option<OpenSpan>, answer: Result<&TaskId, &str>) {
        let (Some(OpenSpan(mut span)), Some(outbox)) = (span, &self.0) else {
            return;
        };
        span.ended_at = outbox.clock.now();
        match answer {
            Ok(id) => span.attributes.set("messaging.message.id", id.as_str()),
            Err(why) => span.fail(why),
        }
        outbox.put(*span);
    }
}

/// What OpenTelemetry's conventions for messaging want to know.
fn messaging(facts: &mut SpanAttributes, operation: &str, queue: &str, kind: &str) {
    facts.set("messaging.system", SYSTEM);
    facts.set("messaging.operation.type", operation);
    facts.set("messaging.operation.name", operation);
    facts.set("messaging.destination.name", queue);
    facts.set("runner.task.type", kind);
    if let Some(function) = kind.strip_prefix(FUNCTION_PREFIX) {
        facts.set("runner.function", function);
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn attempt(telemetry: &Telemetry, headers: &mut BTreeMap<String, String>) -> Option<OpenSpan> {
        let (id, queue) = (TaskId::new("t-1").unwrap(), QueueName::default());
        let task = TaskOfAttempt {
            id: &id,
            kind: "fn:backup",
            queue: &queue,
            attempt: 2,
            payload: 7,
        };
        telemetry.attempt(headers, 3, &task, Timestamp::UNIX_EPOCH)
    }

    fn fact<'a>(span: &'a TraceSpan, name: &str) -> Option<&'a AttributeValue> {
        span.attributes
            .0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    #[test]
    fn an_attempt_is_the_span_that_its_function_sees() {
        let telemetry = Telemetry::recording(1.0);
        let mut headers = Task::new("a").traced(PARENT, Some("v=1")).headers;
        let span = attempt(&telemetry, &mut headers);
        telemetry.attempt_ended(span, Some(AttemptOutcome::Archived), Some("exit code 7"));
        let span = telemetry.recorded().remove(0);
        assert_eq!(headers[TRACEPARENT], span.context.to_string());
        assert_eq!(span.parent, TraceContext::parse(PARENT).map(TraceContext::span_id));
        assert_eq!(
            (span.name.as_str(), span.state.as_deref()),
            ("attempt fn:backup", Some("v=1"))
        );
        assert_eq!(span.error.as_deref(), Some("exit code 7"));
        assert_eq!(fact(&span, "runner.function"), Some(&"backup".into()));
        assert_eq!(fact(&span, "error.type"), Some(&"archived".into()));
        assert_eq!(fact(&span, "runner.attempt"), Some(&2_i64.into()));
    }

    #[test]
    fn a_task_without_a_trace_begins_one_where_spans_are_sent() {
        let telemetry = Telemetry::recording(1.0);
        let mut headers = BTreeMap::new();
        let span = attempt(&telemetry, &mut headers);
        telemetry.attempt_ended(span, Some(AttemptOutcome::Success), None);
        let span = telemetry.recorded().remove(0);
        assert_eq!((span.parent, &span.error), (None, &None));
        assert_eq!(headers[TRACEPARENT], span.context.to_string());
        let mut untouched = BTreeMap::new();
        assert!(attempt(&Telemetry::default(), &mut untouched).is_none() && untouched.is_empty());
    }

    #[test]
    fn what_is_not_sampled_is_passed_on_and_not_sent() {
        let telemetry = Telemetry::recording(0.0);
        let mut unsampled = Task::new("a").traced(&PARENT.replace("-01", "-00"), None).headers;
        assert!(attempt(&telemetry, &mut unsampled).is_none());
        assert!(unsampled[TRACEPARENT].ends_with("-00") && !unsampled[TRACEPARENT].contains("00f067aa0ba902b7"));
        let mut none = BTreeMap::new();
        assert!(attempt(&telemetry, &mut none).is_none());
        assert!(
            none[TRACEPARENT].ends_with("-00"),
            "those who follow decide alike: {none:?}"
        );
        let mut task = Task::new("a");
        assert!(telemetry.enqueue(&mut task).is_none());
        assert!(!telemetry.root().is_sampled() && Telemetry::default().root().is_sampled());
        // A trace that others record is recorded here, whatever the part of our own.
        let mut sampled = Task::new("a").traced(PARENT, None).headers;
        assert!(attempt(&telemetry, &mut sampled).is_some());
    }

    #[test]
    fn an_enqueue_is_the_span_that_its_task_names() {
        let telemetry = Telemetry::recording(1.0);
        let mut task = Task::new("mail").traced(PARENT, None);
        let span = telemetry.enqueue(&mut task);
        telemetry.enqueued(span, Err("task already exists"));
        let span = telemetry.recorded().remove(0);
        assert_eq!(task.headers[TRACEPARENT], span.context.to_string());
        assert_eq!(span.parent, TraceContext::parse(PARENT).map(TraceContext::span_id));
        assert_eq!(span.error.as_deref(), Some("task already exists"));
    }
}
