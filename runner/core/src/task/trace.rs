//! Trace context by the W3C's recommendation: which trace a task belongs to, in two of its headers that tracing libraries of
//! every language know.
//!
//! Producers write these headers, so a value counts only if it is valid. Nothing here makes, samples or sends spans.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use uuid::Uuid;

use super::Task;

/// The header that names the trace and the span in which a task was enqueued.
pub const TRACEPARENT: &str = "traceparent";

/// The header with what tracing systems add to it. Passed on as it is.
pub const TRACESTATE: &str = "tracestate";

/// Bytes of a `tracestate` that are passed on; the recommendation's least bound. A longer one is dropped.
pub const MAX_TRACESTATE: usize = 512;

/// Members of a `tracestate`, by the recommendation.
const MAX_MEMBERS: usize = 32;

/// The length of the parts that every version has: `00-<32 digits>-<16 digits>-<2 digits>`.
const LENGTH: usize = 55;

/// The flag that says that the spans of the trace are recorded.
const SAMPLED: u8 = 1;

/// A span of a trace.
///
/// ```
/// use runner_core::task::TraceContext;
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(text).unwrap();
/// assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!(context.to_string(), text);
/// assert_eq!(TraceContext::parse("00-1-2-01"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The id of a trace: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// Its 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl TraceContext {
    /// Reads a `traceparent`. `None` if it is not valid: wrong lengths, capital letters, ids of zeros, the version `ff`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // What later versions append is not known here.
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut part = |digits: usize| parts.next().filter(|part| part.len() == digits).and_then(hex);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let span = u64::try_from(span).ok()?;
        (fits && trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            flags: u8::try_from(flags).ok()? & SAMPLED,
        })
    }

    /// A new trace, and its first span. `sampled` says to those who follow whether they record their spans.
    #[must_use]
    pub fn root(sampled: bool) -> Self {
        // Not the id as it is: some of its bits are the same in all, and samplers decide by the bits of the second half.
        let (first, second) = (random(), random());
        Self {
            trace: (u128::from(first) << 64) | u128::from(second),
            span: random(),
            flags: u8::from(sampled),
        }
    }

    /// Another span of the trace, within this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// The span of an attempt at the task that was enqueued in this one: the same for all that ask, in one version of the
    /// program, so that what follows the task can name it without having seen it.
    #[must_use]
    pub fn attempt(self, task: &str, run: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.trace, self.span, task, run).hash(&mut hasher);
        Self {
            span: hasher.finish().max(1),
            ..self
        }
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        TraceId(self.trace)
    }

    /// The 8 bytes of the span's id.
    #[must_use]
    pub fn span_id(self) -> [u8; 8] {
        self.span.to_be_bytes()
    }

    /// Whether the spans of the trace are recorded, as the first of its programs has decided.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same span, with this decision about its trace.
    #[must_use]
    pub fn sampled(self, sampled: bool) -> Self {
        let flags = u8::from(sampled);
        Self { flags, ..self }
    }

    /// What these headers say, if it is valid.
    #[must_use]
    pub fn of(headers: &BTreeMap<String, String>) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?)
    }

    /// Makes the headers of a task those of an attempt at it, which is a span of its own: returns it, and the one in which the
    /// task was enqueued. What is not valid is removed. Without such a header this is one look.
    pub fn enter(headers: &mut BTreeMap<String, String>, task: &str, run: u64) -> Option<(Self, Self)> {
        let written = headers.get_mut(TRACEPARENT)?;
        let Some(parent) = Self::parse(written) else {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
            return None;
        };
        let attempt = parent.attempt(task, run);
        *written = attempt.to_string();
        if headers.get(TRACESTATE).is_some_and(|state| !is_state(state)) {
            headers.remove(TRACESTATE);
        }
        Some((attempt, parent))
    }
}

fn random() -> u64 {
    let bytes = Uuid::new_v4().into_bytes();
    // The bytes without a version and a variant.
    let [a, b, c, d, e, f, _, _, _, g, h, ..] = bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

fn hex(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// Whether a `tracestate` may be passed on.
fn is_state(text: &str) -> bool {
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
    let members = || text.split(',').filter(|member| !member.trim().is_empty());
    printable && text.len() <= MAX_TRACESTATE && members().count() <= MAX_MEMBERS && members().all(is_member)
}

/// A key and its value: the key of letters, digits and `_-*/@`, the value without `=`.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.trim_matches([' ', '\t']).split_once('=') else {
        return false;
    };
    let of_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
    let begins = key
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    begins && key.bytes().all(of_key) && !value.trim().is_empty() && !value.contains(['=', '\t'])
}

impl Task {
    /// Makes the task a part of the trace that a caller's `traceparent` and `tracestate` name, unless it belongs to one. What
    /// is not valid is ignored.
    ///
    /// ```
    /// use runner_core::task::Task;
    /// let task = Task::new("mail").traced("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
    /// assert!(task.headers.contains_key("traceparent"));
    /// assert!(Task::new("mail").traced("no trace", None).headers.is_empty());
    /// ```
    #[must_use]
    pub fn traced(mut self, traceparent: &str, tracestate: Option<&str>) -> Self {
        if let Some(context) = TraceContext::parse(traceparent.trim()) {
            self.trace_by(context, tracestate);
        }
        self
    }

    /// Makes it a part of the trace that these headers name, such as those of the task that enqueues it, unless it belongs to
    /// one. Without such a header this is one look.
    pub fn inherit_trace(&mut self, headers: &BTreeMap<String, String>) {
        if let Some(context) = TraceContext::of(headers) {
            self.trace_by(context, headers.get(TRACESTATE).map(String::as_str));
        }
    }

    /// The same for a span that is known.
    pub fn trace_by(&mut self, context: TraceContext, state: Option<&str>) {
        if self.headers.contains_key(TRACEPARENT) {
            return;
        }
        self.headers.insert(TRACEPARENT.to_owned(), context.to_string());
        match state.filter(|state| !state.is_empty() && is_state(state)) {
            Some(state) => self.headers.insert(TRACESTATE.to_owned(), state.to_owned()),
            None => self.headers.remove(TRACESTATE),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_state_is_a_list_of_keys_and_values() {
        for state in ["a=1", "tenant@vendor=x y, b_-*/c=!", "9=1,,b=2\t"] {
            assert!(is_state(state), "{state}");
        }
        for state in ["a", "=1", "A=1", "a=", "a= ", "a=b=c", "a b=1", "@a=1", "a=\t1", "a=é"] {
            assert!(!is_state(state), "{state}");
        }
    }

    #[test]
    fn only_valid_values_count() {
        assert_eq!(TraceContext::parse(PARENT).unwrap().to_string(), PARENT);
        let later = format!("cc-{}-what-the-future-will-be-like", &PARENT[3..]);
        assert_eq!(TraceContext::parse(&later).unwrap().to_string(), PARENT);
        for bad in [
            "",
            "00-1-2-01",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}1"),
            &format!("cc{}1", &PARENT[2..]),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            &PARENT.replace('f', "+"),
            &PARENT.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
        let unknown_flags = TraceContext::parse(&PARENT.replace("-01", "-fe")).unwrap();
        assert!(!unknown_flags.is_sampled() && unknown_flags.to_string().ends_with("-00"));
    }

    #[test]
    fn an_attempt_is_a_span_within_the_one_that_enqueued_its_task() {
        let parent = TraceContext::parse(PARENT).unwrap();
        let mut headers = Task::new("a").traced(PARENT, Some("vendor=1,other=x")).headers;
        let (attempt, found) = TraceContext::enter(&mut headers, "t-1", 7).unwrap();
        assert_eq!((found, attempt), (parent, parent.attempt("t-1", 7)));
        assert_eq!(headers[TRACEPARENT], attempt.to_string());
        assert_eq!(headers[TRACESTATE], "vendor=1,other=x");
        assert_eq!(attempt.trace_id(), parent.trace_id());
        let others = [
            parent.attempt("t-1", 8),
            parent.attempt("t-2", 7),
            parent,
            parent.child(),
        ];
        assert!(others.iter().all(|other| other.span_id() != attempt.span_id()));
    }

    #[test]
    fn what_is_not_valid_is_not_passed_on() {
        let mut headers = Task::new("a")
            .header(TRACEPARENT, "00-1-2-01")
            .header(TRACESTATE, "a=1")
            .headers;
        assert_eq!(TraceContext::enter(&mut headers, "t", 1), None);
        assert!(headers.is_empty());
        let many = vec!["a=1"; MAX_MEMBERS + 1].join(",");
        for state in ["no pair", "a=\n", &format!("a={}", "x".repeat(MAX_TRACESTATE)), &many] {
            let mut headers = Task::new("a")
                .header(TRACEPARENT, PARENT)
                .header(TRACESTATE, state)
                .headers;
            assert!(TraceContext::enter(&mut headers, "t", 1).is_some());
            assert!(!headers.contains_key(TRACESTATE), "{state:?}");
            assert!(
                !Task::new("a")
                    .traced(PARENT, Some(state))
                    .headers
                    .contains_key(TRACESTATE)
            );
        }
    }

    #[test]
    fn a_task_keeps_the_trace_that_it_has() {
        let mut own = Task::new("a").header(TRACEPARENT, PARENT);
        own.inherit_trace(
            &Task::new("b")
                .traced(&TraceContext::root(true).to_string(), None)
                .headers,
        );
        assert_eq!(own.headers[TRACEPARENT], PARENT);
        let mut child = Task::new("a");
        child.inherit_trace(&BTreeMap::new());
        assert!(child.headers.is_empty());
        child.inherit_trace(&own.headers);
        assert_eq!(child.headers, own.headers);
    }

    #[test]
    fn new_traces_differ_in_both_halves() {
        let (one, other) = (TraceContext::root(true), TraceContext::root(false));
        assert!(one.is_sampled() && !other.is_sampled());
        let halves = |of: TraceContext| of.trace_id().to_bytes().split_at(8).0.to_vec();
        assert_ne!(halves(one), halves(other));
        assert_eq!(TraceContext::parse(&one.to_string()), Some(one));
        let halves = (0..200).map(|_| TraceContext::root(true).trace_id().to_bytes()[8] >> 7);
        let high: u32 = halves.map(u32::from).sum();
        assert!(
            (50..150).contains(&high),
            "the highest bit is set in half of them, not {high} of 200"
        );
    }
}
