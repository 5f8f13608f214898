//! Names of all keys, as functions; outside of the scripts nothing else spells a key.
//!
//! A script is given keys or what they begin with, and adds the names of a queue's parts itself.
//! The first part is asynq's, byte for byte; the second, under `runner:`, is our own. The braces around a
//! queue are part of the key: they keep all keys of a queue in one slot of a cluster.

use md5::{Digest, Md5};
use runner_core::limit::SEMAPHORE_KEY;
use std::borrow::Cow;

/// Names of all known queues.
pub(in crate::redis) const QUEUES: &str = "asynq:queues";
/// Keys of servers' descriptions by expiry.
pub(in crate::redis) const SERVERS: &str = "asynq:servers";
/// Keys of servers' work by expiry.
pub(in crate::redis) const WORKERS: &str = "asynq:workers";
/// Keys of schedulers' entry lists by expiry.
pub(in crate::redis) const SCHEDULERS: &str = "asynq:schedulers";
/// The channel of cancellations.
pub(in crate::redis) const CANCEL: &str = "asynq:cancel";

/// The channel of requests to end a task for good; asynq's carries ids only. One for each database: channels know none.
pub(in crate::redis) fn stop(database: i64) -> String {
    format!("runner:stop:{database}")
}

/// The channel that says that a task was written which is due later; the scripts that write one spell it themselves.
pub(in crate::redis) const DELAYED: &str = "runner:delayed";

/// What people and programs did.
pub(in crate::redis) const AUDIT: &str = "runner:audit";

/// Cursors, revisions, pauses and last fires of all schedules.
pub(in crate::redis) const CURSORS: &str = "runner:cur";

/// The documents of a kind, by the end of their time.
pub(in crate::redis) fn documents(kind: &str) -> String {
    format!("runner:docs:{{{kind}}}")
}

/// One document, in the slot of its kind.
pub(in crate::redis) fn document(kind: &str, name: &str) -> String {
    format!("{}:{name}", documents(kind))
}

/// Ids of all workflows, and of those that are neither done nor cancelled, by when they were stored.
pub(in crate::redis) const WORKFLOW_LISTS: [&str; 2] = ["runner:{workflows}:all", "runner:{workflows}:open"];

/// A part of a workflow: `workflow`, `steps`, `payloads` or `ends`. All are in one slot.
pub(in crate::redis) fn workflow(id: &str, part: &str) -> String {
    format!("runner:{{workflow:{id}}}:{part}")
}

/// All parts of a workflow, in the order in which scripts take them.
pub(in crate::redis) fn workflow_keys(id: &str) -> [String; 4] {
    ["workflow", "steps", "payloads", "ends"].map(|part| workflow(id, part))
}

/// What the keys of counts of runs begin with; all are in one slot.
pub(in crate::redis) const RUN_COUNTS: &str = "runner:counts:{counts}";

/// What all keys of a queue begin with.
pub(in crate::redis) fn queue(queue: &str) -> String {
    format!("asynq:{{{queue}}}:")
}

/// What our own keys of a queue begin with.
pub(in crate::redis) fn own(queue: &str) -> String {
    format!("runner:{{{queue}}}:")
}

/// What the keys of all tasks of all queues look like, to those who scan for them.
pub(in crate::redis) const TASKS: &str = "asynq:{*}:t:*";

/// A task.
pub(in crate::redis) fn task(queue_name: &str, id: &str) -> String {
    format!("{}t:{id}", queue(queue_name))
}

/// A task whose id may be no text.
pub(in crate::redis) fn task_of(queue_name: &str, id: &[u8]) -> Vec<u8> {
    [task(queue_name, "").as_bytes(), id].concat()
}

/// A list, set or counter of a queue: `pending`, `lease`, `processed`, …
pub(in crate::redis) fn part(queue_name: &str, part: &str) -> String {
    format!("{}{part}", queue(queue_name))
}

/// The tasks that wait in a group.
pub(in crate::redis) fn group(queue_name: &str, group: &str) -> String {
    format!("{}g:{group}", queue(queue_name))
}

/// Tasks that were taken out of a group to become one.
pub(in crate::redis) fn staged(queue_name: &str, group_name: &str, set: &str) -> String {
    format!("{}:{set}", group(queue_name, group_name))
}

/// Who has claimed which task.
pub(in crate::redis) fn claims(queue_name: &str) -> String {
    format!("{}claims", own(queue_name))
}

/// What the snoozed tasks of a queue wait for.
pub(in crate::redis) fn waiting(queue_name: &str) -> String {
    format!("{}waiting", own(queue_name))
}

/// The rules of the gates of a queue, by gate; see `gates.lua`.
pub(in crate::redis) fn gates(queue_name: &str) -> String {
    format!("{}gates", own(queue_name))
}

/// The tasks that hold a gate.
pub(in crate::redis) fn gate_holders(queue_name: &str, gate: &str) -> String {
    format!("{}holders:{gate}", own(queue_name))
}

/// The tasks that wait at a gate.
pub(in crate::redis) fn gate_waiters(queue_name: &str, gate: &str) -> String {
    format!("{}waiters:{gate}", own(queue_name))
}

/// The gates of a queue at which tasks wait, by the time of the next look; see `gates.lua`.
pub(in crate::redis) fn look(queue_name: &str) -> String {
    format!("{}look", own(queue_name))
}

/// The semaphore that a gate counts in, whose name is `semaphore` and a scope; `None` for other gates. See `semaphores.lua`.
pub(in crate::redis) fn semaphore(gate: &str) -> Option<String> {
    let scope = gate.strip_prefix("semaphore ")?.replacen('\t', ":", 1);
    Some(format!("{SEMAPHORE_KEY}{scope}"))
}

/// Tasks that follow ended ones of a queue and wait in other slots: see `settle.lua`.
pub(in crate::redis) fn followers(queue_name: &str) -> String {
    format!("{}followers", own(queue_name))
}

/// Ids of the last runs of a function, by when they ended; see `trace.lua`.
pub(in crate::redis) fn runs(queue_name: &str, function: &str) -> String {
    format!("{}runs:{function}", own(queue_name))
}

/// The record of the run of a task.
pub(in crate::redis) fn record(queue_name: &str, task: &str) -> String {
    format!("{}record:{task}", own(queue_name))
}

/// The whole output of the run of a task, where its record has a part.
pub(in crate::redis) fn output(queue_name: &str, task: &str) -> String {
    format!("{}output:{task}", own(queue_name))
}

/// How the last tasks of a schedule ended, by task.
pub(in crate::redis) fn ends(queue_name: &str, schedule: &str) -> String {
    format!("{}ends:{schedule}", own(queue_name))
}

/// The outcome of an occurrence whose commit is or was under way, in a cluster; nominal instant in seconds.
pub(in crate::redis) fn fire(queue_name: &str, schedule: &str, nominal: i64) -> String {
    format!("{}fire:{schedule}@{nominal}", own(queue_name))
}

/// The lock that a task of this type takes: see [`Task::lock_content`](runner_core::task::Task::lock_content). No payload and an
/// empty one differ here alone.
pub(in crate::redis) fn unique(queue_name: &str, kind: &str, content: &(Option<Cow<'_, [u8]>>, &str)) -> String {
    let (bytes, mark) = content;
    let mut key = format!("{}unique:{kind}:", queue(queue_name));
    if let Some(bytes) = bytes {
        key.push_str(&digest(bytes));
    }
    // Behind the digest, where no type can end: `a` with a key is not `a:key` with a payload.
    key.push_str(mark);
    key
}

/// Hexadecimal digits that follow from these bytes.
pub(in crate::redis) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digits = String::with_capacity(32);
    for byte in Md5::digest(bytes) {
        let _infallible = write!(digits, "{byte:02x}");
    }
    digits
}

/// The set of the task types with this digest that a worker knows; in a cluster in the slot of a queue.
pub(in crate::redis) fn types(digest: &str, queue_name: Option<&str>) -> String {
    match queue_name {
        Some(queue_name) => format!("{}types:{digest}", own(queue_name)),
        None => format!("runner:types:{digest}"),
    }
}

/// The description of a server.
pub(in crate::redis) fn server(host: &str, pid: u32, id: &str) -> String {
    format!("asynq:servers:{{{host}:{pid}:{id}}}")
}

/// What a server works on.
pub(in crate::redis) fn workers(host: &str, pid: u32, id: &str) -> String {
    format!("asynq:workers:{{{host}:{pid}:{id}}}")
}

/// The task types that one of our servers has handlers for.
pub(in crate::redis) fn handlers(host: &str, pid: u32, id: &str) -> String {
    format!("runner:server:{{{host}:{pid}:{id}}}")
}

/// The keys of a server's work and handlers, from that of its description.
pub(in crate::redis) fn beside_server(key: &str) -> Option<(String, String)> {
    let braced = key.strip_prefix(SERVERS)?.strip_prefix(':')?;
    Some((format!("{WORKERS}:{braced}"), format!("runner:server:{braced}")))
}

/// The entries of a scheduler.
pub(in crate::redis) fn scheduler(id: &str) -> String {
    format!("asynq:schedulers:{{{id}}}")
}

/// The id of the scheduler whose entries are under this key; the key itself if it is not such a key.
pub(in crate::redis) fn scheduler_of(key: &str) -> &str {
    let id = key
        .strip_prefix("asynq:schedulers:{")
        .and_then(|rest| rest.strip_suffix('}'));
    id.unwrap_or(key)
}

/// When an entry enqueued what.
pub(in crate::redis) fn history(entry: &str) -> String {
    format!("asynq:scheduler_history:{entry}")
}

/// Who leads. In a cluster it shares the slot of [`CURSORS`]: one server has all that schedules need but the queues.
pub(in crate::redis) fn leader(cluster: bool) -> String {
    if cluster {
        format!("runner:leader:{{{CURSORS}}}")
    } else {
        "runner:leader".to_owned()
    }
}

/// Instances that have schedules, by the end of their time. In a cluster it shares the slot of [`CURSORS`].
pub(in crate::redis) fn holders(cluster: bool) -> String {
    format!("runner:holders{}", around_held(cluster).1)
}

/// Which schedules an instance has, and under which revision; in the same slot.
pub(in crate::redis) fn held(instance: &str, cluster: bool) -> String {
    let (before, after) = around_held(cluster);
    format!("{before}{instance}{after}")
}

/// What [`held`] has before and after the name of the instance.
pub(in crate::redis) fn around_held(cluster: bool) -> (&'static str, &'static str) {
    ("runner:held:", if cluster { ":{runner:cur}" } else { "" })
}

/// The schedules that were held from a source and not withdrawn since; in the same slot.
pub(in crate::redis) fn scope(scope: &str, cluster: bool) -> String {
    format!("runner:scope:{scope}{}", around_held(cluster).1)
}

/// The mark by which a loss of everything is noticed. In a cluster it shares the slot of [`CURSORS`].
pub(in crate::redis) fn epoch(cluster: bool) -> String {
    if cluster {
        format!("runner:epoch:{{{CURSORS}}}")
    } else {
        "runner:epoch".to_owned()
    }
}

/// Decisions about all schedules, a capped stream. In a cluster it shares the slot of [`CURSORS`].
pub(in crate::redis) fn fires(cluster: bool) -> String {
    if cluster {
        format!("runner:fires:{{{CURSORS}}}")
    } else {
        "runner:fires".to_owned()
    }
}

/// Decisions about one schedule, newest first, capped; in the same slot.
pub(in crate::redis) fn fires_of(schedule: &str, cluster: bool) -> String {
    format!("{}:{schedule}", fires(cluster))
}

/// Never there: what is written into it is empty. In the slot of [`CURSORS`].
pub(in crate::redis) fn probe(cluster: bool) -> String {
    if cluster {
        format!("runner:probe:{{{CURSORS}}}")
    } else {
        "runner:probe".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_payload_leaves_the_hash_out_and_an_empty_one_does_not() {
        assert_eq!(
            unique("default", "email:send", &(None, "")),
            "asynq:{default}:unique:email:send:"
        );
        assert_eq!(
            unique("default", "email:send", &(Some(b"".into()), "")),
            "asynq:{default}:unique:email:send:d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(
            unique("default", "email:send", &(Some(br#"{"user_id":42}"#.into()), "")),
            "asynq:{default}:unique:email:send:1181f89307fa271072c095747d5813cc"
        );
    }

    #[test]
    fn what_is_spelled_elsewhere_is_spelled_the_same() {
        assert!(include_str!("scripts/put.lua").contains(&format!("'PUBLISH', '{DELAYED}'")));
        assert!(include_str!("scripts/semaphores.lua").contains(&format!("'{SEMAPHORE_KEY}' .. ")));
        assert_eq!(semaphore("semaphore a\tb").as_deref(), Some("asynq:sema:a:b"));
        let head = task("*", "");
        assert_eq!(TASKS.strip_suffix('*'), Some(head.as_str()));
    }

    #[test]
    fn braces_are_part_of_the_key() {
        assert_eq!(task("a}b", "abc"), "asynq:{a}b}:t:abc");
        assert_eq!(part("default", "pending"), "asynq:{default}:pending");
        assert_eq!(server("web-1", 4321, "S"), "asynq:servers:{web-1:4321:S}");
        assert_eq!(claims("low"), "runner:{low}:claims");
        assert_eq!(holders(true), format!("runner:holders:{{{CURSORS}}}"));
    }
}
