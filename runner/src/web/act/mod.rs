//! Operators' actions. Each is a form that the guard has checked, writes an audit line before and after, and answers
//! with a redirect and a notice.

use std::fmt::Display;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use runner_queue::AuditEntry;

use super::app_state::AppState;
use super::guard::cookies;
use super::page_error::PageError;
use super::reached_by;
use super::request_context::{Notice, RequestContext};

pub mod bad_messages;
pub mod notifications;
pub mod operations;
pub mod queues;
pub mod row_form;
pub mod rows;
pub mod schedules;
pub mod selected;
pub mod tasks;
pub mod workers;
pub mod workflows;

/// The address of each action.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/queue/queues/{queue}/{word}", post(queues::one))
        .route("/queue/tasks/{queue}/{id}/{verb}", post(tasks::one))
        .route("/queue/tasks/selected", post(selected::selected))
        .route("/queue/operations", post(operations::begin))
        .route("/queue/operations/{id}/cancel", post(operations::cancel))
        .route("/queue/schedules/new", get(row_form::new).post(row_form::create))
        .route("/queue/schedules/{id}/edit", get(row_form::edit).post(row_form::update))
        .route("/queue/schedules/{id}/{verb}", post(schedules::one))
        .route("/queue/notifications/{channel}/{verb}", post(notifications::one))
        .route("/queue/bad-messages/{name}/{stamp}/{verb}", post(bad_messages::one))
        .route("/queue/workflows/{id}/{verb}", post(workflows::one))
        .route("/queue/servers/{id}/{verb}", post(workers::one))
        .route("/queue/hosts/{host}/{verb}", post(workers::host))
        .route("/queue/sync", post(schedules::sync))
}

/// How long a notice waits to be shown, in seconds.
const NOTICE_TTL: u64 = 60;

/// Notes an action: a line of the log before and after it, and one entry of the audit list after it. Dropped without an
/// outcome, the action was interrupted, and its effect is unknown.
pub(crate) struct Audit<'a> {
    cx: &'a RequestContext,
    entry: AuditEntry,
    /// Whether the list has it, or the log only.
    listed: bool,
}

impl<'a> Audit<'a> {
    /// Writes the intent.
    pub(crate) fn intent(cx: &'a RequestContext, action: &'static str, target: impl Display) -> Self {
        let target = target.to_string().escape_debug().to_string();
        let addr = reached_by::current().client;
        tracing::info!(target: "audit", action, on = %target, actor = %cx.name(), %addr, outcome = "intent");
        let entry = AuditEntry {
            at: cx.locale.now,
            by: cx.name().to_owned(),
            from: Some(addr.to_string()),
            action: action.to_owned(),
            target,
            ..AuditEntry::default()
        };
        Self {
            cx,
            entry,
            listed: true,
        }
    }

    /// The same with the reason that the person gave.
    pub(crate) fn because(mut self, note: Option<&str>) -> Self {
        self.entry.note = note.map(str::to_owned);
        self
    }

    /// The same with what was so before.
    pub(crate) fn was(mut self, before: impl Display) -> Self {
        self.entry.before = Some(before.to_string());
        self
    }

    /// The same with what is so if the action succeeds.
    pub(crate) fn becomes(mut self, after: impl Display) -> Self {
        self.entry.after = Some(after.to_string());
        self
    }

    /// The same for what programs do all the time: only the log has it, so that it does not drive the rest out of the list.
    pub(crate) fn logged_only(mut self) -> Self {
        self.listed = false;
        self
    }

    /// Writes the outcome.
    pub(crate) fn outcome(mut self, outcome: &str) {
        outcome.clone_into(&mut self.entry.outcome);
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        let mut entry = std::mem::take(&mut self.entry);
        if entry.outcome.is_empty() {
            "interrupted".clone_into(&mut entry.outcome);
        }
        if !entry.outcome.starts_with(|c: char| c.is_ascii_digit()) && entry.outcome != "done" {
            entry.after = None;
        }
        let (action, on, actor, outcome) = (&entry.action, &entry.target, &entry.by, &entry.outcome);
        let addr = entry.from.as_deref().unwrap_or_default();
        let (before, after) = (entry.before.as_deref(), entry.after.as_deref());
        tracing::info!(target: "audit", action, %on, %actor, %addr, outcome, before, after);
        if self.listed {
            self.cx.audit.put(entry);
        }
    }
}

/// Redirects back to the page, with a notice.
pub(crate) fn redirect_with(app: &AppState, back: &str, notice: &Notice) -> Response {
    let mut headers = HeaderMap::new();
    let value = notice.seal(&app.settings.key);
    cookies::set(&mut headers, cookies::NOTICE, &value, NOTICE_TTL);
    (headers, Redirect::to(back)).into_response()
}

/// A notice of success.
pub(crate) fn done(key: &str, what: impl Into<String>) -> Notice {
    Notice {
        key: key.to_owned(),
        what: super::format::cut(&what.into(), 200),
        bad: false,
    }
}

/// A notice that something else than wanted has happened.
pub(crate) fn otherwise(key: &str, what: impl Into<String>) -> Notice {
    Notice {
        bad: true,
        ..done(key, what)
    }
}

/// A notice of failure.
pub(crate) fn not_done(what: impl Into<String>) -> Notice {
    Notice {
        key: "notice.refused".to_owned(),
        what: super::format::cut(&what.into(), 300),
        bad: true,
    }
}

/// Ends the audit of an action that either succeeds or loses the broker.
pub(crate) fn settled<T>(audit: Audit<'_>, result: runner_queue::BrokerResult<T>) -> Result<T, PageError> {
    audit.outcome(if result.is_ok() { "done" } else { "unknown" });
    Ok(result?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_action_is_on_record_before_and_after() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let cx = RequestContext::unknown(crate::web::translations::Lang::En, jiff::Timestamp::UNIX_EPOCH);
            Audit::intent(&cx, "task.delete", "default/a\nforged").outcome("done");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let records: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let lines: Vec<[&str; 5]> = records
            .iter()
            .map(|r| {
                let field = |name: &str| r["fields"][name].as_str().unwrap_or_default();
                [
                    r["target"].as_str().unwrap(),
                    field("action"),
                    field("on"),
                    field("actor"),
                    field("outcome"),
                ]
            })
            .collect();
        let expected = |outcome| ["audit", "task.delete", "default/a\\nforged", "local", outcome];
        assert_eq!(lines, [expected("intent"), expected("done")]);
    }
}
