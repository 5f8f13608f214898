//! What all sections of one file share: its text, the environment, and the findings so far.
//!
//! Findings get their excerpts at the end, when all keys are known and with them what may be shown.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt::Display;

use runner_core::schedule::Severity;

use super::document::SettingNode;
use super::environment::{Environment, variables};
use super::excerpt::{Keys, excerpt};
use super::ignored::ignored;
use super::problem::SettingProblem;
use crate::text::yaml::Mark;

/// What all sections of one file share.
pub struct Reader<'a> {
    /// The file's name for people.
    pub name: &'a str,
    /// Its text, for excerpts.
    pub text: &'a str,
    /// Overrides and references.
    pub environment: &'a Environment,
    /// Whether a command that ends soon reads, which may never use what a secret stands for.
    pub for_command: bool,
    problems: RefCell<Vec<(SettingProblem, Option<Mark>)>>,
    pub(super) keys: RefCell<Keys>,
    /// Every key that was asked for, by its path.
    pub(super) paths: RefCell<Vec<String>>,
    pub(super) secrets: Cell<bool>,
    /// The list of mappings that a variable holds instead of the file; there is one such key.
    pub(super) list: OnceCell<Option<(String, SettingNode)>>,
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
    pub fn new(name: &'a str, text: &'a str, environment: &'a Environment) -> Self {
        Self {
            name,
            text,
            environment,
            for_command: false,
            problems: RefCell::default(),
            keys: RefCell::default(),
            paths: RefCell::default(),
            secrets: Cell::new(false),
            list: OnceCell::new(),
        }
    }

    /// Reports an error.
    pub fn error(&self, code: &'static str, place: &SettingPlace, message: impl Display) {
        self.report(Severity::Error, code, place, message, None);
    }

    /// Reports an error with advice.
    pub fn error_hint(&self, code: &'static str, place: &SettingPlace, message: impl Display, hint: impl Into<String>) {
        self.report(Severity::Error, code, place, message, Some(hint.into()));
    }

    /// Reports a warning.
    pub fn warning(&self, code: &'static str, place: &SettingPlace, message: impl Display, hint: Option<String>) {
        self.report(Severity::Warning, code, place, message, hint);
    }

    fn report(
        &self,
        severity: Severity,
        code: &'static str,
        place: &SettingPlace,
        message: impl Display,
        hint: Option<String>,
    ) {
        let (place, mark) = match place {
            SettingPlace::File(at) => (format!("{}:{}:{}", self.name, at.line, at.column), Some(*at)),
            SettingPlace::Variable(name) => (name.clone(), None),
        };
        let problem = SettingProblem {
            severity,
            code,
            place,
            message: message.to_string(),
            excerpt: None,
            hint,
        };
        self.problems.borrow_mut().push((problem, mark));
    }

    /// What `read` yields, without what it finds wrong.
    pub fn without_findings<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.problems.borrow().len();
        let value = read();
        self.problems.borrow_mut().truncate(before);
        value
    }

    /// Whether a secret stands in the file itself, rather than a reference to one.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        self.secrets.get()
    }

    /// All findings, in the order in which they were made, and those about variables that have no effect.
    #[must_use]
    pub fn finish(self) -> Vec<SettingProblem> {
        // Only now all keys are known, and with them what may be shown.
        let keys = self.keys.into_inner();
        let illustrated = self.problems.into_inner().into_iter().map(|(mut problem, mark)| {
            problem.excerpt = mark.and_then(|at| excerpt(self.text, at, &keys));
            problem
        });
        let mut problems: Vec<SettingProblem> = illustrated.collect();
        let known: Vec<[String; 2]> = self.paths.into_inner().iter().map(|path| variables(path)).collect();
        problems.extend(ignored(self.environment, &known));
        problems
    }
}
