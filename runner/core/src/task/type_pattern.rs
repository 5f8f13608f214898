//! Patterns of task types and group names, as handlers and aggregators are registered: one name, or a prefix and `*`.
//! Names of queues have patterns of their own, with `*` anywhere: see `pattern`.

/// A name, or every name that begins with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypePattern<'a> {
    /// This very name.
    Name(&'a str),
    /// All names that begin with this text; written as the text and `*`.
    Prefix(&'a str),
}

impl<'a> TypePattern<'a> {
    /// Reads a pattern; any text is one.
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
