//! The kinds of functions that manifests define: `fn:<name>` looks up the function of this name and runs it.
//!
//! One line for each kind in each method here; a kind itself is a folder.

use std::sync::Arc;

use runner_core::function::{CheckFinding, Function, FunctionKind, Functions};
use runner_core::task::FUNCTION_PREFIX;
use runner_sdk::{Ctx, Outcome, State, StopReason, TaskError};

use crate::enqueue;
use crate::exec::{self, ExecSettings};
use crate::guard::IdleGuards;
use crate::http::{self, Caller, HttpSettings, Ping, Pinger};
use crate::mail::{self, MailSettings};
use crate::notification::Channels;
use crate::publish::{self, PublishConnections};
use crate::secret::Secrets;
use crate::sql::{self, SqlConnections};
use crate::wasm::{self, WasmModules};

/// The settings of all kinds.
#[derive(Debug, Clone, Default)]
pub struct HandlerSettings {
    /// Of commands.
    pub exec: ExecSettings,
    /// Of calls over HTTP.
    pub http: HttpSettings,
    /// The server that takes mail; `None`: tasks that send mail are left to other workers.
    pub mail: Option<MailSettings>,
    /// The databases that statements may be run in; tasks for others are left to other workers.
    pub sql: SqlConnections,
    /// Where messages may be published; tasks for other connections are left to other workers.
    pub publish: PublishConnections,
    /// Where notifications go.
    pub channels: Channels,
}

impl HandlerSettings {
    /// Whether tasks of such a function are claimed. With commands disabled their tasks are left to other workers: an attempt
    /// here could only fail.
    #[must_use]
    pub fn runs(&self, kind: &FunctionKind) -> bool {
        match kind {
            FunctionKind::Exec(_) => self.exec.enabled,
            FunctionKind::Http(_) | FunctionKind::Enqueue(_) => true,
            FunctionKind::Mail(_) => cfg!(feature = "mail") && self.mail.is_some(),
            FunctionKind::Sql(spec) => sql::runs(spec, &self.sql),
            FunctionKind::Publish(spec) => self.publish.of(spec).is_some(),
            // What confines commands must not be got round by directories that act with the same rights.
            FunctionKind::Wasm(spec) => cfg!(feature = "wasm") && (spec.dirs.is_empty() || self.exec.runs_all()),
            FunctionKind::Handler { .. } => false,
        }
    }

    /// Why this worker would refuse the function as it is written; `look` also looks for what it needs on this host. That a
    /// kind is switched off here is no fault of the manifest: another worker may run it.
    #[must_use]
    pub fn check(&self, kind: &FunctionKind, look: bool) -> Option<CheckFinding> {
        match kind {
            FunctionKind::Exec(spec) => self.exec.find_fault(spec, look),
            FunctionKind::Mail(spec) => mail::find_fault(spec).or_else(|| self.elsewhere(kind)),
            FunctionKind::Sql(_) | FunctionKind::Publish(_) | FunctionKind::Wasm(_) => self.elsewhere(kind),
            FunctionKind::Http(_) | FunctionKind::Enqueue(_) | FunctionKind::Handler { .. } => None,
        }
    }

    /// A kind that needs a setting which this worker does not have.
    fn elsewhere(&self, kind: &FunctionKind) -> Option<CheckFinding> {
        let needs = match kind {
            _ if self.runs(kind) => return None,
            FunctionKind::Mail(_) if cfg!(feature = "mail") => "the setting mail.host".to_owned(),
            FunctionKind::Sql(spec) if cfg!(feature = "sql") => {
                format!("the connection {} of handlers.sql.connections", spec.connection)
            }
            FunctionKind::Publish(spec) => format!("the connection {} of {}", spec.connection, publish::section(spec)),
            FunctionKind::Wasm(_) if cfg!(feature = "wasm") => wasm::DIRS_NEED.to_owned(),
            FunctionKind::Wasm(_) => wasm::NEEDS.to_owned(),
            _ => "a program that is built with it".to_owned(),
        };
        let key = kind.key();
        Some(CheckFinding {
            refused: false,
            code: match kind {
                FunctionKind::Sql(_) => "E331",
                FunctionKind::Publish(_) => "E361",
                _ => "E133",
            },
            message: format!("this {key} function does not run here: it needs {needs}"),
            hint: Some("fine if another worker has it; until then their tasks wait"),
        })
    }
}

/// What each kind keeps between runs.
pub(crate) struct Kinds {
    exec: ExecSettings,
    guards: IdleGuards,
    http: Arc<Caller>,
    pinger: Pinger,
    mail: Option<MailSettings>,
    sql: SqlConnections,
    publish: PublishConnections,
    modules: WasmModules,
}

impl Kinds {
    pub(crate) fn new(settings: HandlerSettings) -> Self {
        let http = Arc::new(Caller::new(settings.http));
        Self {
            exec: settings.exec,
            guards: IdleGuards::default(),
            pinger: Pinger::new(http.clone()),
            http,
            mail: settings.mail,
            sql: settings.sql,
            publish: settings.publish,
            modules: WasmModules::default(),
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
    let Some(url) = function.notify.ping_url.as_deref() else {
        return run_kind(&function, &kinds, &cx).await;
    };
    let url = match Secrets::default().resolve(url) {
        Ok(url) => url,
        Err(error) => {
            cx.log().push("log", &format!("ping_url: {error}"));
            return run_kind(&function, &kinds, &cx).await;
        }
    };
    kinds.pinger.send(name, &url, Ping::Start);
    let outcome = run_kind(&function, &kinds, &cx).await;
    if let Some(ping) = end_of(&outcome, &cx) {
        kinds.pinger.send(name, &url, ping);
    }
    outcome
}

/// What is said of the end of an attempt; nothing while the task is tried again.
fn end_of(outcome: &Result<Outcome, TaskError>, cx: &Ctx) -> Option<Ping> {
    if matches!(cx.stop_reason(), Some(StopReason::Shutdown | StopReason::LeaseLost)) {
        return None;
    }
    let outcome = match outcome {
        Ok(outcome) => outcome.clone(),
        Err(error) => error.clone().into_outcome(),
    };
    match outcome {
        Outcome::Success(_) | Outcome::Revoke(_) => Some(Ping::Success),
        Outcome::Skip(error) => Some(Ping::Fail(error)),
        Outcome::Retry(error) | Outcome::RetryAfter { error, .. } => {
            (cx.attempt() >= cx.max_attempts()).then_some(Ping::Fail(error))
        }
        Outcome::Snooze { .. } => None,
    }
}

async fn run_kind(function: &Function, kinds: &Kinds, cx: &Ctx) -> Result<Outcome, TaskError> {
    let name = function.name.as_str();
    match &function.kind {
        FunctionKind::Exec(spec) => exec::run(spec, name, &kinds.exec, &kinds.guards, cx).await,
        FunctionKind::Http(spec) => http::run(spec, name, &kinds.http, cx).await,
        FunctionKind::Mail(spec) => mail::run(spec, name, kinds.mail.as_ref(), cx).await,
        FunctionKind::Sql(spec) => sql::run(spec, name, &kinds.sql, cx).await,
        FunctionKind::Enqueue(spec) => enqueue::run(spec, name, cx).await,
        FunctionKind::Publish(spec) => publish::run(spec, name, &kinds.publish, cx).await,
        FunctionKind::Wasm(spec) => wasm::run(spec, name, &kinds.modules, cx).await,
        FunctionKind::Handler { kind } => Err(TaskError::skip(format!(
            "function `{name}` is run by the handler `{kind}`; its tasks have that type"
        ))),
    }
}
