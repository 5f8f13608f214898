//! README and `docs/`: links lead somewhere, code blocks are run or explain why not, no page is left out.
//!
//! Looks at texts only. Not here: running the blocks (`readme`).

use super::text::{none, read};
use crate::kit::pages::{all, anchor, blocks_of, examples, top};

/// Names in the mark `<!-- run: NAME -->` above a block that a test knows; any other would run nothing.
const RUN: [&str; 15] = [
    "api",
    "first",
    "test",
    "nginx",
    "manifest",
    "settings",
    "check",
    "tasks",
    "groups",
    "row",
    "options",
    "backup",
    "cluster",
    "kinds",
    "shared-manifest",
];

/// A reader who copies a block gets what was tested, or is warned.
pub async fn each_block_is_run_or_explains_why_not() {
    let mut complaints = Vec::new();
    for (path, text) in examples() {
        for block in blocks_of(&text) {
            let known = match block.mark.as_deref() {
                None => block.language.is_empty(),
                Some(mark) => match mark.strip_prefix("run: ") {
                    Some(name) => RUN.contains(&name) || name.starts_with("example "),
                    None => mark.starts_with("not run: "),
                },
            };
            if !known {
                let wanted = "the line above must be <!-- run: NAME --> with a name of tests/tidy/pages.rs, \
                    <!-- run: example NAME --> for lines of examples/NAME.rs, or <!-- not run: REASON -->";
                complaints.push(format!("{}: {wanted}:\n{}", path.display(), block.body));
            }
        }
    }
    none(&complaints);
}

/// The lines of each paragraph of the block are in the example, one after the other; indentation does not count. A block may thus
/// begin with the imports that it needs.
pub async fn code_is_that_of_the_examples() {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let (mut complaints, mut shown) = (Vec::new(), 0);
    for (path, text) in examples() {
        for block in blocks_of(&text) {
            let Some(name) = block
                .mark
                .as_deref()
                .and_then(|mark| mark.strip_prefix("run: example "))
            else {
                continue;
            };
            let example = read(format!("examples/{name}.rs").as_ref());
            let (there, here) = (lines(&example), lines(&block.body));
            if !here.split(String::is_empty).all(|part| is_part(&there, part)) {
                complaints.push(format!(
                    "{}: not in examples/{name}.rs:\n{}",
                    path.display(),
                    block.body
                ));
            }
            shown += 1;
        }
    }
    assert!(shown >= 4, "only {shown} blocks of code were found");
    none(&complaints);
}

fn is_part(there: &[String], part: &[String]) -> bool {
    part.is_empty() || there.windows(part.len()).any(|window| window == part)
}

/// Long enough to introduce the program and to start, short enough to be read.
pub async fn the_readme_is_short() {
    let words = read("README.md".as_ref()).split_whitespace().count();
    let right = (700..=1000).contains(&words);
    assert!(
        right,
        "README.md has {words} words, not 700 to 1,000; reference belongs to docs/"
    );
}

pub async fn links_lead_somewhere() {
    let mut complaints = Vec::new();
    for (path, text) in all() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let there = std::fs::read_to_string(&target).unwrap_or_default();
            let heading = |line: &str| line.starts_with('#') && anchor(line) == place;
            if !target.exists() {
                complaints.push(format!("{}: {link}: no such file", path.display()));
            } else if !place.is_empty() && !there.lines().any(heading) {
                complaints.push(format!("{}: {link}: no such heading", path.display()));
            }
        }
    }
    none(&complaints);
}

/// Readers on GitHub start at `docs/README.md`, those of the book use `docs/SUMMARY.md`.
pub async fn each_page_is_in_the_tables_of_contents() {
    let mut complaints = Vec::new();
    for contents in ["docs/README.md", "docs/SUMMARY.md"] {
        let listed = read(contents.as_ref());
        for (path, _) in all() {
            let Ok(page) = path.strip_prefix(top().join("docs")) else {
                continue;
            };
            let page = page.display().to_string();
            let itself = ["README.md", "SUMMARY.md"].contains(&page.as_str());
            if !itself && !listed.contains(&format!("]({page})")) {
                complaints.push(format!("{contents}: lacks a line for {page}"));
            }
        }
    }
    none(&complaints);
}
