//! The task types that a worker knows: exact names, and prefixes.
//!
//! Not here: which handler is called, and how a broker reads the type of a task.

use std::collections::BTreeSet;
use std::sync::Arc;

use runner_core::task::TypePattern;

/// The task types that claims are for. A clone is one atomic increment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownTypes(Option<Arc<Known>>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    names: BTreeSet<String>,
    prefixes: BTreeSet<String>,
    except: BTreeSet<String>,
}

impl KnownTypes {
    /// Every type there is.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// Exact names, and `prefix*` for all types that begin with `prefix`; without those of `except` that only a
    /// prefix covers.
    #[must_use]
    pub fn new(
        patterns: impl IntoIterator<Item = impl Into<String>>,
        except: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let (mut names, mut prefixes) = (BTreeSet::new(), BTreeSet::new());
        for pattern in patterns {
            let pattern: String = pattern.into();
            match TypePattern::parse(&pattern) {
                TypePattern::Prefix(prefix) => prefixes.insert(prefix.to_owned()),
                TypePattern::Name(name) => names.insert(name.to_owned()),
            };
        }
        let except: BTreeSet<String> = except.into_iter().map(Into::into).collect();
        if prefixes.contains("") && except.is_empty() {
            return Self::all();
        }
        Self(Some(Arc::new(Known {
            names,
            prefixes,
            except,
        })))
    }

    /// Whether tasks of this type are among them.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        let Some(known) = &self.0 else { return true };
        known.names.contains(kind)
            || (!known.except.contains(kind) && known.prefixes.iter().any(|prefix| kind.starts_with(prefix)))
    }

    /// Whether these are all types there are.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The exact names; none if these are all types.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|known| known.names.iter().map(String::as_str))
    }

    /// The prefixes; none if these are all types.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|known| known.prefixes.iter().map(String::as_str))
    }

    /// The types that no prefix covers although they begin with it.
    pub fn exceptions(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|known| known.except.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        let types = KnownTypes::new(["email:send", "sms:*"], NONE);
        assert!(types.has("email:send"));
        assert!(!types.has("email"));
        assert!(!types.has("email:send:now"));
        assert!(types.has("sms:send"));
        assert!(!types.has("sms"));
        assert!(!KnownTypes::new(NONE, NONE).has("email:send"));
    }

    #[test]
    fn an_exception_is_made_of_prefixes_only() {
        let types = KnownTypes::new(["a", "b.*", "*"], ["a", "b.c"]);
        assert!(types.has("a"));
        assert!(!types.has("b.c"));
        assert!(types.has("b.d"));
        assert!(!types.is_all());
    }

    #[test]
    fn an_empty_prefix_covers_everything() {
        assert!(KnownTypes::new(["a", "*"], NONE).is_all());
        assert!(KnownTypes::all().has("anything"));
    }
}
