//! `runner run`: joins the rooms, starts them in order, and stops them in the opposite one.
//!
//! Wiring only. What a part does is in its room.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use runner_client::Client;
use runner_core::clock::{Clock, SystemClock};
use runner_core::function::Functions;
use runner_queue::{AllFollowUps, Broker, FollowUps};
use runner_sdk::{BoxFuture, Handlers};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::files_of_tasks::BeforeFiles;
use super::page_server::{Listeners, PageServer, Pages, Serving, address_of};
use super::parts::{AppParts, Hook};
use super::reload::{self, LiveSettings, Reloader};
use super::service_manager::{ServiceManager, Watched};
use super::state_store::BrokerStateStore;
use super::store_users::StoreUse;
use super::{assemble, banner, print, signals};
use crate::access::{Auth, TokenList, UserList, WebSettings};
use crate::audit::{self, AuditLog};
use crate::config::{Access, BrokerSettings, SealingKey, Settings};
use crate::events::{self, Events};
use crate::health::{self, Health};
use crate::log::{LogControl, LostLines};
use crate::metrics::Metrics;
use crate::notification::{
    self, FailureNotifications, NotificationSettings, NotificationWatchParts, PutOffNotifications, SourceProblem,
};
use crate::operation::{self, OperationParts, Operations};
use crate::queue_pause;
use crate::scheduler::{self, Differences, InstanceScope, SchedulerParts, coming};
use crate::source::{self, Catalog};
use crate::telemetry::{self, Telemetry};
use crate::trigger::{self, AfterTriggers, Board, HookParts, Hooks, TriggerParts};
use crate::upkeep::{broker_setup, go_runs, known_types, lost_lines, rejections, run_counts};
use crate::worker::{self, Worker, WorkerParts};
use crate::workflow::{self, SettledSteps, WorkflowEnds, WorkflowParts};

/// How long the banner waits for the broker to say what fires next.
const GREETING_WAIT: Duration = Duration::from_secs(1);

/// Time left for the broker to close when open requests are cut off.
const CLOSING: Duration = Duration::from_millis(300);

/// The longest time for writing ends of steps of workflows at the end.
const LAST_ENDS: Duration = Duration::from_secs(1);

/// Listening ends while there is still time for the events that its last tasks make, and for the broker.
const _: () = assert!(
    trigger::LAST_BATCHES.as_millis() + CLOSING.as_millis() * 2 < worker::LAST_STEPS.as_millis(),
    "triggers may take longer to stop than the whole program"
);

/// What the parts of a running program share.
struct Components {
    clock: Arc<dyn Clock>,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    audit: AuditLog,
    operations: Operations,
    events: Events,
    telemetry: Telemetry,
    /// So that commands find this process.
    _held: Option<StoreUse>,
    catalog: Catalog,
    handlers: Handlers,
    functions: Functions,
    instance: worker::Instance,
    caveats: broker_setup::Caveats,
    board: Arc<Board>,
    hooks: Arc<Hooks>,
    notification: NotificationSettings,
    /// What reports and counts ends of workflows.
    workflow_ends: Arc<WorkflowEnds>,
    /// Ends the reading of sources.
    sources: CancellationToken,
}

/// The parts that run, each if the process plays that role.
struct Running {
    scheduler: Option<JoinHandle<()>>,
    triggers: Option<JoinHandle<()>>,
    worker: Option<Worker>,
    /// Ends of steps of workflows that the worker has settled.
    steps: SettledSteps,
    /// The sending of events, and what tells it until when it may go on.
    events: Option<(JoinHandle<()>, oneshot::Sender<Instant>)>,
    /// The same of spans and figures.
    telemetry: Option<(JoinHandle<()>, oneshot::Sender<Instant>)>,
    web: Option<PageServer>,
    probes: Option<PageServer>,
    /// Who may log in, if the dashboard requires it.
    users: Option<UserList>,
    /// With what programs call the API, if there is a dashboard.
    tokens: Option<TokenList>,
}

/// Runs until a signal asks it to stop. Returns the exit code of the process.
///
/// # Errors
///
/// When the program cannot start: an address in use, handlers registered twice, an invalid schedule in code. When a
/// part of it ended without a stop.
pub async fn run(settings: Settings, mut app: AppParts, access: Access, log: LogControl) -> anyhow::Result<ExitCode> {
    let signals = signals::ProcessSignals::listen().context("cannot listen for signals")?;
    let on_stop = std::mem::take(&mut app.on_stop);
    let stop_when = app.stop_when.take();
    let sections = app.sections.clone();
    let mut program = RunningProgram::start(&settings, app, access, log.lost.clone()).await?;
    let RunningProgram {
        components,
        running,
        stopping,
    } = &mut program;
    let plan = components.catalog.plan();
    let coming = coming(&*components.broker, &plan, components.clock.now(), banner::NEXT);
    let coming = tokio::time::timeout(GREETING_WAIT, coming).await;
    banner::print(
        &settings,
        &plan,
        &components.catalog.statuses(),
        // Without an answer the banner names no fires rather than some that may not happen.
        &coming.ok().and_then(Result::ok).unwrap_or_default(),
        running.web.as_ref().map(|w| w.address),
        running.probes.as_ref().map(|w| w.address),
    );

    let manager = ServiceManager::of_process();
    if let Some(manager) = &manager {
        manager.watch(components.watched(), stopping.clone());
    }
    let of_worker = running.worker.as_ref().map(Worker::changeable_settings);
    let live = LiveSettings {
        levels: log.levels.clone(),
        worker: of_worker.clone(),
        users: running.users.clone(),
        tokens: running.tokens.clone(),
    };
    let reloader = Arc::new(Reloader::new(&settings, &sections, live));
    reload::watch(reloader.clone(), stopping.clone());
    let reach = signals::SignalTargets {
        catalog: &components.catalog,
        reopen: &log.reopen,
        settings: &reloader,
        manager: manager.as_ref(),
        quiet: settings.roles.worker.then_some(&components.instance.quiet),
    };
    let (hurry, broken) = tokio::select! {
        hurry = signals.until_asked_to_stop(reach) => (hurry, None),
        part = running.broken() => (CancellationToken::new(), Some(part)),
        () = asked_to_stop(stop_when) => (CancellationToken::new(), None),
    };
    stopping.cancel();
    if let Some(manager) = &manager {
        // As it is now: the worker waits for as long.
        let changed = of_worker.map(|worker| worker.shutdown_timeout());
        manager.stopping(changed.unwrap_or(settings.worker.shutdown_timeout));
    }
    program.stop(hurry, on_stop).await;
    match broken {
        None => Ok(ExitCode::SUCCESS),
        // A service manager starts the process again; one that does nothing would be useless.
        Some(part) => anyhow::bail!("the {part} broke down, so the process ended; what it said is on standard error"),
    }
}

/// A running program.
pub(super) struct RunningProgram {
    components: Components,
    running: Running,
    stopping: CancellationToken,
}

impl RunningProgram {
    /// Opens the broker and starts the roles of the settings.
    pub(super) async fn start(
        settings: &Settings,
        mut app: AppParts,
        mut access: Access,
        lost: LostLines,
    ) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(settings).await?;
        // A start that fails leaves nothing running: the program around this one may continue.
        let (stopping, unless_started) = stop_unless_kept();
        let on_start = std::mem::take(&mut app.on_start);
        let components = Components::open(settings, app, access.sealing.take(), &stopping).await?;
        try_guards(settings, &components.functions).await;
        lost_lines::watch(lost, components.metrics.clone(), print::note, stopping.clone());
        let prepared = async {
            for hook in on_start {
                let done = hook(Client::over(components.broker.clone())).await;
                done.context("a hook that runs before the start has failed")?;
            }
            components.start(settings, access, listeners, &stopping)
        };
        match prepared.await {
            Ok(running) => {
                unless_started.disarm();
                Ok(Self {
                    components,
                    running,
                    stopping,
                })
            }
            Err(error) => {
                stopping.cancel();
                components.close().await;
                Err(error)
            }
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::over(self.components.broker.clone())
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.running.web.as_ref().map(|web| web.address)
    }

    /// The dashboard, for a web server that is not ours.
    #[cfg(feature = "web")]
    pub(super) fn router(&self, settings: &Settings, access: Access) -> anyhow::Result<axum::Router> {
        let settings_of_pages = assemble::web(settings, access, settings.addr, &self.components.instance);
        Ok(crate::web::router(pages(
            settings_of_pages,
            &self.components,
            &self.stopping,
        )?))
    }

    /// Returns when a part ended by itself; which one.
    pub(super) async fn broken(&mut self) -> &'static str {
        self.running.broken().await
    }

    /// Ends all parts; tasks that still run are handed back at once after `hurry`.
    pub(super) async fn stop(self, hurry: CancellationToken, on_stop: Vec<Hook>) {
        self.stopping.cancel();
        self.running.end(hurry, &self.components, on_stop).await;
        tracing::info!("stopped");
    }
}

/// A stop, and what asks for it when it is dropped.
fn stop_unless_kept() -> (CancellationToken, DropGuard) {
    let stop = CancellationToken::new();
    (stop.clone(), stop.drop_guard())
}

/// Returns when the program says stop; never if it has no way to.
async fn asked_to_stop(stop_when: Option<BoxFuture<'static, ()>>) {
    match stop_when {
        Some(stop) => stop.await,
        None => std::future::pending().await,
    }
}

impl Running {
    /// Returns the name of a part once it has ended by itself.
    async fn broken(&mut self) -> &'static str {
        let worker = async {
            match &self.worker {
                Some(worker) => worker.broken().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended(self.scheduler.as_mut()) => "scheduler",
            () = ended(self.triggers.as_mut()) => "listening of triggers",
            () = worker => "worker",
            () = ended(self.web.as_mut().map(|web| &mut web.task)) => "dashboard",
            () = ended(self.probes.as_mut().map(|web| &mut web.task)) => "address of the probes",
        }
    }
}

impl Running {
    /// Ends all parts in the opposite order, the whole within the shutdown timeout and [`worker::LAST_STEPS`].
    async fn end(self, hurry: CancellationToken, components: &Components, on_stop: Vec<Hook>) {
        let scheduler = async {
            if let Some(task) = self.scheduler {
                finished("scheduler", task, Instant::now() + scheduler::LAST_REQUESTS).await;
            }
        };
        let worker = async {
            match self.worker {
                Some(worker) => worker.drain(hurry).await,
                None => Instant::now() + worker::LAST_STEPS,
            }
        };
        let triggers = async {
            if let Some(task) = self.triggers {
                finished("listening of triggers", task, Instant::now() + trigger::LAST_BATCHES).await;
            }
        };
        let ((), (), until) = tokio::join!(scheduler, triggers, worker);
        for hook in on_stop {
            match timeout_at(until, hook(Client::over(components.broker.clone()))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "a hook that runs at the end has failed")
                }
                Err(_) => tracing::warn!("a hook that runs at the end did not return in time"),
            }
        }
        // What the worker settled after the loop that writes it has ended.
        let last_ends = (Instant::now() + LAST_ENDS).min(until - CLOSING * 2);
        let written = self.steps.write(&*components.broker, &*components.workflow_ends);
        if timeout_at(last_ends, written).await.is_err() {
            tracing::warn!("ends of steps of workflows were not written in time; another runner looks for them");
        }
        let last_counts = run_counts::add_last(&*components.broker, &components.metrics, &components.health);
        if timeout_at(last_ends, last_counts).await.is_err() {
            tracing::debug!("the last counts of runs were not added in time; charts lack them");
        }
        // After everything that makes some.
        if let Some((task, stop)) = self.events {
            // Less than is waited for, so that it counts by itself what it could not send.
            let _: Result<(), Instant> = stop.send((Instant::now() + events::LAST_EVENTS).min(until - CLOSING * 2));
            finished("sending of events", task, until - CLOSING).await;
        }
        if let Some((task, stop)) = self.telemetry {
            let _: Result<(), Instant> = stop.send((Instant::now() + telemetry::LAST_SPANS).min(until - CLOSING * 2));
            finished("sending of spans", task, until - CLOSING).await;
        }
        components.sources.cancel();
        for (what, web) in [("dashboard", self.web), ("address of the probes", self.probes)] {
            if let Some(web) = web {
                web.stop.cancel();
                finished(what, web.task, until - CLOSING).await;
            }
        }
        // Pages were the last that could add some.
        if timeout_at(until - CLOSING / 2, components.audit.write(&*components.broker))
            .await
            .is_err()
        {
            tracing::warn!(
                entries = components.audit.waiting(),
                "entries of the audit list were not written in time; the log has them"
            );
        }
        if timeout_at(until, components.broker.close()).await.is_err() {
            tracing::warn!("the broker did not close in time");
        }
    }
}

async fn close(broker: &dyn Broker) {
    if timeout(CLOSING * 10, broker.close()).await.is_err() {
        tracing::warn!("the broker did not close in time");
    }
}

/// What reports to other programs, as far as the settings say.
fn reporting(
    settings: &Settings,
    instance: &worker::Instance,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> (Events, Telemetry) {
    let events = match &settings.events {
        Some(events) => Events::new(events, instance.name(), clock.clone(), metrics.clone()),
        None => Events::default(),
    };
    let telemetry = match &settings.telemetry {
        Some(otlp) => Telemetry::new(otlp, clock.clone(), metrics.clone()),
        None => Telemetry::default(),
    };
    (events, telemetry)
}

/// Has the audit list written, pauses of queues ended and operations carried out.
fn attend(
    broker: &Arc<dyn Broker>,
    (audit, health): (&AuditLog, &Arc<Health>),
    clock: &Arc<dyn Clock>,
    instance: String,
    stop: &CancellationToken,
) -> Operations {
    audit::watch(audit, broker.clone(), health.clone(), stop.clone());
    let reports = (audit.clone(), health.clone());
    queue_pause::watch(broker.clone(), reports, clock.clone(), stop.clone());
    operation::watch(OperationParts {
        broker: broker.clone(),
        audit: audit.clone(),
        health: health.clone(),
        clock: clock.clone(),
        instance,
        stop: stop.clone(),
    })
}

async fn ended(part: Option<&mut JoinHandle<()>>) {
    match part {
        // Whatever its result.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

impl Components {
    async fn open(
        settings: &Settings,
        app: AppParts,
        key: Option<SealingKey>,
        stopping: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let functions = Functions::default();
        let handlers = assemble::handlers(settings, app.registrars, functions.clone(), guards(settings)).await?;
        let code = assemble::code_schedules(settings, app.schedules)?;
        let broker = super::open::open_broker(settings, clock.clone()).await?;
        let held = match &settings.broker {
            BrokerSettings::Embedded { path } => Some(StoreUse::of(path)),
            BrokerSettings::Redis(_) => None,
        };
        let metrics = Arc::<Metrics>::default();
        let found = match broker_setup::first_look(broker.as_ref()).await {
            Ok(found) => found,
            Err(error) => {
                close(&*broker).await;
                return Err(error.into());
            }
        };
        let health = Arc::new(Health::new(clock.clone(), metrics.clone()));
        let audit = AuditLog::new(metrics.clone());
        let instance = worker::Instance::of_process();
        let operations = attend(&broker, (&audit, &health), &clock, instance.name(), stopping);
        let (events, telemetry) = reporting(settings, &instance, &clock, &metrics);
        let reports = (metrics.clone(), health.clone(), events.clone());
        let caveats = broker_setup::watch(broker.clone(), reports, found, stopping.clone());
        let sources = CancellationToken::new();
        let sources_settings = source::SourceSettings {
            keep: BrokerStateStore::of_run(broker.clone(), settings, key),
            types: assemble::type_options(handlers.typed()),
            ..assemble::sources(settings, code)
        };
        let catalog = Catalog::start(sources_settings, functions.clone(), clock.clone(), sources.clone()).await;
        let queues = settings.worker.queues.keys().cloned().collect();
        health::watch(broker.clone(), health.clone(), queues, stopping.clone());
        let board = Arc::new(Board::new(clock.clone()));
        // Before the first task can end.
        broker.follow_by(followers(settings, &catalog, &functions, &board, &clock));
        let hooks = Hooks::new(HookParts {
            broker: broker.clone(),
            health: health.clone(),
            telemetry: telemetry.clone(),
            clock: clock.clone(),
            board: board.clone(),
            secrets: settings.triggers.secrets.clone(),
            stop: stopping.clone(),
        });
        Ok(Self {
            board,
            hooks: Arc::new(hooks),
            notification: settings.notification.clone(),
            workflow_ends: Arc::new(WorkflowEnds::new(&settings.notification, &clock, &metrics)),
            clock,
            broker,
            metrics,
            health,
            audit,
            operations,
            events,
            telemetry,
            _held: held,
            caveats,
            catalog,
            handlers,
            functions,
            instance,
            sources,
        })
    }

    /// Ends what was opened, for a program that does not start.
    async fn close(&self) {
        self.sources.cancel();
        close(&*self.broker).await;
    }

    /// What the service manager is informed about.
    fn watched(&self) -> Watched {
        Watched {
            catalog: self.catalog.clone(),
            health: self.health.clone(),
            quiet: self.instance.quiet.clone(),
        }
    }

    /// Has runs counted over time.
    fn count_runs(&self, settings: &Settings, stopping: &CancellationToken) {
        let reports = (self.metrics.clone(), self.health.clone());
        run_counts::watch(self.broker.clone(), reports.clone(), stopping.clone());
        // Programs in Go share a Redis only.
        if settings.roles.scheduler && matches!(settings.broker, BrokerSettings::Redis(_)) {
            go_runs::watch(self.broker.clone(), reports, self.clock.clone(), stopping.clone());
        }
    }

    fn start(
        &self,
        settings: &Settings,
        access: Access,
        listeners: Listeners,
        stopping: &CancellationToken,
    ) -> anyhow::Result<Running> {
        let me = &self.instance;
        let (mut users, mut tokens) = (None, None);
        let web = match listeners.web {
            Some(listener) => {
                let settings = assemble::web(settings, access, address_of(&listener)?, me);
                if let Auth::Login { users: list } = &settings.auth {
                    users = Some(list.clone());
                }
                tokens = Some(settings.tokens.clone());
                Some(Serving::new(pages(settings, self, stopping)?, listener)?)
            }
            None => None,
        };
        let probes = match listeners.probes {
            Some(listener) => {
                let settings = assemble::probes(settings, address_of(&listener)?, me);
                Some(Serving::new(pages(settings, self, stopping)?, listener)?)
            }
            None => None,
        };
        // From here on nothing fails.
        let (web, probes) = (web.map(Serving::start), probes.map(Serving::start));
        let events = send_events(settings, self.events.clone());
        let telemetry = send_spans(settings, self);
        notification::watch(watched_for_notifications(self, settings), stopping.clone());
        rejections::watch(self.catalog.clone(), self.events.clone(), stopping.clone());
        self.count_runs(settings, stopping);
        let steps = SettledSteps::default();
        let parts = WorkflowParts {
            broker: self.broker.clone(),
            settled: steps.clone(),
            ends: self.workflow_ends.clone(),
            health: self.health.clone(),
        };
        workflow::watch(parts, stopping.clone());
        let scheduler = settings.roles.scheduler.then(|| schedule(self, stopping.clone()));
        // In every process: the program that it is part of may serve hooks by a web server of its own.
        let triggers = Some(listen(self, settings, stopping.clone()));
        let worker = settings.roles.worker.then(|| {
            Worker::start(WorkerParts {
                broker: self.broker.clone(),
                handlers: self.handlers.clone(),
                functions: self.functions.clone(),
                clock: self.clock.clone(),
                metrics: self.metrics.clone(),
                health: self.health.clone(),
                events: self.events.clone(),
                telemetry: self.telemetry.clone(),
                workflows: steps.clone(),
                before_run: Some(Arc::new(BeforeFiles::new(self.catalog.watch_triggers()))),
                settings: settings.worker.clone(),
                instance: self.instance.clone(),
            })
        });
        let own = worker.is_some().then(|| known_types::OwnWorker {
            handlers: self.handlers.clone(),
            queues: settings.worker.queues.keys().map(ToString::to_string).collect(),
        });
        known_types::watch(self.broker.clone(), self.catalog.clone(), own, stopping.clone());
        Ok(Running {
            scheduler,
            triggers,
            worker,
            steps,
            events,
            telemetry,
            web,
            probes,
            users,
            tokens,
        })
    }
}

/// What follows the end of a task: functions that follow others, and notifications where there are channels.
fn followers(
    settings: &Settings,
    catalog: &Catalog,
    functions: &Functions,
    board: &Arc<Board>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn FollowUps> {
    let after = Arc::new(AfterTriggers::new(catalog.watch_triggers(), board.clone()));
    if settings.notification.channels.is_empty() {
        return after;
    }
    let notified = settings.notification.clone();
    let failures = FailureNotifications::new(catalog.watch(), functions.clone(), notified, clock.clone());
    Arc::new(AllFollowUps(vec![
        after,
        Arc::new(failures),
        Arc::new(PutOffNotifications),
    ]))
}

/// What is looked at for notifications.
fn watched_for_notifications(components: &Components, settings: &Settings) -> NotificationWatchParts {
    NotificationWatchParts {
        broker: components.broker.clone(),
        functions: components.functions.clone(),
        plan: components.catalog.watch(),
        settings: settings.notification.clone(),
        clock: components.clock.clone(),
        health: components.health.clone(),
        problems: {
            let catalog = components.catalog.clone();
            Box::new(move || source_problems(&catalog))
        },
    }
}

/// Sources that cannot be read, and functions and rows of which nothing is in force.
fn source_problems(catalog: &Catalog) -> Vec<SourceProblem> {
    let away = catalog.statuses().into_iter().filter(|status| !status.is_absent());
    let away = away.filter_map(|status| {
        let why = status.state.reason()?.to_owned();
        let title = format!("the source {} cannot be read", status.source.as_str());
        let place = status.place;
        Some(SourceProblem { place, title, why })
    });
    let refused = catalog.rejected().into_iter().map(|one| {
        let why: Vec<String> = one
            .problems
            .iter()
            .map(|problem| format!("{} {}", problem.code, problem.message))
            .collect();
        SourceProblem {
            title: format!("{} is refused", one.name),
            place: one.origin.place,
            why: why.join("; "),
        }
    });
    away.chain(refused).collect()
}

/// Whether commands run under guards, where this program can be started a second time.
fn guards(settings: &Settings) -> bool {
    settings.roles.worker && settings.handlers.exec.enabled
}

/// Where there are commands at the start, its log says whether they run under guards. Commands that come later find out.
async fn try_guards(settings: &Settings, functions: &Functions) {
    if guards(settings) && functions.all().values().any(|function| function.kind.key() == "exec") {
        runner_handlers::can_guard().await;
    }
}

/// What pages know.
#[cfg(feature = "web")]
fn pages(settings: WebSettings, components: &Components, stopping: &CancellationToken) -> anyhow::Result<Pages> {
    let parts = crate::web::AppStateParts {
        broker: components.broker.clone(),
        catalog: components.catalog.clone(),
        clock: components.clock.clone(),
        settings,
        metrics: components.metrics.clone(),
        health: components.health.clone(),
        audit: components.audit.clone(),
        operations: components.operations.clone(),
        caveats: components.caveats.clone(),
        board: components.board.clone(),
        hooks: components.hooks.clone(),
        notification: components.notification.clone(),
        stopping: stopping.clone(),
        quiet: components.instance.quiet.clone(),
    };
    Ok(Pages::new(parts)?)
}

/// Settings that ask for pages are refused before this.
#[cfg(not(feature = "web"))]
fn pages(_: WebSettings, _: &Components, _: &CancellationToken) -> anyhow::Result<Pages> {
    anyhow::bail!("this program was built without the feature `web`")
}

/// Starts the scheduler, which reports to the sources what differs from other instances.
fn schedule(components: &Components, stop: CancellationToken) -> JoinHandle<()> {
    let me = &components.instance;
    let parts = SchedulerParts {
        broker: components.broker.clone(),
        plan: components.catalog.watch(),
        clock: components.clock.clone(),
        metrics: components.metrics.clone(),
        health: components.health.clone(),
        events: components.events.clone(),
        telemetry: components.telemetry.clone(),
        instance: format!("{}:{}:{}", me.host, me.pid, me.id),
        scope: InstanceScope {
            host: me.host.clone(),
            program: std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string()),
        },
    };
    let catalog = components.catalog.clone();
    let report = move |found: Differences| catalog.set_others(found.problems, found.superseded);
    tokio::spawn(scheduler::run(parts, report, stop))
}

/// Starts what sends events, if the settings say where to.
#[cfg(feature = "amqp")]
fn send_events(settings: &Settings, events: Events) -> Option<(JoinHandle<()>, oneshot::Sender<Instant>)> {
    let to = settings.events.clone()?;
    let server = settings.triggers.rabbitmq.get(&to.connection)?.clone();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(events::send(events, to, server, stopped));
    Some((task, stop))
}

#[cfg(not(feature = "amqp"))]
fn send_events(_settings: &Settings, _events: Events) -> Option<(JoinHandle<()>, oneshot::Sender<Instant>)> {
    None
}

/// Starts what sends spans and figures, if the settings say where to.
#[cfg(feature = "otlp")]
fn send_spans(settings: &Settings, components: &Components) -> Option<(JoinHandle<()>, oneshot::Sender<Instant>)> {
    let to = settings.telemetry.clone()?;
    let (stop, stopped) = oneshot::channel();
    let metrics = components.metrics.clone();
    let instance = components.instance.name();
    let sending = telemetry::send(components.telemetry.clone(), to, instance, metrics, stopped);
    Some((tokio::spawn(sending), stop))
}

#[cfg(not(feature = "otlp"))]
fn send_spans(_: &Settings, _: &Components) -> Option<(JoinHandle<()>, oneshot::Sender<Instant>)> {
    None
}

/// Starts what listens to events for triggers.
fn listen(components: &Components, settings: &Settings, stop: CancellationToken) -> JoinHandle<()> {
    let parts = TriggerParts {
        broker: components.broker.clone(),
        clock: components.clock.clone(),
        health: components.health.clone(),
        telemetry: components.telemetry.clone(),
        settings: settings.triggers.clone(),
        triggers: components.catalog.watch_triggers(),
        instance: components.instance.name(),
        board: components.board.clone(),
        hooks: components.hooks.clone(),
        listens: settings.roles.scheduler,
    };
    tokio::spawn(trigger::run(parts, stop))
}

async fn finished(what: &str, task: JoinHandle<()>, until: Instant) {
    if !task.is_finished() && timeout_at(until, task).await.is_err() {
        tracing::warn!("{what} did not stop in time");
    }
}
