//! Supervises a command that runs under a guard: reads its output, asks for its end, and reports what it left behind.
//!
//! Not here: how the guard does its work ([`crate::guard`]).

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use runner_sdk::{Ctx, StopReason};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout};

use super::output::{self, Tail};
use super::place::Place;
use super::supervise::{CommandEnd, EndedCommand, KILL_GRACE, PIPE_GRACE, limit_of};
use crate::guard::{GuardHandle, GuardReport, IdleGuards, with_variable};
use crate::secret::Secrets;

/// The output of a command, read from its named pipes.
pub(super) struct Output {
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// A running command.
pub(super) struct StartedCommand {
    pub(super) guard: GuardHandle,
    pub(super) output: Output,
}

impl Output {
    /// Creates the pipes, and returns their paths too; no other user can write to them.
    pub(super) fn in_place(place: &Place) -> io::Result<(Self, PathBuf, PathBuf)> {
        let make = |name| {
            let path = place.make_pipe(name)?;
            Ok::<_, io::Error>((pipe::OpenOptions::new().open_receiver(&path)?, path))
        };
        let ((stdout, out), (stderr, err)) = (make("stdout")?, make("stderr")?);
        Ok((Self { stdout, stderr }, out, err))
    }
}

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The command has ended, but some process holds its output open.
    Draining,
    /// Its descendants are being ended.
    Sweeping,
    /// All were asked to end.
    Asked,
    /// All are being killed.
    Killing,
}

/// The state of the run.
struct Course {
    phase: Phase,
    /// When the next step is due.
    due: Option<Instant>,
    status: Option<ExitStatus>,
    stopped: Option<StopReason>,
    overdue: bool,
    silent: bool,
    /// No process of the family is left.
    gone: bool,
}

/// Supervises the command until it and all that it started are gone. `control` is a path that only its family knows.
pub(super) async fn supervise(
    started: StartedCommand,
    idle: &IdleGuards,
    captures_stdout: bool,
    kill_after: Duration,
    control: &Path,
    secrets: &Secrets,
    cx: &Ctx,
) -> EndedCommand {
    let StartedCommand { mut guard, output } = started;
    let Output { stdout, stderr } = output;
    let (mut out, mut err) = (Tail::new(captures_stdout), Tail::new(false));
    let end = {
        let io = async {
            tokio::join!(
                output::read(Some(stdout), "out", &mut out, secrets, cx.log()),
                output::read(Some(stderr), "err", &mut err, secrets, cx.log()),
            )
        };
        tokio::pin!(io);
        let (mut held, mut listening) = (cx.held(), true);
        let mut course = Course::new();
        let whole = loop {
            tokio::select! {
                report = guard.report() => match report {
                    Some(report) => if course.handle(report, &guard, cx) { break course.gone },
                    None => break false,
                },
                _ = &mut io, if !course.silent => course.fell_silent(&guard),
                reason = cx.cancelled(), if course.may_be_stopped() => course.stop(reason, &guard, kill_after, cx),
                () = until(course.due), if course.due.is_some() => if course.step(&guard, cx) { break false },
                changed = held.changed(), if listening => {
                    listening = changed.is_ok();
                    let hold = *held.borrow_and_update();
                    if let Some(hold) = hold {
                        guard.hold(hold);
                    }
                }
            }
        };
        // No process can hold the output open now; the last bytes may still be in the pipes.
        if !course.silent && timeout(PIPE_GRACE, io).await.is_err() {
            cx.log()
                .push("log", "the output was still held open when the command had ended");
        }
        let end = course.end(whole, &mut guard, control).await;
        if whole {
            idle.put(guard);
        }
        end
    };
    EndedCommand {
        end,
        stdout: out.captured,
        last_error_line: err.last_line,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Course {
    fn new() -> Self {
        Self {
            phase: Phase::Running,
            due: None,
            status: None,
            stopped: None,
            overdue: false,
            silent: false,
            gone: false,
        }
    }

    /// Handles a report. Returns whether it was the last one.
    fn handle(&mut self, report: GuardReport, guard: &GuardHandle, cx: &Ctx) -> bool {
        match report {
            GuardReport::Ended(status) => {
                self.status = Some(ExitStatus::from_raw(status));
                if self.phase == Phase::Running {
                    self.phase = Phase::Draining;
                    self.due = Some(Instant::now() + PIPE_GRACE);
                    if self.silent {
                        self.sweep(guard);
                    }
                }
            }
            GuardReport::Left(names) => {
                let note = format!("still running when the command had ended, and ended with it: {names}");
                cx.log().push("log", &note);
            }
            GuardReport::Overdue => {
                self.overdue = true;
                cx.log().push("log", "the lease was not extended in time: asked to end");
            }
            GuardReport::Gone => {
                self.gone = true;
                return true;
            }
            GuardReport::Stuck(names) => {
                tracing::error!(task = %cx.id(), processes = names, "processes of a command cannot be killed");
                cx.log().push("log", &format!("cannot be killed: {names}"));
                return true;
            }
            GuardReport::Began(_) | GuardReport::Failed(_) => (),
        }
        false
    }

    fn fell_silent(&mut self, guard: &GuardHandle) {
        self.silent = true;
        if self.phase == Phase::Draining {
            self.sweep(guard);
        }
    }

    fn sweep(&mut self, guard: &GuardHandle) {
        guard.sweep();
        self.phase = Phase::Sweeping;
        self.due = Some(Instant::now() + KILL_GRACE);
    }

    fn may_be_stopped(&self) -> bool {
        self.stopped.is_none() && matches!(self.phase, Phase::Running | Phase::Draining)
    }

    fn stop(&mut self, reason: StopReason, guard: &GuardHandle, kill_after: Duration, cx: &Ctx) {
        self.stopped = Some(reason);
        let kill_after = limit_of(reason, kill_after);
        let note = format!("{reason}: asked to end, killed after {kill_after:?}");
        cx.log().push("log", &note);
        guard.terminate();
        self.phase = Phase::Asked;
        self.due = Some(Instant::now() + kill_after);
    }

    /// Takes the step that is due. Returns whether there is nothing left to wait for.
    fn step(&mut self, guard: &GuardHandle, cx: &Ctx) -> bool {
        match self.phase {
            Phase::Running => self.due = None,
            Phase::Draining => {
                cx.log().push("log", "a descendant kept the output open; it was killed");
                self.sweep(guard);
            }
            Phase::Asked | Phase::Sweeping => {
                guard.kill();
                self.phase = Phase::Killing;
                // The guard has the same limit and reports it itself.
                self.due = Some(Instant::now() + KILL_GRACE + KILL_GRACE);
            }
            Phase::Killing => {
                tracing::error!(task = %cx.id(), "a command cannot be killed");
                return true;
            }
        }
        false
    }

    /// `whole`: the guard finished its work.
    async fn end(self, whole: bool, guard: &mut GuardHandle, control: &Path) -> CommandEnd {
        let mut how = String::new();
        if !whole {
            how = guard.ended().await;
            // The guard was killed. Its family is found by its group and by a variable, and ended from here.
            if self.status.is_none() {
                killpg(Pid::from_raw(guard.leader), Signal::SIGKILL).ok();
            }
            let control = control.display().to_string();
            for member in with_variable("RUNNER_CONTROL_FILE", &control) {
                member.signal(Signal::SIGKILL);
            }
        }
        match (self.stopped, self.status) {
            (Some(reason), _) => CommandEnd::Stopped(reason),
            (None, _) if self.overdue => CommandEnd::Overdue,
            (None, Some(status)) => CommandEnd::Exited(status),
            (None, None) => CommandEnd::Unguarded(how),
        }
    }
}
