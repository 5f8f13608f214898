//! The private directory of one run: its working directory, and the files between it and its command.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use runner_core::function::ExecSpec;
use runner_sdk::{Ctx, TaskError};

use super::account::Account;
use super::cannot;
use crate::exhausted;
use crate::guard::UserIds;
use crate::misconfigured::misconfigured;

/// Checks whether a run can have its directory here, as every command needs one.
///
/// # Errors
///
/// Why not, with the directory that was tried.
pub fn try_run_directory() -> Result<(), String> {
    run_directory().map(drop)
}

fn run_directory() -> Result<tempfile::TempDir, String> {
    directory_below(&std::env::temp_dir())
}

fn directory_below(place: &Path) -> Result<tempfile::TempDir, String> {
    make_directory(place).map_err(|e| {
        let cause = exhausted::cause(&e).unwrap_or_else(|| {
            let place = place.display();
            format!("{e} (TMPDIR must name a directory that this process may write, and {place} is not one)")
        });
        format!("no directory for the run: {cause}")
    })
}

fn make_directory(below: &Path) -> io::Result<tempfile::TempDir> {
    let owner_only = std::fs::Permissions::from_mode(0o700);
    let mut dir = tempfile::Builder::new();
    let dir = dir.prefix("runner-").permissions(owner_only).tempdir_in(below)?;
    std::fs::create_dir(dir.path().join("work"))?;
    Ok(dir)
}

/// Writes a file that only this user can read, change and run.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o700).open(path)?;
    file.write_all(text.as_bytes())
}

/// The private directory of one run: working directory, script, result and control file.
pub(super) struct Place {
    dir: tempfile::TempDir,
    owner: Option<UserIds>,
}

impl Place {
    /// Makes the directory, for the account as which the command runs.
    pub(super) fn make(spec: &ExecSpec, account: Option<&Account>, cx: &Ctx) -> Result<Self, TaskError> {
        // Whatever the cause, it is not the task's fault.
        let dir = run_directory().map_err(|why| exhausted::put_off(&why, cx))?;
        // Reported here, because starting a program in a missing directory would blame the program.
        if let Some(why) = spec.cwd.as_deref().and_then(cannot::enter) {
            return Err(misconfigured(why, cx));
        }
        let owner = account.and_then(|account| account.switch_to);
        let place = Self { dir, owner };
        place.fill(spec).map_err(|e| {
            let cause = exhausted::cause(&e).unwrap_or_else(|| e.to_string());
            exhausted::put_off(&format!("no files for the run: {cause}"), cx)
        })?;
        Ok(place)
    }

    /// Makes what is in the directory. With a user of its own the command gets the right to pass through the directory and to
    /// what is in it, never to replace that: this process reads and opens these names with all of its rights.
    fn fill(&self, spec: &ExecSpec) -> io::Result<()> {
        if let Some(script) = &spec.script {
            write_private(&self.script(), script)?;
            self.give(&self.script())?;
        }
        std::fs::create_dir(self.artifacts())?;
        for path in [self.artifacts(), self.work()] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
            self.give(&path)?;
        }
        let Some(ids) = self.owner else { return Ok(()) };
        for path in [self.result(), self.control()] {
            write_private(&path, "")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            self.give(&path)?;
        }
        std::os::unix::fs::lchown(self.path(), None, Some(ids.group))?;
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o710))
    }

    /// Makes a file that was made here one of the command's user.
    fn give(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some(ids) => std::os::unix::fs::lchown(path, Some(ids.user), Some(ids.group)),
            None => Ok(()),
        }
    }

    /// Makes a named pipe that no other user can open.
    pub(super) fn make_pipe(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        self.give(&path)?;
        Ok(path)
    }

    pub(super) fn cwd(&self, spec: &ExecSpec) -> PathBuf {
        spec.cwd.clone().unwrap_or_else(|| self.work())
    }

    fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    pub(super) fn script(&self) -> PathBuf {
        self.path().join("script")
    }

    pub(super) fn artifacts(&self) -> PathBuf {
        self.path().join("artifacts")
    }

    pub(super) fn result(&self) -> PathBuf {
        self.path().join("result")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.path().join("control")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the directory. It may hold thousands of files, so not on a thread that serves others.
    pub(super) async fn remove(self) {
        let path = self.path().display().to_string();
        let removed = tokio::task::spawn_blocking(move || self.dir.close()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%path, %error, "the directory of a run could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_without_a_directory_names_the_setting_to_change() {
        let why = directory_below(Path::new("/proc/self/no-such")).unwrap_err();
        assert!(why.contains("TMPDIR") && why.contains("/proc/self/no-such"), "{why}");
        let dir = tempfile::tempdir().unwrap();
        assert!(directory_below(dir.path()).unwrap().path().join("work").is_dir());
    }
}
