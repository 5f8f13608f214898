//! The documentation as text: README, `docs/`, and the blocks of code in them.

use std::path::{Path, PathBuf};

/// The repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Markdown files of this directory, in the order of their names.
fn markdown(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(top().join(dir)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "md"));
    paths.sort();
    paths
}

fn texts(paths: impl IntoIterator<Item = PathBuf>) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The README and every page of `docs/`, in English: their examples are run.
pub fn examples() -> Vec<(PathBuf, String)> {
    texts([top().join("README.md")].into_iter().chain(markdown("docs")))
}

/// Every page in every language: their links are followed.
pub fn all() -> Vec<(PathBuf, String)> {
    texts(["", "docs", "docs/zh"].into_iter().flat_map(markdown))
}

/// A block of code: the mark above it (`run: NAME`, `not run: REASON`), its language, its lines.
pub struct Block {
    pub mark: Option<String>,
    pub language: String,
    pub body: String,
}

/// The blocks of a page, in order.
pub fn blocks_of(text: &str) -> Vec<Block> {
    let (mut found, mut open, mut above) = (Vec::new(), None::<Block>, "");
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, Some(language)) => {
                let mark = above.strip_prefix("<!-- ").and_then(|m| m.strip_suffix(" -->"));
                open = Some(Block {
                    mark: mark.filter(|m| m.contains("run: ")).map(str::to_owned),
                    language: language.to_owned(),
                    body: String::new(),
                });
            }
            (None, None) => above = line,
        }
    }
    assert!(open.is_none(), "a block of code that does not end");
    found
}

/// The bodies of all blocks with the mark `run: NAME`.
pub fn blocks(name: &str) -> Vec<String> {
    let wanted = Some(format!("run: {name}"));
    let all = examples();
    let found = all.iter().flat_map(|(_, text)| blocks_of(text));
    found
        .filter(|block| block.mark == wanted)
        .map(|block| block.body)
        .collect()
}

/// The only block with this mark.
pub fn block(name: &str) -> String {
    let all = blocks(name);
    assert_eq!(all.len(), 1, "{name}");
    all.into_iter().next().unwrap()
}

/// The anchor that GitHub and mdBook give to a heading.
pub fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
