//! The kinds of functions that manifests define: `fn:<name>` looks up the function of this name and runs it.
//!
//! One line for each kind in each method here; a kind itself is a folder.

use runner_core::function::{CheckFinding, FunctionKind, Functions};
use runner_core::task::FUNCTION_PREFIX;
use runner_sdk::{Ctx, Outcome, State, TaskError};

use crate::exec::{self, ExecSettings};
use crate::guard::IdleGuards;
use crate::http::{self, Caller, HttpSettings};

/// The settings of all kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlerSettings {
    /// Of commands.
    pub exec: ExecSettings,
    /// Of calls over HTTP.
    pub http: HttpSettings,
}

impl HandlerSettings {
    /// Whether tasks of such a function are claimed. With commands disabled their tasks are left to other workers: an attempt
    /// here could only fail.
    #[must_use]
    pub fn runs(&self, kind: &FunctionKind) -> bool {
        match kind {
            FunctionKind::Exec(_) => self.exec.enabled,
            FunctionKind::Http(_) => true,
            FunctionKind::Handler { .. } => false,
        }
    }

    /// Why this worker would refuse the function as it is written; `look` also looks for what it needs on this host. That a
    /// kind is switched off here is no fault of the manifest: another worker may run it.
    #[must_use]
    pub fn check(&self, kind: &FunctionKind, look: bool) -> Option<CheckFinding> {
        match kind {
            FunctionKind::Exec(spec) => self.exec.find_fault(spec, look),
            FunctionKind::Http(_) | FunctionKind::Handler { .. } => None,
        }
    }
}

/// What each kind keeps between runs.
pub(crate) struct Kinds {
    exec: ExecSettings,
    guards: IdleGuards,
    http: Caller,
}

impl Kinds {
    pub(crate) fn new(settings: HandlerSettings) -> Self {
        Self {
            exec: settings.exec,
            guards: IdleGuards::default(),
            http: Caller::new(settings.http),
        }
    }
}

/// Runs the function named by the task type.
pub(crate) async fn run(
    State(functions): State<Functions>,
    State(kinds): State<Kinds>,
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
        FunctionKind::Exec(spec) => exec::run(spec, name, &kinds.exec, &kinds.guards, &cx).await,
        FunctionKind::Http(spec) => http::run(spec, name, &kinds.http, &cx).await,
        FunctionKind::Handler { kind } => Err(TaskError::skip(format!(
            "function `{name}` is run by the handler `{kind}`; its tasks have that type"
        ))),
    }
}
