//! The downloads of what a run left: files, and its output.

use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use runner_queue::ArtifactList;

use super::tasks::{queue_name, task_id};
use crate::run_output;
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::page_error::PageError;
use crate::web::urls;

/// `GET /queue/tasks/{queue}/{id}/artifacts/{position}`: a file that no browser takes for a page.
pub async fn download(
    State(app): State<AppState>,
    Path((queue, id, position)): Path<(String, String, usize)>,
) -> Result<Response, PageError> {
    let (queue, task) = (queue_name(&queue)?, task_id(&id)?);
    let list = ArtifactList::read(&*app.broker, &queue, &task).await?;
    let gone = || PageError::Gone("task", format::cut(&id, IN_A_LIST));
    let file = list.files.get(position).ok_or_else(gone)?;
    let content = ArtifactList::content(&*app.broker, &queue, &task, position).await?;
    let content = content.ok_or_else(gone)?;
    let headers: [(HeaderName, String); 2] = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(&file.name)),
    ];
    Ok((headers, content).into_response())
}

/// `GET /queue/tasks/{queue}/{id}/output`: all that the recorded run of this task printed, as far as it is kept.
pub async fn output(
    State(app): State<AppState>,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let (queue, task) = (queue_name(&queue)?, task_id(&id)?);
    let gone = || PageError::Gone("task", format::cut(&id, IN_A_LIST));
    let record = app.broker.run(&queue, &task).await?.ok_or_else(gone)?;
    let text = run_output::of(&*app.broker, &record).await?.unwrap_or_default();
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"output.txt\""),
    ];
    Ok((headers, text).into_response())
}

/// The name twice: for old clients without what is not ASCII, and as it is.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && !"\"\\%;/".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{}",
        urls::encoded(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(
            disposition("a.csv"),
            "attachment; filename=\"a.csv\"; filename*=UTF-8''a.csv"
        );
        let odd = disposition("x\"; a=\r\n报");
        assert!(odd.is_ascii() && !odd.contains(char::is_control), "{odd}");
        assert!(odd.starts_with("attachment; filename=\"x___a=___\"; "), "{odd}");
    }
}
