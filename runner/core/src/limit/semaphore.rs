//! Semaphores that Go programs share: those of asynq's package `x/rate`, each named by a scope. As plain data.
//!
//! Not here: who counts their places, which is the broker's claim.

use crate::task::QueueName;

use super::MAX_LIMIT;

/// The longest scope of a semaphore, in bytes.
pub const MAX_SEMAPHORE_SCOPE: usize = 256;

/// What asynq's package puts before a scope to make a key in Redis.
pub const SEMAPHORE_KEY: &str = "asynq:sema:";

/// A number of places for all programs that name the same scope, in Go or here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSemaphore {
    scope: String,
    most: u32,
}

impl SharedSemaphore {
    /// A semaphore with this scope, in which `most` tasks may run at a time, 1 to [`MAX_LIMIT`]; numbers beyond these are
    /// replaced by the nearest.
    ///
    /// # Errors
    ///
    /// [`SemaphoreScopeError`] if the scope is blank, too long, or has a control character.
    pub fn new(scope: impl Into<String>, most: u32) -> Result<Self, SemaphoreScopeError> {
        let scope = scope.into();
        if scope.trim().is_empty() {
            return Err(SemaphoreScopeError::Blank);
        }
        if scope.len() > MAX_SEMAPHORE_SCOPE {
            return Err(SemaphoreScopeError::TooLong);
        }
        if scope.contains(char::is_control) {
            return Err(SemaphoreScopeError::ControlCharacter);
        }
        let most = most.clamp(1, MAX_LIMIT);
        Ok(Self { scope, most })
    }

    /// Its scope: what Go programs give `rate.NewSemaphore`.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// How many tasks may run at a time.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// The same with fewer places, if there are to be fewer.
    pub(super) fn lower_to(&mut self, most: u32) {
        self.most = self.most.min(most);
    }
}

/// A scope that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SemaphoreScopeError {
    /// Nothing but blanks.
    #[error("the scope of a semaphore is blank; write the one that the Go programs give rate.NewSemaphore")]
    Blank,
    /// More than [`MAX_SEMAPHORE_SCOPE`] bytes.
    #[error("the scope is longer than {MAX_SEMAPHORE_SCOPE} bytes")]
    TooLong,
    /// A line break or the like.
    #[error("the scope has a control character")]
    ControlCharacter,
}

/// Which semaphores a store can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SemaphoreReach {
    /// None: no program in Go shares it.
    Nowhere,
    /// All: one Redis has everything.
    Everywhere,
    /// In a cluster those whose key is in the slot of the queue: a claim is one step on one server.
    SlotOfQueue,
}

impl SemaphoreReach {
    /// Why tasks in this queue cannot be counted by this semaphore.
    #[must_use]
    pub fn fault(self, semaphore: &SharedSemaphore, queue: &QueueName) -> Option<SemaphoreFault> {
        match self {
            Self::Everywhere => None,
            Self::Nowhere => Some(SemaphoreFault::NotShared),
            Self::SlotOfQueue if hash_tag(&semaphore.scope) == hash_tag(&format!("{{{queue}}}")) => None,
            Self::SlotOfQueue => Some(SemaphoreFault::OtherSlot {
                key: format!("{SEMAPHORE_KEY}{}", semaphore.scope),
                queue: queue.to_string(),
            }),
        }
    }
}

/// The part of a key that decides its slot in a cluster, if it is not all of it.
fn hash_tag(key: &str) -> Option<&str> {
    let (tag, _) = key.split_once('{')?.1.split_once('}')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

/// Why a semaphore cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SemaphoreFault {
    /// See [`SemaphoreReach::Nowhere`].
    #[error("semaphores are shared with Go programs in Redis, and tasks are in a file here")]
    NotShared,
    /// See [`SemaphoreReach::SlotOfQueue`].
    #[error(
        "in a cluster the key of a semaphore must be in the slot of the queue, and {key:?} is not in that of {queue:?}"
    )]
    OtherSlot {
        /// The key of the semaphore.
        key: String,
        /// The queue of the tasks.
        queue: String,
    },
}

impl SemaphoreFault {
    /// What helps.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotShared => "leave semaphore out, or name a Redis server in the settings under redis".to_owned(),
            Self::OtherSlot { queue, .. } => {
                format!(
                    "put the queue in braces into the scope, here and in the Go programs, such as \"{{{queue}}}:api\""
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_is_kept_as_it_is_written() {
        assert_eq!(SharedSemaphore::new(" a, b ", 3).unwrap().scope(), " a, b ");
        assert_eq!(SharedSemaphore::new("a", 0).unwrap().most(), 1);
        for (scope, why) in [
            ("", SemaphoreScopeError::Blank),
            (" ", SemaphoreScopeError::Blank),
            ("a\tb", SemaphoreScopeError::ControlCharacter),
            (&*"x".repeat(257), SemaphoreScopeError::TooLong),
        ] {
            assert_eq!(SharedSemaphore::new(scope, 1), Err(why), "{scope:?}");
        }
    }

    #[test]
    fn in_a_cluster_the_key_must_be_in_the_slot_of_the_queue() {
        let fault = |scope: &str, queue: &str| {
            let semaphore = SharedSemaphore::new(scope, 1).unwrap();
            SemaphoreReach::SlotOfQueue.fault(&semaphore, &QueueName::new(queue).unwrap())
        };
        assert_eq!(fault("{mails}:api", "mails"), None);
        assert_eq!(fault("api{a}", "a}b"), None);
        for (scope, queue) in [("api", "mails"), ("{mails}:api", "low"), ("{}{mails}", "mails")] {
            let found = fault(scope, queue).unwrap();
            assert!(found.hint().contains(&format!("{{{queue}}}:api")), "{found}");
        }
        let api = SharedSemaphore::new("api", 1).unwrap();
        let fault = |reach: SemaphoreReach| reach.fault(&api, &QueueName::default());
        assert_eq!(fault(SemaphoreReach::Everywhere), None);
        assert_eq!(fault(SemaphoreReach::Nowhere), Some(SemaphoreFault::NotShared));
    }
}
