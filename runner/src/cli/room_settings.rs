//! Turns settings and what a program adds in code into the plain values that the rooms take.

use anyhow::{Context as _, bail};
use runner_core::function::{FunctionKind, Functions};
use runner_core::task::QueueName;
use runner_sdk::{Handlers, Registry};

use super::app::{CodeSchedule, Registrar};
use crate::config::{self, Settings};
use crate::source::Code;
use crate::{source, web, worker};

/// The built-in functions and those that the program adds.
pub(super) fn handlers(
    settings: &Settings,
    registrars: Vec<Registrar>,
    functions: Functions,
    guard: bool,
) -> anyhow::Result<Handlers> {
    let exec = handlers::ExecSettings {
        guard,
        ..exec(settings)
    };
    let http = handlers::HttpSettings {
        allow_private: settings.http.allow_private,
        allowed_hosts: settings.http.allowed_hosts.clone(),
        user_agent: concat!("runner/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut registry = handlers::register_with(Registry::new(), functions, exec, http);
    for add in registrars {
        registry = add(registry);
    }
    registry.build().context("the handlers cannot be used")
}

fn exec(settings: &Settings) -> handlers::ExecSettings {
    handlers::ExecSettings {
        enabled: settings.exec.enabled,
        allowed_commands: settings.exec.allowed_commands.clone(),
        guard: false,
    }
}

/// Says of a command in a manifest that this worker would refuse it. That commands are switched off here is no fault
/// of the manifest: another worker may run them.
fn vet(settings: &Settings, look: bool) -> source::FunctionCheck {
    let exec = exec(settings);
    source::FunctionCheck::new(move |kind| match kind {
        FunctionKind::Exec(spec) => match exec.check(spec) {
            Ok(()) if look => exec.foresee(spec).map(source::CheckFinding::Missing),
            Ok(()) | Err(handlers::Unfit::Disabled) => None,
            Err(handlers::Unfit::Refused(why)) => Some(source::CheckFinding::Error(why)),
            Err(handlers::Unfit::NotHere(why)) => Some(source::CheckFinding::Warning(why)),
        },
        _ => None,
    })
}

/// Schedules in code and everything that is wrong with them.
pub(super) fn read_code(settings: &Settings, schedules: Vec<CodeSchedule>) -> Code {
    let parts = |s: CodeSchedule| (s.name, s.schedule, s.task);
    Code::read(schedules.into_iter().map(parts), &checked(settings, false))
}

/// Schedules in code; one that cannot be used stops the start, because only a programmer can mend it.
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
    let (place, number, what) = (&first.origin.place, &first.code, &first.message);
    bail!("the schedule {place} cannot be used: {number}: {what}{hint}{more}")
}

/// What the sources are told.
pub(super) fn sources(settings: &Settings, code: Code) -> source::SourceSettings {
    source::SourceSettings {
        manifests: settings.manifests.as_ref().map(|m| source::ManifestSettings {
            dir: m.dir.clone(),
            rescan: m.rescan,
        }),
        table: table(&settings.table),
        code,
        zone_name: settings.zone_name.clone(),
        zone: settings.zone.clone(),
        dst: settings.scheduler.dst,
        sync_interval: settings.sync_interval,
        vet: vet(settings, false),
        mass_delete: settings.mass_delete,
        keep: None,
    }
}

/// As [`sources`], for a command that only looks: a file of a table that is not there yet has no rows, and is not made.
pub(super) fn looked_at(settings: &Settings, code: Code) -> source::SourceSettings {
    use source::TableSettings as Table;
    let all = sources(settings, code);
    let missing = |table: &Table| matches!(table, Table::OfBroker { path } | Table::Sqlite { path } if !path.exists());
    source::SourceSettings {
        table: all.table.filter(|table| !missing(table)),
        ..all
    }
}

/// What manifests are checked against before anything runs; `look` also looks for the programs that they start.
pub(super) fn checked(settings: &Settings, look: bool) -> source::ScheduleContext {
    source::ScheduleContext {
        vet: vet(settings, look),
        ..sources(settings, Code::default()).context()
    }
}

/// Where `sys_crontab` lies, for the source and for `runner migrate`.
pub(super) fn table(settings: &config::TableSection) -> Option<source::TableSettings> {
    use config::TableSection as Written;
    let server = |s: &config::ServerSettings| source::DatabaseServer {
        host: s.host.clone(),
        port: s.port,
        login: {
            let s = s.clone();
            source::DatabaseLogin::read_from(move || s.login())
        },
        database: s.database.clone(),
        max_lifetime: s.max_lifetime,
    };
    match settings {
        Written::Off => None,
        Written::Embedded { path } => Some(source::TableSettings::OfBroker { path: path.clone() }),
        Written::Sqlite { path } => Some(source::TableSettings::Sqlite { path: path.clone() }),
        Written::MySql(s) => Some(source::TableSettings::MySql(server(s))),
        Written::Postgres(s) => Some(source::TableSettings::Postgres(server(s))),
    }
}

/// What the worker is told, and who this process is.
pub(super) fn worker(settings: &Settings) -> worker::WorkerSettings {
    let queues = settings.worker.queues.iter();
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok());
    worker::WorkerSettings {
        concurrency: settings.worker.concurrency.max(1) as usize,
        queues: queues
            .filter_map(|(name, priority)| Some((QueueName::new(name.clone()).ok()?, *priority)))
            .collect(),
        strict_priority: settings.worker.strict_priority,
        shutdown_timeout: settings.worker.shutdown_timeout,
        lease: settings.worker.lease,
        archive: settings.worker.archive,
        poison_after: settings.worker.poison_after,
        groups: settings.worker.groups,
        quiet: worker::Quiet::default(),
        host: host.unwrap_or_else(|| "unknown-host".to_owned()),
        pid: std::process::id(),
        id: uuid::Uuid::new_v4().to_string(),
    }
}

/// What probes and metrics on an address of their own are told: no dashboard, and so nobody who could log in.
pub(super) fn probes(
    settings: &Settings,
    address: std::net::SocketAddr,
    me: &worker::WorkerSettings,
) -> web::WebSettings {
    web::WebSettings {
        metrics_open: true,
        queue_dash: false,
        ..web(settings, config::Access::nobody(), address, me)
    }
}

/// What the dashboard is told.
pub(super) fn web(
    settings: &Settings,
    access: config::Access,
    address: std::net::SocketAddr,
    me: &worker::WorkerSettings,
) -> web::WebSettings {
    web::WebSettings {
        name: settings.name.clone(),
        listen: address.to_string(),
        auth: match access.login {
            true => web::Auth::Login { users: access.users },
            false => web::Auth::Open,
        },
        key: access.key,
        allowed_hosts: settings.allowed_hosts.clone(),
        public_url: settings.public_url.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        // Figures that have an address of their own are asked for there.
        metrics_open: settings.metrics_addr.is_none(),
        queues: me
            .queues
            .keys()
            .filter(|name| !name.as_str().contains('*'))
            .cloned()
            .collect(),
        zone: settings.zone.clone(),
        zone_name: settings.zone_name.clone(),
        templates: (settings.mode == config::Mode::Debug).then(|| "templates".into()),
        instance: format!("{}:{}", me.host, me.pid),
        version: env!("CARGO_PKG_VERSION"),
        queue_dash: settings.queue_dash,
    }
}
