//! Joins what is read from the settings with what a program adds in code and with what is known only at the start.
//!
//! The settings of each room are a struct of that room; nothing is translated here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use runner_core::function::{FunctionOptions, Functions};
use runner_core::task::Task;
use runner_sdk::{Handlers, Registry, TypedTasks};
use tokio::time::timeout;

use super::parts::{CodeSchedule, Registrar};
use crate::access::{Auth, TokenList, UserList, WebSettings};
use crate::config::{Access, Settings};
use crate::source::{self, Code, NO_SEMAPHORE, ScheduleContext, SourceSettings, TableSettings};
use crate::worker::Instance;

/// What one of the program's functions may take that adds handlers, for a command that only asks for their types.
const SET_UP: Duration = Duration::from_secs(10);

/// The built-in functions and those that the program adds.
pub(super) async fn handlers(
    settings: &Settings,
    registrars: Vec<Registrar>,
    functions: Functions,
    guard: bool,
) -> anyhow::Result<Handlers> {
    let mut own = settings.handlers.clone();
    own.exec.guard = guard;
    let mut registry = runner_handlers::register_with(Registry::new(), functions, own);
    for add in registrars {
        registry = add(registry).await.context("the handlers could not be set up")?;
    }
    let handlers = registry.build().context("the handlers cannot be used")?;
    check_semaphores(settings, &handlers)?;
    Ok(handlers)
}

/// Refuses limits of handlers that this broker cannot keep in any queue of the worker: a task must not run without its limit.
fn check_semaphores(settings: &Settings, handlers: &Handlers) -> anyhow::Result<()> {
    let reach = settings.broker.semaphores();
    for semaphore in handlers.limits().semaphores() {
        let mut faults = settings.worker.queues.keys().map(|queue| reach.fault(semaphore, queue));
        if let Some(Some(fault)) = faults.next()
            && faults.all(|fault| fault.is_some())
        {
            let (scope, hint) = (semaphore.scope(), fault.hint());
            bail!("the limit of a handler cannot be kept: {NO_SEMAPHORE}: semaphore {scope:?}: {fault} ({hint})");
        }
    }
    Ok(())
}

/// The options that task types with a handler in code state, by their names.
pub(super) fn type_options(typed: &TypedTasks) -> BTreeMap<String, FunctionOptions> {
    let options = |task: Task| (task.kind.clone(), FunctionOptions::of(&task));
    typed.tasks().map(options).collect()
}

/// The task types of the program's handlers, for a command that runs none of them. The functions that add handlers also open what
/// these need, and a command knows no sections of the program's own: what one that fails would have added is missing, and why.
pub(super) async fn typed_tasks(registrars: Vec<Registrar>) -> (TypedTasks, Option<anyhow::Error>) {
    let (mut registry, mut known, mut failed) = (Registry::new(), TypedTasks::default(), None);
    for add in registrars {
        let added = timeout(SET_UP, add(std::mem::take(&mut registry))).await;
        match added.unwrap_or_else(|_| Err(anyhow!("no answer within {SET_UP:?}"))) {
            Ok(added) => {
                known.merge(added.typed());
                registry = added;
            }
            Err(error) => failed = Some(error),
        }
    }
    (known, failed)
}

/// Says of a function in a manifest that this worker would refuse it.
fn vet(settings: &Settings, look: bool) -> source::FunctionCheck {
    let handlers = settings.handlers.clone();
    source::FunctionCheck::new(move |kind| handlers.check(kind, look))
}

/// Schedules in code and everything that is wrong with them.
pub(super) fn read_code(settings: &Settings, schedules: Vec<CodeSchedule>) -> Code {
    let parts = |s: CodeSchedule| (s.name, s.schedule, s.task);
    Code::read(schedules.into_iter().map(parts), &checked(settings, false))
}

/// Schedules in code; one that cannot be used stops the start, because only a change of the program can repair it.
pub(super) fn code_schedules(settings: &Settings, schedules: Vec<CodeSchedule>) -> anyhow::Result<Code> {
    let code = read_code(settings, schedules);
    let mut errors = code.errors();
    let Some(first) = errors.next() else {
        drop(errors);
        return Ok(code);
    };
    let hint = first
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!(" ({hint})"));
    let more = match errors.count() {
        0 => String::new(),
        more => format!("; {more} more: the command `check` names them"),
    };
    let (place, number, what) = (&first.place, &first.code, &first.message);
    bail!("the schedule {place} cannot be used: {number}: {what}{hint}{more}")
}

/// The sources, with schedules in code.
pub(super) fn sources(settings: &Settings, code: Code) -> SourceSettings {
    SourceSettings {
        code,
        vet: vet(settings, false),
        ..settings.source.clone()
    }
}

/// Like [`sources`], for a command that only reads: a table's file that does not exist has no rows, and is not created.
pub(super) fn looked_at(settings: &Settings, code: Code) -> SourceSettings {
    use TableSettings as Table;
    let all = sources(settings, code);
    let missing = |table: &Table| matches!(table, Table::OfBroker { path } | Table::Sqlite { path } if !path.exists());
    SourceSettings {
        table: all.table.filter(|table| !missing(table)),
        ..all
    }
}

/// What manifests are checked against before anything runs; `look` also looks for the programs that they start.
pub(super) fn checked(settings: &Settings, look: bool) -> ScheduleContext {
    ScheduleContext {
        vet: vet(settings, look),
        ..settings.source.context()
    }
}

/// Probes and metrics on an address of their own: no dashboard and no hooks, so no login.
pub(super) fn probes(settings: &Settings, address: SocketAddr, instance: &Instance) -> WebSettings {
    WebSettings {
        metrics_open: true,
        queue_dash: false,
        hooks: false,
        ..web(settings, Access::without_users(), address, instance)
    }
}

/// The dashboard of this process.
pub(super) fn web(settings: &Settings, access: Access, address: SocketAddr, instance: &Instance) -> WebSettings {
    let queues = settings.worker.queues.keys();
    WebSettings {
        listen: address.to_string(),
        auth: match access.login {
            true => Auth::Login {
                users: UserList::new(access.users),
            },
            false => Auth::Open,
        },
        tokens: TokenList::new(access.tokens),
        key: access.key,
        queues: queues.filter(|name| !name.as_str().contains('*')).cloned().collect(),
        channels: settings.notification.channels.clone(),
        instance: instance.name(),
        ..settings.web.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_sdk::{LimitRule, SharedSemaphore, TaskLimit};

    use super::*;
    use crate::config::Environment;

    async fn call() {}

    #[test]
    fn a_semaphore_in_code_needs_a_broker_that_shares_it() {
        let shared = SharedSemaphore::new("{low}:api", 2).unwrap();
        let shared = TaskLimit::new(LimitRule::Semaphore(shared));
        let registry = Registry::new().on("call", call).with(|call| call.limit(shared));
        let handlers = registry.build().unwrap();
        let refused = |text: &str| {
            let settings = Settings::parse("config.yaml", text, &Environment::default()).unwrap();
            check_semaphores(&settings, &handlers)
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(refused("redis: {host: r}\n"), None);
        let cluster = "redis: {cluster: {addresses: [r]}}\n";
        assert_eq!(
            refused(&format!("{cluster}worker: {{queues: {{default: 1, low: 1}}}}\n")),
            None
        );
        let found = refused(cluster).unwrap();
        assert!(
            found.contains("E168") && found.contains("in the slot of the queue"),
            "{found}"
        );
        let found = refused("").unwrap();
        assert!(
            found.contains("E168") && found.contains("\"{low}:api\"") && found.contains("in a file"),
            "{found}"
        );
    }
}
