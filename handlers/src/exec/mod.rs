//! Runs a command for a task: its input, and the meaning of its end.
//!
//! The command gets an argv without a shell (unless its manifest says so), a cleared environment, the payload on standard
//! input, a directory and a process group of its own. Under a guard no process that it started survives the run, for
//! whatever reason it ends; without one (in programs whose `main` cannot be one) that holds only for its group, and only
//! unless this process is killed.

mod account;
mod allow;
mod artifacts;
mod cannot;
pub(crate) mod control;
mod group;
mod guarded;
pub(crate) mod output;
mod place;
mod start;
mod supervise;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::ffi::OsString;

use runner_core::function::{ExecLimits, ExecResult, ExecSpec};
use runner_sdk::{Bytes, Ctx, Outcome, TaskError};

use crate::context;
use crate::guard::{Confinement, IdleGuards, Limit, can_guard};
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;
use crate::stopped::stopped;
use account::Account;
use control::Control;
use place::Place;
pub use place::try_run_directory;
use start::Start;
use supervise::CommandEnd;
pub use verdict::exit_code_in;

/// Maximum bytes of a result; as much as a task's payload may sensibly be.
pub(crate) const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// Which commands this worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Whether it runs any.
    pub enabled: bool,
    /// Programs that may be started: names, searched in the PATH of this process, and absolute patterns in which `*` and `?`
    /// do not match a slash; `None`: all.
    pub allowed_commands: Vec<String>,
    /// Whether commands run under a guard, a second process of this program, if it can be started: only for programs whose
    /// `main` calls [`crate::guard_main`] first.
    pub guard: bool,
    /// Whether programs with a set-user-id bit, such as `sudo`, gain privileges in a command.
    pub may_gain_privileges: bool,
}

impl Default for ExecSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_commands: Vec::new(),
            guard: false,
            may_gain_privileges: false,
        }
    }
}

impl ExecSettings {
    /// Whether a manifest may run any command, which may do what the user of this program may.
    pub(crate) fn runs_all(&self) -> bool {
        self.enabled && self.allowed_commands.is_empty()
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
    let account = spec.user.as_deref().map(Account::of).transpose();
    let account = account.map_err(|why| misconfigured(why, cx))?;
    let place = Place::make(spec, account.as_ref(), cx)?;
    let arguments = arguments(spec, &place)?;
    let mut secrets = Secrets::default();
    let mut env = environment(spec, function, &place, &mut secrets, cx)?;
    if let Some(account) = &account {
        add_account(&mut env, account, spec);
    }
    let start = Start {
        cwd: place.cwd(spec),
        program,
        arguments,
        env,
        confinement: Confinement {
            umask: spec.umask,
            may_gain_privileges: settings.may_gain_privileges,
            user: account.and_then(|account| account.switch_to),
            limits: limits(&spec.limits),
        },
    };
    let ended = match settings.guard && can_guard().await {
        true => start.guarded(spec, idle, &place, &secrets, cx).await?,
        false => start.unguarded(spec, &place, &secrets, cx).await?,
    };
    let program = start.program.name;
    artifacts::collect(place.artifacts(), cx).await;
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
            let verdict = verdict::of(status, spec);
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

/// The limits that each process of the command gets.
fn limits(limits: &ExecLimits) -> Vec<(Limit, u64)> {
    let all = [
        (Limit::Memory, limits.memory),
        (Limit::CpuTime, limits.cpu_time.map(|time| time.as_secs())),
        (Limit::OpenFiles, limits.open_files),
        (Limit::FileSize, limits.file_size),
        (Limit::Processes, limits.processes),
    ];
    all.into_iter()
        .filter_map(|(limit, value)| Some((limit, value?)))
        .collect()
}

/// Names and home of the user that a command runs as, in place of the inherited ones.
fn add_account(env: &mut BTreeMap<OsString, OsString>, account: &Account, spec: &ExecSpec) {
    let name = OsString::from(&account.name);
    let own = [
        ("HOME", account.home.clone().into()),
        ("USER", name.clone()),
        ("LOGNAME", name),
    ];
    for (variable, value) in own {
        if !spec.env.contains_key(variable) {
            env.insert(variable.into(), value);
        }
    }
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
    env.insert("RUNNER_ARTIFACT_DIR".into(), place.artifacts().into());
    Ok(env)
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
