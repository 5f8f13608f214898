//! `fn:<name>`: looks up the manifest function of this name and runs it.

use runner_core::function::{FunctionKind, Functions};
use runner_core::task::FUNCTION_PREFIX;
use runner_sdk::{Ctx, Outcome, State, TaskError};

use crate::exec::{self, ExecSettings};
use crate::guard::IdleGuards;
use crate::http::{self, Caller};

/// Runs the function named by the task type.
pub(crate) async fn run(
    State(functions): State<Functions>,
    State(exec): State<ExecSettings>,
    State(http): State<Caller>,
    State(idle): State<IdleGuards>,
    cx: Ctx,
) -> Result<Outcome, TaskError> {
    let name = cx.kind().strip_prefix(FUNCTION_PREFIX).unwrap_or_default();
    // It existed when the task was claimed; its manifest may have been removed since, and may come back.
    let Some(function) = functions.get(name) else {
        return Err(TaskError::retry(format!(
            "function `{name}` is not defined on this worker"
        )));
    };
    match &function.kind {
        FunctionKind::Exec(spec) => exec::run(spec, name, &exec, &idle, &cx).await,
        FunctionKind::Http(spec) => http::run(spec, name, &http, &cx).await,
        FunctionKind::Handler { kind } => Err(TaskError::skip(format!(
            "function `{name}` is run by the handler `{kind}`; its tasks have that type"
        ))),
    }
}
