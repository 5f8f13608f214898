//! Rows of the table: read, make, change, switch and delete them; and what a rule would do.

use axum::http::{HeaderMap, StatusCode, header};
use runner_core::schedule::{Problem, ScheduleId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Created, Endpoint, Nothing};
use super::enqueue::derived_id;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::{JsonField, PreviewObject, PreviewedObject, ProblemObject, RowObject, WrittenInstant, payload};
use crate::source::{EditError, EditableRow, RowEdit, RowFields};
use crate::web::act::rows::{self, RowRefusal};
use crate::web::pages::schedule_row::in_words;
use crate::web::preview;

/// Where keys of calls are kept, and for how long.
const KEYS: &str = "row-keys";
const KEY_TTL: std::time::Duration = std::time::Duration::from_secs(86_400);

const CREATE_KEY: &str = "Makes the call repeatable for a day: a second one with the same key answers with the row that the first has \
    made. If the first has not ended, or its end is not known, the answer is 409.";

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            "/schedules/preview",
            "Shows what a rule would do, without storing it.",
            previewed,
        ),
        Endpoint::versioned(
            "/schedules/{id}/row",
            "Shows the row of a schedule as it is in the table now; its ETag is what an edit brings in If-Match.",
            |row: &RowObject| &row.version,
            row,
        ),
        Endpoint::create_once("/schedules", "Adds a row to the table.", CREATE_KEY, create),
        Endpoint::change(
            "/schedules/{id}",
            "Changes a row; what is left out stays as it is. Needs If-Match.",
            update,
        ),
        Endpoint::remove("/schedules/{id}", "Deletes a row.", delete),
        Endpoint::act("/schedules/{id}/enable", "Switches a row on.", enable),
        Endpoint::act("/schedules/{id}/disable", "Switches a row off.", disable),
    ]
}

/// A rule.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PreviewQuery {
    /// The cron expression.
    spec: String,
    /// Its zone; `server.timezone` if left out.
    timezone: Option<String>,
}

async fn previewed(call: ApiCall, query: PreviewQuery) -> Result<PreviewObject, ApiProblem> {
    let fields = RowFields {
        // Any type will do: it is not looked at.
        kind: "preview".to_owned(),
        spec: query.spec,
        zone: query.timezone.unwrap_or_default(),
        enabled: true,
        ..RowFields::default()
    };
    let checked = call.app.catalog.check_row(None, &fields);
    let Some(definition) = checked.definition else {
        return Err(invalid(&checked.problems));
    };
    let timing = &definition.timing;
    let found = preview::preview(&call.app, timing, call.cx.locale.now).await?;
    let next = found.next.iter().map(|one| PreviewedObject {
        at: WrittenInstant::of(one.at, &timing.zone),
        offset_before: one.clocks.as_ref().map(|(before, _)| before.clone()),
    });
    Ok(PreviewObject {
        words: in_words(&call.cx.locale, &definition),
        timezone: timing.zone_name.clone(),
        next: next.collect(),
        in_a_day: found.in_a_day,
        more: found.more,
        problems: checked.problems.iter().map(ProblemObject::of).collect(),
    })
}

/// A row to add.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRow {
    /// Its id, for tables that give their rows none.
    id: Option<String>,
    /// A label.
    name: String,
    /// The task type: a handler, or `fn:NAME`.
    #[serde(rename = "type")]
    kind: String,
    /// The cron expression.
    spec: String,
    /// Its zone by its IANA name.
    timezone: Option<String>,
    /// The payload, any JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// Options besides the zone, an object with the keys of `_runner`.
    #[schema(value_type = Option<Object>)]
    options: Option<Box<RawValue>>,
    /// Whether it is on; `true` if left out.
    enabled: Option<bool>,
}

/// What is changed of a row. `null` removes the zone, the payload or the options.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RowPatch {
    /// The label.
    name: Option<String>,
    /// The task type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The cron expression.
    spec: Option<String>,
    /// Its zone by its IANA name.
    #[serde(default, deserialize_with = "given")]
    timezone: Option<Option<String>>,
    /// The payload, any JSON.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Option<Box<RawValue>>>,
    /// Options besides the zone, an object with the keys of `_runner`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    options: Option<Option<Box<RawValue>>>,
    /// Whether it is on.
    enabled: Option<bool>,
}

/// Distinguishes `null` from a field that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn id_of(call: &ApiCall) -> ScheduleId {
    ScheduleId::from_text(call.name("id"))
}

async fn row(call: ApiCall, _: Nothing) -> Result<RowObject, ApiProblem> {
    let id = id_of(&call);
    let editor = rows::editor(&call.app, Some(&id)).map_err(refused)?;
    let row = editor.row(&id).await.map_err(|error| refused(error.into()))?;
    Ok(object(&row))
}

async fn create(call: ApiCall, new: NewRow) -> Result<Created<RowObject>, ApiProblem> {
    let key = call.idempotency_key()?.map(|key| derived_id(&call, "row", key));
    let body = serde_json::to_string(&new).unwrap_or_default();
    // Keyed calls of a process are one at a time, so that two with one key do not both find it new.
    let _keyed = match &key {
        Some(_) => Some(call.app.row_keys.lock().await),
        None => None,
    };
    if let Some(key) = &key {
        if let Some(before) = call.app.broker.document(KEYS, key).await? {
            return repeated(&call, &before, &body).await;
        }
        keep_key(&call, key, &body, None).await?;
    }
    let fields = RowFields {
        name: new.name,
        kind: new.kind,
        spec: new.spec,
        zone: new.timezone.unwrap_or_default(),
        payload: new.payload.map(|text| text.get().to_owned()).unwrap_or_default(),
        options: new.options.map(|text| text.get().to_owned()).unwrap_or_default(),
        enabled: new.enabled.unwrap_or(true),
    };
    let made = rows::create(&call.app, &call.cx, new.id.as_deref(), &fields).await;
    if let Some(key) = &key {
        match &made {
            Ok(RowEdit { after: Some(row), .. }) => keep_key(&call, key, &body, Some(row.id.as_str())).await?,
            // It may be there: the key stays open.
            Ok(_) => (),
            Err(error) if error.code() == "row_unknown" => (),
            Err(_) => call.app.broker.drop_document(KEYS, key).await?,
        }
    }
    let row = made.map_err(refused)?.after.ok_or_else(unseen)?;
    Ok(created(&row, true))
}

/// What is kept of a call with a key: its body, and its row once that is known.
#[derive(Serialize, Deserialize)]
struct KeyedCall {
    body: u64,
    row: Option<String>,
}

fn digest(body: &str) -> u64 {
    runner_core::schedule::stable_hash(&[body])
}

async fn keep_key(call: &ApiCall, key: &str, body: &str, row: Option<&str>) -> Result<(), ApiProblem> {
    let kept = KeyedCall {
        body: digest(body),
        row: row.map(str::to_owned),
    };
    let kept = serde_json::to_vec(&kept).unwrap_or_default();
    Ok(call.app.broker.keep_document(KEYS, key, kept, KEY_TTL).await?)
}

async fn repeated(call: &ApiCall, before: &[u8], body: &str) -> Result<Created<RowObject>, ApiProblem> {
    let before: Option<KeyedCall> = serde_json::from_slice(before).ok();
    let before = before.ok_or_else(|| ApiProblem::conflict("what is stored under this key cannot be read"))?;
    if before.body != digest(body) {
        let detail = "this key was used for another row";
        return Err(ApiProblem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "api_key_reused",
            detail,
        ));
    }
    let Some(id) = before.row else {
        let detail = "a call with this key has not ended, or its end is not known";
        return Err(ApiProblem::conflict(detail).hint("look for the row before it is added again"));
    };
    let id = ScheduleId::from_text(id);
    let editor = rows::editor(&call.app, Some(&id)).map_err(refused)?;
    let row = editor.row(&id).await.map_err(|error| refused(error.into()))?;
    Ok(created(&row, false))
}

fn created(row: &EditableRow, new: bool) -> Created<RowObject> {
    Created {
        at: format!("/schedules/{}", crate::access::segment(row.id.as_str().as_bytes())),
        body: object(row),
        new,
    }
}

/// Not a status after which clients repeat a call by themselves: a second one would add a second row.
fn unseen() -> ApiProblem {
    let detail = "the row was written, and cannot be read again now";
    ApiProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "row_unknown", detail)
        .hint("read the row before the call is repeated")
}

async fn update(call: ApiCall, change: RowPatch) -> Result<RowObject, ApiProblem> {
    let id = id_of(&call);
    let editor = rows::editor(&call.app, Some(&id)).map_err(refused)?;
    let now = editor.row(&id).await.map_err(|error| refused(error.into()))?;
    let version = match version_of(&call.headers)? {
        Some(AnyVersion::This(version)) => version,
        Some(AnyVersion::Any) => now.version.clone(),
        None => {
            let detail = "an edit names the version that it changes";
            let problem = ApiProblem::new(StatusCode::PRECONDITION_REQUIRED, "api_no_version", detail);
            return Err(problem.hint("If-Match: the `version` of the row; * for any"));
        }
    };
    if version != now.version {
        return Err(refused(EditError::Changed(Box::new(now)).into()));
    }
    let text = |value: Option<Option<Box<RawValue>>>, before: String| match value {
        None => before,
        Some(value) => value.map(|text| text.get().to_owned()).unwrap_or_default(),
    };
    let before = now.fields;
    let fields = RowFields {
        name: change.name.unwrap_or(before.name),
        kind: change.kind.unwrap_or(before.kind),
        spec: change.spec.unwrap_or(before.spec),
        zone: change.timezone.map_or(before.zone, Option::unwrap_or_default),
        payload: text(change.payload, before.payload),
        options: text(change.options, before.options),
        enabled: change.enabled.unwrap_or(before.enabled),
    };
    let edit = rows::update(&call.app, &call.cx, &id, &version, &fields).await;
    let row = edit.map_err(refused)?.after.ok_or_else(unseen)?;
    Ok(object(&row))
}

async fn delete(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let version = stated(&call)?;
    let edit = rows::delete(&call.app, &call.cx, &id_of(&call), version.as_deref()).await;
    edit.map_err(refused)?;
    Ok(Done::new("deleted"))
}

async fn enable(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    switched(&call, true).await
}

async fn disable(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    switched(&call, false).await
}

async fn switched(call: &ApiCall, on: bool) -> Result<Done, ApiProblem> {
    let version = stated(call)?;
    let edit = rows::switch(&call.app, &call.cx, &id_of(call), version.as_deref(), on).await;
    let edit = edit.map_err(refused)?;
    Ok(Done {
        changed: edit.before != edit.after,
        ..Done::new(if on { "enabled" } else { "disabled" })
    })
}

/// What `If-Match` says.
enum AnyVersion {
    /// This one.
    This(String),
    /// `*`.
    Any,
}

fn version_of(headers: &HeaderMap) -> Result<Option<AnyVersion>, ApiProblem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let version = text.trim_start_matches("W/").trim_matches('"');
    match text {
        "*" => Ok(Some(AnyVersion::Any)),
        _ if !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            Ok(Some(AnyVersion::This(version.to_owned())))
        }
        _ => Err(ApiProblem::bad_value(
            "If-Match",
            "it must be the version of a row, or *",
        )),
    }
}

/// The version that a call states, if it must be that one.
fn stated(call: &ApiCall) -> Result<Option<String>, ApiProblem> {
    Ok(match version_of(&call.headers)? {
        Some(AnyVersion::This(version)) => Some(version),
        Some(AnyVersion::Any) | None => None,
    })
}

fn object(row: &EditableRow) -> RowObject {
    let fields = &row.fields;
    let json = |text: &str| payload(&bytes::Bytes::from(text.to_owned()));
    RowObject {
        id: row.id.to_string(),
        name: fields.name.clone(),
        kind: fields.kind.clone(),
        spec: fields.spec.clone(),
        timezone: Some(fields.zone.clone()).filter(|zone| !zone.is_empty()),
        payload: json(&fields.payload),
        options: match serde_json::from_str::<IgnoredAny>(&fields.options) {
            Ok(_) => json(&fields.options),
            Err(_) => JsonField::Value(serde_json::Value::Null),
        },
        enabled: fields.enabled,
        version: row.version.clone(),
        editable: row.is_text,
    }
}

fn invalid(problems: &[Problem]) -> ApiProblem {
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
    let mut lines: Vec<String> = errors.iter().take(5).map(|problem| problem.message.clone()).collect();
    if let Some(excerpt) = errors.first().and_then(|problem| problem.excerpt.clone()) {
        lines.push(excerpt);
    }
    let problem = ApiProblem::new(StatusCode::UNPROCESSABLE_ENTITY, "row_invalid", lines.join("\n"));
    let Some(first) = errors.first() else {
        return problem;
    };
    let problem = problem.code(first.code.clone());
    match &first.hint {
        Some(hint) => problem.hint(hint.clone()),
        None => problem,
    }
}

fn refused(refusal: RowRefusal) -> ApiProblem {
    if let RowRefusal::Edit(EditError::Invalid(problems)) = &refusal {
        return invalid(problems);
    }
    let status = match refusal.code() {
        "row_gone" => StatusCode::NOT_FOUND,
        "row_changed" => StatusCode::PRECONDITION_FAILED,
        "row_no_text" | "row_rejected" => StatusCode::UNPROCESSABLE_ENTITY,
        "row_busy" | "row_unreachable" => StatusCode::SERVICE_UNAVAILABLE,
        "row_unknown" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    };
    let problem = ApiProblem::new(status, refusal.code(), refusal.to_string());
    let problem = match status {
        StatusCode::SERVICE_UNAVAILABLE => problem.retry_after(5),
        _ => problem,
    };
    match refusal.hint() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
