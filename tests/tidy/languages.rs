//! Pages in two languages: the Chinese one has the headings and the examples of the English one.

use std::path::{Path, PathBuf};

use super::text::{files, none, read};

/// Pages that newcomers read first; each has a Chinese version.
const BOTH: [&str; 5] = [
    "README.md",
    "docs/manifests.md",
    "docs/table.md",
    "docs/migration.md",
    "docs/dashboard.md",
];

/// The path of a page's Chinese version.
fn chinese(page: &Path) -> PathBuf {
    let name = page.file_name().unwrap();
    match page.parent() {
        Some(dir) if dir.as_os_str().is_empty() => page.with_extension("zh-CN.md"),
        Some(dir) => dir.join("zh").join(name),
        None => unreachable!("a page has a place"),
    }
}

/// The part that both languages share: the levels of headings, and marked code blocks, in order.
fn skeleton(text: &str) -> Vec<String> {
    let (mut found, mut open, mut above) = (Vec::new(), None::<String>, "");
    for line in text.lines() {
        let fence = line.starts_with("```");
        match &mut open {
            Some(block) if fence => {
                block.push_str(line);
                found.extend(open.take());
            }
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
            None if fence => {
                let mark = if above.starts_with("<!--") { above } else { "" };
                open = Some(format!("{mark}\n{line}\n"));
            }
            None if line.starts_with('#') => {
                found.push(line.chars().take_while(|c| *c == '#').collect());
            }
            None => {}
        }
        above = line;
    }
    found
}

/// The first difference between two pages, in words.
fn difference(english: &Path, text: &str, other: &str) -> Option<String> {
    let (here, there) = (skeleton(text), skeleton(other));
    let parts = here.iter().zip(&there).position(|(a, b)| a != b);
    let at = parts.or((here.len() != there.len()).then(|| here.len().min(there.len())))?;
    let part = |all: &[String]| all.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
    Some(format!(
        "{}: heading or block {} is\n{}\nand in Chinese\n{}",
        english.display(),
        at + 1,
        part(&here),
        part(&there)
    ))
}

pub async fn both_languages_have_the_same_examples() {
    let mut complaints = Vec::new();
    for page in BOTH.map(Path::new) {
        complaints.extend(difference(page, &read(page), &read(&chinese(page))));
    }
    let written = files("docs/zh", &[".md"]);
    let single = written
        .iter()
        .filter(|page| !BOTH.iter().any(|p| chinese(Path::new(p)) == **page));
    complaints.extend(single.map(|page| format!("{}: which page is this a translation of?", page.display())));
    none(&complaints);
}

pub async fn the_check_of_languages_can_fail() {
    let page = "# A\n\n<!-- run: tasks -->\n```sh\nrunner ls\n```\n\n## B\n";
    let fails = |other: &str| difference(Path::new("a.md"), page, other).is_some();
    assert!(!fails(
        "# 甲\n\n文字\n\n<!-- run: tasks -->\n```sh\nrunner ls\n```\n## 乙\n"
    ));
    assert!(
        fails("# 甲\n\n<!-- run: tasks -->\n```sh\nrunner ls \n```\n## 乙\n"),
        "a code block"
    );
    assert!(fails("# 甲\n\n```sh\nrunner ls\n```\n## 乙\n"), "a mark");
    assert!(
        fails("# 甲\n\n<!-- run: tasks -->\n```sh\nrunner ls\n```\n### 乙\n"),
        "a level"
    );
    assert!(
        fails("# 甲\n\n<!-- run: tasks -->\n```sh\nrunner ls\n```\n"),
        "a heading"
    );
}
