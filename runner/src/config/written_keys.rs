//! Which keys a settings file writes, to say later which of them have changed. Keeps no values.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::text::yaml::{Node, Value};

/// The paths of the keys of a file, such as `worker.concurrency`, each with a fingerprint of its value. A list is one value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WrittenKeys(BTreeMap<String, u64>);

impl fmt::Debug for WrittenKeys {
    /// Without fingerprints, from which a short secret could be guessed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenKeys").finish_non_exhaustive()
    }
}

impl WrittenKeys {
    /// Of this document.
    pub(super) fn of(document: &Node) -> Self {
        let mut keys = Self::default();
        keys.add("", &document.value);
        keys
    }

    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Map(entries) if !entries.is_empty() => {
                for (key, node) in entries {
                    let key = match &key.value {
                        Value::Text(key) => key.clone(),
                        other => format!("{other:?}"),
                    };
                    let below = if path.is_empty() { key } else { format!("{path}.{key}") };
                    self.add(&below, &node.value);
                }
            }
            // An empty file.
            _ if path.is_empty() => (),
            _ => {
                let mut state = DefaultHasher::new();
                fingerprint(value, &mut state);
                self.0.insert(path.to_owned(), state.finish());
            }
        }
    }

    /// The keys that one of the two lacks, or has with another value.
    #[must_use]
    pub fn changed_from(&self, before: &Self) -> Vec<String> {
        let differs = |(key, value): &(&String, &u64)| before.0.get(*key) != Some(*value);
        let mut changed: Vec<String> = self.0.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        changed.extend(before.0.keys().filter(|key| !self.0.contains_key(*key)).cloned());
        changed.sort();
        changed
    }

    /// Takes over one key from `other`: present, changed or absent as there.
    pub fn adopt(&mut self, key: &str, other: &Self) {
        match other.0.get(key) {
            Some(value) => {
                self.0.insert(key.to_owned(), *value);
            }
            None => {
                self.0.remove(key);
            }
        }
    }
}

/// Without places: a value that moved to another line is the same.
fn fingerprint(value: &Value, state: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(state);
    match value {
        Value::Null => (),
        Value::Bool(flag) => flag.hash(state),
        Value::Int(number) => number.hash(state),
        Value::Float(number) => number.to_bits().hash(state),
        Value::Text(text) => text.hash(state),
        Value::List(nodes) => {
            nodes.len().hash(state);
            nodes.iter().for_each(|node| fingerprint(&node.value, state));
        }
        Value::Map(entries) => {
            entries.len().hash(state);
            for (key, node) in entries {
                fingerprint(&key.value, state);
                fingerprint(&node.value, state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::yaml;

    fn keys(text: &str) -> WrittenKeys {
        WrittenKeys::of(&yaml::only(yaml::parse(text).unwrap()).unwrap())
    }

    #[test]
    fn changed_keys_are_named_by_their_paths_wherever_they_are() {
        let before =
            keys("log: {level: info}\nworker:\n  concurrency: 10\n  queues: {low: 1}\nauth: {users: [{name: ada}]}");
        let same = keys(
            "# a comment\nauth:\n  users:\n    - name: ada\nworker: {queues: {low: 1}, concurrency: 10}\nlog:\n  level: info",
        );
        assert_eq!(same.changed_from(&before), Vec::<String>::new());

        let after = keys("log: {level: debug}\nworker:\n  queues: {low: 1, high: 2}\nauth: {users: [{name: bob}]}");
        let changed = ["auth.users", "log.level", "worker.concurrency", "worker.queues.high"];
        assert_eq!(after.changed_from(&before), changed);
        assert_eq!(before.changed_from(&after), changed);
    }

    #[test]
    fn a_key_that_was_adopted_no_longer_differs() {
        let mut in_force = keys("a: 1\nb: 1\nc: 1");
        let written = keys("a: 2\nb: 2\nd: 1");
        for key in ["a", "c", "d"] {
            in_force.adopt(key, &written);
        }
        assert_eq!(written.changed_from(&in_force), ["b"]);
    }
}
