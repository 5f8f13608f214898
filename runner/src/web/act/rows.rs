//! Edits of rows of the table, with their audit lines: what a row was and what it is. Not here: forms and calls.

use runner_core::schedule::{ScheduleId, Source};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Audit;
use crate::source::{EditError, EditableRow, RowEdit, RowEditor, RowFields, WriteError};
use crate::text::hex;
use crate::web::app_state::AppState;
use crate::web::format;
use crate::web::request_context::RequestContext;

/// Why a row was not edited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowRefusal {
    /// It is a schedule of a manifest or of code.
    #[error("{0}")]
    Elsewhere(String),
    /// The settings do not allow it.
    #[error("rows of the table cannot be written: database.writable is not true")]
    NotWritable,
    /// The editor has refused it.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl RowRefusal {
    /// Its stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Elsewhere(_) => "row_elsewhere",
            Self::NotWritable => "row_not_writable",
            Self::Edit(error) => match error {
                EditError::NoRow(_) => "row_elsewhere",
                EditError::Gone(_) => "row_gone",
                EditError::SameId(_) => "row_same_id",
                EditError::Changed(_) => "row_changed",
                EditError::NoText => "row_no_text",
                EditError::Invalid(_) => "row_invalid",
                EditError::Busy => "row_busy",
                EditError::Unread(_) | EditError::Write(WriteError::Unreachable(_)) => "row_unreachable",
                EditError::Write(WriteError::Forbidden(_)) => "row_forbidden",
                EditError::Write(WriteError::Rejected(_)) => "row_rejected",
                EditError::Write(WriteError::Unknown(_)) => "row_unknown",
            },
        }
    }

    /// What helps.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self.code() {
            "row_not_writable" => {
                "set database.writable: true; the user of the database needs INSERT, UPDATE and DELETE"
            }
            "row_forbidden" => {
                "GRANT INSERT, UPDATE, DELETE ON sys_crontab to the user of the settings, on a server that takes writes"
            }
            "row_unknown" => "look at the row before the edit is repeated",
            "row_changed" => "read the row again",
            _ => return None,
        })
    }
}

/// What edits the rows, if this schedule can be one.
pub(crate) fn editor<'a>(app: &'a AppState, id: Option<&ScheduleId>) -> Result<&'a RowEditor, RowRefusal> {
    if let Some(id) = id {
        let place = app.catalog.plan();
        let place = place
            .schedules
            .get(id)
            .map(|definition| definition.origin.place.clone());
        let place = place.unwrap_or_else(|| id.to_string());
        let elsewhere = match id.source() {
            Some(Source::Table) => None,
            Some(Source::Manifest) => Some(format!("{id} is defined in the manifest {place}; change that file")),
            Some(Source::Code) => Some(format!("{id} is defined in code; change the program")),
            None => Some(format!("{id} is not a row of the table; only those can be edited")),
        };
        if let Some(text) = elsewhere {
            return Err(RowRefusal::Elsewhere(text));
        }
    }
    app.catalog.editor().ok_or(RowRefusal::NotWritable)
}

/// Adds a row.
pub(crate) async fn create(
    app: &AppState,
    cx: &RequestContext,
    id: Option<&str>,
    fields: &RowFields,
) -> Result<RowEdit, RowRefusal> {
    let editor = editor(app, None)?;
    let audit = Audit::intent(cx, "row.create", format::cut(&fields.name, LONGEST_TEXT));
    ended(app, audit, editor.create(id, fields).await)
}

/// Changes a row that is still in this version.
pub(crate) async fn update(
    app: &AppState,
    cx: &RequestContext,
    id: &ScheduleId,
    version: &str,
    fields: &RowFields,
) -> Result<RowEdit, RowRefusal> {
    let editor = editor(app, Some(id))?;
    let audit = Audit::intent(cx, "row.update", id);
    ended(app, audit, editor.update(id, version, fields).await)
}

/// Switches a row on or off.
pub(crate) async fn switch(
    app: &AppState,
    cx: &RequestContext,
    id: &ScheduleId,
    version: Option<&str>,
    on: bool,
) -> Result<RowEdit, RowRefusal> {
    let editor = editor(app, Some(id))?;
    let audit = Audit::intent(cx, if on { "row.enable" } else { "row.disable" }, id);
    ended(app, audit, editor.switch(id, version, on).await)
}

/// Deletes a row.
pub(crate) async fn delete(
    app: &AppState,
    cx: &RequestContext,
    id: &ScheduleId,
    version: Option<&str>,
) -> Result<RowEdit, RowRefusal> {
    let editor = editor(app, Some(id))?;
    let audit = Audit::intent(cx, "row.delete", id);
    ended(app, audit, editor.delete(id, version).await)
}

fn ended(app: &AppState, audit: Audit<'_>, edit: Result<RowEdit, EditError>) -> Result<RowEdit, RowRefusal> {
    match &edit {
        Ok(edit) => {
            app.schedule_health.forget();
            let audit = audit.was(in_audit(edit.before.as_ref()));
            // A row that cannot be read again is not one that is gone.
            let audit = match &edit.after {
                Some(after) => audit.becomes(in_audit(Some(after))),
                None => audit,
            };
            audit.outcome("done");
        }
        Err(EditError::Write(WriteError::Unknown(_))) => audit.outcome("unknown"),
        Err(_) => audit.outcome("refused"),
    }
    Ok(edit?)
}

/// The most characters of a text in an audit line.
const LONGEST_TEXT: usize = 200;

/// A row in an audit line. A payload may hold what does not belong into a log, so only its length and digest are there.
fn in_audit(row: Option<&EditableRow>) -> String {
    let Some(row) = row else {
        return "null".to_owned();
    };
    let fields = &row.fields;
    let cut = |text: &str| format::cut(text, LONGEST_TEXT);
    let digest = Sha256::digest(fields.payload.as_bytes());
    json!({
        "id": row.id, "name": cut(&fields.name), "type": cut(&fields.kind), "spec": cut(&fields.spec),
        "timezone": cut(&fields.zone), "options": cut(&fields.options), "enabled": fields.enabled,
        "payload": format!("{} bytes, sha256 {}", fields.payload.len(), hex(digest.get(..8).unwrap_or_default())),
    })
    .to_string()
}
