//! Runs a module of WebAssembly for a task: its input, its limits, and the meaning of its end.
//!
//! It gets what a command gets (the payload on standard input, the facts about its task as variables) and ends as one, by exit
//! codes. Unlike a command it needs no process, sees no file and no network, and cannot outlive its run. Without the feature
//! `wasm` nothing here runs, and tasks of such functions are left to other workers.

#[cfg(feature = "wasm")]
mod end;
#[cfg(feature = "wasm")]
mod engine;
#[cfg(feature = "wasm")]
mod modules;

#[cfg(feature = "wasm")]
use std::sync::Arc;

use runner_core::function::WasmSpec;
use runner_sdk::{Ctx, Outcome, TaskError};

/// What runs of modules share; nothing in a program that runs none.
#[derive(Default)]
pub(crate) struct WasmModules {
    #[cfg(feature = "wasm")]
    cache: Arc<modules::ModuleCache>,
}

/// What a worker needs for such functions.
pub(crate) const NEEDS: &str = "a program that is built with the feature `wasm`: cargo build --release --features wasm";

/// What a worker needs for those with `dirs`.
pub(crate) const DIRS_NEED: &str = "commands that are switched on and not confined, because it has dirs: \
    handlers.exec.enabled, and no handlers.exec.allowed_commands";

/// Runs the module.
#[cfg(feature = "wasm")]
pub(crate) async fn run(
    spec: &WasmSpec,
    function: &str,
    modules: &WasmModules,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    engine::run(spec, function, &modules.cache, cx).await
}

/// A task that was claimed although this program runs no modules, which is a fault of this program.
#[cfg(not(feature = "wasm"))]
pub(crate) async fn run(_: &WasmSpec, _: &str, _: &WasmModules, cx: &Ctx) -> Result<Outcome, TaskError> {
    Err(crate::misconfigured::misconfigured(format!("it needs {NEEDS}"), cx))
}
