//! Actions on all tasks that match a query: an operation is stored, and an instance carries it out.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use super::{Audit, done, otherwise, redirect_with, settled};
use crate::access::UserRole;
use crate::operation::{self, Operation, OperationVerb, TaskChoice};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::page_error::PageError;
use crate::web::pages::all_tasks::ListQuery;
use crate::web::pages::operations::TYPED_ABOVE;
use crate::web::reached_by;
use crate::web::request_context::{Form, RequestContext, SharedContext};
use crate::web::urls;

/// For how long a preview can be confirmed.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What a form says an operation is.
pub fn read(cx: &RequestContext, fields: &[(String, String)]) -> Result<(OperationVerb, ListQuery), PageError> {
    let get = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let words = || OperationVerb::ALL.map(OperationVerb::as_str).join(", ");
    let verb = OperationVerb::of(get("verb").unwrap_or_default());
    let verb = verb.ok_or_else(|| PageError::BadQuery("verb", words()))?;
    cx.may(role_for(verb))?;
    let text = |name: &str| get(name).unwrap_or_default().to_owned();
    let query = ListQuery {
        state: text("state"),
        queue: text("queue"),
        kind: text("type"),
        q: text("q"),
        error: text("error"),
        from: text("from"),
        to: text("to"),
        ..ListQuery::default()
    };
    let state = query.task_state()?;
    if !verb.suits(state) {
        return Err(PageError::BadQuery("verb", words()));
    }
    Ok((verb, query))
}

fn role_for(verb: OperationVerb) -> UserRole {
    match verb {
        OperationVerb::Delete => UserRole::Admin,
        OperationVerb::Run | OperationVerb::Archive | OperationVerb::Cancel => UserRole::Operator,
    }
}

/// `POST /queue/operations`
pub async fn begin(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let (verb, query) = read(&cx, form.pairs())?;
    let now = app.broker.now().await?;
    let before: Option<Timestamp> = form.get("before").and_then(|text| text.parse().ok());
    let before = before.filter(|at| *at <= now && now.duration_since(*at) <= VALID_FOR);
    let counted = form.get("counted").and_then(|text| text.parse::<u64>().ok());
    let again = || preview_url(verb, &query);
    let (Some(before), Some(counted)) = (before, counted) else {
        return Ok(redirect_with(&app, &again(), &otherwise("notice.operation.old", "")));
    };
    let typed: String = form
        .get("typed")
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    if counted > TYPED_ABOVE && typed != counted.to_string() {
        let notice = otherwise("notice.operation.typed", counted.to_string());
        return Ok(redirect_with(&app, &again(), &notice));
    }
    let choice = TaskChoice::new(query.task_state()?, &query.filter(&cx.locale)?, before);
    let exact = form.get("exact") == Some("1");
    let note = form.get("note");
    let operation = start(&app, &cx, verb, (choice, note), (counted, exact)).await?;
    Ok(redirect_with(
        &app,
        &urls::operation(&operation.id),
        &done("notice.operation.begun", ""),
    ))
}

/// The address of the page before an operation.
fn preview_url(verb: OperationVerb, query: &ListQuery) -> String {
    let list = query.url();
    let (_, said) = list.split_once('?').unwrap_or_default();
    format!("{}/tasks/selected?all=1&verb={}&{said}", urls::root(), verb.as_str())
}

/// Stores an operation and has it begin, with its audit lines.
pub(crate) async fn start(
    app: &AppState,
    cx: &RequestContext,
    verb: OperationVerb,
    (choice, note): (TaskChoice, Option<&str>),
    counted: (u64, bool),
) -> Result<Operation, PageError> {
    let mut operation = Operation::new(verb, choice, counted, cx.name(), cx.locale.now).because(note);
    operation.from = Some(reached_by::current().client.to_string());
    let audit = Audit::intent(cx, "operation.begin", operation.target())
        .because(operation.note.as_deref())
        .becomes(format!("{}: operation {}", verb.as_str(), operation.id));
    settled(audit, operation::create(&*app.broker, &operation).await)?;
    app.operations.begin();
    Ok(operation)
}

/// `POST /queue/operations/{id}/cancel`
pub async fn cancel(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let asked = ask_to_end(&app, &cx, &id).await?;
    let notice = match asked {
        true => done("notice.operation.cancel", ""),
        false => otherwise("notice.operation.ended", ""),
    };
    Ok(redirect_with(&app, &urls::operation(&id), &notice))
}

/// Cancels an operation, with its audit lines. Returns `false` if it has ended.
pub(crate) async fn ask_to_end(app: &AppState, cx: &RequestContext, id: &str) -> Result<bool, PageError> {
    may_cancel(cx)?;
    let found = operation::find(&*app.broker, id).await?;
    let operation = found.ok_or_else(|| PageError::Gone("operation", format::cut(id, IN_A_LIST)))?;
    if operation.ended.is_some() {
        return Ok(false);
    }
    let audit = Audit::intent(
        cx,
        "operation.cancel",
        format!("{} ({})", operation.target(), operation.id),
    );
    settled(audit, operation::cancel(&*app.broker, id, cx.name()).await)?;
    Ok(true)
}

/// A user who may act may cancel; calls of the API have been judged by their token.
fn may_cancel(cx: &RequestContext) -> Result<(), PageError> {
    match cx.role {
        Some(_) => cx.may(UserRole::Operator),
        None => Ok(()),
    }
}
