//! Probes: is the process alive, is it ready. Its figures are in `scrape`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use runner_core::schedule::{Problem, Severity};
use runner_queue::BrokerResult;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::app_state::AppState;
use super::format;
use super::settings::Auth;
use crate::source::{SourceState, SourceStatus};

/// How long the broker may take to answer, and how long a probe waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum characters of a note.
const NOTE: usize = 300;

/// How long an answer of the broker is valid: however many clients ask at once, the broker is asked ten times a second.
const VALID_FOR: Duration = Duration::from_millis(100);

/// What the broker answered when it was asked for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BrokerAnswer {
    Given,
    Failed { code: &'static str, why: String },
    Late,
}

/// One question to the broker; `None` until it is answered.
type Question = watch::Receiver<Option<(Instant, BrokerAnswer)>>;

/// The last question to the broker, shared by all requests that need an answer at the same time. Hence `/readyz` needs no
/// limit on concurrent requests, which clients could use up for each other.
#[derive(Default)]
pub(super) struct BrokerAnswerCache(Mutex<Option<Question>>);

impl BrokerAnswerCache {
    /// The answer to the last question while it is valid or awaited, else to a new one: `call`.
    async fn get<T>(&self, call: impl Future<Output = BrokerResult<T>> + Send + 'static) -> BrokerAnswer {
        let mut question = self.question(call);
        match timeout(PATIENCE, question.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.as_ref().map_or(BrokerAnswer::Late, |(_, answer)| answer.clone()),
            Ok(Err(_)) | Err(_) => BrokerAnswer::Late,
        }
    }

    fn question<T>(&self, call: impl Future<Output = BrokerResult<T>> + Send + 'static) -> Question {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = last.as_ref().filter(|question| is_usable(question)) {
            return question.clone();
        }
        let (answer, question) = watch::channel(None);
        // In a task of its own: a client that gives up must not end the question for the others.
        tokio::spawn(async move {
            let found = answer_of(call).await;
            answer.send_replace(Some((Instant::now(), found)));
        });
        *last = Some(question.clone());
        question
    }
}

/// Whether the broker is still being asked, or answered a moment ago.
fn is_usable(question: &Question) -> bool {
    // An error: the task that asks is gone.
    let asking = question.has_changed().is_ok();
    let answered = question.borrow();
    answered.as_ref().map_or(asking, |(at, _)| at.elapsed() < VALID_FOR)
}

async fn answer_of<T>(call: impl Future<Output = BrokerResult<T>>) -> BrokerAnswer {
    match timeout(PATIENCE, call).await {
        Ok(Ok(_)) => BrokerAnswer::Given,
        Ok(Err(error)) => BrokerAnswer::Failed {
            code: error.code(),
            why: runner_core::chain::chain(&error).to_string(),
        },
        Err(_) => BrokerAnswer::Late,
    }
}

/// The answer of [`alive`].
#[derive(Serialize)]
pub struct Alive {
    status: &'static str,
}

/// `GET /healthz`: the process runs and answers, whatever the state of the broker.
pub async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Details of the reason, or a caveat that does not make the process unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

/// `GET /readyz`: 200 if the broker answers and takes writes and every existing source was read once, else 503 with the
/// reasons; also 503 while the process stops or does not claim. If a source was read and is gone now, its last known
/// schedules stay in force: a note.
pub async fn ready(State(app): State<AppState>) -> Response {
    let broker = Arc::clone(&app.broker);
    let (broker, note) = match app.broker_answer.get(async move { broker.now().await }).await {
        BrokerAnswer::Given => match app.health.fault() {
            None => (None, caveats(&app)),
            Some(fault) => (Some(fault.code), shows_reasons(&app).then_some(fault.why)),
        },
        BrokerAnswer::Failed { code, why } => (Some(code), shows_reasons(&app).then_some(why)),
        BrokerAnswer::Late => (Some("broker_slow"), None),
    };
    let mut checks = vec![Check {
        note: note.map(|note| format::cut(&note, NOTE)),
        ..check("broker", broker)
    }];
    for source in app.catalog.statuses() {
        checks.push(of_source(&source, &app));
    }
    let process = if app.stopping.is_cancelled() {
        Some("stopping")
    } else {
        app.quiet.is_on().then_some("quiet")
    };
    checks.push(check("process", process));
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, checks })).into_response()
}

/// Caveats that endanger tasks although the broker answers.
fn caveats(app: &AppState) -> Option<String> {
    let found = app.caveats.borrow();
    let notes: Vec<String> = found.iter().map(|c| format!("{}: {}", c.code, c.message)).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn check(name: &str, reason: Option<&'static str>) -> Check {
    Check {
        name: name.to_owned(),
        ok: reason.is_none(),
        reason,
        note: None,
    }
}

/// Whether reasons may be shown without a login: such a text may name hosts and people.
fn shows_reasons(app: &AppState) -> bool {
    app.settings.metrics_open || matches!(app.settings.auth, Auth::Open)
}

/// The problems in a source that was read. The rest of it is in force, so this instance stays ready.
fn errors(source: &SourceStatus, detailed: Option<&AppState>) -> Option<String> {
    let count = match source.errors {
        0 => return None,
        1 => "1 error".to_owned(),
        more => format!("{more} errors"),
    };
    let Some(app) = detailed else { return Some(count) };
    let plan = app.catalog.plan();
    let is_error = |p: &&Problem| p.severity == Severity::Error && p.source == Some(source.source);
    let first = plan.problems.iter().find(is_error);
    Some(first.map_or(count.clone(), |first| format!("{count}: {}", first.one_line())))
}

fn of_source(source: &SourceStatus, app: &AppState) -> Check {
    let shows_reasons = shows_reasons(app);
    let (reason, note) = match &source.state {
        SourceState::Loaded => (None, errors(source, shows_reasons.then_some(app))),
        SourceState::Loading => (Some("loading"), None),
        SourceState::Stale { reason, .. } if shows_reasons => {
            (None, Some(format!("stale: {}", format::cut(reason, NOTE))))
        }
        SourceState::Stale { .. } => (None, Some("stale".to_owned())),
        SourceState::Unavailable { .. } if source.is_absent() => (None, Some("not there yet".to_owned())),
        SourceState::Unavailable { .. } => (Some("unavailable"), None),
    };
    Check {
        note,
        ..check(source.source.as_str(), reason)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn answered(at: Instant, answer: BrokerAnswer) -> BrokerAnswerCache {
        let (_answer, question) = watch::channel(Some((at, answer)));
        BrokerAnswerCache(Mutex::new(Some(question)))
    }

    #[tokio::test]
    async fn an_answer_is_shared_until_it_is_old() {
        // A clock that does not reach this instant during the test.
        let later = Instant::now() + Duration::from_secs(3600);
        let cache = answered(later, BrokerAnswer::Late);
        assert_eq!(
            cache.get(ready(Ok(()))).await,
            BrokerAnswer::Late,
            "the broker is not asked"
        );

        let earlier = Instant::now().checked_sub(VALID_FOR).unwrap();
        let cache = answered(earlier, BrokerAnswer::Late);
        assert_eq!(cache.get(ready(Ok(()))).await, BrokerAnswer::Given);
    }

    #[tokio::test]
    async fn a_client_that_gives_up_does_not_end_the_question() {
        let cache = BrokerAnswerCache::default();
        let (give, given) = oneshot::channel::<()>();
        let call = async move {
            given.await.unwrap();
            Ok(())
        };
        assert_eq!(cache.get(call).now_or_never(), None);
        give.send(()).unwrap();
        let own = pending::<BrokerResult<()>>();
        assert_eq!(
            cache.get(own).await,
            BrokerAnswer::Given,
            "the first question is still asked"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_waits_for_a_bounded_time() {
        let cache = BrokerAnswerCache::default();
        let began = Instant::now();
        assert_eq!(cache.get(pending::<BrokerResult<()>>()).await, BrokerAnswer::Late);
        assert!(began.elapsed() < PATIENCE * 2);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_asked_again() {
        let (gone, question) = watch::channel(None);
        drop(gone);
        let cache = BrokerAnswerCache(Mutex::new(Some(question)));
        assert_eq!(cache.get(ready(Ok(()))).await, BrokerAnswer::Given);
    }
}
