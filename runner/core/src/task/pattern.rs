//! Names of queues with `*` in them, which stand for every queue that they match.
//!
//! Pure text; which queues there are is asked of a broker.

use super::QueueName;

/// A name with at least one `*`, each of which stands for any text, also none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueuePattern(String);

impl QueuePattern {
    /// The pattern that a text is; `None` if it names one queue.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        text.contains('*').then(|| Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for this queue.
    #[must_use]
    pub fn matches(&self, queue: &str) -> bool {
        let mut parts = self.0.split('*');
        let (Some(first), Some(last)) = (parts.next(), parts.next_back()) else {
            return self.0 == queue;
        };
        let Some(mut rest) = queue.strip_prefix(first) else {
            return false;
        };
        // The leftmost place of each part leaves the most room for the next one.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// How much of a name it says: of several patterns that match, the one that says most counts.
    #[must_use]
    pub fn says(&self) -> usize {
        self.0.len() - self.0.matches('*').count()
    }
}

/// Whether a name or a pattern covers this queue.
#[must_use]
pub fn covers(pattern: &str, queue: &str) -> bool {
    QueuePattern::new(pattern).map_or(pattern == queue, |found| found.matches(queue))
}

/// The priority of a queue under names and patterns: that of its own name, else that of the pattern that says most, of
/// two that say as much the first by their text. `None`: it is not served.
#[must_use]
pub fn priority_of<'a>(queue: &QueueName, named: impl IntoIterator<Item = (&'a str, u32)>) -> Option<u32> {
    let mut best: Option<(usize, &str, u32)> = None;
    for (text, priority) in named {
        if text == queue.as_str() {
            return Some(priority);
        }
        let Some(pattern) = QueuePattern::new(text).filter(|p| p.matches(queue.as_str())) else {
            continue;
        };
        let says = pattern.says();
        if best.is_none_or(|(most, first, _)| says > most || (says == most && text < first)) {
            best = Some((says, text, priority));
        }
    }
    best.map(|(_, _, priority)| priority)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, yes, no) in [
            ("*", &["a", "tenant-7", "a*b"][..], &[][..]),
            (
                "tenant-*",
                &["tenant-", "tenant-7"],
                &["tenant", "x-tenant-1", "Tenant-1"],
            ),
            ("*-low", &["a-low", "-low"], &["low", "a-low-b"]),
            ("a*b*c", &["abc", "axbxc", "abcbc"], &["ab", "acb", "abcx"]),
            ("ab*ba", &["abba", "abxba"], &["aba"]),
            ("中*", &["中文"], &["文中"]),
        ] {
            let found = QueuePattern::new(pattern).unwrap();
            assert!(yes.iter().all(|name| found.matches(name)), "{pattern} {yes:?}");
            assert!(!no.iter().any(|name| found.matches(name)), "{pattern} {no:?}");
        }
        assert_eq!(QueuePattern::new("default"), None);
    }

    #[test]
    fn the_name_itself_counts_most_then_the_pattern_that_says_most() {
        let named = [("*", 1), ("tenant-*", 2), ("tenant-vip-*", 5), ("tenant-7", 9)];
        let of = |name: &str| priority_of(&QueueName::new(name).unwrap(), named);
        assert_eq!(of("tenant-7"), Some(9));
        assert_eq!(of("tenant-8"), Some(2));
        assert_eq!(of("tenant-vip-1"), Some(5));
        assert_eq!(of("mail"), Some(1));
        assert_eq!(priority_of(&QueueName::default(), [("tenant-*", 2)]), None);
    }
}
