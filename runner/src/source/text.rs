//! Words about text: quoting, likely misspellings, the source line with a caret. No I/O, no YAML.

use runner_core::schedule::Problem;

use super::yaml::Mark;

/// How much of a quoted value an error shows, in characters.
const MAX_QUOTED: usize = 60;

/// How much of a source line an excerpt shows, in characters; a terminal's width and some.
const MAX_LINE: usize = 120;

/// The value in double quotes, with control characters escaped, cut to 60 characters.
#[must_use]
pub fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_QUOTED).flat_map(escape).collect();
    if value.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

fn escape(c: char) -> Vec<char> {
    if c.is_control() || c == '"' || is_hidden(c) {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// Characters that show nothing or turn the reading direction: an error must not be made to read as another.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The word of `known` that was probably meant by `word`, if one is near enough.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|k| (distance(&word, k), *k))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edits that turn `a` into `b`: insert, delete, replace, swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// A problem for the log: without the excerpt, which has lines of its own.
#[must_use]
pub fn one_line(problem: &Problem) -> String {
    let hint = problem.hint.as_ref().map_or(String::new(), |h| format!(" (help: {h})"));
    let line = format!("{}: {} {}{hint}", problem.origin.place, problem.code, problem.message);
    line.replace(['\n', '\r'], " ")
}

/// `a, b or c`.
#[must_use]
pub fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The source line of `mark` with carets under it; `None` if the text has no such line.
#[must_use]
pub fn excerpt(text: &str, mark: Mark) -> Option<String> {
    let line = text.lines().nth(mark.line.checked_sub(1)?)?;
    let chars: Vec<char> = line.chars().collect();
    let column = mark.column.saturating_sub(1).min(chars.len());
    let carets = mark.len.clamp(1, chars.len().saturating_sub(column).max(1));
    let first = (column + carets.min(MAX_LINE / 2)).saturating_sub(MAX_LINE).min(column);
    let shown = &chars[first..chars.len().min(first + MAX_LINE)];
    let visible = |c: &char| if c.is_control() || is_hidden(*c) { ' ' } else { *c };
    let line: String = shown.iter().map(visible).collect();
    let pad: usize = chars[first..column].iter().copied().map(width).sum();
    let under: usize = chars[column..]
        .iter()
        .take(carets.min(first + MAX_LINE - column))
        .copied()
        .map(width)
        .sum();
    let number = mark.line.to_string();
    let gutter = " ".repeat(number.len());
    Some(format!(
        "  {number} | {line}\n  {gutter} | {}{}",
        " ".repeat(pad),
        "^".repeat(under.max(1))
    ))
}

/// Columns of a terminal: two for the wide characters of East Asia.
fn width(c: char) -> usize {
    let wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}');
    1 + usize::from(wide)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn likely_words_are_found_and_unlikely_ones_are_not() {
        let known = ["schedule", "handler", "payload", "queue"];
        assert_eq!(nearest("shedule", &known), Some("schedule"));
        assert_eq!(nearest("handelr", &known), Some("handler"));
        assert_eq!(nearest("Queue", &known), Some("queue"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn the_caret_stands_under_the_fault() {
        let mark = |line, column, len| Mark { line, column, len };
        assert_eq!(
            excerpt("a: 1\nbc: xyz\n", mark(2, 5, 3)).unwrap(),
            "  2 | bc: xyz\n    |     ^^^"
        );
        assert_eq!(excerpt("日: x", mark(1, 4, 1)).unwrap(), "  1 | 日: x\n    |     ^");
        assert_eq!(excerpt("a", mark(2, 1, 1)), None);
        let long = format!("{}!{}", "x".repeat(500), "y".repeat(500));
        let shown = excerpt(&long, mark(1, 501, 1)).unwrap();
        let (line, caret) = shown.split_once('\n').unwrap();
        assert_eq!(line.find('!'), caret.find('^'));
        assert!(line.chars().count() < 140);
    }

    #[test]
    fn quoted_values_are_short_and_cannot_hide_anything() {
        assert_eq!(quoted("a\nb\u{202e}"), "\"a\\nb\\u{202e}\"");
        assert_eq!(quoted(&"é".repeat(61)).chars().count(), 63);
    }
}
