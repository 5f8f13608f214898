//! The meaning of a module's end for its task. Exit codes mean what they mean for commands.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use runner_core::function::{ExecSpec, WasmSpec};
use runner_sdk::{Bytes, Ctx, Outcome, TaskError};
use wasmtime::{Error, Trap};
use wasmtime_wasi::I32Exit;

use crate::exec::control::Control;
use crate::exec::verdict;
use crate::misconfigured::misconfigured;

/// How a module ended.
#[derive(Debug)]
pub(super) enum ModuleEnd {
    /// It said so itself, or its main function returned.
    Exited(i32),
    /// Its task was stopped.
    Stopped,
    /// It cannot be run here.
    Misconfigured(String),
    /// It broke a rule of its machine: the same input would do so again.
    Trapped(String),
    /// It wanted more memory than it may have.
    OutOfMemory,
}

/// The error with which a run ends that wants more memory.
#[derive(Debug)]
pub(super) struct MemoryUsedUp;

impl fmt::Display for MemoryUsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more memory than wasm.memory")
    }
}

impl std::error::Error for MemoryUsedUp {}

/// The end behind an error of the engine while the module ran.
pub(super) fn of_error(error: &Error) -> ModuleEnd {
    known(error).unwrap_or_else(|| ModuleEnd::Trapped(format!("{error:#}")))
}

/// The same while the module was set up: then it wants something of its host that this one has not.
pub(super) fn of_setup(error: &Error, spec: &WasmSpec) -> ModuleEnd {
    let unlinked = || ModuleEnd::Misconfigured(format!("{}: {error:#}", spec.module.display()));
    known(error).unwrap_or_else(unlinked)
}

fn known(error: &Error) -> Option<ModuleEnd> {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some(ModuleEnd::Exited(exit.0));
    }
    if error.downcast_ref::<MemoryUsedUp>().is_some() {
        return Some(ModuleEnd::OutOfMemory);
    }
    let trap = error.downcast_ref::<Trap>()?;
    Some(ModuleEnd::Trapped(trap.to_string()))
}

impl ModuleEnd {
    /// What it means for the task; `last_line` of standard error says why.
    pub(super) fn outcome(
        self,
        spec: &WasmSpec,
        last_line: Option<String>,
        result: Option<Bytes>,
        cx: &Ctx,
    ) -> Result<Outcome, TaskError> {
        match self {
            Self::Exited(code) => {
                // Not the low byte alone, as of processes: 256 is no success.
                let code = u8::try_from(code).unwrap_or(u8::MAX);
                let status = ExitStatus::from_raw(i32::from(code) << 8);
                let verdict = verdict::of(status, &ExecSpec::new(["module"]));
                verdict::outcome(verdict, &Control::default(), last_line, cx, || result)
            }
            Self::Stopped => Err(TaskError::retry("stopped")),
            Self::Misconfigured(why) => Err(misconfigured(why, cx)),
            Self::Trapped(why) => Err(TaskError::skip(format!("wasm_trap: {why}"))),
            Self::OutOfMemory => {
                let limit = spec.memory;
                Err(TaskError::retry(format!(
                    "wasm_memory: the {limit} bytes of wasm.memory are used up"
                )))
            }
        }
    }
}
