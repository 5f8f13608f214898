//! Editing the table: one row at a time, checked as rows are read, and only if it is still as it was shown.
//!
//! Each edit has a connection of its own, which ends with it. What other tables look like, and columns that are not read, are
//! left alone. Not here: who may edit, and the record of who did.

mod connection;
mod fields;
mod statement;
mod store;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use runner_core::schedule::{Definition, Problem, ScheduleId, Source, no_occurrence_left};

pub use fields::{RowField, RowFields};
pub use store::{ChangeResult, ChangeWords, Longest, RowStore, RowValues, WriteError};

use super::row::{self, RowReading};
use super::store::{MAX_ID, TableError, TableRow};
use super::switch;
use crate::source::calls;
use crate::source::manifest::ScheduleContext;
use crate::source::settings::TableSettings;
use crate::source::shared::{Refresh, Shared};
use crate::text::signs;

/// How long an edit waits for another one of this process.
const TURN: Duration = Duration::from_secs(5);

/// How long an edit waits until its row is read: it is written already, so nothing is lost by not waiting longer.
const READ_AGAIN: Duration = Duration::from_secs(3);

/// The most bytes of a payload with its options that are written: a statement holds what is written and what was read.
const MOST_WRITTEN: usize = 256 * 1024;

/// The most characters of a name; its column usually holds fewer.
const LONGEST_NAME: usize = 1000;

/// The most characters of an expression.
const LONGEST_SPEC: usize = 4000;

/// A row as it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditableRow {
    /// The identity of its schedule.
    pub id: ScheduleId,
    /// What can be edited.
    pub fields: RowFields,
    /// Names this version: an update names the one that it is based on.
    pub version: String,
    /// Whether the payload is text, so that it can be shown and edited.
    pub is_text: bool,
}

impl EditableRow {
    fn of(row: &TableRow) -> Self {
        Self {
            id: ScheduleId::row(&row.id),
            fields: RowFields::of(row),
            version: fields::version(row),
            is_text: fields::is_text(row),
        }
    }
}

/// A row before and after an edit; a row that did not or does not exist is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowEdit {
    /// As it was.
    pub before: Option<EditableRow>,
    /// As it is.
    pub after: Option<EditableRow>,
}

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EditError {
    /// It is not a row.
    #[error("{0} is not a row of the table")]
    NoRow(ScheduleId),
    /// There is no such row, or no longer.
    #[error("there is no row {0}; someone may have deleted it")]
    Gone(ScheduleId),
    /// Several rows have this id, so none of them can be edited.
    #[error("several rows have the id of {0}; give the table a primary key")]
    SameId(ScheduleId),
    /// It is not as it was shown any more.
    #[error("the row was changed meanwhile")]
    Changed(Box<EditableRow>),
    /// Its payload is not text, so it cannot be edited here.
    #[error("the payload is not text, or longer than is read; change it in the database")]
    NoText,
    /// The fields have errors, or would be an invalid schedule.
    #[error("the row has errors")]
    Invalid(Vec<Problem>),
    /// Another edit takes its time.
    #[error("another edit of the table is still running; try again")]
    Busy,
    /// The table cannot be read.
    #[error("the table cannot be read: {0}")]
    Unread(TableError),
    /// The database has not written it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Fields as a schedule: what would be in force, and what is wrong or doubtful.
#[derive(Debug, Clone)]
pub struct CheckedFields {
    /// The schedule, unless there are errors.
    pub definition: Option<Definition>,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

/// Edits the rows of a table.
pub struct RowEditor {
    settings: TableSettings,
    context: ScheduleContext,
    shared: Arc<Shared>,
    trigger: Arc<Refresh>,
    turn: tokio::sync::Mutex<()>,
    open: fn(&TableSettings) -> Box<dyn RowStore>,
}

impl RowEditor {
    /// Not connected.
    pub(in crate::source) fn new(
        settings: TableSettings,
        context: ScheduleContext,
        shared: Arc<Shared>,
        trigger: Arc<Refresh>,
        open: fn(&TableSettings) -> Box<dyn RowStore>,
    ) -> Self {
        Self {
            settings,
            context,
            shared,
            trigger,
            turn: tokio::sync::Mutex::new(()),
            open,
        }
    }

    /// Which table it is, for people; without the password.
    #[must_use]
    pub fn place(&self) -> String {
        self.settings.place()
    }

    /// The row of this schedule as it is in the table now.
    ///
    /// # Errors
    ///
    /// It is not a row, there is none, or the table cannot be read.
    pub async fn row(&self, id: &ScheduleId) -> Result<EditableRow, EditError> {
        let key = key_of(id)?;
        let _turn = self.take_turn().await?;
        let mut store = (self.open)(&self.settings);
        let found = only(&mut *store, id, key).await;
        store.close().await;
        Ok(EditableRow::of(&found?))
    }

    /// What these fields would be as a row; `id` is that of an existing one. Reads no database.
    #[must_use]
    pub fn check(&self, id: Option<&ScheduleId>, fields: &RowFields) -> CheckedFields {
        check(&self.context, &self.shared, id, fields)
    }

    /// Adds a row. `id` is for tables that give their rows none.
    ///
    /// # Errors
    ///
    /// The fields have errors, or the database has not written it. After [`WriteError::Unknown`] it may be there.
    pub async fn create(&self, id: Option<&str>, fields: &RowFields) -> Result<RowEdit, EditError> {
        if id.is_some_and(|id| id.is_empty() || id.chars().count() > MAX_ID || id.chars().any(signs::is_special)) {
            let text = format!("an id has 1 to {MAX_ID} characters, none of them a control character");
            return Err(EditError::Invalid(vec![fields::problem("D115", text)]));
        }
        sized(fields).map_err(EditError::Invalid)?;
        let values = fields.values(None).map_err(EditError::Invalid)?;
        self.accept(&with_values(&blank(id.unwrap_or("new")), &values))?;
        let _turn = self.take_turn().await?;
        let mut store = (self.open)(&self.settings);
        let added = store.insert(id, &values).await;
        let after = match &added {
            Ok(Some(new)) => self.seen(&mut *store, &ScheduleId::row(new)).await,
            _ => None,
        };
        store.close().await;
        added?;
        self.read_again().await;
        Ok(RowEdit { before: None, after })
    }

    /// Changes a row that is still in the version that was shown.
    ///
    /// # Errors
    ///
    /// It is in another version, the fields have errors, or the database has not written it.
    pub async fn update(&self, id: &ScheduleId, version: &str, fields: &RowFields) -> Result<RowEdit, EditError> {
        sized(fields).map_err(EditError::Invalid)?;
        let change = |row: &TableRow| {
            if !fields::is_text(row) {
                return Err(EditError::NoText);
            }
            let values = fields.values(Some(row)).map_err(EditError::Invalid)?;
            self.accept(&with_values(row, &values))?;
            Ok(Change::of(values))
        };
        self.edit(id, Some(version), change).await
    }

    /// Switches a row on or off; nothing else of it is changed.
    ///
    /// # Errors
    ///
    /// As [`Self::update`]; without `version` only the row itself must not change during the call.
    pub async fn switch(&self, id: &ScheduleId, version: Option<&str>, on: bool) -> Result<RowEdit, EditError> {
        let change = |row: &TableRow| {
            let status = row.status.as_ref().ok().and_then(Option::as_deref);
            let already = status.and_then(switch::switch) == Some(on);
            Ok(Change::of(RowValues {
                status: (!already).then_some(on),
                ..RowValues::default()
            }))
        };
        self.edit(id, version, change).await
    }

    /// Removes a row, or marks it as deleted where the table has a column for that.
    ///
    /// # Errors
    ///
    /// As [`Self::switch`].
    pub async fn delete(&self, id: &ScheduleId, version: Option<&str>) -> Result<RowEdit, EditError> {
        self.edit(id, version, |_| Ok(Change::Delete)).await
    }

    async fn edit(
        &self,
        id: &ScheduleId,
        version: Option<&str>,
        change: impl FnOnce(&TableRow) -> Result<Change, EditError> + Send,
    ) -> Result<RowEdit, EditError> {
        let key = key_of(id)?;
        let _turn = self.take_turn().await?;
        let mut store = (self.open)(&self.settings);
        let edited = async {
            let before = only(&mut *store, id, key).await?;
            if version.is_some_and(|version| version != fields::version(&before)) {
                return Err(EditError::Changed(Box::new(EditableRow::of(&before))));
            }
            let met = match change(&before)? {
                Change::Nothing => true,
                Change::Values(values) => store.update(&before, &values).await?,
                Change::Delete if store.delete(&before).await? => {
                    let before = Some(EditableRow::of(&before));
                    return Ok(RowEdit { before, after: None });
                }
                Change::Delete => false,
            };
            let after = self.seen(&mut *store, id).await;
            match (met, after) {
                (true, after) => Ok(RowEdit {
                    before: Some(EditableRow::of(&before)),
                    after,
                }),
                (false, Some(after)) => Err(EditError::Changed(Box::new(after))),
                (false, None) => Err(EditError::Gone(id.clone())),
            }
        }
        .await;
        store.close().await;
        if edited.is_ok() {
            self.read_again().await;
        }
        edited
    }

    async fn take_turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, EditError> {
        let turn = tokio::time::timeout(TURN, self.turn.lock()).await;
        turn.map_err(|_| EditError::Busy)
    }

    /// The row as it is after a write; `None` if that cannot be read now.
    async fn seen(&self, store: &mut dyn RowStore, id: &ScheduleId) -> Option<EditableRow> {
        let key = key_of(id).ok()?;
        only(store, id, key).await.ok().map(|row| EditableRow::of(&row))
    }

    /// Lets the source read the table now, so that pages show what was written.
    async fn read_again(&self) {
        let asked = self.trigger.ask();
        self.trigger.wait(asked, READ_AGAIN).await;
    }

    fn accept(&self, row: &TableRow) -> Result<(), EditError> {
        let CheckedFields { definition, problems } = judge(&self.context, &self.shared, row);
        match definition {
            Some(_) => Ok(()),
            None => Err(EditError::Invalid(problems)),
        }
    }
}

/// What these fields would be as a row; `id` is that of an existing one. Reads no database.
pub(in crate::source) fn check(
    context: &ScheduleContext,
    shared: &Shared,
    id: Option<&ScheduleId>,
    fields: &RowFields,
) -> CheckedFields {
    let values = match sized(fields).and_then(|()| fields.values(None)) {
        Ok(values) => values,
        Err(problems) => {
            return CheckedFields {
                definition: None,
                problems,
            };
        }
    };
    let key = id.and_then(|id| key_of(id).ok()).unwrap_or("new");
    judge(context, shared, &with_values(&blank(key), &values))
}

/// A row as the source reads it, with what the functions of manifests say of it.
fn judge(context: &ScheduleContext, shared: &Shared, row: &TableRow) -> CheckedFields {
    let RowReading {
        definition,
        stated,
        mut problems,
        ..
    } = row::read(row, context);
    let types = shared.type_options();
    let complete = |definition: Definition| {
        let stated = [(definition.id.clone(), stated.clone())].into();
        types.complete(&definition, &stated)
    };
    let mut definitions: Vec<Definition> = definition.map(complete).into_iter().collect();
    let functions = shared.functions();
    let refused = calls::take_refused(functions, &mut definitions);
    problems.extend(refused.into_iter().flat_map(|refused| refused.problems));
    problems.extend(calls::doubts(functions, &definitions));
    problems.extend(no_occurrence_left(&definitions, shared.now()));
    CheckedFields {
        definition: definitions.pop(),
        problems,
    }
}

/// What an edit does to a row.
enum Change {
    /// It is so already.
    Nothing,
    /// These columns are given values.
    Values(RowValues),
    /// It goes.
    Delete,
}

impl Change {
    fn of(values: RowValues) -> Self {
        match values == RowValues::default() {
            true => Self::Nothing,
            false => Self::Values(values),
        }
    }
}

/// The key of a row in the id of its schedule.
fn key_of(id: &ScheduleId) -> Result<&str, EditError> {
    let key = id.as_str().split_once(':').map(|(_, key)| key);
    let key = key.filter(|_| id.source() == Some(Source::Table));
    let key = key.filter(|key| !key.is_empty() && key.chars().count() <= MAX_ID && !key.contains('\0'));
    key.ok_or_else(|| EditError::NoRow(id.clone()))
}

/// The one row of this key.
async fn only(store: &mut dyn RowStore, id: &ScheduleId, key: &str) -> Result<TableRow, EditError> {
    let mut rows = store.rows_of(key).await.map_err(EditError::Unread)?;
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        (Some(_), false) => Err(EditError::SameId(id.clone())),
        (None, _) => Err(EditError::Gone(id.clone())),
    }
}

/// Bounds that the reader of rows leaves to the table.
fn sized(fields: &RowFields) -> Result<(), Vec<Problem>> {
    let RowFields {
        name,
        kind,
        spec,
        zone,
        payload,
        options,
        ..
    } = fields;
    let mut problems = Vec::new();
    if name.chars().count() > LONGEST_NAME {
        let text = format!(
            "name has {} characters; at most {LONGEST_NAME} are written",
            name.chars().count()
        );
        problems.push(fields::problem("D119", text));
    }
    if spec.len() > LONGEST_SPEC {
        let text = format!("spec has {} bytes; at most {LONGEST_SPEC} are written", spec.len());
        problems.push(fields::problem("D102", text));
    }
    let bytes = payload.len() + options.len() + zone.len();
    if bytes > MOST_WRITTEN {
        let text = format!("payload and options have {bytes} bytes; at most {MOST_WRITTEN} are written");
        problems.push(fields::problem("D118", text));
    }
    if [name, kind, spec, zone, payload, options]
        .iter()
        .any(|text| text.contains('\0'))
    {
        problems.push(fields::problem(
            "D119",
            "a field has a NUL character, which databases do not store",
        ));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

/// A row of which only the id is known.
fn blank(id: &str) -> TableRow {
    TableRow {
        id: id.to_owned(),
        name: Ok(None),
        kind: Ok(None),
        spec: Ok(None),
        payload: Ok(None),
        status: Ok(None),
        fault: None,
    }
}

/// The row as it would be.
fn with_values(row: &TableRow, values: &RowValues) -> TableRow {
    let mut row = row.clone();
    let texts = [
        (&mut row.name, &values.name),
        (&mut row.kind, &values.kind),
        (&mut row.spec, &values.spec),
    ];
    for (cell, text) in texts {
        if let Some(text) = text {
            *cell = Ok(Some(text.clone()));
        }
    }
    if let Some(payload) = &values.payload {
        row.payload = Ok(payload.clone().map(String::into_bytes));
    }
    if let Some(on) = values.status {
        row.status = Ok(Some(u8::from(on).to_string()));
    }
    row
}
