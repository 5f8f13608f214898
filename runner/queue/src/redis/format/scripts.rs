//! The scripts and the parts of each. `net::load_scripts` loads them into a server.
//!
//! A script has the name of the method of the seam that it serves; further steps of a method are `<method>_<step>`.
//! Three serve several methods and are named after what they do: `add_members`, `live_members`, `quarantine`.
//!
//! Each opens with a comment that lists its keys, arguments and answer. All begin with the clock. Scripts
//! that only take things out of a full server, or must run in one for the sake of those that do, carry a flag that lets
//! them run there; servers before version 7 do not know the flag, and there it is enough that such a script begins with
//! a removal, be it of nothing.

/// The table of scripts: name, whether it drains or fills the server, the parts before its own text, its file. Enum,
/// sources and file names come from the same rows, so their orders cannot differ.
macro_rules! scripts {
    ($($script:ident: $kind:ident [$($part:ident),*] $file:literal,)*) => {
        /// Names a script.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub(in crate::redis) enum Script {
            $($script,)*
        }

        static SOURCES: &[Source] = &[
            $($kind(&[$($part,)* include_str!(concat!("scripts/", $file, ".lua"))]),)*
        ];

        /// The names of the files, in the order of the table. For tests.
        #[cfg(feature = "contract")]
        const FILES: &[&str] = &[$($file,)*];
    };
}

scripts! {
    EnqueuePlain: fills [CLOCK] "enqueue_plain",
    Enqueue: fills [CLOCK, PUT] "enqueue",
    EnqueueOnce: fills [CLOCK, PUT] "enqueue_once",
    Exchange: drains [CLOCK, COUNT, CLAIMS, ACCEPT, TYPES, PICK, SUSPECTS, SEMAPHORES, GATES, ADMIT] "exchange",
    Quarantine: drains [CLOCK, GUARD, CLAIMS, NOTES, SEMAPHORES, GATES] "quarantine",
    Settle: drains [CLOCK, GUARD, PUT, COUNT, CLAIMS, ACCEPT, NOTES, FORGET, TRIM, SUSPECTS, TRACE, FOLLOW, SEMAPHORES, GATES] "settle",
    Extend: drains [CLOCK, CLAIMS, SEMAPHORES] "extend",
    Unanswered: drains [CLOCK, CLAIMS, SEMAPHORES] "unanswered",
    Forward: drains [CLOCK, CLAIMS] "forward",
    ForwardGates: drains [CLOCK, SEMAPHORES, GATES] "forward_gates",
    Recover: drains [CLOCK, GUARD, CLAIMS, NOTES, REPAIR_TASK] "recover",
    Sweep: drains [CLOCK, GUARD, CLAIMS, FORGET, TRIM] "sweep",
    Repair: drains [CLOCK, GUARD, CLAIMS, NOTES, REPAIR_TASK] "repair",
    RepairClaims: drains [CLOCK, CLAIMS] "repair_claims",
    RepairScan: drains [CLOCK] "repair_scan",
    ReleaseWaitingList: drains [CLOCK, GUARD] "release_waiting_list",
    ReleaseWaiting: drains [CLOCK] "release_waiting",
    AddMembers: drains [CLOCK] "add_members",
    Heartbeat: drains [CLOCK] "heartbeat",
    LiveMembers: drains [CLOCK] "live_members",
    Register: fills [CLOCK, GUARD, PUT, COUNT, DECIDE, AHEAD] "register",
    PauseSchedule: drains [CLOCK] "pause_schedule",
    ResumeSchedule: drains [CLOCK, GUARD, PUT, COUNT, DECIDE] "resume_schedule",
    Commit: fills [CLOCK, GUARD, PUT, COUNT, DECIDE, AHEAD] "commit",
    Lead: drains [CLOCK, GUARD] "lead",
    Queues: drains [CLOCK, GUARD, COUNT] "queues",
    Tasks: drains [CLOCK, GUARD, CUT, SEMAPHORES, WAITS] "tasks",
    TasksLarge: drains [CLOCK, GUARD, CUT] "tasks_large",
    Task: drains [CLOCK, GUARD, CUT, SEMAPHORES, WAITS] "task",
    Act: drains [CLOCK, GUARD, CLAIMS, FORGET, TRIM, SEMAPHORES, GATES] "act",
    PauseQueue: drains [CLOCK] "pause_queue",
    ActAll: drains [CLOCK, GUARD, CLAIMS, FORGET, TRIM, TAKE, SEMAPHORES, GATES, CHANGE] "act_all",
    ActEach: drains [CLOCK, GUARD, CLAIMS, FORGET, TRIM, SEMAPHORES, GATES, CHANGE] "act_each",
    RemoveQueue: drains [CLOCK, COUNT, CLAIMS, FORGET, TAKE, SEMAPHORES] "remove_queue",
    UpdatePayload: fills [CLOCK] "update_payload",
    History: drains [CLOCK, COUNT] "history",
    Memory: drains [CLOCK, GUARD] "memory",
    Stage: drains [CLOCK] "stage",
    ReadStaged: drains [CLOCK, GUARD] "read_staged",
    ReadStagedArchive: drains [CLOCK] "read_staged_archive",
    DropStaged: drains [CLOCK] "drop_staged",
    Reclaim: drains [CLOCK] "reclaim",
    Groups: drains [CLOCK, GUARD] "groups",
    CommitIntend: fills [CLOCK, GUARD, AHEAD] "commit_intend",
    CommitFire: fills [CLOCK, GUARD, PUT, COUNT, DECIDE] "commit_fire",
    CommitFinish: drains [CLOCK, GUARD, PUT, COUNT, DECIDE] "commit_finish",
    PublishEntries: drains [CLOCK] "publish_entries",
    PendingTypes: drains [CLOCK, GUARD, TYPES] "pending_types",
    Hold: drains [CLOCK, GUARD] "hold",
    Withdraw: drains [CLOCK, GUARD] "withdraw",
    KeepDocument: fills [CLOCK] "keep_document",
    RunAlone: drains [CLOCK, CLAIMS] "run_alone",
    Absolve: drains [CLOCK, CLAIMS, SUSPECTS] "absolve",
    KeepWorkflow: fills [CLOCK, GUARD, WORKFLOW] "keep_workflow",
    KeepWorkflowList: drains [CLOCK] "keep_workflow_list",
    EndSteps: drains [CLOCK, GUARD, WORKFLOW] "end_steps",
    ForgetResults: drains [CLOCK, GUARD, WORKFLOW] "forget_results",
    ReopenWorkflow: drains [CLOCK, GUARD, WORKFLOW] "reopen_workflow",
    MoveWorkflow: drains [CLOCK, GUARD, WORKFLOW] "move_workflow",
    AddRunCounts: fills [CLOCK, GUARD] "add_run_counts",
    RunCounts: drains [CLOCK, GUARD] "run_counts",
    RunNow: fills [CLOCK, GUARD, PUT, COUNT, DECIDE] "run_now",
}

struct Source {
    /// Whether it also runs while the server's memory is full.
    drains: bool,
    parts: &'static [&'static str],
}

const CLOCK: &str = include_str!("scripts/clock.lua");
const GUARD: &str = include_str!("scripts/guard.lua");
const FOLLOW: &str = include_str!("scripts/follow.lua");
const COUNT: &str = include_str!("scripts/count.lua");
const TRIM: &str = include_str!("scripts/trim.lua");
const CUT: &str = include_str!("scripts/cut.lua");
const CLAIMS: &str = include_str!("scripts/claims.lua");
const SUSPECTS: &str = include_str!("scripts/suspects.lua");
const ACCEPT: &str = include_str!("scripts/accept.lua");
const SEMAPHORES: &str = include_str!("scripts/semaphores.lua");
const GATES: &str = include_str!("scripts/gates.lua");
const WAITS: &str = include_str!("scripts/waits.lua");
const ADMIT: &str = include_str!("scripts/admit.lua");
const NOTES: &str = include_str!("scripts/notes.lua");
const WORKFLOW: &str = include_str!("scripts/workflow.lua");
const PUT: &str = include_str!("scripts/put.lua");
const DECIDE: &str = include_str!("scripts/decide.lua");
const FORGET: &str = include_str!("scripts/forget.lua");
const AHEAD: &str = include_str!("scripts/ahead.lua");
const TAKE: &str = include_str!("scripts/take.lua");
const CHANGE: &str = include_str!("scripts/change.lua");
const TYPES: &str = include_str!("scripts/types.lua");
const PICK: &str = include_str!("scripts/pick.lua");
pub(in crate::redis) const TRACE: &str = include_str!("scripts/trace.lua");
const REPAIR_TASK: &str = include_str!("scripts/repair_task.lua");

const fn drains(parts: &'static [&'static str]) -> Source {
    Source { drains: true, parts }
}

const fn fills(parts: &'static [&'static str]) -> Source {
    Source { drains: false, parts }
}

/// The names under which a server knows the scripts.
#[derive(Debug)]
pub(in crate::redis) struct Hashes(Vec<String>);

impl Hashes {
    /// As the server answered [`all`], in that order.
    pub(in crate::redis) fn new(hashes: Vec<String>) -> Self {
        Self(hashes)
    }

    pub(in crate::redis) fn of(&self, script: Script) -> &str {
        // Out of range cannot be: loading makes one for each source.
        self.0.get(script as usize).map_or("", String::as_str)
    }
}

/// The names of each script to servers of version 7 or newer and to older ones, and that of its file. For tests.
#[cfg(feature = "contract")]
#[must_use]
pub fn script_names() -> Vec<([String; 2], &'static str)> {
    let hash =
        |source: &Source| [true, false].map(|flags| redis::Script::new(&code(source, flags)).get_hash().to_owned());
    SOURCES.iter().map(hash).zip(FILES.iter().copied()).collect()
}

/// The text of each script, for a server that knows flags or for one that does not.
pub(in crate::redis) fn all(flags: bool) -> impl Iterator<Item = String> {
    SOURCES.iter().map(move |source| code(source, flags))
}

/// What a server is given.
fn code(source: &Source, flags: bool) -> String {
    let opening = match (source.drains, flags) {
        (false, _) => "",
        (true, true) => "#!lua flags=allow-oom\n",
        (true, false) => "redis.pcall('ZREM', KEYS[1], '')\n",
    };
    format!("{opening}{}", source.parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_opens_with_what_it_takes_and_gives() {
        for source in SOURCES {
            for part in source.parts {
                assert!(part.starts_with("-- "), "{}", &part[..40.min(part.len())]);
            }
        }
    }

    #[test]
    fn attempts_are_kept_as_many_as_readers_ask_for() {
        assert!(NOTES.contains(&format!("KEPT = {}\n", crate::MAX_ATTEMPTS_KEPT)));
    }
}
