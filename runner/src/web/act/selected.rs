//! An action on the tasks that were ticked in a list.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use runner_queue::ActionError;

use super::{Audit, done, otherwise, redirect_with};
use crate::web::app_state::AppState;
use crate::web::page_error::PageError;
use crate::web::pages::selected::Selection;
use crate::web::request_context::{Form, SharedContext};

/// Actions at once: the broker gets them together.
const AT_ONCE: usize = 32;

/// `POST /queue/tasks/selected`
pub async fn selected(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Extension(form): Extension<Arc<Form>>,
) -> Result<Response, PageError> {
    let selection = Selection::read(&cx, form.pairs())?;
    let named: Vec<String> = selection
        .tasks
        .iter()
        .map(|(queue, id)| format!("{queue}/{id}"))
        .collect();
    let what = named.join(" ");
    let audited = match selection.verb {
        "run" => "tasks.run",
        "archive" => "tasks.archive",
        _ => "tasks.delete",
    };
    let audit = Audit::intent(&cx, audited, what);
    let acts: Vec<_> = selection
        .tasks
        .iter()
        .map(|(queue, id)| app.broker.act(queue, id, selection.action))
        .collect();
    let mut answers = stream::iter(acts).buffer_unordered(AT_ONCE);
    let (mut acted, mut refused, mut unknown) = (0_usize, 0_usize, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(()) => acted += 1,
            // The others would fail as well, each after its time.
            Err(ActionError::Broker(error)) => {
                unknown = Some(error);
                break;
            }
            // It moved on meanwhile.
            Err(_) => refused += 1,
        }
    }
    audit.outcome(&match &unknown {
        None => format!("{acted} done, {refused} refused"),
        Some(_) => format!("{acted} done, {refused} refused, others unknown"),
    });
    let notice = match (unknown, acted) {
        (Some(error), 0) => return Err(error.into()),
        (None, 0) => otherwise("notice.tasks.none", ""),
        (None, _) if refused == 0 => done(&format!("notice.tasks.{}", selection.verb), acted.to_string()),
        (_, _) => otherwise("notice.tasks.partly", format!("{acted} / {}", selection.tasks.len())),
    };
    Ok(redirect_with(&app, &form.back(), &notice))
}
