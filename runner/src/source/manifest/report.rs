//! Collects what is wrong with one text, each finding with its place, source line and caret.

use std::ops::Range;

use runner_core::schedule::{Origin, Problem, Severity, Source};

use crate::text;
use crate::text::yaml::Mark;

/// How many problems of one text are kept; the rest is counted.
const MAX_PROBLEMS: usize = 50;

/// The findings about one text.
pub struct Report<'t> {
    source: Source,
    place: &'t str,
    text: &'t str,
    positions: bool,
    problems: Vec<(Mark, Problem)>,
}

impl<'t> Report<'t> {
    /// About a file: places read `file:line:column`, and the source line is shown.
    #[must_use]
    pub fn of_file(place: &'t str, text: &'t str) -> Self {
        Self {
            source: Source::Manifest,
            place,
            text: text.strip_prefix('\u{feff}').unwrap_or(text),
            positions: true,
            problems: Vec::new(),
        }
    }

    /// About the options within a row: the row is the place.
    #[must_use]
    pub fn of_row(place: &'t str, text: &'t str) -> Self {
        Self {
            source: Source::Table,
            positions: false,
            ..Self::of_file(place, text)
        }
    }

    /// About a schedule in code, whose name is the place.
    #[must_use]
    pub fn of_code(place: &'t str) -> Self {
        Self {
            source: Source::Code,
            positions: false,
            ..Self::of_file(place, "")
        }
    }

    /// The place of a definition that begins at `mark`.
    #[must_use]
    pub fn origin(&self, mark: Mark) -> Origin {
        let place = if self.positions {
            format!("{}:{}", self.place, mark.line)
        } else {
            self.place.to_owned()
        };
        Origin {
            source: self.source,
            place,
        }
    }

    /// Adds an error; the caller may add a hint to what is returned.
    pub fn error(&mut self, code: &str, mark: Mark, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, code, mark, message.into())
    }

    /// Adds a warning; the caller may add a hint to what is returned.
    pub fn warning(&mut self, code: &str, mark: Mark, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, code, mark, message.into())
    }

    fn push(&mut self, severity: Severity, code: &str, mark: Mark, message: String) -> &mut Problem {
        let (place, excerpt) = if self.positions && mark.line > 0 {
            let place = format!("{}:{}:{}", self.place, mark.line, mark.column);
            (place, text::excerpt(self.text, mark))
        } else {
            (self.place.to_owned(), None)
        };
        let origin = Origin {
            source: self.source,
            place,
        };
        let mut problem = Problem::error(code, message, origin);
        problem.severity = severity;
        problem.excerpt = excerpt;
        let index = self.problems.len();
        self.problems.push((mark, problem));
        &mut self.problems[index].1
    }

    /// Adds a hint to the newest finding.
    pub fn hint_last(&mut self, hint: impl Into<String>) {
        if let Some((_, last)) = self.problems.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    /// How many errors there are so far; to see whether a step found new ones.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.problems
            .iter()
            .filter(|(_, p)| p.severity == Severity::Error)
            .count()
    }

    /// The place of bytes `part` of a scalar `value` that begins at `mark`: inside the source line where the
    /// value stands there as it is, plain or in quotes; else the whole scalar.
    #[must_use]
    pub fn inside(&self, mark: Mark, value: &str, part: Range<usize>) -> Mark {
        let (Some(before), Some(within)) = (value.get(..part.start), value.get(part)) else {
            return mark;
        };
        let line = mark.line.checked_sub(1).and_then(|n| self.text.lines().nth(n));
        let Some(line) = line else { return mark };
        let raw: String = line.chars().skip(mark.column.saturating_sub(1)).collect();
        let quotes = usize::from(raw.starts_with(['"', '\'']));
        if !raw.get(quotes..).is_some_and(|r| r.starts_with(value)) {
            return mark;
        }
        Mark {
            line: mark.line,
            column: mark.column + quotes + before.chars().count(),
            len: within.chars().count(),
        }
    }

    /// Everything that was found, in the order of the text.
    #[must_use]
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(mark, _)| (mark.line, mark.column));
        let more = self.problems.len().saturating_sub(MAX_PROBLEMS);
        self.problems.truncate(MAX_PROBLEMS);
        if more > 0 {
            self.error("E199", Mark::default(), format!("and {more} more problems"));
        }
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}
