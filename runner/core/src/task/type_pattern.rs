//! Patterns of task types and group names, as in registrations of handlers and aggregators: a name, or a prefix and `*`.
//! Queue names have their own patterns, with `*` anywhere: see `pattern`.

/// A name, or every name with a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypePattern<'a> {
    /// Exactly this name.
    Name(&'a str),
    /// All names with this prefix; written as the prefix and `*`.
    Prefix(&'a str),
}

impl<'a> TypePattern<'a> {
    /// Reads a pattern; every text is one.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        text.strip_suffix('*').map_or(Self::Name(text), Self::Prefix)
    }

    /// Whether the pattern covers `name`.
    #[must_use]
    pub fn matches(self, name: &str) -> bool {
        match self {
            Self::Name(only) => name == only,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        for (pattern, covers, leaves) in [
            ("mail:welcome", "mail:welcome", "mail:welcome2"),
            ("mail:*", "mail:welcome", "mai"),
            ("*", "anything", ""),
            ("", "", "a"),
        ] {
            assert!(TypePattern::parse(pattern).matches(covers), "{pattern}");
            assert!(
                pattern == "*" || !TypePattern::parse(pattern).matches(leaves),
                "{pattern}"
            );
        }
        assert!(TypePattern::parse("*").matches(""));
    }
}
