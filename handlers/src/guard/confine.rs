//! What a command may use and as whom it runs: resource limits, user, umask, privileges. As data, as text for the way to
//! the process that becomes the command, and applied there.
//!
//! The limits are applied to a process that is about to become the command, never to the guard: they would end it, too.

use std::fs;
use std::io;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, close, geteuid, setgroups, setresgid, setresuid};

/// A resource of each process of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Bytes of address space.
    Memory,
    /// Seconds of processor time.
    CpuTime,
    /// Open files.
    OpenFiles,
    /// Bytes of a file that it writes.
    FileSize,
    /// Processes and threads of its user.
    Processes,
}

impl Limit {
    const ALL: [Self; 5] = [
        Self::Memory,
        Self::CpuTime,
        Self::OpenFiles,
        Self::FileSize,
        Self::Processes,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::CpuTime => "cpu_time",
            Self::OpenFiles => "open_files",
            Self::FileSize => "file_size",
            Self::Processes => "processes",
        }
    }

    fn resource(self) -> Resource {
        match self {
            Self::Memory => Resource::RLIMIT_AS,
            Self::CpuTime => Resource::RLIMIT_CPU,
            Self::OpenFiles => Resource::RLIMIT_NOFILE,
            Self::FileSize => Resource::RLIMIT_FSIZE,
            Self::Processes => Resource::RLIMIT_NPROC,
        }
    }

    /// Sets it so that the process cannot raise it again. A stricter limit that is in force already stays, unless this
    /// process may raise it.
    fn apply(self, wanted: u64) -> io::Result<()> {
        // The soft limit of processor time is a signal that a program may handle; the hard one, a second later, kills.
        let hard = match self {
            Self::CpuTime => wanted.saturating_add(1),
            _ => wanted,
        };
        let resource = self.resource();
        match setrlimit(resource, wanted, hard) {
            Err(Errno::EPERM) => {
                let (_, highest) = getrlimit(resource)?;
                Ok(setrlimit(resource, wanted.min(highest), hard.min(highest))?)
            }
            set => Ok(set?),
        }
    }
}

/// The identity of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserIds {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// What a command may use and as whom it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// Which permissions the files that it makes do not get.
    pub(crate) umask: u32,
    /// Whether programs with a set-user-id bit gain privileges in it.
    pub(crate) may_gain_privileges: bool,
    /// As whom it runs, without any other group; `None`: as this process.
    pub(crate) user: Option<UserIds>,
    pub(crate) limits: Vec<(Limit, u64)>,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            umask: 0o077,
            may_gain_privileges: false,
            user: None,
            limits: Vec::new(),
        }
    }
}

impl Confinement {
    /// Whether a process between the guard and the command is needed to apply it. The rest is inherited from the guard.
    pub(super) fn needs_launcher(&self) -> bool {
        self.user.is_some() || !self.limits.is_empty()
    }

    /// Applies what the guard passes on to each command that it starts.
    pub(super) fn apply_to_guard(&self) -> io::Result<()> {
        // What no mode has is ignored.
        umask(Mode::from_bits_truncate(self.umask));
        // Cannot be undone, and need not: it is a setting of the whole program.
        if !self.may_gain_privileges {
            prctl::set_no_new_privs()?;
        }
        Ok(())
    }

    /// Applies the rest to this process, which becomes the command next.
    pub(super) fn apply_to_command(&self) -> io::Result<()> {
        // Before the user changes, because only root may raise a limit; except for the number of processes, which a change of
        // user would be checked against.
        let of_user = |limit: Limit| limit == Limit::Processes;
        for (limit, value) in self.limits.iter().filter(|(limit, _)| !of_user(*limit)) {
            limit.apply(*value)?;
        }
        if let Some(ids) = self.user {
            let (user, group) = (Uid::from_raw(ids.user), Gid::from_raw(ids.group));
            setgroups(&[])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user)?;
        }
        for (limit, value) in self.limits.iter().filter(|(limit, _)| of_user(*limit)) {
            limit.apply(*value)?;
        }
        Ok(())
    }

    /// As one word: `umask=63 privileges=0 user=1:2 memory=1024`.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("umask={} privileges={}", self.umask, u8::from(self.may_gain_privileges));
        if let Some(ids) = self.user {
            text.push_str(&format!(" user={}:{}", ids.user, ids.group));
        }
        for (limit, value) in &self.limits {
            text.push_str(&format!(" {}={value}", limit.name()));
        }
        text
    }

    /// The reverse of [`Self::to_text`].
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut this = Self::default();
        for word in text.split(' ') {
            let (name, value) = word.split_once('=')?;
            match name {
                "umask" => this.umask = number(value)?,
                "privileges" => this.may_gain_privileges = value == "1",
                "user" => {
                    let (user, group) = value.split_once(':')?;
                    let (user, group) = (number(user)?, number(group)?);
                    this.user = Some(UserIds { user, group });
                }
                _ => {
                    let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name)?;
                    this.limits.push((limit, number(value)?));
                }
            }
        }
        Some(this)
    }
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

/// Whether this process may become another user.
pub(crate) fn may_change_user() -> bool {
    geteuid().is_root()
}

/// Forbids core dumps of this process and all that it starts: they would hold secrets, and fill disks.
pub(super) fn forbid_core_dumps() {
    // A lower limit is always allowed.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
}

/// Closes the descriptors above 2 that a program started from here would inherit: those that this process inherited itself,
/// for example from a shell that holds a lock. What a Rust program opens is closed when it starts another.
pub(super) fn close_inherited() {
    const CLOEXEC: u32 = 0o2_000_000;
    let Ok(listed) = fs::read_dir("/proc/self/fdinfo") else {
        return;
    };
    let open: Vec<i32> = listed
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & CLOEXEC == 0) {
            close(descriptor).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confinement_survives_the_way() {
        let ids = UserIds { user: 1, group: 65_534 };
        for confinement in [
            Confinement::default(),
            Confinement {
                umask: 0,
                may_gain_privileges: true,
                user: Some(ids),
                limits: Limit::ALL.map(|limit| (limit, u64::MAX)).to_vec(),
            },
        ] {
            assert_eq!(Confinement::from_text(&confinement.to_text()), Some(confinement));
        }
        for text in ["", "umask", "umask=x", "user=1", "memory=-1", "disk=1"] {
            assert_eq!(Confinement::from_text(text), None, "{text}");
        }
    }
}
