//! The scripts: what each is made of, and loading them into a server.
//!
//! Each opens with a comment that lists its keys, arguments and answer. All begin with the clock. Scripts
//! that only take things out of a full server, or must run in one for the sake of those that do, carry a flag that lets
//! them run there; servers before version 7 do not know the flag, and there it is enough that such a script begins with
//! a removal, be it of nothing.

use redis::{RedisResult, Value};

use super::dial::{Connection, DialError};
use super::link::SharedConnection;
use super::reply;

/// Names a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Script {
    Plain,
    Enqueue,
    Exchange,
    Quarantine,
    Settle,
    Extend,
    Forward,
    Expired,
    Sweep,
    Repair,
    Unclaim,
    Scan,
    Waiting,
    Release,
    Beat,
    Server,
    Listed,
    Register,
    Resume,
    Commit,
    Lead,
    Info,
    Page,
    Heads,
    Task,
    Act,
    Pause,
    ActAll,
    Remove,
    Edit,
    History,
    Memory,
    Stage,
    Staged,
    Aside,
    Drop,
    Reclaim,
    Groups,
    Intend,
    Fire,
    Finish,
    Entries,
    Kinds,
    Hold,
    Withdraw,
    Document,
    Alone,
    Absolve,
    Manual,
}

struct Source {
    /// Whether it also runs while the server's memory is full.
    drains: bool,
    parts: &'static [&'static str],
}

const CLOCK: &str = include_str!("scripts/clock.lua");
const GUARD: &str = include_str!("scripts/guard.lua");
const COUNT: &str = include_str!("scripts/count.lua");
const TRIM: &str = include_str!("scripts/trim.lua");
const CUT: &str = include_str!("scripts/cut.lua");
const CLAIMS: &str = include_str!("scripts/claims.lua");
const SUSPECTS: &str = include_str!("scripts/suspects.lua");
const ACCEPT: &str = include_str!("scripts/accept.lua");
const NOTES: &str = include_str!("scripts/notes.lua");
const PUT: &str = include_str!("scripts/put.lua");
const DECIDE: &str = include_str!("scripts/decide.lua");
const FORGET: &str = include_str!("scripts/forget.lua");
const AHEAD: &str = include_str!("scripts/ahead.lua");
const TAKE: &str = include_str!("scripts/take.lua");
const TYPES: &str = include_str!("scripts/types.lua");
const PICK: &str = include_str!("scripts/pick.lua");
const TRACE: &str = include_str!("scripts/trace.lua");
const MEND: &str = include_str!("scripts/mend.lua");

const fn drains(parts: &'static [&'static str]) -> Source {
    Source { drains: true, parts }
}

const fn fills(parts: &'static [&'static str]) -> Source {
    Source { drains: false, parts }
}

/// In the order of [`Script`].
static SOURCES: [Source; 49] = [
    fills(&[CLOCK, include_str!("scripts/plain.lua")]),
    fills(&[CLOCK, PUT, include_str!("scripts/enqueue.lua")]),
    drains(&[
        CLOCK,
        COUNT,
        CLAIMS,
        ACCEPT,
        TYPES,
        PICK,
        SUSPECTS,
        include_str!("scripts/exchange.lua"),
    ]),
    drains(&[CLOCK, GUARD, CLAIMS, NOTES, include_str!("scripts/quarantine.lua")]),
    drains(&[
        CLOCK,
        GUARD,
        COUNT,
        CLAIMS,
        ACCEPT,
        NOTES,
        FORGET,
        TRIM,
        SUSPECTS,
        TRACE,
        include_str!("scripts/settle.lua"),
    ]),
    drains(&[CLOCK, CLAIMS, include_str!("scripts/extend.lua")]),
    drains(&[CLOCK, CLAIMS, include_str!("scripts/forward.lua")]),
    drains(&[CLOCK, GUARD, CLAIMS, NOTES, MEND, include_str!("scripts/expired.lua")]),
    drains(&[CLOCK, GUARD, CLAIMS, FORGET, TRIM, include_str!("scripts/sweep.lua")]),
    drains(&[CLOCK, GUARD, CLAIMS, NOTES, MEND, include_str!("scripts/repair.lua")]),
    drains(&[CLOCK, CLAIMS, include_str!("scripts/unclaim.lua")]),
    drains(&[CLOCK, include_str!("scripts/scan.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/waiting.lua")]),
    drains(&[CLOCK, include_str!("scripts/release.lua")]),
    drains(&[CLOCK, include_str!("scripts/beat.lua")]),
    drains(&[CLOCK, include_str!("scripts/server.lua")]),
    drains(&[CLOCK, include_str!("scripts/listed.lua")]),
    fills(&[
        CLOCK,
        GUARD,
        PUT,
        COUNT,
        DECIDE,
        AHEAD,
        include_str!("scripts/register.lua"),
    ]),
    drains(&[CLOCK, GUARD, PUT, COUNT, DECIDE, include_str!("scripts/resume.lua")]),
    fills(&[
        CLOCK,
        GUARD,
        PUT,
        COUNT,
        DECIDE,
        AHEAD,
        include_str!("scripts/commit.lua"),
    ]),
    drains(&[CLOCK, GUARD, include_str!("scripts/lead.lua")]),
    drains(&[CLOCK, GUARD, COUNT, include_str!("scripts/info.lua")]),
    drains(&[CLOCK, GUARD, CUT, include_str!("scripts/page.lua")]),
    drains(&[CLOCK, GUARD, CUT, include_str!("scripts/heads.lua")]),
    drains(&[CLOCK, GUARD, CUT, include_str!("scripts/task.lua")]),
    drains(&[CLOCK, GUARD, CLAIMS, FORGET, TRIM, include_str!("scripts/act.lua")]),
    drains(&[CLOCK, include_str!("scripts/pause.lua")]),
    drains(&[
        CLOCK,
        GUARD,
        CLAIMS,
        FORGET,
        TRIM,
        TAKE,
        include_str!("scripts/act_all.lua"),
    ]),
    drains(&[CLOCK, COUNT, CLAIMS, FORGET, TAKE, include_str!("scripts/remove.lua")]),
    fills(&[CLOCK, include_str!("scripts/edit.lua")]),
    drains(&[CLOCK, COUNT, include_str!("scripts/history.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/memory.lua")]),
    drains(&[CLOCK, include_str!("scripts/stage.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/staged.lua")]),
    drains(&[CLOCK, include_str!("scripts/aside.lua")]),
    drains(&[CLOCK, include_str!("scripts/drop.lua")]),
    drains(&[CLOCK, include_str!("scripts/reclaim.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/groups.lua")]),
    fills(&[CLOCK, GUARD, AHEAD, include_str!("scripts/intend.lua")]),
    fills(&[CLOCK, GUARD, PUT, COUNT, DECIDE, include_str!("scripts/fire.lua")]),
    drains(&[CLOCK, GUARD, PUT, COUNT, DECIDE, include_str!("scripts/finish.lua")]),
    drains(&[CLOCK, include_str!("scripts/entries.lua")]),
    drains(&[CLOCK, GUARD, TYPES, include_str!("scripts/kinds.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/hold.lua")]),
    drains(&[CLOCK, GUARD, include_str!("scripts/withdraw.lua")]),
    fills(&[CLOCK, include_str!("scripts/document.lua")]),
    drains(&[CLOCK, CLAIMS, include_str!("scripts/alone.lua")]),
    drains(&[CLOCK, CLAIMS, SUSPECTS, include_str!("scripts/absolve.lua")]),
    fills(&[CLOCK, GUARD, PUT, COUNT, DECIDE, include_str!("scripts/manual.lua")]),
];

/// The names under which a server knows the scripts.
#[derive(Debug)]
pub(super) struct Hashes(Vec<String>);

impl Hashes {
    pub(super) fn of(&self, script: Script) -> &str {
        // Out of range cannot be: `load` makes one for each source, and a test counts them.
        self.0.get(script as usize).map_or("", String::as_str)
    }
}

/// Gives the server, or each of a cluster, all scripts.
pub(super) async fn load(link: &mut SharedConnection) -> Result<Hashes, DialError> {
    match link {
        SharedConnection::One(server) => {
            let flags = knows_flags(server).await?;
            Ok(load_as(server, flags).await?)
        }
        SharedConnection::Cluster(cluster) => cluster.load().await,
    }
}

/// Whether this server's version knows flags of scripts.
pub(super) async fn knows_flags(server: &mut Connection) -> RedisResult<bool> {
    // A server that does not tell its version (it may be forbidden to us) is treated as an old one.
    let info: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(server).await;
    match info {
        Ok(info) => Ok(major_version(&info) >= 7),
        Err(error) if super::fault::needs_new_connection(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Gives one server all scripts, with flags or without; the names depend on that and on nothing else.
pub(super) async fn load_as(server: &mut Connection, flags: bool) -> RedisResult<Hashes> {
    let mut pipe = redis::pipe();
    for source in &SOURCES {
        pipe.cmd("SCRIPT").arg("LOAD").arg(code(source, flags));
    }
    let answers: Vec<Value> = pipe.query_async(server).await?;
    Ok(Hashes(
        answers
            .into_iter()
            .map(|answer| reply::text(answer).unwrap_or_default())
            .collect(),
    ))
}

/// The names of each script to servers of version 7 or newer and to older ones, and that of its file. For tests.
#[cfg(feature = "contract")]
#[must_use]
pub fn script_names() -> Vec<([String; 2], &'static str)> {
    let names = [
        "plain",
        "enqueue",
        "exchange",
        "quarantine",
        "settle",
        "extend",
        "forward",
        "expired",
        "sweep",
        "repair",
        "unclaim",
        "scan",
        "waiting",
        "release",
        "beat",
        "server",
        "listed",
        "register",
        "resume",
        "commit",
        "lead",
        "info",
        "page",
        "heads",
        "task",
        "act",
        "pause",
        "act_all",
        "remove",
        "edit",
        "history",
        "memory",
        "stage",
        "staged",
        "aside",
        "drop",
        "reclaim",
        "groups",
        "intend",
        "fire",
        "finish",
        "entries",
        "kinds",
        "hold",
        "withdraw",
        "document",
        "alone",
        "absolve",
        "manual",
    ];
    let hash =
        |source: &Source| [true, false].map(|flags| redis::Script::new(&code(source, flags)).get_hash().to_owned());
    SOURCES.iter().map(hash).zip(names).collect()
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

fn major_version(info: &str) -> u32 {
    info.lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .and_then(|version| version.split('.').next()?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_has_the_last_source() {
        assert_eq!(Script::Manual as usize + 1, SOURCES.len());
        #[cfg(feature = "contract")]
        for ((_, name), source) in script_names().into_iter().zip(&SOURCES) {
            let file = std::fs::read_to_string(format!("src/redis/scripts/{name}.lua"));
            assert_eq!(file.ok().as_deref(), source.parts.last().copied(), "{name}");
        }
    }

    #[test]
    fn every_script_opens_with_what_it_takes_and_gives() {
        for source in &SOURCES {
            for part in source.parts {
                assert!(part.starts_with("-- "), "{}", &part[..40.min(part.len())]);
            }
        }
    }

    #[test]
    fn runs_are_kept_as_many_and_as_long_as_readers_ask_for() {
        let bounds = format!(
            "RUNS, ENDS, SPARE, TRACED = {}, {}, 50, {}\n",
            crate::MAX_RUNS_KEPT,
            super::super::schedule::KEPT_EACH,
            crate::RUNS_KEPT_FOR.as_secs()
        );
        assert!(TRACE.contains(&bounds), "{bounds}");
    }

    #[test]
    fn attempts_are_kept_as_many_as_readers_ask_for() {
        assert!(NOTES.contains(&format!("KEPT = {}\n", crate::MAX_ATTEMPTS_KEPT)));
    }

    #[test]
    fn versions_are_read_from_the_servers_own_words() {
        assert_eq!(major_version("# Server\r\nredis_version:7.0.15\r\n"), 7);
        assert_eq!(major_version("redis_version:6.2.0\r\n"), 6);
        assert_eq!(major_version(""), 0);
    }
}
