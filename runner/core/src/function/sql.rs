//! The kind `sql` as data: statements for a database that the settings name.
//!
//! Their text is fixed. What a payload brings is bound as a parameter and never becomes part of a statement.

use serde_json::Value;

use super::FunctionTemplate;

/// As many rows of a query are kept unless the function says otherwise.
pub const DEFAULT_MAX_ROWS: u32 = 1000;

/// Statements, run in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlSpec {
    /// The connection, by its name in the settings.
    pub connection: String,
    /// At least one.
    pub statements: Vec<SqlStatement>,
    /// Whether the last statement yields rows.
    pub mode: SqlMode,
    /// As many of its rows are kept.
    pub max_rows: u32,
    /// Whether the transaction may not write.
    pub read_only: bool,
}

impl SqlSpec {
    /// One statement without parameters, with the defaults of a manifest.
    #[must_use]
    pub fn new(connection: impl Into<String>, statement: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            statements: vec![SqlStatement::new(statement)],
            mode: SqlMode::default(),
            max_rows: DEFAULT_MAX_ROWS,
            read_only: false,
        }
    }

    /// Whether a field of the payload is a parameter.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        let mut parameters = self.statements.iter().flat_map(|statement| &statement.parameters);
        parameters.any(|parameter| matches!(parameter, SqlParameter::Filled(text) if text.uses_payload()))
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlStatement {
    /// Its text, with the placeholders of its database.
    pub text: String,
    /// Its parameters, in order.
    pub parameters: Vec<SqlParameter>,
    /// How many rows it may change or yield; otherwise everything is rolled back.
    pub expect_rows: RowBounds,
}

impl SqlStatement {
    /// A statement without parameters and expectations.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            parameters: Vec::new(),
            expect_rows: RowBounds::default(),
        }
    }
}

/// A value that is bound to a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlParameter {
    /// A number, a truth value or null.
    Fixed(Value),
    /// A text that is filled when the function runs; one expression keeps the type of its value.
    Filled(FunctionTemplate),
}

/// How many rows are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowBounds {
    /// At least.
    pub min: Option<u32>,
    /// At most.
    pub max: Option<u32>,
}

impl RowBounds {
    /// Whether this many are right.
    #[must_use]
    pub fn admit(self, rows: u64) -> bool {
        self.min.is_none_or(|min| rows >= u64::from(min)) && self.max.is_none_or(|max| rows <= u64::from(max))
    }
}

/// What the statements are run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqlMode {
    /// For what they change.
    #[default]
    Exec,
    /// For the rows of the last one.
    Query,
}
