//! The project as text: its files, and the code in them. Works on lines, so it requires code formatted by rustfmt.

use std::path::{Path, PathBuf};

/// The top of the project.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files below `dir` whose names end in one of `endings`, relative to the top; build results, hidden and stored files
/// are left out.
pub fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
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

/// A file's text; empty if it does not exist.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_default()
}

/// The text without the unit tests at its end.
pub fn body(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |at| &text[..at])
}

/// Lines of code with their numbers: comments are blank, and a `use` that spans lines is one.
pub fn code(text: &str) -> Vec<(usize, String)> {
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

/// Fails with all complaints at once.
pub fn none(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// The identifiers that follow each occurrence of `prefix`, those in braces one by one.
pub fn after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
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

pub fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())]
}

/// The texts between the commas of a group without its opening brace.
pub fn items(group: &str) -> Vec<&str> {
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
