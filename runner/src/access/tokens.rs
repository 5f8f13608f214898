//! Tokens with which programs call the API: names, rights, ends. The settings have digests; a token itself is seen once.
//!
//! Not here: how a request brings one, and what it is used for (`web`).

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// The fewest characters of a token: it cannot be guessed, so a right one is never refused because of wrong ones from its
/// address.
pub const SHORTEST_TOKEN: usize = 32;

/// The longest token in bytes. Longer ones are wrong, and need not be hashed.
const LONGEST_TOKEN: usize = 1024;

/// How a digest begins in the settings.
pub const DIGEST_PREFIX: &str = "sha256:";

/// What a token allows. None includes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRight {
    /// Reads.
    Read,
    /// Enqueues, runs, archives, cancels, pauses and resumes.
    Act,
    /// Deletes.
    Delete,
}

impl TokenRight {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Act, Self::Delete];

    /// The word in settings and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Act => "act",
            Self::Delete => "delete",
        }
    }
}

/// A right, to everything or to one resource: `read`, `act:tasks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScope {
    /// The right.
    pub right: TokenRight,
    /// The first segment of the paths that it is for; `None`: all.
    pub resource: Option<String>,
}

impl TokenScope {
    /// From its form in the settings; `None` if it has no right of this name. Whether there is such a resource is not known here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (right, resource) = match text.split_once(':') {
            Some((right, resource)) => (right, Some(resource.to_owned())),
            None => (text, None),
        };
        let right = TokenRight::ALL.into_iter().find(|known| known.as_str() == right)?;
        Some(Self { right, resource })
    }
}

/// A token that programs may use.
#[derive(Clone)]
pub struct ApiToken {
    /// For people, in settings and audit lines.
    pub name: String,
    /// The SHA-256 of the token.
    pub digest: [u8; 32],
    /// What it allows.
    pub scopes: Vec<TokenScope>,
    /// From when on it is refused.
    pub expires: Option<Timestamp>,
}

impl ApiToken {
    /// Whether it allows this on this resource.
    #[must_use]
    pub fn allows(&self, right: TokenRight, resource: &str) -> bool {
        let covers = |scope: &TokenScope| scope.resource.as_deref().is_none_or(|of| of == resource);
        self.scopes.iter().any(|scope| scope.right == right && covers(scope))
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The digest of a token.
#[must_use]
pub fn digest_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The tokens, which may be replaced while requests are answered. Clones share them.
#[derive(Clone, Default)]
pub struct TokenList(Arc<RwLock<Vec<ApiToken>>>);

impl TokenList {
    /// These tokens.
    #[must_use]
    pub fn new(tokens: Vec<ApiToken>) -> Self {
        Self(Arc::new(RwLock::new(tokens)))
    }

    /// Replaces them, from the next request on.
    pub fn set(&self, tokens: Vec<ApiToken>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// The token that was presented, whether or not its time is over. All are compared, each in constant time.
    #[must_use]
    pub fn find(&self, presented: &str) -> Option<ApiToken> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if presented.len() > LONGEST_TOKEN {
            return None;
        }
        let digest = digest_of(presented);
        let mut found = None;
        for token in tokens.iter() {
            if same(&token.digest, &digest) {
                found = Some(token);
            }
        }
        found.cloned()
    }
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token(name: &str, text: &str, scopes: &[&str]) -> ApiToken {
        ApiToken {
            name: name.to_owned(),
            digest: digest_of(text),
            scopes: scopes.iter().map(|scope| TokenScope::parse(scope).unwrap()).collect(),
            expires: None,
        }
    }

    #[test]
    fn a_token_is_found_by_its_text_until_it_is_replaced() {
        let list = TokenList::new(vec![token("ci", "one", &["read"]), token("app", "two", &["act"])]);
        let name = |text: &str| list.find(text).map(|token| token.name);
        assert_eq!(name("two").as_deref(), Some("app"));
        for wrong in ["", "tw", "two ", "TWO", &"x".repeat(LONGEST_TOKEN + 1)] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        list.set(vec![token("ci", "three", &["read"])]);
        assert_eq!((name("one"), name("three").as_deref()), (None, Some("ci")));
    }

    #[test]
    fn a_scope_is_for_everything_or_for_one_resource() {
        let both = token("a", "x", &["read", "act:tasks"]);
        assert!(both.allows(TokenRight::Read, "queues") && both.allows(TokenRight::Act, "tasks"));
        assert!(!both.allows(TokenRight::Act, "queues") && !both.allows(TokenRight::Delete, "tasks"));
        assert!(
            !token("b", "x", &["delete"]).allows(TokenRight::Read, "tasks"),
            "none includes another"
        );
        for odd in ["", "write", "Read", ":tasks"] {
            assert_eq!(TokenScope::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_token_is_over_from_its_end_on() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ending = ApiToken {
            expires: Some(at(10)),
            ..token("a", "x", &["read"])
        };
        assert_eq!([9, 10, 11].map(|now| ending.is_over(at(now))), [false, true, true]);
        assert!(!token("a", "x", &[]).is_over(at(i64::from(u32::MAX))));
    }
}
