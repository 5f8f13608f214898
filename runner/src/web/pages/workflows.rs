//! Workflows: all that are kept, newest first, and one with its failed and open steps.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use runner_queue::{StepEnd, WorkflowHead, WorkflowState, step_task_id};
use serde::{Deserialize, Serialize};

use super::rows::{self, Pager};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Workflows on a page of the list.
const ROWS: usize = 50;

/// Steps of the page: failed ones first, then those that have not ended.
const STEPS: usize = 100;

/// Steps that one read takes.
const BATCH: u32 = 500;

/// One workflow.
#[derive(Debug, Serialize)]
struct WorkflowRow {
    id: String,
    url: String,
    name: String,
    state: &'static str,
    icon: &'static str,
    tone: &'static str,
    done: u32,
    failed: u32,
    steps: u32,
    stage: u32,
    stages: usize,
    error: String,
    created: InstantText,
    changed: InstantText,
    can_cancel: bool,
    can_retry: bool,
}

impl WorkflowRow {
    fn new(locale: &Locale, head: &WorkflowHead) -> Self {
        let state = head.place.state;
        let (icon, tone) = match state {
            WorkflowState::Running => ("active", "plain"),
            WorkflowState::Done => ("check", "good"),
            WorkflowState::Failed => ("cross", "bad"),
            WorkflowState::Cancelling => ("pause", "warn"),
            WorkflowState::Cancelled => ("cross", "plain"),
        };
        Self {
            id: head.id.clone(),
            url: urls::workflow(&head.id),
            name: format::cut(&head.plan.name, IN_A_LIST),
            state: state.as_str(),
            icon,
            tone,
            done: head.done,
            failed: head.failed,
            steps: head.plan.steps(),
            stage: head.place.sent,
            stages: head.plan.stages.len(),
            error: match state {
                WorkflowState::Failed => format::cut(&head.error, IN_A_LIST * 4),
                _ => String::new(),
            },
            created: locale.moment(head.created_at),
            changed: locale.moment(head.changed_at),
            can_cancel: !state.is_final(),
            can_retry: state == WorkflowState::Failed,
        }
    }
}

/// One step.
#[derive(Debug, Serialize)]
struct StepRow {
    number: u32,
    kind: String,
    url: String,
    task: String,
    failed: bool,
    error: String,
}

/// The list.
#[derive(Debug, Serialize)]
struct WorkflowsPage {
    rows: Vec<WorkflowRow>,
    pager: Pager,
}

/// The query of the list.
#[derive(Debug, Deserialize)]
pub struct WorkflowsQuery {
    page: Option<String>,
}

impl PageTemplate for WorkflowsPage {
    const TEMPLATE: &'static str = "workflows.html";
}

/// One of them.
#[derive(Debug, Serialize)]
struct WorkflowPage {
    row: WorkflowRow,
    steps: Vec<StepRow>,
}

impl PageTemplate for WorkflowPage {
    const TEMPLATE: &'static str = "workflow.html";
}

/// `GET /queue/workflows`
pub async fn list(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<WorkflowsQuery>,
) -> Result<Response, PageError> {
    let number = rows::page_number(query.page.as_deref())?;
    let skip = (number - 1).saturating_mul(ROWS);
    let (ids, all) = tokio::try_join!(app.broker.workflow_ids(false, skip, ROWS), app.broker.workflow_count())?;
    let mut rows = Vec::new();
    for id in ids {
        let head = app.broker.workflow(&id).await?;
        rows.extend(head.map(|head| WorkflowRow::new(&cx.locale, &head)));
    }
    let pager = Pager::new(number, ROWS, all, |n| format!("{}?page={n}", urls::workflows()));
    layout::show(&app, &cx, NavSection::Workflows, &WorkflowsPage { rows, pager })
}

/// `GET /queue/workflows/{id}`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let Some(head) = app.broker.workflow(&id).await? else {
        return Err(PageError::Gone("workflow", format::cut(&id, IN_A_LIST)));
    };
    let page = WorkflowPage {
        row: WorkflowRow::new(&cx.locale, &head),
        steps: steps(&app, &head).await?,
    };
    layout::show(&app, &cx, NavSection::Workflows, &page)
}

async fn steps(app: &AppState, head: &WorkflowHead) -> Result<Vec<StepRow>, PageError> {
    let (mut failed, mut open) = (Vec::new(), Vec::new());
    let (mut from, sent) = (0, head.plan.steps_of(head.place.sent));
    while from < sent && failed.len() < STEPS {
        for step in app
            .broker
            .workflow_steps(&head.id, from, BATCH.min(sent - from))
            .await?
        {
            let (list, error) = match step.end {
                Some(StepEnd::Done(_)) => continue,
                Some(StepEnd::Failed(error)) => (&mut failed, Some(error)),
                None => (&mut open, None),
            };
            let Some(task) = step_task_id(&head.id, step.number).filter(|_| list.len() < STEPS) else {
                continue;
            };
            list.push(StepRow {
                number: step.number,
                kind: format::cut(&step.step.kind, IN_A_LIST),
                url: urls::task(step.step.queue.as_str(), task.as_str()),
                task: task.to_string(),
                failed: error.is_some(),
                error: format::cut(error.as_deref().unwrap_or_default(), IN_A_LIST * 4),
            });
        }
        from += BATCH;
    }
    failed.append(&mut open);
    failed.truncate(STEPS);
    Ok(failed)
}
