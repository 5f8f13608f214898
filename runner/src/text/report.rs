//! Collects the problems of one text, each with its place, source line and caret.
//!
//! Used for manifests, the options of rows, schedules in code and settings; these differ in their codes and in what
//! may be shown.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use runner_core::schedule::{Problem, Source};

use super::yaml::{Fault, FaultKind, Mark, Value, without_mark};
use super::{excerpt_of_line, line_of};

/// How many problems of one text are reported, errors before warnings; the rest is counted.
const MAX_PROBLEMS: usize = 50;

/// The codes of problems that any text can have. Others are defined where they are found.
#[derive(Debug)]
pub struct Codes {
    /// Not YAML.
    pub syntax: &'static str,
    /// Too large, too deep, too many aliases.
    pub limit: &'static str,
    /// A feature of YAML that is refused.
    pub refused: &'static str,
    /// Not a map.
    pub shape: &'static str,
    /// A key that is not a string.
    pub key: &'static str,
    /// A duplicate key.
    pub duplicate: &'static str,
    /// An unknown key.
    pub unknown: &'static str,
    /// A key without a value.
    pub empty: &'static str,
    /// More problems than are shown.
    pub more: &'static str,
}

/// The codes of definitions of functions and schedules.
static DEFINITIONS: Codes = Codes {
    syntax: "E100",
    limit: "E104",
    refused: "E109",
    shape: "E108",
    key: "E110",
    duplicate: "E103",
    unknown: "E110",
    empty: "E113",
    more: "E199",
};

/// The codes of settings.
static SETTINGS: Codes = Codes {
    syntax: "CFG_SYNTAX",
    limit: "CFG_SYNTAX",
    refused: "CFG_SYNTAX",
    shape: "CFG_TYPE",
    key: "CFG_SYNTAX",
    duplicate: "CFG_SYNTAX",
    unknown: "CFG_UNKNOWN",
    empty: "CFG_TYPE",
    more: "CFG_MORE",
};

/// Where a key belongs that is unknown at its place, if that is known.
pub type Elsewhere = fn(key: &str, path: &str) -> Option<String>;

/// The findings about one text.
pub struct Report<'t> {
    source: Option<Source>,
    place: Cow<'t, str>,
    text: Cow<'t, str>,
    positions: bool,
    elsewhere: Elsewhere,
    /// Lines that hold a secret and are not shown.
    hidden: BTreeSet<usize>,
    /// The subject of new findings, if not the text: a variable of the environment.
    holder: Option<String>,
    problems: Vec<(Mark, Problem)>,
}

impl Report<'static> {
    /// About a file of settings.
    #[must_use]
    pub fn of_settings(place: &str, text: &str) -> Self {
        Self {
            place: Cow::Owned(place.to_owned()),
            text: Cow::Owned(without_mark(text).to_owned()),
            ..Report::new(None, "", "")
        }
    }
}

impl<'t> Report<'t> {
    fn new(source: Option<Source>, place: &'t str, text: &'t str) -> Self {
        Self {
            source,
            place: Cow::Borrowed(place),
            text: Cow::Borrowed(without_mark(text)),
            positions: true,
            elsewhere: |_, _| None,
            hidden: BTreeSet::new(),
            holder: None,
            problems: Vec::new(),
        }
    }

    /// About a manifest: places read `file:line:column`, and the source line is shown.
    #[must_use]
    pub fn of_file(place: &'t str, text: &'t str) -> Self {
        Self::new(Some(Source::Manifest), place, text)
    }

    /// About the options within a row: the row is the place.
    #[must_use]
    pub fn of_row(place: &'t str, text: &'t str) -> Self {
        Self {
            positions: false,
            ..Self::new(Some(Source::Table), place, text)
        }
    }

    /// About a schedule in code, whose name is the place.
    #[must_use]
    pub fn of_code(place: &'t str) -> Self {
        Self {
            positions: false,
            ..Self::new(Some(Source::Code), place, "")
        }
    }

    /// Sets the hints for keys in the wrong place.
    #[must_use]
    pub fn knowing(self, elsewhere: Elsewhere) -> Self {
        Self { elsewhere, ..self }
    }

    /// Its hint for a key in the wrong place.
    pub(super) fn elsewhere(&self, key: &str, path: &str) -> Option<String> {
        (self.elsewhere)(key, path)
    }

    /// The codes of its findings.
    #[must_use]
    pub fn codes(&self) -> &'static Codes {
        match self.source {
            Some(_) => &DEFINITIONS,
            None => &SETTINGS,
        }
    }

    /// A description of a value, to be read after "found"; for a setting only its shape, because it may be a secret.
    #[must_use]
    pub fn found(&self, value: &Value) -> String {
        match self.source {
            Some(_) => value.describe(),
            None => value.shape().to_owned(),
        }
    }

    /// Findings of `find` are about this variable instead of the text; `None`: about the text.
    pub fn about<T>(&mut self, holder: Option<&str>, find: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.holder, holder.map(str::to_owned));
        let found = find(self);
        self.holder = before;
        found
    }

    /// Where a definition begins: file and line, or the row or schedule that this is about.
    #[must_use]
    pub fn place(&self, mark: Mark) -> String {
        match self.positions {
            true => format!("{}:{}", self.place, mark.line),
            false => self.place.to_string(),
        }
    }

    /// Adds an error; the caller may add a hint to what is returned.
    pub fn error(&mut self, code: &str, mark: Mark, message: impl Into<String>) -> &mut Problem {
        let (mark, place) = match &self.holder {
            Some(name) => (Mark::default(), name.clone()),
            None if self.positions && mark.line > 0 => (mark, format!("{}:{}:{}", self.place, mark.line, mark.column)),
            None => (mark, self.place.to_string()),
        };
        let problem = Problem {
            source: self.source,
            ..Problem::of_settings(code, place, message)
        };
        let index = self.problems.len();
        self.problems.push((mark, problem));
        &mut self.problems[index].1
    }

    /// Adds a warning; the caller may add a hint to what is returned.
    pub fn warning(&mut self, code: &str, mark: Mark, message: impl Into<String>) -> &mut Problem {
        let problem = self.error(code, mark, message);
        *problem = problem.clone().as_warning();
        problem
    }

    /// Adds why the text is not accepted YAML.
    pub fn fault(&mut self, fault: &Fault) {
        let codes = self.codes();
        let code = match fault.kind {
            FaultKind::Syntax => codes.syntax,
            FaultKind::Limit => codes.limit,
            FaultKind::Refused => codes.refused,
        };
        let mark = fault.mark.unwrap_or_default();
        let hint = syntax_hint(line_of(&self.text, mark).unwrap_or_default(), mark);
        self.error(code, mark, fault.message.clone()).hint = hint;
    }

    /// Hides the line of `mark` in all findings: it contains a secret.
    pub fn hide_line(&mut self, mark: Mark) {
        self.hidden.insert(mark.line);
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
        self.problems.iter().filter(|(_, problem)| problem.is_error()).count()
    }

    /// How many findings there are so far, for [`Self::truncate`].
    #[must_use]
    pub fn findings(&self) -> usize {
        self.problems.len()
    }

    /// Drops all findings but the first `len`.
    pub fn truncate(&mut self, findings: usize) {
        self.problems.truncate(findings);
    }

    /// The place of bytes `part` of a scalar `value` that begins at `mark`: inside the source line where the
    /// value is written literally, plain or in quotes; else the whole scalar.
    #[must_use]
    pub fn inside(&self, mark: Mark, value: &str, part: Range<usize>) -> Mark {
        let (Some(before), Some(within)) = (value.get(..part.start), value.get(part)) else {
            return mark;
        };
        let Some(line) = line_of(&self.text, mark) else {
            return mark;
        };
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

    /// All findings, in the order of the text.
    #[must_use]
    pub fn finish(self) -> Vec<Problem> {
        self.finish_showing(str::to_owned)
    }

    /// The same, where `shown` says what may be shown of a source line; it must keep the number of characters.
    #[must_use]
    pub fn finish_showing(mut self, shown: impl Fn(&str) -> String) -> Vec<Problem> {
        self.problems.sort_by_key(|(mark, _)| (mark.line, mark.column));
        let (found, errors) = (self.problems.len(), self.errors());
        self.keep_first(MAX_PROBLEMS, errors);
        if self.positions {
            let visible = |(mark, _): &&mut (Mark, Problem)| !self.hidden.contains(&mark.line);
            for (mark, problem) in self.problems.iter_mut().filter(visible) {
                problem.excerpt = line_of(&self.text, *mark).map(|line| excerpt_of_line(&shown(line), *mark));
            }
        }
        if found > MAX_PROBLEMS {
            let text = format!("and {} more problems", found - MAX_PROBLEMS);
            let code = self.codes().more;
            // With all errors shown the rest are warnings, and warnings refuse nothing.
            match errors > MAX_PROBLEMS {
                true => self.error(code, Mark::default(), text),
                false => self.warning(code, Mark::default(), text),
            };
        }
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// Keeps the first `max` findings; warnings go before any of the `errors` errors does.
    fn keep_first(&mut self, max: usize, errors: usize) {
        let (mut errors_left, mut warnings_left) = (max, max.saturating_sub(errors));
        self.problems.retain(|(_, problem)| {
            let left = match problem.is_error() {
                true => &mut errors_left,
                false => &mut warnings_left,
            };
            let keeps = *left > 0;
            *left = left.saturating_sub(1);
            keeps
        });
    }
}

/// The most frequent mistakes, recognised by the line.
fn syntax_hint(line: &str, mark: Mark) -> Option<String> {
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some("indent with spaces; YAML does not allow tabs there".to_owned());
    }
    let (key, value) = line.split_once(':')?;
    let key = key.trim_start_matches([' ', '-']).trim();
    let value = value.trim();
    let at_value = mark.column > line.find(':').unwrap_or_default();
    if at_value && value.starts_with(['*', '@']) && ["schedule", "cron"].contains(&key) {
        let bare = value.split(" #").next().unwrap_or(value).trim();
        return Some(format!("quote cron expressions: {key}: \"{bare}\""));
    }
    if at_value && value.starts_with(['*', '@', '&', '%', '`', '!']) {
        return Some("put the value in quotes".to_owned());
    }
    if at_value && value.contains(": ") && !value.starts_with(['"', '\'', '{', '[']) {
        return Some("put a value that holds \": \" in quotes".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    /// For this many warnings followed by this many errors: how many errors are shown, and the last line.
    fn cut(warnings: usize, errors: usize) -> (usize, Problem) {
        let mut report = Report::of_settings("c", "");
        let mark = |line| Mark { line, ..Mark::START };
        for line in 1..=warnings {
            report.warning("W", mark(line), "odd");
        }
        for line in 1..=errors {
            report.error("E", mark(warnings + line), "wrong");
        }
        let mut found = report.finish();
        let last = found.pop().expect("one more than is shown");
        (found.iter().filter(|problem| problem.is_error()).count(), last)
    }

    #[test]
    fn warnings_are_cut_before_errors() {
        let (errors, last) = cut(60, 3);
        assert_eq!((errors, last.is_error()), (3, false));
        assert_eq!(last.message, "and 13 more problems");
        let (errors, last) = cut(60, MAX_PROBLEMS + 2);
        assert_eq!((errors, last.is_error()), (MAX_PROBLEMS, true));
        assert_eq!(last.message, "and 62 more problems");
    }
}
