//! Runs a command for a task: what it is given, and what its end means.
//!
//! The command gets an argv without a shell (unless its manifest says so), a cleared environment, the payload
//! on standard input, a directory of its own and a process group of its own. When the run is over, for whatever
//! reason, the whole group is gone. What leaves the group on purpose (`setsid`) is out of reach, and so is
//! everything if this process is killed with SIGKILL.

mod allow;
mod control;
mod group;
mod output;
mod supervise;
mod verdict;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use runner_sdk::{Bytes, Ctx, ExecResult, ExecSpec, Outcome, TaskError};
use tokio::process::Command;

use crate::context;
use crate::secret::Secrets;
use crate::stopped::stopped;
pub use allow::Unfit;
use control::Control;
use group::Group;
use supervise::{End, Pipes};

/// Most bytes of a result; as much as a task's payload may sensibly be.
const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// Which commands this worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Whether it runs any.
    pub enabled: bool,
    /// Programs that may be started: names, looked for in the PATH of this process, and absolute patterns in which
    /// `*` and `?` stand for no slash; none: all.
    pub allowed_commands: Vec<String>,
}

impl Default for ExecSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_commands: Vec::new(),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(
    spec: &ExecSpec,
    function: &str,
    settings: &ExecSettings,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    // Another worker may run it: so it is tried again.
    let program = settings.program(spec).map_err(misconfigured)?;
    let arguments = arguments(spec)?;
    let place = Place::make(spec)?;
    let mut secrets = Secrets::default();
    let mut command = Command::new(&program.file);
    let program = program.name;
    command.arg0(&program);
    command.args(arguments).current_dir(place.cwd(spec));
    environment(&mut command, spec, function, &place, &mut secrets, cx)?;
    command.stdin(if spec.stdin_payload {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);

    let child = command
        .spawn()
        .map_err(|e| misconfigured(format!("cannot start `{program}`: {e}")))?;
    // From here on the group falls with this future, however that ends.
    let group = Group::of(&child);
    let stdin = spec.stdin_payload.then(|| cx.payload().clone());
    let keep_stdout = spec.result == ExecResult::Stdout;
    let pipes = Pipes { stdin, keep_stdout };
    let ended = supervise::supervise(child, group, pipes, spec.kill_after, &secrets, cx).await;
    let outcome = match ended.end {
        End::Stopped(reason) => Err(stopped(reason, cx)),
        End::Lost(error) => Err(TaskError::retry(format!("cannot wait for `{program}`: {error}"))),
        End::Exited(status) => {
            let control = Control::read(&place.control(), &secrets, cx);
            let said = control.summary.clone().or(ended.last_error_line);
            let verdict = verdict::of(status, &spec.exit_codes);
            if control.retry_after.is_some() && !matches!(verdict, verdict::Verdict::Later(_)) {
                let note = format!(
                    "control file: retry_after counts only beside an exit code of exit_codes.retry, not {status}"
                );
                cx.log().push("log", &note);
            }
            let result = || result(spec.result, ended.stdout, &place, &secrets, cx);
            verdict::outcome(verdict, &control, said, result)
        }
    };
    place.remove().await;
    outcome
}

/// What follows the program.
fn arguments(spec: &ExecSpec) -> Result<Vec<&str>, TaskError> {
    let Some((first, rest)) = spec.command.split_first() else {
        return Err(TaskError::skip("misconfigured: the command is empty"));
    };
    let rest = rest.iter().map(String::as_str);
    if spec.shell {
        // `sh -c SCRIPT NAME ARGUMENTS`: what follows the script is `$1` and so on, never part of it.
        return Ok(["-c", first, "sh"].into_iter().chain(rest).collect());
    }
    Ok(rest.collect())
}

fn misconfigured(error: impl std::fmt::Display) -> TaskError {
    TaskError::retry(format!("misconfigured: {error}"))
}

/// Inherited variables first, then the manifest's, then ours, which nothing may change.
fn environment(
    command: &mut Command,
    spec: &ExecSpec,
    function: &str,
    place: &Place,
    secrets: &mut Secrets,
    cx: &Ctx,
) -> Result<(), TaskError> {
    command.env_clear();
    #[allow(clippy::disallowed_methods)] // the manifest says which variables the command sees
    for name in &spec.inherit_env {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (name, value) in &spec.env {
        command.env(name, secrets.resolve(value).map_err(misconfigured)?);
    }
    command.envs(context::variables(cx, function));
    command.env("RUNNER_RESULT_FILE", place.result());
    command.env("RUNNER_CONTROL_FILE", place.control());
    Ok(())
}

/// What the command left as its result; nothing, and a line in the log, if it is too long.
fn result(from: ExecResult, stdout: Vec<u8>, place: &Place, secrets: &Secrets, cx: &Ctx) -> Option<Bytes> {
    let bytes = match from {
        ExecResult::None => return None,
        ExecResult::Stdout => stdout,
        ExecResult::File => output::read_file(&place.result(), MAX_RESULT_BYTES)?,
    };
    if bytes.len() > MAX_RESULT_BYTES {
        let note = format!("the result is longer than {MAX_RESULT_BYTES} bytes and was not kept");
        cx.log().push("log", &note);
        return None;
    }
    (!bytes.is_empty()).then(|| secrets.redact(&bytes).into_owned().into())
}

/// The private directory of one run: where it works, and where it leaves its result and its control file.
struct Place(tempfile::TempDir);

impl Place {
    fn make(spec: &ExecSpec) -> Result<Self, TaskError> {
        let owner_only = std::fs::Permissions::from_mode(0o700);
        let mut dir = tempfile::Builder::new();
        let dir = dir.prefix("runner-").permissions(owner_only).tempdir();
        let dir = dir.map_err(|e| TaskError::retry(format!("no directory for the run: {e}")))?;
        std::fs::create_dir(dir.path().join("work"))?;
        match &spec.cwd {
            // Said here, because starting a program in a missing directory blames the program.
            Some(cwd) if !cwd.is_dir() => Err(misconfigured(format!("the directory {} does not exist", cwd.display()))),
            _ => Ok(Self(dir)),
        }
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

    /// Removes it all. A run may have left thousands of files: not on a thread that serves others.
    async fn remove(self) {
        let path = self.path().display().to_string();
        let removed = tokio::task::spawn_blocking(move || self.0.close()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%path, %error, "the directory of a run could not be removed");
        }
    }
}
