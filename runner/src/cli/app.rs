//! The entry point for a program of your own: handlers and schedules in code, then `main`.
//!
//! Only collects; nothing is opened or started before [`App::main`].

use std::process::ExitCode;

use runner_core::task::Task;
use runner_sdk::Registry;

use crate::source::Schedule;

/// A function that adds handlers to a registry.
pub type Registrar = Box<dyn FnOnce(Registry) -> Registry>;

/// A schedule registered in code.
#[derive(Debug, Clone)]
pub struct CodeSchedule {
    /// Its stable name; the identity is `code:<name>`.
    pub name: String,
    /// When it occurs, and its policies.
    pub schedule: Schedule,
    /// The task that each occurrence enqueues.
    pub task: Task,
}

/// What a program adds to the built-in one.
#[derive(Default)]
pub struct AppParts {
    /// Functions that add handlers, in order.
    pub registrars: Vec<Registrar>,
    /// Schedules in code.
    pub schedules: Vec<CodeSchedule>,
}

/// A runner with handlers and schedules of your own.
///
/// ```no_run
/// use std::time::Duration;
///
/// use runner::schedule::Overlap;
/// use runner::task::Task;
/// use runner::{App, Schedule};
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
    pub fn handlers(mut self, register: impl FnOnce(Registry) -> Registry + 'static) -> Self {
        self.parts.registrars.push(Box::new(register));
        self
    }

    /// Adds a schedule under a stable name: a cron expression, or a [`Schedule`] with all the options of a manifest.
    /// The options of the task (queue, retries, timeout, retention) hold where the schedule sets none.
    ///
    /// An error that would refuse a manifest, or a name used twice, stops the start; the command `check` lists them
    /// all.
    #[must_use]
    pub fn schedule(mut self, name: impl Into<String>, schedule: impl Into<Schedule>, task: Task) -> Self {
        self.parts.schedules.push(CodeSchedule {
            name: name.into(),
            schedule: schedule.into(),
            task,
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
}
