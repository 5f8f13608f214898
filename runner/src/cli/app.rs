//! The entry point for a program of your own: handlers and schedules in code, then `main`.
//!
//! Only collects; nothing is opened or started before [`App::main`], [`App::run`] or [`App::start`].

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ArgMatches;
use runner_client::Client;
use runner_core::task::Enqueue;
use runner_sdk::Registry;
use serde::de::DeserializeOwned;

use super::embed::{AppError, StartedApp};
use super::parts::{AppParts, CodeSchedule, Hook, OwnCommand, Registrar};
use crate::config::OwnSection;
use crate::source::Schedule;

/// What errors of a program can be.
type AnyError = Box<dyn Error + Send + Sync>;

/// A runner with handlers and schedules of your own.
///
/// ```no_run
/// use std::time::Duration;
///
/// use runner::{App, Overlap, Schedule, Task};
///
/// fn main() -> std::process::ExitCode {
///     App::new()
///         .schedule("nightly", "0 2 * * *", Task::new("task:daily-report"))
///         .schedule(
///             "sweep",
///             Schedule::every(Duration::from_secs(300)).overlap(Overlap::Skip).retry(0),
///             Task::new("task:sweep"),
///         )
///         .main()
/// }
/// ```
#[derive(Default)]
pub struct App {
    parts: AppParts,
}

impl App {
    /// A runner with the built-in functions only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds handlers. A name that is taken stops the start with an error that has both names.
    #[must_use]
    pub fn handlers(mut self, register: impl FnOnce(Registry) -> Registry + Send + 'static) -> Self {
        let register: Registrar = Box::new(|registry| Box::pin(std::future::ready(Ok(register(registry)))));
        self.parts.registrars.push(register);
        self
    }

    /// Adds handlers after opening what they need. An error stops the start.
    ///
    /// ```no_run
    /// # use runner::App;
    /// # struct Pool;
    /// # impl Pool { async fn connect(_: &str) -> std::io::Result<Pool> { Ok(Pool) } }
    /// # fn main() -> std::process::ExitCode {
    /// App::new()
    ///     .setup(async |registry| {
    ///         let pool = Pool::connect("postgres://localhost/shop").await?;
    ///         Ok::<_, std::io::Error>(registry.state(pool))
    ///     })
    ///     .main()
    /// # }
    /// ```
    #[must_use]
    pub fn setup<F, Fut, E>(mut self, register: F) -> Self
    where
        F: FnOnce(Registry) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Registry, E>> + Send + 'static,
        E: Into<AnyError>,
    {
        let register: Registrar = Box::new(|registry| {
            let registered = register(registry);
            Box::pin(async move { registered.await.map_err(any) })
        });
        self.parts.registrars.push(register);
        self
    }

    /// Does something before the first task runs, with a client of the same broker. An error stops the start; so does an enqueue
    /// while Redis is down, for which the program alone would wait.
    #[must_use]
    pub fn on_start<F, Fut, E>(mut self, hook: F) -> Self
    where
        F: FnOnce(Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<AnyError>,
    {
        self.parts.on_start.push(boxed(hook));
        self
    }

    /// Does something after the last task has run. The broker can still be asked. An error is logged.
    #[must_use]
    pub fn on_stop<F, Fut, E>(mut self, hook: F) -> Self
    where
        F: FnOnce(Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<AnyError>,
    {
        self.parts.on_stop.push(boxed(hook));
        self
    }

    /// Stops, as a signal does, once this future is ready: running tasks end, nothing new is claimed.
    #[must_use]
    pub fn stop_when(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.parts.stop_when = Some(Box::pin(stop));
        self
    }

    /// The name of the program, in its help and version.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.parts.name = Some(name);
        self
    }

    /// The version of the program: `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.parts.version = Some(version);
        self
    }

    /// The file of settings to read where no command line names one. It must exist.
    #[must_use]
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.config = Some(path.into());
        self
    }

    /// A section of the settings for the program itself, read into a type of yours. It is a state of the registry: handlers take
    /// it as `State<Billing>`, and [`App::setup`] finds it by [`Registry::state_of`]. `${env:NAME}` and `${file:PATH}` are
    /// resolved. An unknown key, a missing one or a value that does not fit stops the start, and is reported by the command
    /// `check`, with its line.
    ///
    /// ```no_run
    /// # use runner::App;
    /// use std::sync::Arc;
    ///
    /// use runner::sdk::State;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Billing {
    ///     url: String,
    ///     #[serde(default)]
    ///     dry_run: bool,
    /// }
    ///
    /// async fn charge(State(billing): State<Billing>) -> String {
    ///     format!("asked {}", billing.url)
    /// }
    ///
    /// # fn main() -> std::process::ExitCode {
    /// // config.yaml: billing: {url: "${env:BILLING_URL}"}
    /// App::new()
    ///     .section::<Billing>("billing")
    ///     .handlers(|registry| registry.on("charge", charge))
    ///     .main()
    /// # }
    /// ```
    #[must_use]
    pub fn section<T: DeserializeOwned + Send + Sync + 'static>(mut self, name: &'static str) -> Self {
        let place = Arc::new(Mutex::new(None::<T>));
        let kept = place.clone();
        let keep = move |value| *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.parts.sections.push(OwnSection::new(name, keep));
        let register: Registrar = Box::new(move |registry| {
            let value = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            let registered = value.map(|value| registry.state(value));
            let missing = || anyhow::anyhow!("the section {name} of the settings was not read");
            Box::pin(std::future::ready(registered.ok_or_else(missing)))
        });
        // Before all others, which may need it.
        self.parts.registrars.insert(0, register);
        self
    }

    /// A command of the program's own, beside those of `runner`, with a client of the configured broker.
    ///
    /// ```no_run
    /// # use runner::App;
    /// use runner::{Command, Task};
    ///
    /// # fn main() -> std::process::ExitCode {
    /// App::new()
    ///     .command(Command::new("greet").about("Greet once, now"), async |_arguments, client| {
    ///         client.enqueue(Task::new("greet")).await?;
    ///         Ok::<_, runner::EnqueueError>(())
    ///     })
    ///     .main()
    /// # }
    /// ```
    #[must_use]
    pub fn command<F, Fut, E>(mut self, command: clap::Command, run: F) -> Self
    where
        F: FnOnce(ArgMatches, Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<AnyError>,
    {
        self.parts.commands.push(OwnCommand {
            command,
            run: Box::new(|arguments, client| {
                let run = run(arguments, client);
                Box::pin(async move { run.await.map_err(any) })
            }),
        });
        self
    }

    /// Adds a schedule under a stable name: a cron expression, or a [`Schedule`] with all the options of a manifest.
    /// The options of the task (queue, retries, timeout, retention) hold where the schedule sets none.
    ///
    /// An error that would refuse a manifest, or a name used twice, stops the start; the command `check` lists them
    /// all.
    #[must_use]
    pub fn schedule(mut self, name: impl Into<String>, schedule: impl Into<Schedule>, task: impl Enqueue) -> Self {
        self.parts.schedules.push(CodeSchedule {
            name: name.into(),
            schedule: schedule.into(),
            task: task.into_task(),
        });
        self
    }

    /// Reads the command line and runs that command, as the program `runner` does. Returns the exit code.
    ///
    /// The program starts itself again as a guard for each command that it runs, and again as a child when it is the
    /// first process of a container. What `main` does before this line is then repeated: if it does more than collect
    /// handlers, begin it with `if let Some(code) = runner::guard_main() { return code; }`.
    #[must_use]
    pub fn main(self) -> ExitCode {
        super::main(self.parts)
    }

    /// Runs the configured roles inside a runtime of the program's own, until a signal says stop or
    /// [`App::stop_when`] does. Reads no command line. Logs go to the subscriber of `tracing` that the program has set,
    /// or to that of the settings if it has none.
    ///
    /// Commands of manifests start the program once more, as their guard: a `main` that runs any begins with
    /// `if let Some(code) = runner::guard_main() { return code; }`, before it makes its runtime.
    ///
    /// # Errors
    ///
    /// If it cannot start, or a part of it broke down.
    pub async fn run(self) -> Result<(), AppError> {
        super::embed::run(self.parts).await
    }

    /// As [`App::run`], but returns once it runs and leaves signals to the program: for a program that has a web server of
    /// its own, which takes the dashboard from [`StartedApp::router`].
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use runner::{App, AppError};
    ///
    /// # async fn serve(app: axum::Router) {}
    /// fn main() -> ExitCode {
    ///     if let Some(code) = runner::guard_main() {
    ///         return code;
    ///     }
    ///     match run() {
    ///         Ok(()) => ExitCode::SUCCESS,
    ///         Err(error) => {
    ///             eprintln!("{error}");
    ///             ExitCode::FAILURE
    ///         }
    ///     }
    /// }
    ///
    /// #[tokio::main]
    /// async fn run() -> Result<(), AppError> {
    ///     let started = App::new().start().await?;
    ///     let own = axum::Router::new().merge(started.router()?);
    ///     serve(own).await;
    ///     started.stop().await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If it cannot start.
    pub async fn start(self) -> Result<StartedApp, AppError> {
        super::embed::start(self.parts).await
    }
}

fn any<E: Into<AnyError>>(error: E) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into())
}

fn boxed<F, Fut, E>(hook: F) -> Hook
where
    F: FnOnce(Client) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<AnyError>,
{
    Box::new(|client| {
        let run = hook(client);
        Box::pin(async move { run.await.map_err(any) })
    })
}
