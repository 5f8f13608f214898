//! Runs a command for a task: its input, and the meaning of its end.
//!
//! The command gets an argv without a shell (unless its manifest says so), a cleared environment, the payload on standard
//! input, a directory and a process group of its own. Under a guard no process that it started survives the run, for
//! whatever reason it ends; without one (in programs whose `main` cannot be one) that holds only for its group, and only
//! unless this process is killed.

mod allow;
mod cannot;
mod control;
mod group;
mod guarded;
mod output;
mod supervise;
mod verdict;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use runner_core::function::{ExecResult, ExecSpec};
use runner_sdk::{Bytes, Ctx, Outcome, TaskError};
use tokio::process::Command;

use crate::guard::{self, GuardHandle, IdleGuards, StartError};
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;
use crate::stopped::stopped;
use crate::{context, exhausted};
use allow::Program;
use control::Control;
use group::ProcessGroup;
use supervise::{CommandEnd, EndedCommand, Pipes};

/// Maximum bytes of a result; as much as a task's payload may sensibly be.
const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// Which commands this worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Whether it runs any.
    pub enabled: bool,
    /// Programs that may be started: names, searched in the PATH of this process, and absolute patterns in which `*` and `?`
    /// do not match a slash; `None`: all.
    pub allowed_commands: Vec<String>,
    /// Whether commands run under a guard, a second process of this program: only for programs whose `main` calls
    /// [`crate::guard_main`] first.
    pub guard: bool,
}

impl Default for ExecSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_commands: Vec::new(),
            guard: false,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(
    spec: &ExecSpec,
    function: &str,
    settings: &ExecSettings,
    idle: &IdleGuards,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let program = settings.program(spec).map_err(|why| misconfigured(why, cx))?;
    let place = Place::make(spec, cx)?;
    let arguments = arguments(spec, &place)?;
    let mut secrets = Secrets::default();
    let env = environment(spec, function, &place, &mut secrets, cx)?;
    let start = Start {
        cwd: place.cwd(spec),
        program,
        arguments,
        env,
    };
    let ended = match settings.guard {
        true => start.guarded(spec, idle, &place, &secrets, cx).await?,
        false => start.unguarded(spec, &secrets, cx).await?,
    };
    let program = start.program.name;
    // Also the result of a run that failed or was stopped.
    let stored = result(spec.result, ended.stdout, &place, &secrets, cx);
    if let Some(stored) = &stored {
        cx.keep_result(stored.clone());
    }
    let outcome = match ended.end {
        CommandEnd::Stopped(reason) => Err(stopped(reason, cx)),
        CommandEnd::Overdue => Err(TaskError::retry(
            "the lease ran out while this process was frozen; the command was ended",
        )),
        CommandEnd::Unguarded(how) => Err(TaskError::retry(format!(
            "the process that guards `{program}` was killed ({how}), and the command with it"
        ))),
        CommandEnd::Lost(error) => Err(TaskError::retry(format!("cannot wait for `{program}`: {error}"))),
        CommandEnd::Exited(status) => {
            let control = Control::read(&place.control(), &secrets, cx);
            let reason = control.summary.clone().or(ended.last_error_line);
            let verdict = verdict::of(status, &spec.exit_codes);
            if control.retry_after.is_some() && !matches!(verdict, verdict::ExitVerdict::Later(_)) {
                let note = format!(
                    "control file: retry_after counts only beside an exit code of exit_codes.retry, not {status}"
                );
                cx.log().push("log", &note);
            }
            let result = || stored.clone();
            verdict::outcome(verdict, &control, reason, cx, result)
        }
    };
    place.remove().await;
    outcome
}

/// The arguments of the program.
fn arguments(spec: &ExecSpec, place: &Place) -> Result<Vec<OsString>, TaskError> {
    let Some((first, rest)) = spec.command.split_first() else {
        return Err(TaskError::skip("misconfigured: the command is empty"));
    };
    let rest = rest.iter().map(OsString::from);
    if let Some(shell) = spec.shell {
        // `sh -c SCRIPT NAME ARGUMENTS`: what follows the script becomes `$1` and so on, never part of it.
        let beginning = ["-c", first, shell.name()].map(OsString::from);
        return Ok(beginning.into_iter().chain(rest).collect());
    }
    let script = spec.script.is_some().then(|| place.script().into());
    Ok(rest.chain(script).collect())
}

/// Inherited variables first, then the manifest's, then ours, which cannot be overridden.
fn environment(
    spec: &ExecSpec,
    function: &str,
    place: &Place,
    secrets: &mut Secrets,
    cx: &Ctx,
) -> Result<BTreeMap<OsString, OsString>, TaskError> {
    let mut env = BTreeMap::new();
    #[allow(clippy::disallowed_methods)] // the manifest lists the variables that the command inherits
    for name in &spec.inherit_env {
        if let Some(value) = std::env::var_os(name) {
            env.insert(name.into(), value);
        }
    }
    for (name, value) in &spec.env {
        let value = secrets.resolve(value).map_err(|e| e.into_error(cx))?;
        env.insert(name.into(), value.into());
    }
    let own = context::variables(cx, function).into_iter();
    env.extend(own.map(|(name, value)| (name.into(), value.into())));
    env.insert("RUNNER_RESULT_FILE".into(), place.result().into());
    env.insert("RUNNER_CONTROL_FILE".into(), place.control().into());
    Ok(env)
}

/// The environment of the new process, without its standard input.
struct Start {
    program: Program,
    arguments: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: PathBuf,
}

impl Start {
    async fn guarded(
        &self,
        spec: &ExecSpec,
        idle: &IdleGuards,
        place: &Place,
        secrets: &Secrets,
        cx: &Ctx,
    ) -> Result<EndedCommand, TaskError> {
        let (stdout, stderr) = (place.path().join("stdout"), place.path().join("stderr"));
        let output = guarded::Output::at(&stdout, &stderr).map_err(|e| match exhausted::cause(&e) {
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
        Ok(guarded::supervise(started, idle, captures_stdout, spec.kill_after, &control, secrets, cx).await)
    }

    async fn unguarded(&self, spec: &ExecSpec, secrets: &Secrets, cx: &Ctx) -> Result<EndedCommand, TaskError> {
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
        Ok(supervise::supervise(child, group, pipes, spec.kill_after, secrets, cx).await)
    }

    /// The error of a command that could not be started.
    fn cannot(&self, error: &std::io::Error, cx: &Ctx) -> TaskError {
        let path = self.env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        match exhausted::cause(error) {
            Some(cause) => exhausted::put_off(&format!("cannot start `{}`: {cause}", self.program.name), cx),
            None => misconfigured(cannot::start(&self.program.file, &self.cwd, path, error), cx),
        }
    }
}

/// The result left by the command; `None`, and a line in the log, if it is too long.
fn result(from: ExecResult, stdout: Vec<u8>, place: &Place, secrets: &Secrets, cx: &Ctx) -> Option<Bytes> {
    let bytes = match from {
        ExecResult::None => return None,
        ExecResult::Stdout => stdout,
        ExecResult::File => output::read_file(&place.result(), MAX_RESULT_BYTES, cx)?,
    };
    if bytes.len() > MAX_RESULT_BYTES {
        let note = format!("the result is longer than {MAX_RESULT_BYTES} bytes and was not kept");
        cx.log().push("log", &note);
        return None;
    }
    (!bytes.is_empty()).then(|| secrets.redact(&bytes).into_owned().into())
}

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

fn make_directory(below: &Path) -> std::io::Result<tempfile::TempDir> {
    let owner_only = std::fs::Permissions::from_mode(0o700);
    let mut dir = tempfile::Builder::new();
    let dir = dir.prefix("runner-").permissions(owner_only).tempdir_in(below)?;
    std::fs::create_dir(dir.path().join("work"))?;
    Ok(dir)
}

/// Writes a file that only this user can read, change and run.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o700).open(path)?;
    file.write_all(text.as_bytes())
}

/// The private directory of one run: working directory, script, result and control file.
struct Place(tempfile::TempDir);

impl Place {
    fn make(spec: &ExecSpec, cx: &Ctx) -> Result<Self, TaskError> {
        // Whatever the cause, it is not the task's fault.
        let dir = run_directory().map_err(|why| exhausted::put_off(&why, cx))?;
        // Reported here, because starting a program in a missing directory would blame the program.
        if let Some(why) = spec.cwd.as_deref().and_then(cannot::enter) {
            return Err(misconfigured(why, cx));
        }
        let place = Self(dir);
        if let Some(script) = &spec.script {
            let written = write_private(&place.script(), script);
            written.map_err(|e| exhausted::put_off(&format!("no file for the script: {e}"), cx))?;
        }
        Ok(place)
    }

    fn script(&self) -> PathBuf {
        self.path().join("script")
    }

    fn cwd(&self, spec: &ExecSpec) -> PathBuf {
        spec.cwd.clone().unwrap_or_else(|| self.path().join("work"))
    }

    fn result(&self) -> PathBuf {
        self.path().join("result")
    }

    fn control(&self) -> PathBuf {
        self.path().join("control")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes the directory. It may hold thousands of files, so not on a thread that serves others.
    async fn remove(self) {
        let path = self.path().display().to_string();
        let removed = tokio::task::spawn_blocking(move || self.0.close()).await;
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
