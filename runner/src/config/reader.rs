//! State that all sections of one file share: its report, the environment, and which keys were read.
//!
//! Source lines are added at the end, when all keys are known and so is what may be shown.

use std::cell::{Cell, OnceCell, RefCell};

use runner_core::schedule::{Problem, Severity};

use super::environment::{Environment, variables};
use super::ignored::ignored;
use super::masking::{Keys, masked};
use crate::text::Report;
use crate::text::checks::Mismatch;
use crate::text::yaml::{Mark, Node, without_mark};

/// State that all sections of one file share.
pub struct Reader<'a> {
    /// Overrides and references.
    pub environment: &'a Environment,
    /// Whether this is for a short command, which may never use a secret.
    pub for_command: bool,
    /// The text of the file.
    pub text: &'a str,
    pub(super) report: RefCell<Report<'static>>,
    pub(super) keys: RefCell<Keys>,
    /// Every key that was read, by its path.
    pub(super) paths: RefCell<Vec<String>>,
    pub(super) secrets: Cell<bool>,
    /// The lists of maps that variables hold instead of the file: users and tokens.
    pub(super) users: OnceCell<Option<JsonVariable>>,
    /// See `users`.
    pub(super) tokens: OnceCell<Option<JsonVariable>>,
}

/// The value of a variable as JSON.
pub struct JsonVariable {
    name: String,
    text: String,
    node: Node,
}

impl JsonVariable {
    /// `node` is the parsed `text`, the value of the variable of this name.
    #[must_use]
    pub fn new(name: String, text: String, node: Node) -> Self {
        Self { name, text, node }
    }

    /// Of the variable.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What that says.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

/// Where a value was found.
#[derive(Debug, Clone)]
pub enum SettingPlace {
    /// In the file.
    File(Mark),
    /// In this variable.
    Variable(String),
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub place: SettingPlace,
}

impl<'a> Reader<'a> {
    /// A reader without findings.
    #[must_use]
    pub fn new(name: &str, text: &'a str, environment: &'a Environment) -> Self {
        Self {
            environment,
            text: without_mark(text),
            for_command: false,
            report: RefCell::new(Report::of_settings(name, text)),
            keys: RefCell::default(),
            paths: RefCell::default(),
            secrets: Cell::new(false),
            users: OnceCell::new(),
            tokens: OnceCell::new(),
        }
    }

    /// Reports an error.
    pub fn error(&self, code: &str, place: &SettingPlace, message: impl Into<String>) {
        self.add(code, place, message.into(), |_| ());
    }

    /// Reports an error with advice.
    pub fn error_hint(&self, code: &str, place: &SettingPlace, message: impl Into<String>, hint: impl Into<String>) {
        self.add(code, place, message.into(), |problem| problem.hint = Some(hint.into()));
    }

    /// Reports a warning.
    pub fn warning(&self, code: &str, place: &SettingPlace, message: impl Into<String>, hint: Option<String>) {
        self.add(code, place, message.into(), |problem| {
            problem.severity = Severity::Warning;
            problem.hint = hint;
        });
    }

    fn add(&self, code: &str, place: &SettingPlace, message: String, finish: impl FnOnce(&mut Problem)) {
        let (variable, mark) = match place {
            SettingPlace::File(mark) => (None, *mark),
            SettingPlace::Variable(name) => (Some(name.as_str()), Mark::default()),
        };
        let mut report = self.report.borrow_mut();
        report.about(variable, |report| finish(report.error(code, mark, message)));
    }

    /// The value of a check, or its error.
    pub fn checked<T>(&self, code: &str, place: &SettingPlace, checked: Result<T, Mismatch>) -> Option<T> {
        let wrong = |wrong: Mismatch| self.add(code, place, wrong.message, |problem| problem.hint = wrong.hint);
        checked.map_err(wrong).ok()
    }

    /// The result of `read`, without its findings.
    pub fn without_findings<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.report.borrow().findings();
        let value = read();
        self.report.borrow_mut().truncate(before);
        value
    }

    /// Whether the file itself contains a secret, rather than a reference to one.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        self.secrets.get()
    }

    /// All findings, those of variables first, and those about variables that have no effect last.
    #[must_use]
    pub fn finish(self) -> Vec<Problem> {
        // Only now all keys are known, and so is what may be shown.
        let keys = self.keys.into_inner();
        let mut problems = self.report.into_inner().finish_showing(|line| masked(line, &keys));
        let known: Vec<[String; 2]> = self.paths.into_inner().iter().map(|path| variables(path)).collect();
        problems.extend(ignored(self.environment, &known));
        problems
    }
}
