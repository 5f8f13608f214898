//! The form of a row: shown, looked at before it is saved, and saved. Nothing that was typed is lost, whatever goes wrong.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use runner_core::schedule::ScheduleId;

use super::rows::{self, RowRefusal};
use super::{done, not_done, redirect_with};
use crate::access::UserRole;
use crate::source::{EditError, EditableRow, RowFields};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::pages::row_editor::{self, RowFormState};
use crate::web::preview;
use crate::web::request_context::{Form, RequestContext, SharedContext};
use crate::web::urls;

/// `GET /queue/schedules/new`
pub async fn new(State(app): State<AppState>, Extension(cx): Extension<SharedContext>) -> Result<Response, PageError> {
    cx.may(UserRole::Operator)?;
    if let Err(refusal) = rows::editor(&app, None) {
        return Ok(redirect_with(&app, &urls::schedules(), &not_done(text_of(&refusal))));
    }
    let fields = RowFields {
        enabled: true,
        ..RowFields::default()
    };
    let state = RowFormState {
        fields,
        ..RowFormState::default()
    };
    row_editor::show(&app, &cx, StatusCode::OK, state)
}

/// `GET /queue/schedules/{id}/edit`
pub async fn edit(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(text): Path<String>,
) -> Result<Response, PageError> {
    cx.may(UserRole::Operator)?;
    let id = id_of(text);
    let row = match stored(&app, &id).await {
        Ok(row) if row.is_text => row,
        Ok(_) => return Ok(back_to(&app, &id, &EditError::NoText.into())),
        Err(refusal) => return Ok(back_to(&app, &id, &refusal)),
    };
    let state = RowFormState {
        id: Some(id),
        version: row.version,
        fields: row.fields,
        ..RowFormState::default()
    };
    let state = looked_at(&app, &cx, state).await;
    row_editor::show(&app, &cx, StatusCode::OK, state)
}

async fn stored(app: &AppState, id: &ScheduleId) -> Result<EditableRow, RowRefusal> {
    let editor = rows::editor(app, Some(id))?;
    Ok(editor.row(id).await?)
}

/// `POST /queue/schedules/new`
pub async fn create(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let state = RowFormState {
        fields: fields_of(&form),
        ..RowFormState::default()
    };
    if is_look(&form) {
        let state = looked_at(&app, &cx, state).await;
        return row_editor::show(&app, &cx, StatusCode::OK, state);
    }
    match rows::create(&app, &cx, None, &state.fields).await {
        Ok(edit) => {
            let page = edit
                .after
                .map_or_else(urls::schedules, |row| urls::schedule(row.id.as_str()));
            Ok(redirect_with(
                &app,
                &page,
                &done("notice.row.created", state.fields.name),
            ))
        }
        Err(refusal) => not_saved(&app, &cx, state, refusal).await,
    }
}

/// `POST /queue/schedules/{id}/edit`
pub async fn update(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(text): Path<String>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let id = id_of(text);
    let version = form.get("version").unwrap_or_default().to_owned();
    let state = RowFormState {
        id: Some(id.clone()),
        version,
        fields: fields_of(&form),
        ..RowFormState::default()
    };
    if is_look(&form) {
        let state = looked_at(&app, &cx, state).await;
        return row_editor::show(&app, &cx, StatusCode::OK, state);
    }
    match rows::update(&app, &cx, &id, &state.version, &state.fields).await {
        Ok(_) => {
            let notice = done("notice.row.saved", id.as_str());
            Ok(redirect_with(&app, &urls::schedule(id.as_str()), &notice))
        }
        Err(refusal) => not_saved(&app, &cx, state, refusal).await,
    }
}

/// `POST /queue/schedules/{id}/{verb}`: `enable`, `disable`, `delete`; `None` for other verbs.
pub(super) async fn act(
    app: &AppState,
    cx: &RequestContext,
    (id, verb): (&ScheduleId, &str),
    form: &Form,
) -> Result<Option<Response>, PageError> {
    let version = form.get("version").filter(|version| !version.is_empty());
    let (edit, key, back) = match verb {
        "enable" => (
            rows::switch(app, cx, id, version, true).await,
            "notice.row.enabled",
            form.back(),
        ),
        "disable" => (
            rows::switch(app, cx, id, version, false).await,
            "notice.row.disabled",
            form.back(),
        ),
        "delete" => {
            cx.may(UserRole::Admin)?;
            (
                rows::delete(app, cx, id, version).await,
                "notice.row.deleted",
                urls::schedules(),
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(match edit {
        Ok(_) => redirect_with(app, &back, &done(key, id.as_str())),
        Err(refusal) => back_to(app, id, &refusal),
    }))
}

fn back_to(app: &AppState, id: &ScheduleId, refusal: &RowRefusal) -> Response {
    redirect_with(app, &urls::schedule(id.as_str()), &not_done(text_of(refusal)))
}

fn id_of(text: String) -> ScheduleId {
    ScheduleId::from_text(urls::text_in(&text).unwrap_or(text))
}

/// Whether only a look is asked for.
fn is_look(form: &Form) -> bool {
    form.get("do") == Some("look")
}

fn fields_of(form: &Form) -> RowFields {
    // Browsers send two characters for each end of a line.
    let text = |name: &str| form.get(name).unwrap_or_default().replace("\r\n", "\n");
    RowFields {
        name: text("name"),
        kind: text("kind"),
        spec: text("spec"),
        zone: text("zone").trim().to_owned(),
        payload: text("payload"),
        options: text("options"),
        enabled: form.get("enabled").is_some(),
    }
}

/// Adds what is wrong with the fields, and what they would do.
async fn looked_at(app: &AppState, cx: &RequestContext, mut state: RowFormState) -> RowFormState {
    let checked = app.catalog.check_row(state.id.as_ref(), &state.fields);
    if let Some(definition) = checked.definition {
        // Without a preview, if too many are computed now, the form is still complete.
        let found = preview::preview(app, &definition.timing, cx.locale.now).await.ok();
        state.preview = found.map(|found| (definition, found));
    }
    state.problems = checked.problems;
    state
}

async fn not_saved(
    app: &AppState,
    cx: &RequestContext,
    state: RowFormState,
    refusal: RowRefusal,
) -> Result<Response, PageError> {
    let mut state = looked_at(app, cx, state).await;
    let status = match refusal {
        RowRefusal::Edit(EditError::Invalid(problems)) => {
            state.problems = problems;
            StatusCode::UNPROCESSABLE_ENTITY
        }
        RowRefusal::Edit(EditError::Changed(other)) => {
            state.other = Some(*other);
            StatusCode::CONFLICT
        }
        other => {
            state.unsure = other.code() == "row_unknown";
            state.refusal = Some(text_of(&other));
            StatusCode::CONFLICT
        }
    };
    row_editor::show(app, cx, status, state)
}

fn text_of(refusal: &RowRefusal) -> String {
    match refusal.hint() {
        Some(hint) => format!("{refusal} ({hint})"),
        None => refusal.to_string(),
    }
}
