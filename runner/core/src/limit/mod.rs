//! Limits of task types and queues: how many tasks run at a time, how often one starts, and in which order. As plain data.
//!
//! Not here: who counts and decides, which is the broker's claim.

mod semaphore;

pub use semaphore::{
    MAX_SEMAPHORE_SCOPE, SEMAPHORE_KEY, SemaphoreFault, SemaphoreReach, SemaphoreScopeError, SharedSemaphore,
};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::task::{QueueName, TypePattern, payload_value};

/// The most tasks that a limit may let run at a time, and the most that a rate may let start in its time.
pub const MAX_LIMIT: u32 = 1_000_000;

/// The longest time over which a rate counts.
pub const MAX_RATE_PER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest path of a key, in bytes.
pub const MAX_LIMIT_KEY: usize = 256;

/// A rate lets at least as many tasks start at once as fall due in this time. An idle worker is woken at most every 10 ms, and a
/// round trip may take as long as the pause between two tasks: without this, high rates would not be reached.
pub const RATE_SLACK: Duration = Duration::from_millis(50);

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitRule {
    /// This many run at a time.
    Concurrency(u32),
    /// This many run at a time, together with those of Go programs that take a place of the same semaphore.
    Semaphore(SharedSemaphore),
    /// This many start in a time.
    Rate(StartRate),
    /// One at a time, in the order in which they came, and the next one only after this one has ended for good.
    Sequence,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRate {
    /// Tasks in `per`, 1 to [`MAX_LIMIT`].
    pub count: u32,
    /// The time, 1 ms to [`MAX_RATE_PER`].
    pub per: Duration,
    /// How many may start at once after a quiet time, 1 to [`MAX_LIMIT`].
    pub burst: u32,
}

impl StartRate {
    /// The time between two tasks, in milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> f64 {
        self.per.as_secs_f64() * 1000.0 / f64::from(self.count.max(1))
    }

    /// How many may start at once: the burst, but no fewer than fall due in [`RATE_SLACK`].
    #[must_use]
    pub fn at_once(&self) -> u32 {
        let slack = RATE_SLACK.as_secs_f64() * f64::from(self.count) / self.per.as_secs_f64().max(0.001);
        // Bounded by the count of a valid rate, and a cast of a float saturates.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.burst.max(slack.ceil() as u32)
    }
}

/// What happens to a task for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLimit {
    /// It waits for its turn, without using up a retry.
    #[default]
    Wait,
    /// It is not run.
    Skip,
}

/// Where in a payload the key of a task is: `tenant`, or `account.id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitKey(String);

impl LimitKey {
    /// Reads a path, with or without `payload.` before it.
    ///
    /// # Errors
    ///
    /// [`LimitKeyError`] if it is empty, too long, or has an empty part or a control character.
    pub fn new(path: &str) -> Result<Self, LimitKeyError> {
        let path = path.strip_prefix("payload.").unwrap_or(path);
        if path.is_empty() || path.split('.').any(str::is_empty) {
            return Err(LimitKeyError::EmptyPart);
        }
        if path.len() > MAX_LIMIT_KEY {
            return Err(LimitKeyError::TooLong);
        }
        if path.contains(|c: char| c.is_control() || c == '{' || c == '}') {
            return Err(LimitKeyError::OddCharacter);
        }
        Ok(Self(path.to_owned()))
    }

    /// The path, without `payload.`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key in this payload: a text, a number or a truth value; empty for a payload that has none there.
    #[must_use]
    pub fn value(&self, payload: &[u8]) -> String {
        payload_value(payload, &self.0)
    }
}

/// A path that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitKeyError {
    /// Nothing, or nothing between two dots.
    #[error("a part of the path is empty; write for example payload.tenant")]
    EmptyPart,
    /// More than [`MAX_LIMIT_KEY`] bytes.
    #[error("the path is longer than {MAX_LIMIT_KEY} bytes")]
    TooLong,
    /// A control character, or a brace.
    #[error("a key is a plain path into the payload, such as payload.tenant, and no template")]
    OddCharacter,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLimit {
    /// What it counts.
    pub rule: LimitRule,
    /// Counted apart for each value of this key; `None` counts all tasks together. The scope of a semaphore is then followed by a
    /// colon and the value, for tasks that have one.
    pub key: Option<LimitKey>,
    /// What happens to a task for which there is no room.
    pub on_limit: OnLimit,
}

impl TaskLimit {
    /// A limit without a key, at which tasks wait.
    #[must_use]
    pub fn new(rule: LimitRule) -> Self {
        Self {
            rule,
            key: None,
            on_limit: OnLimit::Wait,
        }
    }

    /// The word for its rule in names of limits.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.rule {
            LimitRule::Concurrency(_) => "concurrency",
            LimitRule::Semaphore(_) => "semaphore",
            LimitRule::Rate(_) => "rate",
            LimitRule::Sequence => "sequence",
        }
    }

    /// The semaphore that it counts in, if it does.
    #[must_use]
    pub fn semaphore(&self) -> Option<&SharedSemaphore> {
        match &self.rule {
            LimitRule::Semaphore(semaphore) => Some(semaphore),
            _ => None,
        }
    }

    /// Its place among those of one task: an order is kept while a task waits at the others, and a rate is asked last, so that a
    /// task that cannot start uses up nothing.
    fn place(&self) -> u8 {
        match self.rule {
            LimitRule::Sequence => 0,
            LimitRule::Concurrency(_) => 1,
            LimitRule::Semaphore(_) => 2,
            LimitRule::Rate(_) => 3,
        }
    }
}

/// A limit with what it is of: a type, a prefix of types (`mail:*`), or a whole queue (empty).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedLimit {
    /// The limit.
    pub limit: TaskLimit,
    /// What it is of.
    pub of: String,
}

impl ScopedLimit {
    /// Its name: `concurrency fn:report`, `rate mail:*`, `concurrency` for a whole queue. That of a semaphore is its scope,
    /// `semaphore api`, whatever it is of: all count together.
    #[must_use]
    pub fn name(&self) -> String {
        if let LimitRule::Semaphore(semaphore) = &self.limit.rule {
            return format!("semaphore {}", semaphore.scope());
        }
        let name = format!("{} {}", self.limit.word(), self.of);
        name.trim_end().to_owned()
    }
}

/// All limits that a worker knows, by type and by queue. A limit of a type counts in each queue for itself, but for a semaphore. Of
/// different numbers of places for one semaphore the lowest counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    types: BTreeMap<String, Vec<ScopedLimit>>,
    queues: BTreeMap<QueueName, Vec<ScopedLimit>>,
    /// The number of each semaphore, by scope and key.
    places: BTreeMap<(String, Option<LimitKey>), u32>,
}

/// Whether a limit of the same rule is known.
fn has(list: Option<&Vec<ScopedLimit>>, limit: &TaskLimit) -> bool {
    list.is_some_and(|list| list.iter().any(|known| known.limit.word() == limit.word()))
}

impl Limits {
    /// Adds a limit of a type, or of all types with a prefix (`mail:*`) together. A second one of the same rule and type is
    /// ignored, and so is a type with a control character.
    pub fn add(&mut self, pattern: &str, limit: TaskLimit) {
        if pattern.contains(char::is_control) || has(self.types.get(pattern), &limit) {
            return;
        }
        let limit = self.level(limit);
        Self::insert(self.types.entry(pattern.to_owned()).or_default(), pattern, limit);
    }

    /// Adds a limit of all tasks of a queue.
    pub fn add_of_queue(&mut self, queue: QueueName, limit: TaskLimit) {
        if has(self.queues.get(&queue), &limit) {
            return;
        }
        let limit = self.level(limit);
        Self::insert(self.queues.entry(queue).or_default(), "", limit);
    }

    /// Gives a limit that is added, and those that count in the same places of a semaphore, the lowest of their numbers: with
    /// several, tasks of one type could keep those of another from ever starting.
    fn level(&mut self, mut limit: TaskLimit) -> TaskLimit {
        let LimitRule::Semaphore(semaphore) = &mut limit.rule else {
            return limit;
        };
        let place = (semaphore.scope().to_owned(), limit.key.clone());
        let lowest = self.places.entry(place).or_insert(semaphore.most());
        semaphore.lower_to(*lowest);
        if semaphore.most() < *lowest {
            *lowest = semaphore.most();
            let lists = self.types.values_mut().chain(self.queues.values_mut());
            for known in lists.flatten().filter(|known| known.limit.key == limit.key) {
                if let LimitRule::Semaphore(known) = &mut known.limit.rule
                    && known.scope() == semaphore.scope()
                {
                    known.lower_to(*lowest);
                }
            }
        }
        limit
    }

    /// The semaphores of all limits.
    pub fn semaphores(&self) -> impl Iterator<Item = &SharedSemaphore> {
        let lists = self.types.values().chain(self.queues.values());
        lists.flatten().filter_map(|scoped| scoped.limit.semaphore())
    }

    /// Adds all of others, after those that are known.
    pub fn add_all(&mut self, others: &Self) {
        for (pattern, list) in &others.types {
            for scoped in list {
                self.add(pattern, scoped.limit.clone());
            }
        }
        for (queue, list) in &others.queues {
            for scoped in list {
                self.add_of_queue(queue.clone(), scoped.limit.clone());
            }
        }
    }

    fn insert(list: &mut Vec<ScopedLimit>, of: &str, limit: TaskLimit) {
        let of = of.to_owned();
        list.push(ScopedLimit { limit, of });
        list.sort_by_key(|known| known.limit.place());
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && self.queues.is_empty()
    }

    /// Those of types, by type or prefix with a star.
    pub fn types(&self) -> impl Iterator<Item = (&str, &[ScopedLimit])> {
        self.types.iter().map(|(kind, list)| (kind.as_str(), list.as_slice()))
    }

    /// Those of queues.
    pub fn queues(&self) -> impl Iterator<Item = (&QueueName, &[ScopedLimit])> {
        self.queues.iter().map(|(queue, list)| (queue, list.as_slice()))
    }

    /// Those that hold for a task of this type in this queue, in the order in which they are checked.
    #[must_use]
    pub fn of(&self, queue: &QueueName, kind: &str) -> Vec<&ScopedLimit> {
        let by_prefix = || {
            let fits = |pattern: &&String| match TypePattern::parse(pattern) {
                TypePattern::Prefix(prefix) => kind.starts_with(prefix),
                TypePattern::Name(_) => false,
            };
            let longest = self.types.keys().filter(fits).max_by_key(|pattern| pattern.len())?;
            self.types.get(longest)
        };
        let of_type = self.types.get(kind).or_else(by_prefix);
        let mut found: Vec<&ScopedLimit> = of_type.into_iter().chain(self.queues.get(queue)).flatten().collect();
        found.sort_by_key(|known| known.limit.place());
        // A semaphore of the type and of its queue.
        found.dedup_by(|a, b| a.limit.semaphore().is_some() && a.name() == b.name() && a.limit.key == b.limit.key);
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_a_path_into_the_payload() {
        let key = |path: &str| LimitKey::new(path).unwrap();
        assert_eq!(key("payload.a.b"), key("a.b"));
        let payload = br#"{"a": {"b": "x", "n": 42, "yes": true}, "c": null}"#;
        for (path, value) in [
            ("a.b", "x"),
            ("a.n", "42"),
            ("a.yes", "true"),
            ("a", ""),
            ("c", ""),
            ("d.e", ""),
        ] {
            assert_eq!(key(path).value(payload), value, "{path}");
        }
        assert_eq!(key("a").value(b"no JSON"), "");
        for odd in ["", ".", "a..b", "payload.", "{{ payload.a }}", "a\n"] {
            assert!(LimitKey::new(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_type_has_its_own_limits_else_those_of_its_longest_prefix_and_those_of_its_queue() {
        let mut limits = Limits::default();
        let of = |n| TaskLimit::new(LimitRule::Concurrency(n));
        limits.add("mail:*", of(1));
        limits.add("mail:bulk:*", of(2));
        limits.add("mail:bulk:x", of(3));
        limits.add("mail:bulk:x", of(4));
        limits.add("mail:bulk:x", TaskLimit::new(LimitRule::Sequence));
        limits.add_of_queue(QueueName::new("low").unwrap(), of(5));
        let names = |queue: &str, kind: &str| -> Vec<(String, LimitRule)> {
            let found = limits.of(&QueueName::new(queue).unwrap(), kind);
            let both = |known: &&ScopedLimit| (known.name(), known.limit.rule.clone());
            found.iter().map(both).collect()
        };
        assert_eq!(names("default", "x"), []);
        let first = ("concurrency mail:*".to_owned(), LimitRule::Concurrency(1));
        let whole = ("concurrency".to_owned(), LimitRule::Concurrency(5));
        assert_eq!(names("low", "mail:x"), [first, whole]);
        let bulk = ("concurrency mail:bulk:*".to_owned(), LimitRule::Concurrency(2));
        assert_eq!(names("default", "mail:bulk:y"), [bulk]);
        let exact = ("concurrency mail:bulk:x".to_owned(), LimitRule::Concurrency(3));
        let order = ("sequence mail:bulk:x".to_owned(), LimitRule::Sequence);
        assert_eq!(names("default", "mail:bulk:x"), [order, exact]);
    }

    #[test]
    fn a_semaphore_is_named_by_its_scope_and_has_the_lowest_number_of_places_that_is_stated() {
        let mut limits = Limits::default();
        let of = |scope: &str, most| TaskLimit::new(LimitRule::Semaphore(SharedSemaphore::new(scope, most).unwrap()));
        limits.add("a", of("api", 5));
        limits.add("b", of("api", 2));
        limits.add("c", of("other", 4));
        limits.add_of_queue(QueueName::default(), of("api", 3));
        let found: Vec<_> = limits.semaphores().map(|s| (s.scope(), s.most())).collect();
        assert_eq!(found, [("api", 2), ("api", 2), ("other", 4), ("api", 2)]);
        let names: Vec<_> = limits.of(&QueueName::default(), "a").iter().map(|l| l.name()).collect();
        assert_eq!(names, ["semaphore api"], "it counts once");

        let keyed = TaskLimit {
            key: Some(LimitKey::new("tenant").unwrap()),
            ..of("api", 1)
        };
        limits.add("d", keyed);
        let most = |kind: &str| -> Vec<u32> {
            let found = limits.of(&QueueName::new("low").unwrap(), kind);
            found
                .iter()
                .filter_map(|l| l.limit.semaphore())
                .map(SharedSemaphore::most)
                .collect()
        };
        assert_eq!((most("a"), most("d")), (vec![2], vec![1]), "places of a key are others");
    }

    #[test]
    fn a_high_rate_lets_those_start_at_once_that_fall_due_between_two_looks() {
        let rate = |count, per, burst| StartRate {
            count,
            per: Duration::from_secs(per),
            burst,
        };
        assert_eq!(rate(1_000, 1, 1).at_once(), 50);
        assert_eq!(rate(10, 1, 1).at_once(), 1);
        assert_eq!(rate(10, 1, 7).at_once(), 7);
        assert!((rate(100, 1, 1).interval_ms() - 10.0).abs() < 1e-9);
    }
}
