//! The user that a command runs as, if its manifest names one.

use std::path::PathBuf;

use nix::unistd::{User, geteuid};
use runner_core::function::CheckFinding;

use crate::guard::{UserIds, may_change_user};

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) home: PathBuf,
    /// `None`: this process has that identity already.
    pub(super) switch_to: Option<UserIds>,
}

/// Why a command cannot run as a user here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAccount {
    #[error("exec.user `{0}`: only a runner that runs as root can start commands as another user")]
    NotRoot(String),
    #[error("exec.user `{0}`: this host has no such user")]
    Unknown(String),
    #[error("exec.user `{0}`: the users of this host cannot be read: {1}")]
    Unreadable(String, nix::Error),
}

impl NoAccount {
    /// For a check of the manifest.
    pub(super) fn finding(&self) -> CheckFinding {
        CheckFinding {
            refused: matches!(self, Self::NotRoot(_)),
            code: "E307",
            message: self.to_string(),
            hint: match self {
                Self::NotRoot(_) => Some("remove exec.user, or start the runner as root"),
                Self::Unknown(_) | Self::Unreadable(..) => Some("fine if another host runs it"),
            },
        }
    }
}

impl Account {
    /// The account of this name.
    pub(super) fn of(name: &str) -> Result<Self, NoAccount> {
        let found = User::from_name(name).map_err(|e| NoAccount::Unreadable(name.to_owned(), e))?;
        let user = found.ok_or_else(|| NoAccount::Unknown(name.to_owned()))?;
        let same = user.uid == geteuid();
        if !same && !may_change_user() {
            return Err(NoAccount::NotRoot(name.to_owned()));
        }
        // Root also switches to itself, which leaves its other groups.
        let switch_to = (!same || may_change_user()).then(|| UserIds {
            user: user.uid.as_raw(),
            group: user.gid.as_raw(),
        });
        Ok(Self {
            name: user.name,
            home: user.dir,
            switch_to,
        })
    }
}
