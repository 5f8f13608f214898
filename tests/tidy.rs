//! The house in order: what a reader may rely on without reading everything.
//!
//! It works on the text of the files, so it asks for a style that text can show: rooms named by
//! `crate::room`, never reached by climbing (`super::super`). What the compiler and clippy check is not here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::kit;

/// A file longer than this, without its tests, is two subjects.
const MAX_LINES: usize = 800;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): the_plan_has_no_stairs_up, rooms_know_only_what_the_plan_allows, files_say_what_they_are_for,
            files_are_short, templates_and_pages_match, the_readme_is_run, no_machine_is_named,
            words_are_the_ones_of_the_glossary, dependencies_have_reasons, sources_are_found
    ]
}

/// A room: its name, where it lives, and the rooms that it may know.
struct Room {
    name: &'static str,
    home: &'static str,
    knows: &'static [&'static str],
}

const fn room(name: &'static str, home: &'static str, knows: &'static [&'static str]) -> Room {
    Room { name, home, knows }
}

/// The rooms from the ground up. Whoever wants a new arrow changes it here, in a commit that says why.
const HOUSE: &[Room] = &[
    room("core::clock", "runner/core/src/clock.rs", &[]),
    room("core::task", "runner/core/src/task/", &[]),
    room("core::cron", "runner/core/src/cron/", &[]),
    room(
        "core::schedule",
        "runner/core/src/schedule/",
        &["core::cron", "core::task"],
    ),
    room(
        "queue",
        "runner/queue/src/seam/",
        &["core::clock", "core::task", "core::schedule"],
    ),
    room(
        "queue::redis",
        "runner/queue/src/redis/",
        &["core::clock", "core::task", "core::schedule", "queue"],
    ),
    room(
        "queue::embedded",
        "runner/queue/src/embedded/",
        &["core::clock", "core::task", "core::schedule", "queue"],
    ),
    room(
        "queue::contract",
        "runner/queue/src/contract/",
        &["core::clock", "core::task", "core::schedule", "queue"],
    ),
    room("sdk", "runner/sdk/src/", &["core::task"]),
    room("handlers", "handlers/src/", &["sdk"]),
    room("log", "runner/src/log/", &[]),
    room("metrics", "runner/src/metrics/", &[]),
    room("role", "runner/src/role.rs", &[]),
    room("source", "runner/src/source/", &["log", "role", "core", "sdk"]),
    room(
        "worker",
        "runner/src/worker/",
        &["log", "metrics", "role", "core", "queue", "sdk"],
    ),
    room(
        "scheduler",
        "runner/src/scheduler/",
        &["log", "metrics", "role", "core", "queue"],
    ),
    room("amqp", "runner/src/amqp/", &["log", "metrics", "role", "core", "queue"]),
    room(
        "web",
        "runner/src/web/",
        &[
            "log",
            "metrics",
            "role",
            "core",
            "queue",
            "sdk",
            "source",
            "worker",
            "scheduler",
        ],
    ),
    room("config", "runner/src/config/", ALL),
    room("cli", "runner/src/cli/", ALL),
];

/// The top of the house: settings, commands and wiring know every room.
const ALL: &[&str] = &[
    "log",
    "metrics",
    "role",
    "core",
    "queue",
    "sdk",
    "handlers",
    "source",
    "worker",
    "scheduler",
    "amqp",
    "web",
    "config",
    "cli",
];

/// Packages as `use` names them, and the rooms that they hold.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("runner_core", "core", "runner/core/src/"),
    ("runner_queue", "queue", "runner/queue/src/"),
    ("runner_sdk", "sdk", "runner/sdk/src/"),
    ("handlers", "handlers", "handlers/src/"),
    ("runner", "", "runner/src/"),
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files below `dir` whose names end in one of `endings`, relative to the top; what is built, hidden or
/// stored is left out.
fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![top().join(dir)]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let skipped = ["target", "data", "storage", ".git", "node_modules"].contains(&name.as_str());
            if path.is_dir() && !skipped {
                open.push(path);
            } else if path.is_file()
                && endings
                    .iter()
                    .any(|ending| path.display().to_string().ends_with(ending))
            {
                found.push(path.strip_prefix(top()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_default()
}

/// The text without the unit tests at its end.
fn body(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |at| &text[..at])
}

/// Lines of code with their numbers: comments are blank, and a `use` that spans lines is one.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in body(text).lines().enumerate() {
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        match lines.last_mut() {
            Some((_, whole)) if open => whole.push_str(line.trim()),
            _ => lines.push((at + 1, line.to_owned())),
        }
        let begun = open || line.trim_start().trim_start_matches("pub ").starts_with("use ");
        open = begun && !line.contains(';');
    }
    lines
}

/// Everything that is wrong, at once.
fn none(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// The identifiers that follow each occurrence of `prefix`, those in braces one by one.
fn after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(items(group).into_iter().map(identifier)),
            None => found.push(identifier(rest)),
        }
    }
    found
}

fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())]
}

/// What stands between the commas of a group, whose opening brace is gone.
fn items(group: &str) -> Vec<&str> {
    let (mut found, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                found.push(&group[from..at]);
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The room that `package::segment` means: itself if there is such a room, else the package's face.
fn meant(package: &str, segment: &str) -> String {
    let full = if package.is_empty() {
        segment.to_owned()
    } else {
        format!("{package}::{segment}")
    };
    if HOUSE.iter().any(|room| room.name == full) {
        full
    } else {
        package.to_owned()
    }
}

/// Whether `room` may know `other`: named itself, or by the package it lies in.
fn may_know(room: &Room, other: &str) -> bool {
    room.name == other
        || room
            .knows
            .iter()
            .any(|known| *known == other || other.starts_with(&format!("{known}::")))
}

async fn the_plan_has_no_stairs_up() {
    let mut below: Vec<&str> = vec!["core"];
    for room in HOUSE {
        for known in room.knows {
            assert!(
                below.contains(known) || room.knows == ALL,
                "{} would know {known}, which is not below it",
                room.name
            );
        }
        below.push(room.name);
    }
}

async fn rooms_know_only_what_the_plan_allows() {
    let mut complaints = Vec::new();
    for path in files("runner", &[".rs"]).into_iter().chain(files("handlers", &[".rs"])) {
        let shown = path.display().to_string();
        let Some(room) = HOUSE
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
        let own = own.expect("every room lies in a package").1;
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

async fn files_say_what_they_are_for() {
    let all = files("", &[".rs"]);
    let silent = all.iter().filter(|path| !read(path).starts_with("//!"));
    none(
        &silent
            .map(|path| format!("{}: opens without a `//!` header", path.display()))
            .collect::<Vec<_>>(),
    );
}

async fn files_are_short() {
    let complaints: Vec<String> = files("", &[".rs"])
        .iter()
        .map(|path| (path, code(&read(path)).len()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| {
            format!(
                "{}: {lines} lines; {MAX_LINES} is the end: split it by subject",
                path.display()
            )
        })
        .collect();
    none(&complaints);
}

async fn templates_and_pages_match() {
    let mut named = BTreeSet::new();
    for path in files("runner/src/web", &[".rs"]) {
        for (_, line) in code(&read(&path)) {
            named.extend(
                line.split('"')
                    .filter(|text| text.ends_with(".html"))
                    .map(str::to_owned),
            );
        }
    }
    let there: BTreeSet<String> = files("templates", &[".html"])
        .iter()
        .map(|path| path.strip_prefix("templates").unwrap().display().to_string())
        .collect();
    let by_templates: BTreeSet<String> = there
        .iter()
        .flat_map(|name| {
            let text = read(&Path::new("templates").join(name));
            text.split('"')
                .filter(|text| text.ends_with(".html"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let no_file = named
        .iter()
        .filter(|name| !there.contains(*name))
        .map(|name| format!("templates/{name}: no such file"));
    // A file of components is found by its content, not by its name.
    let components = |name: &str| read(&Path::new("templates").join(name)).contains("{% component ");
    let no_page = there
        .iter()
        .filter(|name| !named.contains(*name) && !by_templates.contains(*name) && !components(name))
        .map(|name| format!("templates/{name}: no page shows it"));
    none(&no_file.chain(no_page).collect::<Vec<_>>());
}

/// `.ci/run` takes these commands out of the README by their marks, so what people read is what is tested.
async fn the_readme_is_run() {
    let readme = read(Path::new("README.md"));
    for (mark, command) in [
        ("test", "scripts/test"),
        ("first", "cargo run --release -- -c config.yaml"),
    ] {
        let expected = format!("<!-- run: {mark} -->\n```sh\n{command}\n```");
        assert!(readme.contains(&expected), "README.md lacks this block:\n{expected}");
    }
}

async fn no_machine_is_named() {
    // Put together here, so that this file does not name them either.
    let forbidden = ["work", "root", "home"].map(|dir| format!("/{dir}/"));
    let mut complaints = Vec::new();
    for path in files(
        "",
        &[
            ".rs", ".md", ".toml", ".yaml", ".yml", ".html", ".sql", ".css", ".js", ".json", "/test", "/run",
        ],
    ) {
        for (number, line) in read(&path).lines().enumerate() {
            if let Some(found) = forbidden.iter().find(|dir| line.contains(*dir)) {
                complaints.push(format!(
                    "{}:{}: {found} is somebody's machine",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    none(&complaints);
}

/// Words of the glossary in ARCHITECTURE.md, and those that it replaces.
async fn words_are_the_ones_of_the_glossary() {
    let replaced = [
        ("job", "task or function"),
        ("jobs", "tasks"),
        ("crontab entry", "schedule"),
        ("cron entry", "schedule"),
    ];
    let mut complaints = Vec::new();
    for path in files("runner", &[".rs"])
        .iter()
        .chain(&files("handlers", &[".rs"]))
        .chain(&files("templates", &[".html"]))
        .filter(|path| !path.ends_with("tests.rs"))
    {
        for (number, line) in body(&read(path)).lines().enumerate() {
            let spaced = line.replace(['_', '-'], " ").to_lowercase();
            for (word, instead) in replaced {
                let whole = spaced.match_indices(word).any(|(at, _)| {
                    let free = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
                    free(spaced[..at].chars().next_back()) && free(spaced[at + word.len()..].chars().next())
                });
                if whole {
                    complaints.push(format!("{}:{}: {word}: say {instead}", path.display(), number + 1));
                }
            }
        }
    }
    none(&complaints);
}

/// A dependency's reason stands beside it, or above the group it belongs to.
async fn dependencies_have_reasons() {
    let manifest = read(Path::new("Cargo.toml"));
    let members: Vec<String> = files("", &["Cargo.toml"])
        .iter()
        .skip(1)
        .map(|path| read(path))
        .collect();
    let (mut complaints, mut inside, mut reason) = (Vec::new(), false, false);
    for line in manifest.lines() {
        match line.trim() {
            "[workspace.dependencies]" => inside = true,
            other if other.starts_with('[') => inside = false,
            "" => reason = false,
            comment if comment.starts_with('#') => reason = true,
            dependency if inside => {
                let name = dependency.split([' ', '.', '=']).next().unwrap_or_default();
                let ours = dependency.contains("path = ");
                if !reason && !ours && !dependency.contains('#') {
                    complaints.push(format!("Cargo.toml: {name}: no reason beside it or above its group"));
                }
                let used = |text: &String| {
                    text.lines().any(|line| {
                        line.starts_with(&format!("{name}.workspace")) || line.starts_with(&format!("{name} = "))
                    })
                };
                if !members.iter().any(used) {
                    complaints.push(format!("Cargo.toml: {name}: nobody uses it"));
                }
            }
            _ => {}
        }
    }
    none(&complaints);
}

/// A check that looks at nothing would always pass.
async fn sources_are_found() {
    let all = files("", &[".rs"]);
    assert!(all.len() > 30, "only {} source files are found", all.len());
    for room in HOUSE.iter().filter(|room| room.name != "amqp") {
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
    let web_knows_cli = HOUSE
        .iter()
        .find(|room| room.name == "web")
        .is_some_and(|room| may_know(room, "cli"));
    assert!(!web_knows_cli, "the page room must not know the commands");
}
