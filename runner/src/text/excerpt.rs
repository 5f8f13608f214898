//! The source line of an error with carets under it, for terminals and pages. The caller decides what may be shown.

use super::mark::{Mark, line_of};
use super::words::is_hidden;

/// How much of a source line an excerpt shows, in characters; a little more than the width of a terminal.
const MAX_LINE: usize = 120;

/// The source line of `mark` with carets under it; `None` if the text has no such line.
#[must_use]
pub fn excerpt(text: &str, mark: Mark) -> Option<String> {
    Some(excerpt_of_line(line_of(text, mark)?, mark))
}

/// `line` with carets under it; `line` is the printable form of the source line of `mark`.
#[must_use]
pub fn excerpt_of_line(line: &str, mark: Mark) -> String {
    let chars: Vec<char> = line.chars().collect();
    let column = mark.column.saturating_sub(1).min(chars.len());
    let carets = mark.len.clamp(1, chars.len().saturating_sub(column).max(1));
    let first = (column + carets.min(MAX_LINE / 2)).saturating_sub(MAX_LINE).min(column);
    let shown = &chars[first..chars.len().min(first + MAX_LINE)];
    let visible = |c: &char| if is_hidden(*c) { ' ' } else { *c };
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
    format!(
        "  {number} | {line}\n  {gutter} | {}{}",
        " ".repeat(pad),
        "^".repeat(under.max(1))
    )
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
}
