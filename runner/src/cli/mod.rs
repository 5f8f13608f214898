//! The command line: its grammar, and which command each call runs. One file a command.
//!
//! Commands and wiring only: what a command does to tasks and schedules is in the rooms below.

mod app;
mod assemble;
mod audited;
#[cfg(feature = "embedded")]
mod backup;
mod banner;
#[cfg(feature = "embedded")]
mod bench;
mod check;
mod check_broker;
mod check_findings;
mod check_reasons;
mod check_table;
mod context;
mod defaults;
mod doctor;
mod embed;
mod enqueue;
mod exit;
mod file_store;
mod files_of_tasks;
mod follow;
mod function_runs;
mod hint;
mod init;
mod init_process;
mod listen;
mod logs;
mod ls;
mod ls_audit;
mod ls_bad_messages;
mod ls_limits;
mod ls_schedules;
mod ls_tasks;
mod ls_triggers;
mod migrate;
mod next;
mod notify;
mod open;
mod page_server;
mod panics;
mod parts;
mod payload;
mod preflight;
mod print;
mod queue;
mod reasons;
mod reload;
mod run;
mod run_function;
mod runs;
mod schedule;
mod schedule_foreign;
mod schedule_named;
mod schedule_pause;
mod seal;
mod send;
mod serve;
mod service_manager;
mod signals;
mod state_store;
mod store_users;
mod task;
mod task_all;
mod task_args;
mod task_artifacts;
mod temporary;
mod token;
#[cfg(feature = "top")]
mod top;
mod values;
mod version;
mod why;
mod worker;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};
use runner_core::clock::SystemClock;

use crate::config::Purpose;
pub use app::App;
use context::CommandContext;
pub use embed::{AppError, StartedApp};
pub use parts::{AppParts, CodeSchedule};

/// A function runner and scheduler: schedules from files, a table and code; a queue that asynq understands;
/// a dashboard that says what ran, what did not, and why.
#[derive(Debug, Parser)]
#[command(name = "runner", version = version::FULL, max_term_width = 100)]
#[command(after_help = "Examples:\n  \
    runner                          run with ./config.yaml, or with defaults\n  \
    runner -c /etc/runner/config.yaml\n  \
    runner init && runner check     a directory to start from\n  \
    runner next '0 2 * * *' --tz Asia/Shanghai\n  \
    runner ls schedules\n\n\
    Every setting can be overridden: redis.host by RUNNER_REDIS_HOST, log.maxSize by RUNNER_LOG_MAX_SIZE.\n\
    Exit codes: 0 done, 1 not done, 2 wrong usage, 65 bad data, 69 unavailable, 74 output not written, 78 bad settings.")]
struct Cli {
    /// Configuration file [default: the first of ./config.yaml, ./bingo-scheduler.yaml,
    /// ~/.config/runner/config.yaml, /etc/runner/config.yaml and the places of the Go service]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run_function::RunCommand),
    Check(check::Check),
    Next(next::Next),
    Enqueue(Box<enqueue::EnqueueCommand>),
    Ls(ls::Ls),
    Task(task::TaskCommand),
    Schedule(schedule::ScheduleCommand),
    Queue(queue::QueueCommand),
    Worker(worker::WorkerCommand),
    Workflow(workflow::WorkflowCommand),
    Runs(runs::RunsCommand),
    Logs(logs::LogsCommand),
    Notify(notify::NotifyCommand),
    Token(token::TokenCommand),
    #[cfg(feature = "top")]
    Top(top::TopCommand),
    Why(why::Why),
    Doctor(doctor::DoctorCommand),
    Migrate(migrate::Migrate),
    #[cfg(feature = "embedded")]
    Backup(backup::BackupCommand),
    Init(init::Init),
    #[cfg(feature = "embedded")]
    Bench(bench::BenchCommand),
    /// Print a completion script
    #[command(after_help = "Example:\n  runner completions bash > ~/.local/share/bash-completion/completions/runner")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Reads the command line and runs that command. Returns the exit code of the process.
#[must_use]
pub fn main(parts: AppParts) -> ExitCode {
    // A process that guards a command, or reaps orphans, does nothing else.
    if let Some(code) = runner_handlers::guard_main() {
        return code;
    }
    init_process::hear_signals();
    panics::show_safely();
    let mut parts = parts;
    let matches = match command_line(&parts).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage_error(&error),
    };
    let own = matches.subcommand().and_then(|(name, arguments)| {
        let found = parts.commands.iter().position(|own| own.command.get_name() == name)?;
        Some((parts.commands.swap_remove(found), arguments.clone()))
    });
    let done = match (own, Cli::from_arg_matches(&matches)) {
        (Some((own, arguments)), _) => own_command(own, arguments, &matches, parts),
        (None, Ok(cli)) => dispatch(cli, parts),
        (None, Err(error)) => return usage_error(&error),
    };
    match done {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}

/// What can be said to this program: its own name, version and commands beside those of `runner`.
fn command_line(parts: &AppParts) -> clap::Command {
    let mut line = Cli::command();
    if let Some(name) = parts.name {
        line = line.name(name).bin_name(name);
    }
    if let Some(version) = parts.version {
        line = line.version(version);
    }
    line.subcommands(parts.commands.iter().map(|own| own.command.clone()))
}

/// Runs a command of the program's own, with a client of the configured broker.
fn own_command(
    own: parts::OwnCommand,
    arguments: clap::ArgMatches,
    line: &clap::ArgMatches,
    parts: AppParts,
) -> anyhow::Result<ExitCode> {
    let named = line
        .get_one::<PathBuf>("config")
        .cloned()
        .or_else(|| parts.config.clone());
    let context = CommandContext::new(named, Purpose::Command, Arc::new(SystemClock), &parts);
    single_threaded(async {
        let client = runner_client::Client::over(context.broker().await?);
        (own.run)(arguments, client).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn dispatch(cli: Cli, parts: AppParts) -> anyhow::Result<ExitCode> {
    let command = cli
        .command
        .unwrap_or_else(|| Command::Run(run_function::RunCommand::service()));
    let purpose = match &command {
        Command::Run(run) if run.is_service() => Purpose::Serve,
        Command::Check(_) | Command::Doctor(_) => Purpose::Check,
        _ => Purpose::Command,
    };
    let config = cli.config.or_else(|| parts.config.clone());
    let context = CommandContext::new(config, purpose, Arc::new(SystemClock), &parts);
    match command {
        Command::Run(run) if run.is_service() => {
            return match init_process::look_after() {
                Some(code) => Ok(code),
                None => serve::serve(&context, parts),
            };
        }
        Command::Run(run) => single_threaded(run.run(&context, parts.without_sections()))?,
        Command::Check(check) => single_threaded(check.run(&context, parts.registrars))?,
        Command::Next(next) => next.run(&context)?,
        Command::Init(init) => init.run()?,
        Command::Completions { shell } => completions(shell, &parts)?,
        Command::Enqueue(enqueue) => single_threaded(enqueue.run(&context, parts.without_sections()))?,
        Command::Ls(ls) => single_threaded(ls.run(&context))?,
        Command::Task(task) => single_threaded(task.run(&context))?,
        Command::Schedule(schedule) => single_threaded(schedule.run(&context))?,
        Command::Queue(queue) => single_threaded(queue.run(&context))?,
        Command::Worker(worker) => single_threaded(worker.run(&context))?,
        Command::Workflow(workflow) => single_threaded(workflow.run(&context))?,
        Command::Runs(runs) => single_threaded(runs.run(&context))?,
        Command::Notify(notify) => single_threaded(notify.run(&context))?,
        Command::Token(token) => token.run(&context)?,
        #[cfg(feature = "top")]
        Command::Top(top) => single_threaded(top.run(&context))?,
        Command::Logs(logs) => single_threaded(logs.run(&context))?,
        Command::Doctor(doctor) => single_threaded(doctor.run(&context, parts.registrars))?,
        Command::Why(why) => single_threaded(why.run(&context))?,
        #[cfg(feature = "embedded")]
        Command::Backup(backup) => single_threaded(backup.run(&context))?,
        Command::Migrate(migrate) => single_threaded(migrate.run(&context))?,
        #[cfg(feature = "embedded")]
        Command::Bench(bench) => multi_threaded(bench.run(&context))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one command to its end on this thread.
fn single_threaded(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command)
}

/// Runs one command on all processors.
#[cfg(feature = "embedded")]
fn multi_threaded(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command)
}

fn completions(shell: clap_complete::Shell, parts: &AppParts) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let name = parts.name.unwrap_or("runner");
    clap_complete::generate(shell, &mut command_line(parts), name, &mut script);
    Ok(print::text(&String::from_utf8_lossy(&script))?)
}

/// Prints the error of the command line; help and version come this way too.
fn usage_error(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // It quotes the arguments, which may contain control characters.
        print::notes(error.render().to_string().trim_end());
    } else {
        // Help and version, in colours if the terminal has them. There is no other way to report a closed output.
        let _ = error.print();
    }
    if names_a_secret(error) {
        print::notes(
            "secrets do not belong on the command line, where other users can see them:\n\
             use the configuration file with ${env:NAME} or ${file:PATH}, or RUNNER_REDIS_PASSWORD",
        );
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
}

fn names_a_secret(error: &clap::Error) -> bool {
    let unknown = error.kind() == ErrorKind::UnknownArgument;
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if unknown => {
            let argument = argument.to_lowercase();
            ["pass", "secret", "token", "key"]
                .iter()
                .any(|word| argument.contains(word))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Texts of the program that name one of its commands or a file of its documentation.
    #[test]
    fn messages_name_commands_and_documents_that_exist() {
        let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let commands = Cli::command();
        let (mut left, mut named) = (
            vec![top.join("src"), top.join("queue/src"), top.join("../handlers/src")],
            0,
        );
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for rest in text.split("`runner ").skip(1) {
                let word = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
                named += usize::from(!word.is_empty());
                let known = word.is_empty() || commands.find_subcommand(word).is_some();
                assert!(known, "{}: there is no command `runner {word}`", path.display());
            }
            for rest in text.split("docs/").skip(1) {
                let name = rest
                    .split(|c: char| !(c.is_ascii_lowercase() || "-.".contains(c)))
                    .next()
                    .unwrap();
                let known = !name.ends_with(".md") || top.join("../docs").join(name).is_file();
                assert!(known, "{}: there is no docs/{name}", path.display());
            }
        }
        assert!(named > 20, "only {named} commands were found");
    }
}
