//! One row as a schedule: the meaning of its columns, and their problems. No I/O.

use bytes::Bytes;
use std::collections::BTreeSet;

use runner_core::cron::{self, CronError, Expression};
use runner_core::function::FunctionOptions;
use runner_core::schedule::{Definition, Origin, Overlap, Problem, ScheduleId, Severity, Source, Timing};
use runner_core::task::{NotJson, Task, from_json};

use super::payload::{JsonText, PayloadParts, depth};
use super::store::{AmbiguousRows, Cell, MAX_ID, MAX_TEXT, RowFault, TableRow, Unread};
use super::switch::{is_on, switch};
use crate::source::manifest::{
    MAX_TASK_TYPE, POLICIES, Policies, ScheduleContext, TASK_OPTIONS, read_policies, read_task_options, read_zone,
};
use crate::text::yaml;
use crate::text::{Fields, Report, quoted};

/// The key of a payload object that holds options of the schedule; it is removed before a task is made.
pub const OPTIONS_KEY: &str = "_runner";

/// Rows were written for schedulers that never check whether the previous task has ended.
const DEFAULT_OVERLAP: Overlap = Overlap::Allow;

/// The size of a full `text` column of MySQL, which silently truncates longer values.
const TEXT_BYTES: usize = 65_535;

/// The deepest nesting of a payload; handlers read it with parsers that recurse.
const MAX_DEPTH: usize = 64;

/// The content of a row.
pub struct RowReading {
    /// The schedule, if there are no errors.
    pub definition: Option<Definition>,
    /// Options that it states for its tasks itself; those of a function do not override them.
    pub stated: FunctionOptions,
    /// Whether the row is switched on.
    pub enabled: bool,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

/// The place of a row, for people.
#[must_use]
pub fn place(id: &str) -> String {
    match id {
        "" => "sys_crontab, no id".to_owned(),
        id => format!("sys_crontab id {id}"),
    }
}

/// Reads a row.
#[must_use]
pub fn read(row: &TableRow, context: &ScheduleContext) -> RowReading {
    let mut reader = Reader {
        row,
        id: ScheduleId::row(&row.id),
        problems: Vec::new(),
    };
    let enabled = is_on(&row.status);
    let (definition, stated) = match &row.fault {
        None => reader.definition(enabled, context),
        Some(fault) => {
            reader.unusable(fault);
            (None, FunctionOptions::default())
        }
    };
    let problems = reader.problems;
    let good = problems.iter().all(|p| p.severity == Severity::Warning);
    RowReading {
        definition: definition.filter(|_| good),
        stated,
        enabled,
        problems,
    }
}

struct Reader<'r> {
    row: &'r TableRow,
    id: ScheduleId,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn origin(&self) -> Origin {
        Origin {
            source: Source::Table,
            place: place(&self.row.id),
        }
    }

    fn error(&mut self, code: &str, message: impl Into<String>) -> &mut Problem {
        let problem = Problem::error(code, message, self.origin()).about(self.id.clone());
        self.push(problem)
    }

    fn warning(&mut self, code: &str, message: impl Into<String>) -> &mut Problem {
        let problem = Problem::warning(code, message, self.origin()).about(self.id.clone());
        self.push(problem)
    }

    fn push(&mut self, problem: Problem) -> &mut Problem {
        let index = self.problems.len();
        self.problems.push(problem);
        &mut self.problems[index]
    }

    /// The content of the column; empty for NULL.
    fn cell<T: Clone + Default>(&mut self, name: &str, cell: &Cell<T>) -> T {
        match cell {
            Ok(value) => value.clone().unwrap_or_default(),
            Err(unread) => {
                let code = match unread {
                    Unread::NoText(_) => "D106",
                    Unread::TooLong { .. } => "D116",
                };
                self.error(code, format!("column {name} {unread}"));
                T::default()
            }
        }
    }

    /// The row as a whole cannot be used.
    fn unusable(&mut self, fault: &RowFault) {
        let named = |group: &AmbiguousRows| {
            let names: Vec<String> = group.names.iter().map(|name| quoted(name)).collect();
            let more = if group.rows > names.len() { ", …" } else { "" };
            format!("({}{more})", names.join(", "))
        };
        let key = "give the table a primary key; a row's id is the identity of its schedule";
        let (code, text, hint) = match fault {
            RowFault::NoId(group) => {
                let rows = if group.rows == 1 {
                    "1 row has"
                } else {
                    &format!("{} rows have", group.rows)
                };
                ("D113", format!("{rows} no id {}", named(group)), key)
            }
            RowFault::SameId(group) => {
                let text = format!(
                    "{} rows have this id {}; none of them is applied",
                    group.rows,
                    named(group)
                );
                ("D114", text, key)
            }
            RowFault::OddId => {
                let text = format!("the id is longer than {MAX_ID} characters or has control characters");
                ("D115", text, "use a number or a UUID")
            }
            RowFault::Beyond => {
                let text = format!(
                    "the rows before it have {} MiB of text already; this one is not read",
                    MAX_TEXT >> 20
                );
                (
                    "D117",
                    text,
                    "keep large payloads in a store, and their names in the rows",
                )
            }
        };
        self.error(code, text).hint = Some(hint.to_owned());
    }

    /// A status that is neither on nor off counts as off, which may not be intended.
    fn status(&mut self) {
        let text = match &self.row.status {
            Ok(Some(text)) if switch(text).is_some() => return,
            Ok(Some(text)) => format!("status {} is neither 1 nor 0; the row is off", quoted(text)),
            Ok(None) => "status is NULL, neither 1 nor 0; the row is off".to_owned(),
            Err(unread) => format!("column status {unread}; the row is off"),
        };
        self.warning("W252", text);
    }

    fn definition(&mut self, enabled: bool, context: &ScheduleContext) -> (Option<Definition>, FunctionOptions) {
        let row = self.row;
        self.status();
        let name = self.cell("name", &row.name);
        let kind = self.kind();
        let parts = self.payload();
        let mut task = Task::new(kind);
        task.payload = parts.payload;
        let options = self.options(parts.options.as_deref(), context);
        options.stated.apply(&mut task);
        let timing = self.timing(&options.context, options.zone_given);
        let definition = timing.map(|timing| {
            let definition = Definition {
                enabled,
                ..Definition::new(self.id.clone(), name, self.origin(), timing, task)
            };
            options.policies.of(DEFAULT_OVERLAP, definition)
        });
        (definition, options.stated)
    }

    fn kind(&mut self) -> String {
        let kind = self.cell("type", &self.row.kind);
        let kind = kind.trim();
        if kind.is_empty() && self.row.kind.is_ok() {
            self.error("D101", "type is empty; it names the handler");
        } else if kind.chars().count() > MAX_TASK_TYPE || kind.chars().any(char::is_control) {
            let text = format!(
                "type {} must be at most {MAX_TASK_TYPE} characters on one line",
                quoted(kind)
            );
            self.error("D101", text);
        }
        kind.to_owned()
    }

    fn timing(&mut self, context: &ScheduleContext, zone_given: bool) -> Option<Timing> {
        let text = self.cell("spec", &self.row.spec);
        if text.trim_ascii().is_empty() {
            if self.row.spec.is_ok() {
                self.error("D102", "spec is empty; write a cron expression such as 0 2 * * *");
            }
            return None;
        }
        let expression = match Expression::parse(&text) {
            Ok(expression) if !expression.never_fires() => expression,
            Ok(expression) => return self.refuse(&text, &CronError::never(&expression.to_string())),
            Err(error) => return self.refuse(&text, &error),
        };
        if zone_given && expression.zone_name().is_some() {
            self.error(
                "E211",
                "time zone is set both in \"CRON_TZ=\" and in _runner.timezone; keep one",
            );
            return None;
        }
        for lint in cron::lint(&expression) {
            self.warning(lint.code, lint.message).hint = lint.hint;
        }
        Timing::parse(self.id.as_str(), &text, &context.zone_name, &context.zone, context.dst).ok()
    }

    fn refuse<T>(&mut self, text: &str, error: &CronError) -> Option<T> {
        let span = error.span();
        let column = text.get(..span.start).unwrap_or_default().chars().count();
        let len = text.get(span).unwrap_or_default().chars().count();
        let mark = yaml::Mark {
            line: 1,
            column: column + 1,
            len,
        };
        let shown = crate::text::excerpt(text, mark);
        let problem = self.error(error.code(), format!("spec {}: {error}", quoted(text)));
        problem.hint = error.hint();
        problem.excerpt = shown;
        None
    }

    /// The bytes of the column, unless options must be removed from it.
    fn payload(&mut self) -> PayloadParts {
        let bytes = self.cell("payload", &self.row.payload);
        if bytes.trim_ascii().is_empty() {
            return PayloadParts::default();
        }
        let members = match from_json::<JsonText<'_>>(&bytes) {
            Ok(JsonText::Object(members)) => members,
            Ok(JsonText::Other) => Vec::new(),
            Err(error) => return self.no_json(&bytes, &error),
        };
        // JSON is UTF-8.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if depth(&text) > MAX_DEPTH {
            self.error("D105", format!("payload is nested deeper than {MAX_DEPTH}"));
            return PayloadParts::default();
        }
        let mut seen = BTreeSet::new();
        for (key, _) in members.iter().filter(|(key, _)| !seen.insert(key.as_str())) {
            self.warning(
                "W251",
                format!("payload has the key {} twice; most readers take the last", quoted(key)),
            );
        }
        let Some((_, options)) = members.iter().rev().find(|(key, _)| key == OPTIONS_KEY) else {
            return PayloadParts {
                payload: Some(Bytes::from(text)),
                options: None,
            };
        };
        let kept = members.iter().filter(|(key, _)| key != OPTIONS_KEY);
        let kept: Vec<String> = kept
            .map(|(key, value)| format!("{}:{}", serde_json::Value::from(key.as_str()), value.get()))
            .collect();
        let payload = Some(Bytes::from(format!("{{{}}}", kept.join(","))));
        PayloadParts {
            payload,
            options: Some(options.get().to_owned()),
        }
    }

    /// A payload of bytes: other schedulers pass them on, so they are only an error if something was lost.
    fn no_json(&mut self, bytes: &[u8], error: &NotJson) -> PayloadParts {
        let is_cut = bytes.len() == TEXT_BYTES && matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
        let has_options = bytes
            .windows(OPTIONS_KEY.len())
            .any(|part| part == OPTIONS_KEY.as_bytes());
        let text = format!("payload is not valid JSON: {error}");
        if is_cut {
            self.error(
                "D103",
                text + "; it is exactly 65,535 bytes, probably cut off by the column",
            );
        } else if has_options {
            self.error("D103", text + "; the options in its _runner would be lost");
        } else {
            self.warning("W253", text + "; its bytes are passed on unchanged");
            return PayloadParts {
                payload: Some(Bytes::copy_from_slice(bytes)),
                options: None,
            };
        }
        PayloadParts::default()
    }

    /// Reads `_runner` as if it were in a manifest: JSON is YAML.
    fn options(&mut self, text: Option<&str>, context: &ScheduleContext) -> Options {
        let mut options = Options {
            context: context.clone(),
            zone_given: false,
            policies: Policies::default(),
            stated: FunctionOptions::default(),
        };
        let Some(text) = text else { return options };
        let place = place(&self.row.id);
        let mut report = Report::of_row(&place, text);
        let known = [&["timezone"], POLICIES, TASK_OPTIONS].concat();
        match yaml::parse(text).as_deref() {
            Ok([node]) => {
                if let Some(fields) = Fields::read(node, OPTIONS_KEY, &known, &mut report) {
                    options.stated = read_task_options(&fields, &mut report);
                    options.policies = read_policies(&fields, DEFAULT_OVERLAP, &mut report);
                    if let Some(field) = fields.get("timezone", &mut report)
                        && let Some((zone_name, zone)) = read_zone(field, &mut report)
                    {
                        options.zone_given = true;
                        options.context = ScheduleContext {
                            zone_name,
                            zone,
                            dst: context.dst,
                            vet: context.vet.clone(),
                            rabbitmq: Vec::new(),
                            redis: Vec::new(),
                            channels: Vec::new(),
                            semaphores: context.semaphores,
                        };
                    }
                }
            }
            Ok(_) => {
                report
                    .error("E108", yaml::Mark::default(), "_runner must be a map")
                    .hint = None
            }
            Err(fault) => {
                report
                    .error("E108", yaml::Mark::default(), format!("_runner: {}", fault.message))
                    .hint = None
            }
        }
        let found = report.finish().into_iter().map(|p| p.about(self.id.clone()));
        self.problems.extend(found);
        options
    }
}

struct Options {
    context: ScheduleContext,
    zone_given: bool,
    policies: Policies,
    stated: FunctionOptions,
}
