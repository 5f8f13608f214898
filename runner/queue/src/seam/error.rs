//! Errors between the program and its store; a variant exists only if some caller branches on it.

/// Any error of a library below the seam, kept as the cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a call across the seam.
pub type BrokerResult<T> = Result<T, BrokerError>;

/// A call across the seam that failed as a whole. The message never repeats its source: print the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The store did not answer. Whether the call took effect is unknown; the same call may be made again.
    #[error("cannot reach the broker while trying to {doing}")]
    Unreachable {
        /// What was being done, to be read after "trying to".
        doing: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store has no room (memory limit, full disk). Nothing was written.
    #[error("the broker is full; it refused to {doing}")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store denies access or this operation: credentials and permissions. To be corrected there or in the
    /// settings.
    #[error("the broker does not let us {doing}")]
    Denied {
        /// What was being done, to be read after "does not let us".
        doing: &'static str,
        /// The cause; never the credentials.
        #[source]
        source: BoxError,
    },
    /// The store answered with an error that a retry does not solve: its version, its certificate, the address.
    #[error("the broker refused to {doing}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The file of the store was replaced or removed while it was open. Nothing was written.
    #[error("the broker refused to {doing}: {what}")]
    Replaced {
        /// What was being done.
        doing: &'static str,
        /// Which file, and what to do about it.
        what: String,
    },
    /// The store did it, except for what it had to refuse, but did not confirm that it survives the loss of a
    /// server, as requested.
    #[error(
        "the broker was asked to {doing}, and only {confirmed} of {wanted} replicas confirmed: it may be lost with the server"
    )]
    Unconfirmed {
        /// What was being done.
        doing: &'static str,
        /// Replicas that confirmed in time.
        confirmed: u32,
        /// Replicas that were to confirm.
        wanted: u32,
    },
    /// The data in the store is damaged.
    #[error("the broker holds data that cannot be read while trying to {doing}: {what}")]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// The key or row, and its problem.
        what: String,
    },
}

/// The precise cause of an error, where the broker knows it; hints for people depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The password of the settings cannot be read.
    PasswordUnreadable,
    /// The store asks for a password, and there is none in the settings.
    PasswordMissing,
    /// The settings have a password, and the store has none.
    PasswordUnwanted,
    /// The user lacks a right.
    RightMissing,
    /// The store has no database of this number.
    DatabaseMissing,
    /// The store cannot save to its disk.
    DiskFailing,
    /// Certificates, or TLS at one end only.
    Tls,
}

impl Cause {
    /// The source of an error that has this cause, in these words.
    #[must_use]
    pub fn says(self, words: impl Into<String>) -> BoxError {
        let words = words.into();
        Box::new(KnownCause { cause: self, words })
    }
}

/// The source of an error whose cause is known.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct KnownCause {
    cause: Cause,
    words: String,
}

impl BrokerError {
    /// The precise cause, where the broker knows it.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        let source = match self {
            Self::Unreachable { source, .. }
            | Self::Full { source, .. }
            | Self::Denied { source, .. }
            | Self::Refused { source, .. } => source,
            Self::Replaced { .. } | Self::Unconfirmed { .. } | Self::Corrupt { .. } => return None,
        };
        source.downcast_ref::<KnownCause>().map(|known| known.cause)
    }

    /// Whether the same call may succeed later without any repair.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Full { .. })
    }

    /// The same error for another caller that waited for the same call; its causes are kept as text.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn for_another(&self) -> Self {
        let source = || {
            let causes = std::iter::successors(std::error::Error::source(self), |error| error.source());
            let texts: Vec<String> = causes.map(ToString::to_string).collect();
            let words = texts.join(": ");
            match self.cause() {
                Some(cause) => cause.says(words),
                None => BoxError::from(words),
            }
        };
        match self {
            Self::Unreachable { doing, .. } => Self::Unreachable {
                doing,
                source: source(),
            },
            Self::Full { doing, .. } => Self::Full {
                doing,
                source: source(),
            },
            Self::Denied { doing, .. } => Self::Denied {
                doing,
                source: source(),
            },
            Self::Refused { doing, .. } => Self::Refused {
                doing,
                source: source(),
            },
            Self::Corrupt { doing, what } => Self::Corrupt {
                doing,
                what: what.clone(),
            },
            Self::Replaced { doing, what } => Self::Replaced {
                doing,
                what: what.clone(),
            },
            Self::Unconfirmed {
                doing,
                confirmed,
                wanted,
            } => Self::Unconfirmed {
                doing,
                confirmed: *confirmed,
                wanted: *wanted,
            },
        }
    }

    /// A stable code for logs, pages and machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "broker_unavailable",
            Self::Full { .. } => "broker_full",
            Self::Denied { .. } => "broker_auth",
            Self::Refused { .. } => "broker_refused",
            Self::Unconfirmed { .. } => "broker_not_replicated",
            Self::Corrupt { .. } => "broker_corrupt",
            Self::Replaced { .. } => "broker_replaced",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_for_another_caller_keeps_the_cause_and_the_words() {
        let error = BrokerError::Denied {
            doing: "try",
            source: Cause::RightMissing.says("NOPERM no"),
        };
        let copy = error.for_another();
        assert_eq!(copy.cause(), Some(Cause::RightMissing));
        assert_eq!(
            std::error::Error::source(&copy).map(ToString::to_string).as_deref(),
            Some("NOPERM no")
        );
        let unknown = BrokerError::Denied {
            doing: "try",
            source: "no".into(),
        };
        assert_eq!(unknown.for_another().cause(), None);
    }
}
