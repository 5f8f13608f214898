//! ARCHITECTURE.md and CONTRIBUTING.md name files, modules and functions that exist.
//!
//! Only a reader can tell whether the statements about them are true.

use super::text::{files, none, read};

/// The texts in backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    prose
        .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect()
}

/// The text if it is a path, and not a placeholder for a file to be made (`x.rs`, `x`, `read_*.rs`, `<database>`).
fn path_of(word: &str) -> Option<&str> {
    const ROOTS: [&str; 8] = [
        "runner/",
        "handlers/",
        "tests/",
        "docs/",
        "templates/",
        "examples/",
        "scripts/",
        "migrations/",
    ];
    let path = word.trim_end_matches('/');
    let whole =
        !path.contains(['*', '<', ' ', '{']) && !path.split('/').any(|part| part == "x" || part.starts_with("x."));
    (ROOTS.iter().any(|root| path.starts_with(root)) && whole).then_some(path)
}

/// The modules of `a::b`, up to the first type; none for a single name.
fn modules_of(word: &str) -> Option<Vec<&str>> {
    let lower = |part: &&str| {
        part.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let parts: Vec<&str> = word
        .split("::")
        .take_while(lower)
        .filter(|part| !part.is_empty())
        .collect();
    (word.contains("::") && parts.len() > 1).then_some(parts)
}

/// Whether there is such a module, or such a function in the module before it. `sources`: paths without `src/`.
fn is_there(modules: &[&str], sources: &[(String, String)]) -> bool {
    let file = |modules: &[&str]| {
        let path = modules.join("/");
        let ends = [
            format!("/{path}.rs"),
            format!("/{path}/mod.rs"),
            format!("/{path}/lib.rs"),
        ];
        sources
            .iter()
            .find(|(name, _)| ends.iter().any(|end| name.ends_with(end)))
    };
    let (last, before) = modules.split_last().unwrap_or((&"", &[]));
    file(modules).is_some() || file(before).is_some_and(|(_, text)| text.contains(&format!("fn {last}(")))
}

pub async fn documents_of_the_code_name_existing_things() {
    let source = |path: &std::path::PathBuf| {
        let name = format!("/{}", path.display()).replace("/src/", "/");
        (name, read(path))
    };
    let sources: Vec<_> = files("runner", &[".rs"])
        .iter()
        .chain(&files("handlers", &[".rs"]))
        .map(source)
        .collect();
    let (mut complaints, mut checked) = (Vec::new(), 0);
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for word in quoted(&read(document.as_ref())) {
            let found = match (path_of(&word), modules_of(&word)) {
                (Some(path), _) => super::text::top().join(path).exists(),
                (None, Some(modules)) => is_there(&modules, &sources),
                (None, None) => continue,
            };
            checked += 1;
            if !found {
                complaints.push(format!("{document}: there is no {word}"));
            }
        }
    }
    assert!(checked > 50, "only {checked} names were understood");
    none(&complaints);
}
