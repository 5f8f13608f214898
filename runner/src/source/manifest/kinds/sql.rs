//! Reads `sql`: statements for a connection of the settings. Whether they are SQL is known to the database only.

use runner_core::function::{FunctionKind, RowBounds, SqlMode, SqlParameter, SqlSpec, SqlStatement};

use super::template;
use crate::text::yaml::{Node, Value};
use crate::text::{Field, Fields, Report};

/// What may stand under it.
const FIELDS: [&str; 8] = [
    "connection",
    "statement",
    "statements",
    "params",
    "mode",
    "max_rows",
    "expect_rows",
    "read_only",
];

/// Those that stand nowhere else.
pub(super) const OWN: &[&str] = &[
    "connection",
    "statement",
    "statements",
    "params",
    "max_rows",
    "expect_rows",
    "read_only",
];

const STATEMENT_FIELDS: [&str; 3] = ["statement", "params", "expect_rows"];

/// Statements of one transaction.
const MAX_STATEMENTS: usize = 100;

/// As many parameters as every database takes.
const MAX_PARAMETERS: usize = 1000;

/// Rows of a result, which is at most 1 MiB anyway.
const MAX_ROWS: u32 = 10_000;

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let map = Fields::read(field.node, &field.path, &FIELDS, report)?;
    let mut spec = SqlSpec::new("", "");
    match map.get("connection", report) {
        Some(f) => {
            let name = f.text("E332", report).unwrap_or_default();
            name.clone_into(&mut spec.connection);
        }
        None if map.peek("connection").is_none() => {
            report.error(
                "E332",
                map.mark,
                "sql.connection is required: a name of handlers.sql.connections",
            );
        }
        None => (),
    }
    spec.statements = match (map.peek("statement").is_some(), map.get("statements", report)) {
        (false, Some(f)) => read_statements(f, report),
        (true, None) => read_statement(&map, "sql", report).into_iter().collect(),
        (true, Some(f)) => {
            report.error("E332", f.key, "both statement and statements are set; keep one");
            Vec::new()
        }
        (false, None) => {
            if map.peek("statements").is_none() {
                report.error("E332", map.mark, "sql.statement or sql.statements is required");
            }
            Vec::new()
        }
    };
    if map.peek("statement").is_none() {
        for f in ["params", "expect_rows"].iter().filter_map(|name| map.peek(name)) {
            let text = format!(
                "{} belongs to a statement: write statements: [{{statement: …, params: […]}}]",
                f.path
            );
            report.error("E332", f.key, text);
        }
    }
    if let Some(f) = map.get("mode", report) {
        let words = [("exec", SqlMode::Exec), ("query", SqlMode::Query)];
        spec.mode = f.word("E332", &words, report).unwrap_or_default();
    }
    if let Some(f) = map.get("max_rows", report) {
        spec.max_rows = f.whole("E332", 1..=MAX_ROWS, report).unwrap_or(spec.max_rows);
    }
    if let Some(f) = map.get("read_only", report) {
        spec.read_only = f.flag("E332", report).unwrap_or_default();
    }
    Some(FunctionKind::Sql(spec))
}

fn read_statements(field: &Field<'_>, report: &mut Report<'_>) -> Vec<SqlStatement> {
    let Value::List(items) = &field.node.value else {
        field.mismatch::<()>("E332", "a list of statements", report);
        return Vec::new();
    };
    if items.is_empty() || items.len() > MAX_STATEMENTS {
        let text = format!(
            "{} must have 1 to {MAX_STATEMENTS} items, found {}",
            field.path,
            items.len()
        );
        report.error("E332", field.node.mark, text);
    }
    let read = |(index, item): (usize, &Node)| {
        let path = format!("{}[{index}]", field.path);
        if let Value::Text(text) = &item.value {
            return checked(text, &path, item, report).map(SqlStatement::new);
        }
        let map = Fields::read(item, &path, &STATEMENT_FIELDS, report)?;
        if map.peek("statement").is_none() {
            report.error("E332", map.mark, format!("{path}.statement is required"));
        }
        read_statement(&map, &path, report)
    };
    items.iter().enumerate().filter_map(read).collect()
}

/// A statement with what belongs to it.
fn read_statement(map: &Fields<'_>, path: &str, report: &mut Report<'_>) -> Option<SqlStatement> {
    let parameters = map.get("params", report).map(|f| read_parameters(f, report));
    let expect_rows = map.get("expect_rows", report).map(|f| read_bounds(f, report));
    let field = map.get("statement", report)?;
    let text = field.text("E332", report)?;
    Some(SqlStatement {
        text: checked(text, &format!("{path}.statement"), field.node, report)?.to_owned(),
        parameters: parameters.unwrap_or_default(),
        expect_rows: expect_rows.unwrap_or_default(),
    })
}

/// A payload must never become part of a statement, so its text holds no template.
fn checked<'t>(text: &'t str, path: &str, node: &Node, report: &mut Report<'_>) -> Option<&'t str> {
    if text.contains("{{") {
        let message = format!("{path} must not contain templates; put values in params");
        report.error("E330", node.mark, message).hint =
            Some("a text with two braces can be a parameter too".to_owned());
        return None;
    }
    Some(text)
}

fn read_parameters(field: &Field<'_>, report: &mut Report<'_>) -> Vec<SqlParameter> {
    let Value::List(items) = &field.node.value else {
        field.mismatch::<()>("E332", "a list of values", report);
        return Vec::new();
    };
    if items.len() > MAX_PARAMETERS {
        let text = format!(
            "{} has {} items; at most {MAX_PARAMETERS} are allowed",
            field.path,
            items.len()
        );
        report.error("E332", field.node.mark, text);
    }
    let read = |(index, item): (usize, &Node)| {
        let path = format!("{}[{index}]", field.path);
        match &item.value {
            Value::Text(text) => template::parse(text, &path, item.mark, report).map(SqlParameter::Filled),
            Value::Null => Some(SqlParameter::Fixed(serde_json::Value::Null)),
            Value::Bool(flag) => Some(SqlParameter::Fixed((*flag).into())),
            Value::Int(number) if i64::try_from(*number).is_ok() => {
                i64::try_from(*number).ok().map(|n| SqlParameter::Fixed(n.into()))
            }
            Value::Float(number) => Some(SqlParameter::Fixed((*number).into())),
            other => {
                let text = format!(
                    "{path} must be a text, a number of 64 bits, true, false or null, found {}",
                    other.describe()
                );
                report.error("E332", item.mark, text);
                None
            }
        }
    };
    items.iter().enumerate().filter_map(read).collect()
}

fn read_bounds(field: &Field<'_>, report: &mut Report<'_>) -> RowBounds {
    let Some(map) = Fields::read(field.node, &field.path, &["min", "max"], report) else {
        return RowBounds::default();
    };
    let mut bound = |name| {
        map.get(name, report)
            .and_then(|f| f.whole("E332", 0..=u32::MAX, report))
    };
    let bounds = RowBounds {
        min: bound("min"),
        max: bound("max"),
    };
    if let (Some(min), Some(max)) = (bounds.min, bounds.max)
        && min > max
    {
        let text = format!("{}.min is greater than max", field.path);
        report.error("E332", field.node.mark, text);
    }
    bounds
}
