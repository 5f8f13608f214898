//! Starts a command, under a guard or as a child of this process, and supervises it to its end.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::errno::Errno;
use runner_core::function::{ExecResult, ExecSpec};
use runner_sdk::{Ctx, TaskError};
use tokio::process::Command;

use super::allow::Program;
use super::group::ProcessGroup;
use super::place::Place;
use super::supervise::{self, EndedCommand, Pipes};
use super::{cannot, control, guarded};
use crate::exhausted;
use crate::guard::{self, Confinement, GuardHandle, IdleGuards, Limit, StartError};
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;

/// The environment of the new process, without its standard input.
pub(super) struct Start {
    pub(super) program: Program,
    pub(super) arguments: Vec<OsString>,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) cwd: PathBuf,
    pub(super) confinement: Confinement,
}

impl Start {
    /// Under a guard.
    pub(super) async fn guarded(
        &self,
        spec: &ExecSpec,
        idle: &IdleGuards,
        place: &Place,
        secrets: &Secrets,
        cx: &Ctx,
    ) -> Result<EndedCommand, TaskError> {
        let (output, stdout, stderr) = guarded::Output::in_place(place).map_err(|e| match exhausted::cause(&e) {
            Some(cause) => exhausted::put_off(&format!("no pipes for the command: {cause}"), cx),
            None => TaskError::retry(format!("no pipes for the command: {e}")),
        })?;
        let order = guard::Spec {
            program: self.program.file.clone(),
            name: (&self.program.name).into(),
            arguments: self.arguments.clone(),
            env: self.env.clone().into_iter().collect(),
            cwd: self.cwd.clone(),
            stdin: spec.stdin_payload.then(|| cx.payload().to_vec()),
            stdout,
            stderr,
            confinement: self.confinement.clone(),
        };
        let hold = *cx.held().borrow();
        let guard = match GuardHandle::start(order, hold, idle).await {
            Ok(guard) => guard,
            Err(StartError::Command(error)) => return Err(self.cannot(&error, cx)),
            Err(error) => {
                return Err(match exhausted::cause(&error) {
                    Some(cause) => exhausted::put_off(&format!("{error}: {cause}"), cx),
                    None => TaskError::from(error),
                });
            }
        };
        let started = guarded::StartedCommand { guard, output };
        let captures_stdout = spec.result == ExecResult::Stdout;
        let control = place.control();
        let ended = guarded::supervise(started, idle, captures_stdout, spec.kill_after, &control, secrets, cx);
        Ok(following(ended, &control, secrets, cx).await)
    }

    /// As a child of this process, without what the confinement says.
    pub(super) async fn unguarded(
        &self,
        spec: &ExecSpec,
        place: &Place,
        secrets: &Secrets,
        cx: &Ctx,
    ) -> Result<EndedCommand, TaskError> {
        if self.confinement.user.is_some() {
            return Err(misconfigured(
                "exec.user needs a guard, and commands run without one here",
                cx,
            ));
        }
        if !self.confinement.limits.is_empty() {
            cx.log()
                .push("log", "exec.limits are not applied: commands run without a guard here");
        }
        let mut command = Command::new(&self.program.file);
        command.arg0(&self.program.name).args(&self.arguments);
        command.env_clear().envs(&self.env).current_dir(&self.cwd);
        command.stdin(match spec.stdin_payload {
            true => Stdio::piped(),
            false => Stdio::null(),
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|e| self.cannot(&e, cx))?;
        // From here on dropping this future kills the group.
        let group = ProcessGroup::of(&child);
        let stdin = spec.stdin_payload.then(|| cx.payload().clone());
        let captures_stdout = spec.result == ExecResult::Stdout;
        let pipes = Pipes { stdin, captures_stdout };
        let ended = supervise::supervise(child, group, pipes, spec.kill_after, secrets, cx);
        Ok(following(ended, &place.control(), secrets, cx).await)
    }

    /// The error of a command that could not be started.
    fn cannot(&self, error: &std::io::Error, cx: &Ctx) -> TaskError {
        let of_memory = |limit: &(Limit, u64)| limit.0 == Limit::Memory;
        if error.raw_os_error() == Some(Errno::ENOMEM as i32) && self.confinement.limits.iter().any(of_memory) {
            let why = format!("cannot start `{}`: it needs more than limits.memory", self.program.name);
            return misconfigured(why, cx);
        }
        let path = self.env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        match exhausted::cause(error) {
            Some(cause) => exhausted::put_off(&format!("cannot start `{}`: {cause}", self.program.name), cx),
            None => misconfigured(cannot::start(&self.program.file, &self.cwd, path, error), cx),
        }
    }
}

/// Waits for the end of a command, and reports its progress meanwhile.
async fn following(
    ended: impl Future<Output = EndedCommand>,
    control: &Path,
    secrets: &Secrets,
    cx: &Ctx,
) -> EndedCommand {
    tokio::select! {
        ended = ended => ended,
        never = control::follow(control, secrets, cx) => match never {},
    }
}
