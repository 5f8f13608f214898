//! No circles of files: a reader finds what a file uses below it, never back at itself.
//!
//! Which room may use which is checked in `arrows`; this looks at the files of each package, inside rooms too. The
//! front of a folder (`mod.rs`, `lib.rs`) may hold what its files share, such as the type that they all implement: an
//! arrow from a file to the front of a folder in which it lies does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{code, files, identifier, items, none, read};

/// The sources of each package. Cargo keeps the arrows between them.
const PACKAGES: [&str; 5] = [
    "runner/core/src/",
    "runner/queue/src/",
    "runner/sdk/src/",
    "runner/src/",
    "handlers/src/",
];

/// A file: its module, what each name in it stands for if it comes from another file, and the paths that it uses.
#[derive(Default)]
struct File {
    shown: String,
    imports: BTreeMap<String, Vec<String>>,
    uses: Vec<Vec<String>>,
}

type Files = BTreeMap<Vec<String>, File>;

/// The module that a file of a package is; `lib.rs` and `main.rs` are the root.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let parts = path.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
    parts.map(str::to_owned).collect()
}

/// The full paths that a `use` names, from `a::{b, c::d}`, each with the name that it has in the file.
fn leaves(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
        let last = path.iter().rfind(|part| *part != "self").cloned().unwrap_or_default();
        let name = if name.is_empty() { last } else { name.trim().to_owned() };
        return vec![(path, name)];
    };
    let before: Vec<String> = before
        .split("::")
        .filter(|part| !part.is_empty())
        .map(|p| p.trim().to_owned())
        .collect();
    let inside = items(group).into_iter().filter(|item| !item.trim().is_empty());
    inside
        .flat_map(leaves)
        .map(|(path, name)| {
            let name = if path == ["self"] {
                before.last().cloned().unwrap_or_default()
            } else {
                name
            };
            (before.iter().cloned().chain(path).collect(), name)
        })
        .collect()
}

/// A path from the package's root; `None` if it leads to another package.
fn absolute(path: &[String], from: &[String], all: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut path: Vec<String> = path.iter().filter(|part| *part != "self").cloned().collect();
    let mut base = from.to_vec();
    if path.first()? == "crate" {
        return Some(path.split_off(1));
    }
    let mut climbed = false;
    while path.first().is_some_and(|part| part == "super") {
        base.pop()?;
        path.remove(0);
        climbed = true;
    }
    base.extend(path.iter().take(1).cloned());
    // Without `super`, only a name of a child module leads into this package.
    if !climbed && !all.contains(&base) {
        return None;
    }
    base.extend(path.into_iter().skip(1));
    Some(base)
}

/// The paths in a line that is not a `use`: those that begin with `crate::` or `super::`, or with a child module.
fn inline_paths(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("::") {
        let begin = line[..at]
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |i| i + 1);
        if line[..begin].ends_with("::") || line[..begin].ends_with('"') {
            continue;
        }
        let mut path = vec![line[begin..at].to_owned()];
        let mut rest = &line[at..];
        while let Some(next) = rest.strip_prefix("::") {
            let part = identifier(next);
            if part.is_empty() {
                break;
            }
            path.push(part.to_owned());
            rest = &next[part.len()..];
        }
        found.push(path);
    }
    found
}

/// The files of a package, with what they import and use.
fn package(home: &str) -> Files {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let paths: Vec<String> = files(home, &[".rs"])
        .iter()
        .map(|path| path.display().to_string())
        .filter(|path| !is_test(path))
        .collect();
    let modules: BTreeSet<Vec<String>> = paths.iter().map(|path| module(&path[home.len()..])).collect();
    let mut all = Files::new();
    for path in &paths {
        let own = module(&path[home.len()..]);
        let mut file = File {
            shown: path.clone(),
            ..File::default()
        };
        for (_, line) in code(&read(path.as_ref())) {
            let text = line.trim_start();
            let is_public = text.starts_with("pub");
            let text = text.strip_prefix("pub").unwrap_or(text);
            let text = match text.strip_prefix('(') {
                Some(inner) => inner.split_once(')').map_or("", |(_, rest)| rest),
                None => text,
            };
            let Some(tree) = text.trim_start().strip_prefix("use ") else {
                let found = inline_paths(&line).into_iter();
                file.uses
                    .extend(found.filter_map(|path| absolute(&path, &own, &modules)));
                continue;
            };
            for (path, name) in leaves(tree.split(';').next().unwrap_or_default()) {
                let Some(path) = absolute(&path, &own, &modules) else {
                    continue;
                };
                // What a file only passes on is an arrow of those who take it.
                if !is_public {
                    file.uses.push(path.clone());
                }
                file.imports.insert(name, path);
            }
        }
        all.insert(own, file);
    }
    all
}

/// The file that a path leads to: the deepest module in it, or the one from which that module has the name.
fn target<'a>(path: &[String], all: &'a Files, depth: usize) -> Option<&'a [String]> {
    let found = (0..=path.len())
        .rev()
        .find_map(|length| all.get_key_value(&path[..length]))?;
    let (module, file) = found;
    let Some(name) = path.get(module.len()) else {
        // The module itself, whose items are then written after its name.
        return Some(module);
    };
    match file.imports.get(name) {
        Some(elsewhere) if depth < 8 && elsewhere != path => target(elsewhere, all, depth + 1),
        _ => Some(module),
    }
}

/// Which file uses which; those to the fronts of its own folders are left out.
fn arrows(all: &Files) -> BTreeMap<&[String], BTreeSet<&[String]>> {
    let mut arrows: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (own, file) in all {
        let to = file.uses.iter().filter_map(|path| target(path, all, 0));
        arrows.insert(own, to.filter(|to| !own.starts_with(to)).collect());
    }
    arrows
}

/// The files from which one comes back to `from`, on a shortest way; empty if there is none.
fn circle<'a>(from: &'a [String], arrows: &BTreeMap<&'a [String], BTreeSet<&'a [String]>>) -> Vec<&'a [String]> {
    let mut ways: Vec<Vec<&[String]>> = vec![vec![from]];
    let mut visited = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in arrows.get(way.last().unwrap()).into_iter().flatten() {
                if *next == from {
                    return way;
                }
                if visited.insert(*next) {
                    longer.push(way.iter().copied().chain([*next]).collect());
                }
            }
        }
        ways = longer;
    }
    Vec::new()
}

pub async fn no_files_use_each_other_in_a_circle() {
    let (mut complaints, mut seen) = (BTreeSet::new(), 0);
    for home in PACKAGES {
        let all = package(home);
        let arrows = arrows(&all);
        seen += arrows.values().map(BTreeSet::len).sum::<usize>();
        for from in arrows.keys() {
            let mut way = circle(from, &arrows);
            if way.is_empty() {
                continue;
            }
            // Each circle is found from each of its files: named from the first one.
            let first = way
                .iter()
                .enumerate()
                .min_by_key(|(_, file)| **file)
                .map_or(0, |(at, _)| at);
            way.rotate_left(first);
            let names: Vec<&str> = way.iter().map(|file| all[*file].shown.as_str()).collect();
            complaints.insert(format!("{} use each other in a circle", names.join(", ")));
        }
    }
    assert!(seen > 1_000, "only {seen} arrows were found");
    none(&complaints.into_iter().collect::<Vec<_>>());
}

/// A check that looks at nothing would always pass.
pub async fn the_check_of_circles_can_fail() {
    let words = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(module("web/pages/mod.rs"), words("web::pages"));
    assert_eq!(module("lib.rs"), Vec::<String>::new());
    let found: Vec<String> = leaves("a::{self, b::{C, D as E}, f}")
        .iter()
        .map(|(path, name)| format!("{}={name}", path.join("::")))
        .collect();
    assert_eq!(found, ["a::self=a", "a::b::C=C", "a::b::D=E", "a::f=f"]);
    let all = [words("web"), words("web::pages"), words("web::pages::rows")].into();
    let from = words("web::pages");
    assert_eq!(absolute(&words("crate::x::Y"), &from, &all), Some(words("x::Y")));
    assert_eq!(absolute(&words("super::urls"), &from, &all), Some(words("web::urls")));
    assert_eq!(
        absolute(&words("rows::Row"), &from, &all),
        Some(words("web::pages::rows::Row"))
    );
    assert_eq!(absolute(&words("std::fmt"), &from, &all), None);
    assert_eq!(
        inline_paths("let x = crate::a::b(c::D);"),
        [words("crate::a::b"), words("c::D")]
    );

    let file = |uses: &[&str], imports: &[(&str, &str)]| File {
        uses: uses.iter().map(|path| words(path)).collect(),
        imports: imports
            .iter()
            .map(|(name, path)| ((*name).to_owned(), words(path)))
            .collect(),
        ..File::default()
    };
    // `a::mod` passes on what `a::b` has; `a::c` takes it from there, and `a::b` comes back to `a::c`.
    let files: Files = [
        (words("a"), file(&[], &[("B", "a::b::B")])),
        (words("a::b"), file(&["a::c::x", "a::Front"], &[])),
        (words("a::c"), file(&["a::B"], &[])),
    ]
    .into();
    let arrows = arrows(&files);
    let (b, c) = (words("a::b"), words("a::c"));
    assert_eq!(circle(&b, &arrows), [&b[..], &c[..]]);
    assert!(circle(&words("a"), &arrows).is_empty(), "its files may use the front");
}
