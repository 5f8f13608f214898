//! Sizes, headers, words, reasons: each file for itself.

use std::collections::BTreeSet;
use std::path::Path;

use super::text::{body, code, files, none, read};

/// A file longer than this, without its tests, is two subjects.
const MAX_LINES: usize = 800;

pub async fn files_open_with_a_header() {
    let all = files("", &[".rs"]);
    let silent = all.iter().filter(|path| !read(path).starts_with("//!"));
    none(
        &silent
            .map(|path| format!("{}: opens without a `//!` header", path.display()))
            .collect::<Vec<_>>(),
    );
}

pub async fn files_are_short() {
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

pub async fn templates_and_pages_match() {
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
pub async fn the_readme_is_run() {
    let readme = read(Path::new("README.md"));
    for (mark, command) in [
        ("test", "scripts/test"),
        ("first", "cargo run --release -- -c config.yaml"),
    ] {
        let expected = format!("<!-- run: {mark} -->\n```sh\n{command}\n```");
        assert!(readme.contains(&expected), "README.md lacks this block:\n{expected}");
    }
}

pub async fn no_machine_is_named() {
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
                    "{}:{}: {found} is a path of one machine",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    none(&complaints);
}

/// Words of the glossary in ARCHITECTURE.md, and those that it replaces.
const REPLACED: [(&str, &str); 4] = [
    ("job", "task or function"),
    ("jobs", "tasks"),
    ("crontab entry", "schedule"),
    ("cron entry", "schedule"),
];

/// Turns of translated English, and plain ones to use instead. Refused in comments, messages, names and pages.
const UNIDIOMATIC: [(&str, &str); 37] = [
    ("affair", "subject, task"),
    ("all the same", "anyway"),
    ("anew", "again"),
    ("anybody", "any caller"),
    ("as it stands", "unchanged, literally"),
    ("bears", "has"),
    ("became of", "happened to, the result of"),
    ("becomes of", "happens to, the result of"),
    ("by and by", "later"),
    ("by surprise", "unexpectedly"),
    ("came of", "the result of"),
    ("for ever", "forever"),
    ("goes on", "continues"),
    ("keep house", "maintain"),
    ("lie in", "are in"),
    ("lies in", "is in"),
    ("lies under", "is under"),
    ("looks after", "serves, maintains"),
    ("mend", "repair"),
    ("mended", "repaired"),
    ("mends", "repairs"),
    ("nobody", "no caller, no worker, none"),
    ("of one's own", "of your own"),
    ("of ours", "our"),
    ("put aside", "archived"),
    ("put right", "repaired"),
    ("puts aside", "archives"),
    ("so long as", "while"),
    ("so many", "this many, at most"),
    ("somebody", "a caller, another client"),
    ("stands in", "is in, blocks"),
    ("stand in the way", "block"),
    ("tells of", "reports"),
    ("told", "returned, reported, logged"),
    ("whoever", "the caller, the code that"),
    ("without a word", "silently"),
    ("worked off", "drained"),
];

/// Endings of files whose words are checked, beside all files of `scripts` and `deploy`.
const READ_BY_PEOPLE: [&str; 11] = [
    ".rs", ".lua", ".md", ".html", ".json", ".yaml", ".yml", ".toml", ".js", ".css", ".c",
];

/// Complaints about words of `refused` in a file: a match is a whole word, also inside names.
fn complain(path: &Path, text: &str, refused: &[(&str, &str)], complaints: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        let spaced = line.replace(['_', '-'], " ").to_lowercase();
        for (word, instead) in refused {
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

pub async fn words_are_the_ones_of_the_glossary() {
    let mut complaints = Vec::new();
    for path in files("runner", &[".rs"])
        .iter()
        .chain(&files("handlers", &[".rs"]))
        .chain(&files("templates", &[".html"]))
        .filter(|path| !path.ends_with("tests.rs"))
    {
        complain(path, body(&read(path)), &REPLACED, &mut complaints);
    }
    // This list names the turns itself. Migrations are stored, and never edited.
    for path in files("", &READ_BY_PEOPLE)
        .iter()
        .chain(&files("scripts", &[""]))
        .chain(&files("deploy", &[""]))
        .filter(|path| !path.ends_with("tidy/words.rs") && !path.ends_with("tidy/types.rs"))
    {
        complain(path, &read(path), &UNIDIOMATIC, &mut complaints);
    }
    none(&complaints);
}

/// A dependency's reason stands beside it, or above the group it belongs to.
pub async fn dependencies_have_reasons() {
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
                    complaints.push(format!("Cargo.toml: {name}: unused"));
                }
            }
            _ => {}
        }
    }
    none(&complaints);
}

/// Untrusted text must not reach a terminal unescaped: only `cli::print` writes to standard output and error.
pub async fn only_the_printing_place_prints() {
    // What a build script prints is for Cargo.
    const MAY: [&str; 3] = ["runner/build.rs", "runner/src/cli/print.rs", "runner/src/log/init.rs"];
    let ways = ["println!", "print!", "io::stdout", "io::stderr"];
    let mut complaints = Vec::new();
    for path in files("runner", &[".rs"]).into_iter().chain(files("handlers", &[".rs"])) {
        let shown = path.display().to_string();
        if MAY.contains(&shown.as_str()) {
            continue;
        }
        for (number, line) in code(&read(&path)) {
            if ways.iter().any(|way| line.contains(way)) {
                complaints.push(format!("{shown}:{number}: print by cli::print: {}", line.trim()));
            }
        }
    }
    none(&complaints);
}
