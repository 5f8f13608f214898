//! Which room may use which: the plan, and the `use` lines compared with it.
//!
//! Cargo refuses wrong arrows between packages; this refuses them within one. Rooms are named by `crate::room`, never
//! reached by `super::super`, so that a line of text shows the dependency.

use super::text::{after, code, files, none, read, top};

/// A room: its name, its path, and the rooms that it may use.
struct Room {
    name: &'static str,
    home: &'static str,
    knows: &'static str,
}

const fn room(name: &'static str, home: &'static str, knows: &'static str) -> Room {
    Room { name, home, knows }
}

/// The rooms from the ground up, as in ARCHITECTURE.md. A new arrow is a change here, in a commit that says why.
const ROOMS: &[Room] = &[
    room("macros", "runner/macros/src/", ""),
    room("core::chain", "runner/core/src/chain.rs", ""),
    room("core::clock", "runner/core/src/clock.rs", ""),
    room("core::task", "runner/core/src/task/", ""),
    room("core::duration", "runner/core/src/duration.rs", ""),
    room("core::notification", "runner/core/src/notification.rs", "core::task"),
    room("core::limit", "runner/core/src/limit/", "core::task"),
    room(
        "core::function",
        "runner/core/src/function/",
        "core::task core::notification core::limit",
    ),
    room("core::template", "runner/core/src/template.rs", ""),
    room("core::cron", "runner/core/src/cron/", "core::duration"),
    room(
        "core::schedule",
        "runner/core/src/schedule/",
        "core::cron core::task core::notification",
    ),
    room(
        "core::trigger",
        "runner/core/src/trigger/",
        "core::task core::function core::schedule core::template",
    ),
    room(
        "queue",
        "runner/queue/src/seam/",
        "core::clock core::task core::limit core::schedule",
    ),
    room(
        "queue::contract",
        "runner/queue/src/contract/",
        "core::clock core::task core::limit core::schedule queue",
    ),
    room("queue::tls", "runner/queue/src/tls.rs", ""),
    room(
        "queue::redis",
        "runner/queue/src/redis/",
        "queue::tls core::chain core::clock core::duration core::task core::limit core::schedule queue",
    ),
    room(
        "queue::embedded",
        "runner/queue/src/embedded/",
        "core::clock core::task core::limit core::schedule queue",
    ),
    room("sdk", "runner/sdk/src/", "macros core::chain core::limit core::task"),
    room(
        "client",
        "runner/client/src/",
        "macros core queue queue::redis queue::embedded",
    ),
    room("handlers", "handlers/src/", "core sdk"),
    room("background", "runner/src/background.rs", ""),
    // Apart from `web`, which programs may be built without.
    room("access", "runner/src/access/", "core"),
    room("text", "runner/src/text/", "core::duration core::schedule"),
    room("metrics", "runner/src/metrics/", "core::clock core::task"),
    room("telemetry", "runner/src/telemetry/", "core metrics"),
    room(
        "log",
        "runner/src/log/",
        "core::chain core::clock core::task sdk telemetry text",
    ),
    room(
        "messaging",
        "runner/src/messaging/",
        "core queue::tls queue::redis sdk handlers",
    ),
    room(
        "events",
        "runner/src/events/",
        "background core queue metrics messaging",
    ),
    room("run_output", "runner/src/run_output.rs", "queue"),
    room("health", "runner/src/health.rs", "core queue background log metrics"),
    room("audit", "runner/src/audit/", "core queue background health metrics"),
    room(
        "queue_pause",
        "runner/src/queue_pause.rs",
        "audit background core health queue",
    ),
    room("task_search", "runner/src/task_search.rs", "core queue"),
    room(
        "operation",
        "runner/src/operation/",
        "audit background core health queue task_search",
    ),
    room("source", "runner/src/source/", "core background log text"),
    room(
        "trigger",
        "runner/src/trigger/",
        "background client core queue queue::redis health messaging telemetry",
    ),
    room(
        "notification",
        "runner/src/notification/",
        "access background core queue health",
    ),
    room(
        "workflow",
        "runner/src/workflow/",
        "background core queue health metrics notification",
    ),
    room("diagnose", "runner/src/diagnose/", "core health queue text"),
    room("facts", "runner/src/facts.rs", "core diagnose health queue queue_pause"),
    // One form of each fact for commands and the API.
    room(
        "objects",
        "runner/src/objects/",
        "core operation queue source trigger diagnose text",
    ),
    room(
        "worker",
        "runner/src/worker/",
        "background log metrics health core queue run_output sdk events workflow telemetry",
    ),
    room(
        "scheduler",
        "runner/src/scheduler/",
        "background log metrics health core queue events telemetry",
    ),
    room(
        "upkeep",
        "runner/src/upkeep/",
        "background log metrics health core queue sdk source events",
    ),
    room(
        "web",
        "runner/src/web/",
        "access audit background log metrics health messaging operation text core queue queue_pause run_output source task_search trigger diagnose facts objects worker scheduler notification workflow",
    ),
    // How a Redis is reached is one type with one reader of URLs, which producers use as well.
    room(
        "config",
        "runner/src/config/",
        "background log metrics health messaging text core queue run_output queue::tls queue::redis handlers source trigger diagnose facts worker scheduler access events notification telemetry",
    ),
    // Commands and wiring may use every room; no other room opens a store.
    room(
        "cli",
        "runner/src/cli/",
        "access audit background log metrics health messaging operation text core queue queue_pause run_output task_search queue::redis queue::embedded sdk client handlers source trigger diagnose facts objects worker scheduler upkeep web config events notification telemetry workflow",
    ),
];

/// Packages as `use` names them, as the plan names them, and where they live.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("runner_core", "core", "runner/core/src/"),
    ("runner_queue", "queue", "runner/queue/src/"),
    ("runner_sdk", "sdk", "runner/sdk/src/"),
    ("runner_client", "client", "runner/client/src/"),
    ("runner_macros", "macros", "runner/macros/src/"),
    ("runner_handlers", "handlers", "handlers/src/"),
    ("runner", "", "runner/src/"),
];

/// The room that `package::segment` means: itself if there is such a room, else the package's root.
fn meant(package: &str, segment: &str) -> String {
    let full = if package.is_empty() {
        segment.to_owned()
    } else {
        format!("{package}::{segment}")
    };
    if ROOMS.iter().any(|room| room.name == full) {
        full
    } else {
        package.to_owned()
    }
}

/// Whether `room` may use `other`: itself, one named in the plan, or one of a package named there.
fn may_know(room: &Room, other: &str) -> bool {
    let named = |known: &str| known == other || (known != "queue" && other.starts_with(&format!("{known}::")));
    room.name == other || room.knows.split(' ').any(named)
}

pub async fn the_plan_has_no_stairs_up() {
    let mut below = vec!["core"];
    for room in ROOMS {
        for known in room.knows.split_terminator(' ') {
            assert!(
                below.contains(&known),
                "{} would know {known}, which is not below it",
                room.name
            );
        }
        below.push(room.name);
    }
}

/// The rows of the table there that name rooms by name (others say "all below" and the like).
pub async fn architecture_md_shows_the_plan() {
    let document = read(std::path::Path::new("ARCHITECTURE.md"));
    let (mut complaints, mut compared) = (Vec::new(), 0);
    for row in document.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, floor, rooms, _, knows, _] = cells.as_slice() else {
            continue;
        };
        if floor.parse::<u8>().is_err() {
            continue;
        }
        let names = |cell: &str| -> Vec<String> {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(|name| name.trim_start_matches("runner::").to_owned())
                .collect()
        };
        let prose: String = knows.split('`').step_by(2).collect();
        if prose.chars().any(char::is_alphabetic) {
            continue;
        }
        for name in names(rooms) {
            let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
                complaints.push(format!("ARCHITECTURE.md: {name} is not in the plan"));
                continue;
            };
            let full = |known: String| {
                if ROOMS.iter().any(|r| r.name == known) || known == "core" {
                    known
                } else {
                    format!("core::{known}")
                }
            };
            let mut there: Vec<String> = names(knows).into_iter().map(full).collect();
            let mut here: Vec<String> = room.knows.split_terminator(' ').map(str::to_owned).collect();
            there.sort();
            here.sort();
            compared += 1;
            if there != here {
                complaints.push(format!(
                    "{name}: ARCHITECTURE.md lets it know {there:?}, the plan {here:?}"
                ));
            }
        }
    }
    assert!(compared > 8, "only {compared} rows of ARCHITECTURE.md were understood");
    none(&complaints);
}

pub async fn rooms_use_only_what_the_plan_allows() {
    let mut complaints = Vec::new();
    for path in files("runner", &[".rs"]).into_iter().chain(files("handlers", &[".rs"])) {
        let shown = path.display().to_string();
        let Some(room) = ROOMS
            .iter()
            .filter(|room| shown.starts_with(room.home))
            .max_by_key(|room| room.home.len())
        else {
            continue;
        };
        let own = PACKAGES
            .iter()
            .filter(|(_, _, home)| shown.starts_with(home))
            .max_by_key(|(_, _, home)| home.len());
        let own = own.expect("every room is in a package").1;
        if shown.ends_with("/tests.rs") {
            continue;
        }
        for (number, line) in code(&read(&path)) {
            let mut complain = |what: &str| complaints.push(format!("{shown}:{number}: {what}: {}", line.trim()));
            if line.contains("super::super::") {
                complain("climb by crate:: instead, so that the room is named");
            }
            for segment in after(&line, "crate::") {
                let other = meant(own, segment);
                if !other.is_empty() && !may_know(room, &other) {
                    complain(&format!("{} may not know {other}", room.name));
                }
            }
            for (name, package, _) in PACKAGES {
                for segment in after(&line, &format!("{name}::")) {
                    let other = meant(package, segment);
                    if *package != own && !may_know(room, &other) {
                        complain(&format!("{} may not know {other}", room.name));
                    }
                }
            }
        }
    }
    none(&complaints);
}

/// The floors inside the Redis broker: `format` uses no connection, `net` no operation.
pub async fn the_redis_broker_has_floors() {
    const FLOORS: [&str; 3] = ["format", "net", "ops"];
    let (mut complaints, mut seen) = (Vec::new(), 0);
    for (floor, name) in FLOORS.iter().enumerate() {
        for path in files(&format!("runner/queue/src/redis/{name}"), &[".rs"]) {
            for (number, line) in code(&read(&path)) {
                for above in &FLOORS[floor + 1..] {
                    seen += 1;
                    if line.contains(&format!("crate::redis::{above}")) {
                        complaints.push(format!("{}:{number}: {name} may not know {above}", path.display()));
                    }
                }
            }
        }
    }
    assert!(seen > 1_000, "only {seen} lines were looked at");
    none(&complaints);
}

/// A check that looks at nothing would always pass.
pub async fn the_check_of_arrows_can_fail() {
    for room in ROOMS {
        assert!(
            top().join(room.home).exists(),
            "{} lives at {}, which is not there",
            room.name,
            room.home
        );
    }
    let line = "use runner_core::task::Task; let x = crate::web::page(); $crate::y::z";
    assert_eq!(after(line, "crate::"), ["web"]);
    assert_eq!(after(line, "runner_core::"), ["task"]);
    assert_eq!(after("use crate::{a::{b, c}, d};", "crate::"), ["a", "d"]);
    let find = |name: &str| ROOMS.iter().find(|room| room.name == name).unwrap();
    assert!(!may_know(find("web"), "cli"), "pages must not know commands");
    assert!(
        !may_know(find("queue::redis"), "queue::embedded"),
        "the stores must not know each other"
    );
    assert!(
        may_know(find("worker"), "core::clock"),
        "a package's name means all its rooms"
    );
}
