//! The reasons: code, severity, sentence and hint of each. `docs/why.md` explains them; a code never changes its
//! meaning.
//!
//! Places such as `{queue}` are filled with the values of a [`super::Reason`]. The same texts are in
//! `templates/words.json` beside the Chinese ones; a test compares them. Codes of reasons and of problems of manifests
//! and rows are one series.

/// Whether a reason goes away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasonSeverity {
    /// As intended, or over soon.
    Info,
    /// It lasts until someone acts.
    Warning,
}

macro_rules! reasons {
    ($($name:ident $code:literal $severity:ident $sentence:literal $hint:literal;)+) => {
        /// Why a task or a schedule stays where it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCode {
            $(#[doc = $sentence] $name,)+
        }

        impl ReasonCode {
            /// All of them, in the order of their subjects.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Whether it goes away by itself.
            #[must_use]
            pub const fn severity(self) -> ReasonSeverity {
                match self { $(Self::$name => ReasonSeverity::$severity,)+ }
            }

            /// One sentence with places for values.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }

            /// What to do, with places for values; empty if nothing is to be done.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)+ }
            }
        }
    };
}

/// The end of a hint if a known name resembles this one.
pub const MEANT: &str = " Did you mean {meant}?";

reasons! {
    // The broker and the queue.
    BrokerRefuses "W130" Warning
        "The broker takes no writes ({code}), which was first seen {since}: {why}"
        "Nothing is claimed, moved or fired until it does; docs/redis.md explains the codes.";
    QueuePaused "W101" Warning
        "The queue {queue} is paused{pause}."
        "`runner queue resume {queue_argument}` resumes it.";
    // Servers.
    NoWorker "W108" Warning
        "No worker is running; the task waits for one."
        "Start a worker that serves the queue {queue}.";
    QueueNew "W109" Warning
        "No worker is running, the queue {queue} is new, and `worker.queues` does not name it."
        "Name it there, or correct its name.";
    ServersStopped "W110" Warning
        "Every server that serves the queue {queue} has stopped claiming tasks: {servers}."
        "They are paused (`runner worker resume`), received SIGTSTP or are shutting down. Resume one, or start another.";
    QueueNotServed "W211" Warning
        "No live server serves the queue {queue}; its tasks wait for one."
        "Add it to `worker.queues` of a worker, or correct its name.";
    TypeNotHandled "W210" Warning
        "No live server has a handler for {type}; the task waits for one."
        "Start a worker that has one, or correct the type.";
    WaitsFor "W116" Warning
        "Waits for {what}."
        "A worker claimed it and put it back; it is tried again from time to time.";
    WaitsForLimit "W117" Info
        "Waits for the limit {limit}."
        "It starts when its turn comes: docs/limits.md.";
    WorkersBusy "W103" Info
        "The workers that serve the queue {queue} are busy: {active} of {slots} slots are in use."
        "";
    HigherQueues "W113" Info
        "The servers take tasks by strict priority, and queues of higher priority have tasks: {queues}."
        "";
    WaitsItsTurn "W114" Info
        "It waits for its turn; tasks pending in the queue {queue}: {pending}."
        "";
    // What was given to `runner enqueue`, or is defined in a manifest.
    NoFunction "W212" Warning
        "No manifest defines the function {function}; its tasks wait for one."
        "Write the manifest, or correct the name.";
    FunctionOfHandler "W213" Warning
        "The function {function} is run by the handler {type}."
        "Use {type} as the type.";
    FunctionBroken "W214" Warning
        "{place} has errors, so queue, retry, timeout and retention of the function {function} are not known here."
        "`runner check` lists the errors.";
    TypeIsFunction "W215" Warning
        "{type} is the name of a function, not a type."
        "Did you mean {meant}?";
    PayloadNotJson "W254" Warning
        "The function {function} sends its payload as JSON, and this payload is not JSON ({why}), so the task fails."
        "For other payloads set `http.headers.Content-Type` in the manifest.";
    // Time.
    DeadlinePassed "W122" Warning
        "Its deadline has passed ({deadline}): no attempt can run."
        "Enqueue it again with a later deadline.";
    DeadlineFirst "W123" Warning
        "Its deadline, {deadline}, is before its start, {due}."
        "Enqueue it again with a later deadline.";
    Due "W111" Info
        "It is due {at}."
        "";
    Overdue "W112" Warning
        "It was due {at} and has not been moved: no worker process moves due tasks of this queue."
        "Start a worker that serves the queue {queue}.";
    NotMoved "W115" Warning
        "It was due {at}, and the workers that serve the queue {queue} have not moved it."
        "They move due tasks about once a second; their logs say why they do not.";
    RetryDue "W121" Info
        "Its next attempt is {at}; retries used: {retried} of {max}."
        "";
    InGroup "W141" Info
        "It waits in the group {group} until an aggregator makes one task of the group."
        "";
    // Active.
    Running "W131" Info
        "It runs on {server} and was claimed {since}."
        "";
    Claimed "W134" Info
        "A worker holds it; the lease ends {until} unless it is extended."
        "";
    LeaseOver "W132" Warning
        "Its lease has expired: the worker stopped reporting, and the task will be recovered."
        "";
    LeaseOverAlone "W133" Warning
        "Its lease expired {until}, and no worker that serves the queue {queue} is running to recover it."
        "Start a worker that serves the queue {queue}.";
    // Over.
    NoRetry "W150" Warning
        "It failed for good: the task allows no retry."
        "`runner task run {task_argument}` runs it again.";
    RetriesUsedUp "W151" Warning
        "All {max} retries are used up."
        "`runner task run {task_argument}` runs it again.";
    NoFurtherAttempt "W152" Warning
        "It failed for good: no further attempt was allowed, although retries are left."
        "`runner task run {task_argument}` runs it again.";
    Archived "W153" Info
        "It was archived by an operator, or because it could not be run."
        "`runner task run {task_argument}` runs it.";
    Damaged "W156" Warning
        "The queue {queue} holds it, but it cannot be read: {why}"
        "`runner task show --queue={queue} {task_argument}` shows its bytes.";
    Stopped "W154" Info
        "An operator stopped it."
        "`runner task run {task_argument}` runs it again.";
    Poison "W155" Warning
        "It was archived because its process died several times while it ran."
        "docs/lost-runs.md says how to find the cause.";
    Done "W161" Info
        "It succeeded; it will be deleted {until}."
        "";
    Gone "W162" Info
        "It is over and no longer stored; its last run ended {at} with the outcome {outcome}."
        "";
    Deleted "W163" Info
        "It is not stored any more, although its last run on record, which ended {at}, was not to be its last one: {outcome}."
        "It was deleted by an operator or with its queue, or a worker in Go ended it, which keeps no record.";
    LeftArchive "W164" Info
        "It failed for good {at} and is not in the archive any more."
        "The oldest tasks leave an archive by age and by number; an operator may have deleted it, or run it again on a worker in Go.";
    // Schedules that do not fire.
    NotDue "S01" Info
        "It fires next {at}."
        "";
    Paused "S02" Warning
        "Paused by {by}. Nothing fires until it is resumed, and what falls into the pause does not fire afterwards."
        "`runner schedule resume {schedule_argument}` resumes it.";
    Disabled "S03" Info
        "Disabled where it is defined: {place}."
        "";
    NoScheduler "S05" Warning
        "It was due {at}, and no scheduler has decided about it."
        "Start an instance with the scheduler role that has this schedule.";
    NotRegistered "S06" Warning
        "No scheduler has seen it yet; it fires from the moment when one does."
        "Start an instance with the scheduler role that has this schedule.";
    NoneLeft "W209" Warning
        "It has no future instants: {spec}"
        "Give it a future instant, or remove it.";
    OtherVersion "W260" Warning
        "Instances have different versions of it; the one that appeared last counts."
        "Give all instances the same files and rows.";
    NotDecidedYet "S17" Info
        "Nothing has been decided about it yet: no occurrence has been due since a scheduler saw it first."
        "";
    ClockChange "S12" Info
        "{zone} has a clock change {at}, which leaves out or repeats local times."
        "docs/manifests.md says when schedules fire then.";
    DefinitionBroken "S14" Warning
        "{place} has errors, so no schedule of it is in force: {problem}"
        "`runner check` lists the errors.";
    NotInForce "S15" Warning
        "No version of it is in force; {place}: {problem}"
        "`runner check` lists the errors.";
    Absent "S18" Warning
        "No source defines this schedule at present. Nothing fires."
        "Define it again if it is to fire.";
    Foreign "S19" Info
        "It belongs to the Go scheduler {scheduler}, which alone decides when it fires."
        "";
    // The last decision, and the state of its task.
    LastMissed "S07" Info
        "The last occurrence, {at}, was missed: {why}"
        "";
    LastSkipped "S08" Info
        "The last occurrence, {at}, was skipped: {why}"
        "";
    LastLocked "S09" Info
        "The last occurrence, {at}, was not enqueued, since a unique task of the same type and payload had not ended: {why}"
        "";
    LastRefused "S10" Warning
        "The last occurrence, {at}, could not be enqueued: {why}"
        "Correct its definition; the next occurrence meets the same error.";
    LastPaused "S11" Info
        "The last occurrences, up to {at}, fell into a pause and will not fire: {why}"
        "";
    Corrected "S16" Info
        "The broker's clock was ahead; its schedule was reset {at}. Occurrences that fired while it was ahead do not fire again."
        "";
    LastTask "S20" Info
        "The last occurrence, {at}, fired; its task is {task} ({state})."
        "";
    LastTaskRetried "S21" Warning
        "The last task failed and waits for its next attempt: {error}"
        "";
    LastTaskArchived "S22" Warning
        "The last task is archived: it failed for good, or an operator archived it. {error}"
        "";
}
