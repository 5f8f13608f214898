//! Supervises a running command without a guard: feeds it, reads its output, and waits for or forces its end.

use std::process::ExitStatus;
use std::time::Duration;

use runner_sdk::{Bytes, Ctx, StopReason};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, timeout};

use super::group::ProcessGroup;
use super::output::{self, Tail};
use crate::secret::Secrets;

/// How long output is read after the command has ended: a descendant can hold the pipe open forever.
pub(super) const PIPE_GRACE: Duration = Duration::from_secs(2);

/// How long a killed command may take to be gone: longer only if the kernel cannot end it (a dead disk).
pub(super) const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long a command may take to end if another worker may have its task by now.
const LEASE_LOST_KILL_AFTER: Duration = Duration::from_secs(1);

/// The same while the process shuts down: it will be killed soon, and the verdict must be written before.
const SHUTDOWN_KILL_AFTER: Duration = Duration::from_secs(2);

/// Delay before the first check whether the group is gone after it was asked to end, doubled each time: a check may read
/// all processes of the host.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(320);

/// The use of the pipes.
pub(super) struct Pipes {
    /// Standard input; `None`: closed.
    pub(super) stdin: Option<Bytes>,
    /// Whether standard output is the result.
    pub(super) captures_stdout: bool,
}

/// How a command ended.
pub(super) enum CommandEnd {
    Exited(ExitStatus),
    Stopped(StopReason),
    Lost(std::io::Error),
    /// Its guard ended it, because this process was frozen for longer than its lease.
    Overdue,
    /// Its guard was killed; how the guard ended.
    Unguarded(String),
}

/// A command that has ended, with its output.
pub(super) struct EndedCommand {
    pub(super) end: CommandEnd,
    /// At most one byte more than a result may have.
    pub(super) stdout: Vec<u8>,
    pub(super) last_error_line: Option<String>,
}

/// Supervises the command until it and its group are gone.
pub(super) async fn supervise(
    mut child: Child,
    mut group: ProcessGroup,
    pipes: Pipes,
    kill_after: Duration,
    secrets: &Secrets,
    cx: &Ctx,
) -> EndedCommand {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Tail::new(pipes.captures_stdout), Tail::new(false));
    let end = {
        let io = async {
            tokio::join!(
                feed(stdin, pipes.stdin),
                output::read(stdout, "out", &mut out, secrets, cx.log()),
                output::read(stderr, "err", &mut err, secrets, cx.log()),
            )
        };
        let ending = wait(&mut child, &group, kill_after, cx);
        tokio::pin!(io, ending);
        let mut silent = false;
        let end = loop {
            tokio::select! {
                end = &mut ending => break end,
                _ = &mut io, if !silent => silent = true,
            }
        };
        if !silent && timeout(PIPE_GRACE, io).await.is_err() {
            let note = "a descendant kept the output open; it was killed";
            cx.log().push("log", note);
        }
        end
    };
    if !matches!(end, CommandEnd::Stopped(_)) && group.is_alive().await {
        cx.log()
            .push("log", "processes that the command left in its group were killed");
    }
    group.kill();
    EndedCommand {
        end,
        stdout: out.captured,
        last_error_line: err.last_line,
    }
}

/// Waits for the end, or forces it if the run must stop.
async fn wait(child: &mut Child, group: &ProcessGroup, kill_after: Duration, cx: &Ctx) -> CommandEnd {
    let reason = tokio::select! {
        status = child.wait() => return status.map_or_else(CommandEnd::Lost, CommandEnd::Exited),
        reason = cx.cancelled() => reason,
    };
    let kill_after = limit_of(reason, kill_after);
    cx.log()
        .push("log", &format!("{reason}: asked to end, killed after {kill_after:?}"));
    group.terminate();
    let asked = Instant::now();
    let polite = timeout(kill_after, child.wait()).await;
    // The leader may be gone while others of its group still clean up.
    let mut pause = LOOK_EVERY;
    while polite.is_ok() && asked.elapsed() < kill_after && group.is_alive().await {
        #[allow(clippy::disallowed_methods)] // nothing reports that a group is empty; bounded by `kill_after`
        sleep(pause.min(kill_after.saturating_sub(asked.elapsed()))).await;
        pause = (pause * 2).min(LOOK_AT_LEAST_EVERY);
    }
    group.kill_remaining();
    if timeout(KILL_GRACE, child.wait()).await.is_err() {
        tracing::error!(task = %cx.id(), "a command cannot be killed");
    }
    CommandEnd::Stopped(reason)
}

/// How long the command has to end when it is stopped for this reason.
pub(super) fn limit_of(reason: StopReason, kill_after: Duration) -> Duration {
    match reason {
        StopReason::LeaseLost => kill_after.min(LEASE_LOST_KILL_AFTER),
        StopReason::Shutdown => kill_after.min(SHUTDOWN_KILL_AFTER),
        _ => kill_after,
    }
}

/// Writes the payload, then closes the pipe. A command need not read it.
async fn feed(stdin: Option<ChildStdin>, payload: Option<Bytes>) {
    if let (Some(mut stdin), Some(payload)) = (stdin, payload)
        && let Err(error) = stdin.write_all(&payload).await
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        tracing::warn!(%error, "the payload could not be written to the command");
    }
}
