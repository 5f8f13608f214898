//! Builds a schedule in Rust with the options of a manifest's `schedule`. Checks nothing.

use std::fmt::Display;
use std::time::Duration;

use runner_core::duration;
use runner_core::schedule::{CatchUp, CatchUpPolicy, Overlap};
use runner_core::task::{OnConflict, QueueName, Unique, UniqueKey, UniqueScope};

use crate::text::yaml::{Mark, Node, Value};

/// When a task is enqueued, and under which policies: every option that the `schedule` of a manifest has.
///
/// A text converts into a schedule, so `"0 2 * * *"` can be used wherever one is expected. What a manifest refuses is
/// refused here with the same code and message, when the program starts and by its command `check`.
///
/// ```
/// use std::time::Duration;
/// use runner::Schedule;
/// use runner::schedule::{CatchUp, CatchUpPolicy, Overlap};
///
/// let nightly = Schedule::cron("30 2 * * *")
///     .timezone("Europe/Berlin")
///     .overlap(Overlap::Skip)
///     .catch_up(CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(6 * 3600), max: 10 })
///     .jitter(Duration::from_secs(120))
///     .retry(3)
///     .description("Sums up the day");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Schedule {
    rule: Rule,
    timezone: Option<String>,
    overlap: Option<Overlap>,
    catch_up: Option<CatchUp>,
    jitter: Option<Duration>,
    queue: Option<QueueName>,
    retry: Option<u32>,
    timeout: Option<Duration>,
    retention: Option<Duration>,
    pub(super) unique: Option<Unique>,
    pub(super) enabled: bool,
    pub(super) description: String,
}

#[derive(Debug, Clone)]
enum Rule {
    Cron(String),
    AnyOf(Vec<String>),
    Every(Duration),
    At(Vec<String>),
}

impl Schedule {
    /// At the times of an expression, `@daily`, `@every 90s` and `CRON_TZ=Zone ` included.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::new(Rule::Cron(expression.into()))
    }

    /// At the times of any of up to 100 expressions, once where they coincide.
    pub fn any_of<S: Into<String>>(expressions: impl IntoIterator<Item = S>) -> Self {
        Self::new(Rule::AnyOf(expressions.into_iter().map(Into::into).collect()))
    }

    /// At a fixed interval of whole seconds, from 1 s to 366 days, the same instants on every instance.
    pub fn every(interval: Duration) -> Self {
        Self::new(Rule::Every(interval))
    }

    /// At up to 100 instants and no others: `2026-12-24T22:00:00Z`, or without an offset a local time of the zone.
    /// A [`Timestamp`](crate::Timestamp) works as well.
    pub fn at<S: Display>(instants: impl IntoIterator<Item = S>) -> Self {
        Self::new(Rule::At(instants.into_iter().map(|at| at.to_string()).collect()))
    }

    fn new(rule: Rule) -> Self {
        Self {
            rule,
            timezone: None,
            overlap: None,
            catch_up: None,
            jitter: None,
            queue: None,
            retry: None,
            timeout: None,
            retention: None,
            unique: None,
            enabled: true,
            description: String::new(),
        }
    }

    /// The IANA name of its zone, instead of `server.timezone`.
    pub fn timezone(mut self, name: impl Into<String>) -> Self {
        self.timezone = Some(name.into());
        self
    }

    /// What happens while its previous task has not ended; [`Overlap::Allow`] if it is not set.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// Which late occurrences run: a policy, or a [`CatchUp`] with its window (1 s to 30 days) and its maximum
    /// (1 to 1000). The newest one within an hour if it is not set.
    pub fn catch_up(mut self, catch_up: impl Into<CatchUp>) -> Self {
        self.catch_up = Some(catch_up.into());
        self
    }

    /// Delays each fire by up to this much, in whole seconds, at most a day; the same on every instance.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = Some(jitter);
        self
    }

    /// The queue of its tasks. This and the other options of tasks go before those that the [`Task`] has and those of
    /// the function that it runs, even if they equal the defaults of a task.
    ///
    /// [`Task`]: runner_core::task::Task
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How often a task may be tried again, at most 1000 times.
    pub fn retry(mut self, times: u32) -> Self {
        self.retry = Some(times);
        self
    }

    /// How long one attempt may take, in whole seconds, from 1 s to 7 days.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long a task is kept after success, in whole seconds, at most 90 days.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Takes a uniqueness lock: of this length, from 1 s to 366 days, or a [`Unique`] that also says what makes two tasks the same, how
    /// long the lock counts and what happens to a second task.
    pub fn unique(mut self, unique: impl Into<Unique>) -> Self {
        self.unique = Some(unique.into());
        self
    }

    /// Whether it fires at all. One that does not is still listed, and can be run by hand.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// A text for people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// As the map that a manifest would have, so that one reader checks both.
    pub(super) fn to_node(&self) -> Node {
        let mut map = Vec::new();
        let mut put = |key: &str, value: Option<Value>| {
            map.extend(value.map(|value| (node(Value::Text(key.to_owned())), node(value))));
        };
        match &self.rule {
            Rule::Cron(text) => put("cron", Some(Value::Text(text.clone()))),
            Rule::AnyOf(all) => put("cron", Some(list(all))),
            Rule::Every(interval) => put("every", Some(span(*interval))),
            Rule::At(all) => put("at", Some(list(all))),
        }
        put("timezone", self.timezone.clone().map(Value::Text));
        put("overlap", self.overlap.map(overlap));
        put("catch_up", self.catch_up.map(catch_up));
        put("jitter", self.jitter.map(span));
        put("queue", self.queue.as_ref().map(word));
        put("retry", self.retry.map(number));
        put("timeout", self.timeout.map(span));
        put("retention", self.retention.map(span));
        put("unique", self.unique.as_ref().map(unique));
        node(Value::Map(map))
    }
}

impl From<&str> for Schedule {
    fn from(expression: &str) -> Self {
        Self::cron(expression)
    }
}

impl From<String> for Schedule {
    fn from(expression: String) -> Self {
        Self::cron(expression)
    }
}

fn node(value: Value) -> Node {
    let mark = Mark::default();
    Node { mark, value }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entry = |(key, value): (&str, Value)| (node(word(key)), node(value));
    Value::Map(entries.into_iter().map(entry).collect())
}

fn list(texts: &[String]) -> Value {
    Value::List(texts.iter().cloned().map(|text| node(Value::Text(text))).collect())
}

fn word(text: impl Display) -> Value {
    Value::Text(text.to_string())
}

fn number(number: u32) -> Value {
    Value::Int(number.into())
}

fn span(length: Duration) -> Value {
    word(duration::format(length))
}

/// A key that is a text has no form in a manifest and is left out.
fn unique(unique: &Unique) -> Value {
    let scope = UniqueScope::WORDS.iter().find(|(_, scope)| *scope == unique.scope);
    let conflict = OnConflict::WORDS.iter().find(|(_, one)| *one == unique.on_conflict);
    let mut entries = vec![("ttl", span(unique.ttl))];
    entries.extend(scope.map(|(text, _)| ("scope", word(text))));
    entries.extend(conflict.map(|(text, _)| ("on_conflict", word(text))));
    if let Some(UniqueKey::Payload(path)) = &unique.key {
        entries.push(("key", word(format_args!("payload.{path}"))));
    }
    let entry = |(key, value)| (node(word(key)), node(value));
    Value::Map(entries.into_iter().map(entry).collect())
}

fn overlap(overlap: Overlap) -> Value {
    match overlap {
        Overlap::Skip => word("skip"),
        Overlap::SkipIgnoringRetries => map([("policy", word("skip")), ("retries", word("ignore"))]),
        Overlap::Allow => word("allow"),
    }
}

fn catch_up(catch_up: CatchUp) -> Value {
    let policy = match catch_up.policy {
        CatchUpPolicy::None => "none",
        CatchUpPolicy::Last => "last",
        CatchUpPolicy::All => "all",
    };
    let (window, max) = (span(catch_up.window), number(catch_up.max));
    map([("policy", word(policy)), ("window", window), ("max", max)])
}
