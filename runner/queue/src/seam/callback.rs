//! Runs whose work continues elsewhere: who finishes it reports the end with a token, which the run waits for.
//!
//! Two documents, both under the digest of the token, so that a look into the store does not give the right to report: one says
//! that the report is awaited, the other one is the report.

use std::time::Duration;

use runner_core::task::{QueueName, TaskId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BrokerResult, Documents};

const AWAITED: &str = "awaited";
const REPORT: &str = "report";

/// How long a report is kept for the run that waits for it, which looks each second.
const REPORT_KEPT_FOR: Duration = Duration::from_secs(3600);

/// The task whose end is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedTask {
    /// Its queue.
    pub queue: QueueName,
    /// The task.
    pub task: TaskId,
}

/// How the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedOutcome {
    /// Done.
    Success,
    /// Failed; may be tried again.
    Retry,
    /// Failed for good.
    Fatal,
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReport {
    /// How the work ended.
    pub outcome: ReportedOutcome,
    /// The result of a success, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

fn digest(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says that a report with this token is awaited, for this long.
///
/// # Errors
///
/// As [`Documents::keep_document`].
pub async fn await_report(store: &dyn Documents, token: &str, task: &AwaitedTask, valid: Duration) -> BrokerResult<()> {
    let body = serde_json::to_vec(task).unwrap_or_default();
    store.keep_document(AWAITED, &digest(token), body, valid).await
}

/// The task that a token belongs to; `None` if no report with it is awaited.
///
/// # Errors
///
/// As [`Documents::document`].
pub async fn awaited_task(store: &dyn Documents, token: &str) -> BrokerResult<Option<AwaitedTask>> {
    let body = store.document(AWAITED, &digest(token)).await?;
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// Reports the end of the work. Returns whether it counts: not if the run has stopped waiting meanwhile, or if another end was
/// reported before. The same report may be sent again.
///
/// It is written first and then the run is looked for; a run that stops waiting says so first and then looks for a report
/// ([`close_report`]). So a report that counts is found, whichever comes first.
///
/// # Errors
///
/// As [`Documents::keep_document`].
pub async fn report(store: &dyn Documents, token: &str, report: &WorkReport) -> BrokerResult<bool> {
    if let Some(earlier) = reported(store, token).await? {
        return Ok(earlier == *report);
    }
    let body = serde_json::to_vec(report).unwrap_or_default();
    store
        .keep_document(REPORT, &digest(token), body, REPORT_KEPT_FOR)
        .await?;
    Ok(awaited_task(store, token).await?.is_some())
}

/// The report with this token, if it has arrived.
///
/// # Errors
///
/// As [`Documents::document`].
pub async fn reported(store: &dyn Documents, token: &str) -> BrokerResult<Option<WorkReport>> {
    let body = store.document(REPORT, &digest(token)).await?;
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// Stops waiting for a report, and returns the one that has arrived, if any.
///
/// # Errors
///
/// As [`Documents::drop_document`].
pub async fn close_report(store: &dyn Documents, token: &str) -> BrokerResult<Option<WorkReport>> {
    store.drop_document(AWAITED, &digest(token)).await?;
    let report = reported(store, token).await?;
    if report.is_some() {
        store.drop_document(REPORT, &digest(token)).await?;
    }
    Ok(report)
}
