//! The built-in handlers, one line each; each is implemented in its own file.
//!
//! They know only tasks: no broker, no worker, no manifest. Manifest functions reach them as [`Functions`], under task
//! types that begin with `fn:`.

mod context;
mod echo;
mod exec;
mod exhausted;
mod function;
mod glob;
mod guard;
mod http;
mod misconfigured;
mod secret;
mod sleep;
mod stopped;

pub use exec::{ExecSettings, Unfit, try_run_directory};
pub use guard::{guard_main, try_guard};
pub use http::HttpSettings;

use runner_core::function::{FunctionKind, Functions};
use runner_core::task::FUNCTION_PREFIX;
use runner_sdk::{Backoff, Registry};

/// The longest delay that a command or a server may request: a typing error there must not postpone a task for years.
pub(crate) const MAX_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Registers the built-in handlers, with default settings and no functions.
#[must_use]
pub fn register(r: Registry) -> Registry {
    register_with(
        r,
        Functions::default(),
        ExecSettings::default(),
        HttpSettings::default(),
    )
}

/// As [`register`], with settings and the functions of manifests; the caller keeps a clone of `functions` and replaces its
/// content.
#[must_use]
pub fn register_with(r: Registry, functions: Functions, exec: ExecSettings, http: HttpSettings) -> Registry {
    let (known, listed) = (functions.clone(), functions.clone());
    let commands = exec.enabled;
    r.state(functions)
        .state(exec)
        .state(guard::IdleGuards::default())
        .state(http::Caller::new(http))
        .on("echo", echo::echo)
        .on("sleep", sleep::sleep)
        .on_prefix_listed(
            FUNCTION_PREFIX,
            move |name| known.get(name).is_some_and(|f| runs_here(&f.kind, commands)),
            move || names(&listed, commands),
            function::run,
        )
        .backoff(FUNCTION_PREFIX, Backoff::Function)
}

/// The names of the functions that this package runs, and not a handler elsewhere.
fn names(functions: &Functions, commands: bool) -> Vec<String> {
    let all = functions.all();
    let here = all.values().filter(|f| runs_here(&f.kind, commands));
    here.map(|f| f.name.clone()).collect()
}

/// Whether tasks of such a function are claimed. With commands disabled their tasks are left to other workers: an attempt
/// here could only fail.
fn runs_here(kind: &FunctionKind, commands: bool) -> bool {
    match kind {
        FunctionKind::Exec(_) => commands,
        FunctionKind::Http(_) => true,
        FunctionKind::Handler { .. } => false,
    }
}
