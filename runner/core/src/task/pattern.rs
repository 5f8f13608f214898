//! Queue patterns: names with `*`, which match any text.
//!
//! Pure text; a broker knows which queues exist.

use super::QueueName;

/// A name with at least one `*`, each of which matches any text, including none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueuePattern(String);

impl QueuePattern {
    /// Parses a pattern; `None` if the text names one queue.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        text.contains('*').then(|| Self(text.to_owned()))
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches this queue.
    #[must_use]
    pub fn matches(&self, queue: &str) -> bool {
        let mut parts = self.0.split('*');
        let (Some(first), Some(last)) = (parts.next(), parts.next_back()) else {
            return self.0 == queue;
        };
        let Some(mut rest) = queue.strip_prefix(first) else {
            return false;
        };
        // The leftmost match of each part leaves the most room for the next one.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// The number of literal characters: of several matching patterns, the most specific one applies.
    #[must_use]
    pub fn literal_len(&self) -> usize {
        self.0.len() - self.0.matches('*').count()
    }
}

/// Whether a name or a pattern covers this queue.
#[must_use]
pub fn covers(pattern: &str, queue: &str) -> bool {
    QueuePattern::new(pattern).map_or(pattern == queue, |found| found.matches(queue))
}

/// The priority of a queue under names and patterns: that of its own name, else of the most specific matching pattern, with
/// ties broken by their text. `None`: it is not served.
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
        let literal_len = pattern.literal_len();
        if best.is_none_or(|(most, first, _)| literal_len > most || (literal_len == most && text < first)) {
            best = Some((literal_len, text, priority));
        }
    }
    best.map(|(_, _, priority)| priority)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_star_matches_any_text() {
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
    fn an_exact_name_wins_then_the_most_specific_pattern() {
        let named = [("*", 1), ("tenant-*", 2), ("tenant-vip-*", 5), ("tenant-7", 9)];
        let of = |name: &str| priority_of(&QueueName::new(name).unwrap(), named);
        assert_eq!(of("tenant-7"), Some(9));
        assert_eq!(of("tenant-8"), Some(2));
        assert_eq!(of("tenant-vip-1"), Some(5));
        assert_eq!(of("mail"), Some(1));
        assert_eq!(priority_of(&QueueName::default(), [("tenant-*", 2)]), None);
    }
}
