//! Names of types: one name for one type, and no words without meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::text::{body, code, files, none, read};

/// Words that name furniture or moods instead of using the field's term. Parts of a type's name in camel case.
const REFUSED: [(&str, &str); 20] = [
    ("Alone", "say what is done one at a time"),
    ("Asked", "a query, a request"),
    ("Desk", "state, a loop, a thread"),
    ("Door", "access, credentials"),
    ("Doubt", "a warning"),
    ("Dress", "render"),
    ("House", "components, maintenance"),
    ("Kept", "saved, stored, a connection"),
    ("Lane", "a timeline"),
    ("Lens", "a locale"),
    ("Looks", "a loop, a cache"),
    ("Mended", "repaired"),
    ("Mender", "the repairer"),
    ("Pace", "say what is measured"),
    ("Paint", "render"),
    ("Seen", "observed, a fingerprint"),
    ("Shop", "a context"),
    ("Told", "reported, a result"),
    ("Trouble", "a fault, an error"),
    ("Wish", "an action"),
];

/// Product code; the contract suite is test code.
fn product() -> Vec<PathBuf> {
    let all = files("runner", &[".rs"]).into_iter().chain(files("handlers", &[".rs"]));
    let is_test = |path: &PathBuf| {
        let path = path.display().to_string();
        path.contains("tests") || path.contains("/contract/")
    };
    all.filter(|path| !is_test(path)).collect()
}

/// The type that a line declares, and whether other files can use it.
fn declared(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let (rest, public) = match line.strip_prefix("pub") {
        None => (line, false),
        Some(rest) => match rest.strip_prefix('(') {
            None => (rest.trim_start(), true),
            Some(inner) => (inner.split_once(')')?.1.trim_start(), true),
        },
    };
    let keyword = ["struct ", "enum ", "trait ", "type "];
    let rest = keyword.iter().find_map(|word| rest.strip_prefix(word))?;
    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    Some((&rest[..end], public))
}

pub async fn one_name_means_one_type() {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in product() {
        let home = path.display().to_string();
        for (_, line) in code(&read(&path)) {
            let Some((name, true)) = declared(&line) else { continue };
            let there = homes.entry(name.to_owned()).or_default();
            // One type in two forms, each for its own platform, is one name.
            if !there.contains(&home) {
                there.push(home.clone());
            }
        }
    }
    assert!(homes.len() > 400, "only {} types were found", homes.len());
    let twice = homes.iter().filter(|(_, homes)| homes.len() > 1);
    none(
        &twice
            .map(|(name, homes)| format!("{name} is {}", homes.join(" and ")))
            .collect::<Vec<_>>(),
    );
}

pub async fn types_are_named_by_terms_of_the_field() {
    let mut complaints = Vec::new();
    for path in product() {
        for (number, line) in body(&read(&path)).lines().enumerate() {
            let Some((name, _)) = declared(line) else { continue };
            for (word, better) in REFUSED {
                if has_word(name, word) {
                    complaints.push(format!("{}:{}: {name}: rather {better}", path.display(), number + 1));
                }
            }
        }
    }
    none(&complaints);
}

/// Whether a name in camel case has this word as one of its parts.
fn has_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| {
        let next = name[at + word.len()..].chars().next();
        next.is_none_or(|c| !c.is_lowercase())
    })
}

pub async fn the_check_of_types_can_fail() {
    assert_eq!(declared("pub(super) struct Desk<'a> {"), Some(("Desk", true)));
    assert_eq!(declared("    pub enum State {"), Some(("State", true)));
    assert_eq!(declared("trait Page: Sized {"), Some(("Page", false)));
    assert_eq!(declared("let structure = 1;"), None);
    assert!(has_word("WriterDesk", "Desk") && has_word("DeskState", "Desk"));
    assert!(!has_word("Replanet", "Lane") && !has_word("Spaced", "Pace"));
}
