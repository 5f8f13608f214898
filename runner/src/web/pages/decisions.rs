//! The decisions of the last hours about all schedules: what ran at that time, and with which result.
//!
//! The page of a schedule has all that are kept of it.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_queue::{Decision, DecisionKind};
use serde::{Deserialize, Serialize};

use super::all_tasks::instant;
use super::rows::{self, DecisionRow, Pager};
use crate::diagnose::{Fate, fate};
use crate::web::app_state::AppState;
use crate::web::format::{self, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::timeline;
use crate::web::urls;

/// Rows per page.
const ROWS: usize = 50;
/// Characters of the filter, at most.
const LONGEST_FILTER: usize = 200;

/// The page.
#[derive(Debug, Serialize)]
struct DecisionsPage {
    decisions: Vec<DecisionRow>,
    /// From when on all decisions are known.
    since: String,
    from: String,
    to: String,
    filter: String,
    only: &'static str,
    /// What `only` can be.
    words: Vec<&'static str>,
    pager: Pager,
}

impl PageTemplate for DecisionsPage {
    const TEMPLATE: &'static str = "decisions.html";
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct DecisionsQuery {
    page: Option<String>,
    from: Option<String>,
    to: Option<String>,
    only: Option<String>,
    q: Option<String>,
}

/// Which decisions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Any,
    Failed,
    Succeeded,
    Open,
    Lost,
}

impl Only {
    const ALL: [Self; 5] = [Self::Any, Self::Failed, Self::Succeeded, Self::Open, Self::Lost];

    fn of(word: &str) -> Result<Self, PageError> {
        let found = Self::ALL.into_iter().find(|only| only.as_str() == word);
        found.ok_or_else(|| PageError::BadQuery("only", "failed, succeeded, open, lost".to_owned()))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
            Self::Open => "open",
            Self::Lost => "lost",
        }
    }

    fn fits(self, decision: &Decision) -> bool {
        let fate = fate(decision);
        match self {
            Self::Any => true,
            Self::Failed => fate == Some(Fate::Bad),
            Self::Succeeded => fate == Some(Fate::Good),
            Self::Open => matches!(fate, Some(Fate::Open | Fate::Again)),
            Self::Lost => matches!(decision.kind, DecisionKind::Missed | DecisionKind::Skipped),
        }
    }
}

/// `GET /queue/decisions`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<DecisionsQuery>,
) -> Result<Response, PageError> {
    let locale = &cx.locale;
    let number = rows::page_number(query.page.as_deref())?;
    let only = Only::of(query.only.as_deref().unwrap_or_default())?;
    let from = instant(locale, "from", query.from.as_deref().unwrap_or_default())?;
    let to = instant(locale, "to", query.to.as_deref().unwrap_or_default())?;
    let filter = format::cut(query.q.as_deref().unwrap_or_default().trim(), LONGEST_FILTER);
    let recent = app
        .recent_decisions
        .look(&*app.broker, timeline::first_instant(locale.now))
        .await?;
    let needle = filter.to_lowercase();
    let fits = |d: &&Decision| {
        from.is_none_or(|from| d.nominal >= from)
            && to.is_none_or(|to| d.nominal < to)
            && only.fits(d)
            && d.schedule.as_str().to_lowercase().contains(&needle)
    };
    let found: Vec<&Decision> = recent.decisions.iter().filter(fits).collect();
    let plan = app.catalog.plan();
    let queue = |d: &Decision| plan.schedules.get(&d.schedule).map(|known| known.task.queue.clone());
    let shown = found.iter().skip((number - 1).saturating_mul(ROWS)).take(ROWS);
    let (from_text, to_text) = (shown_instant(locale, from), shown_instant(locale, to));
    let address = |page: usize| list_url(page, only, [&from_text, &to_text, &filter]);
    let page = DecisionsPage {
        decisions: shown
            .map(|d| DecisionRow::new(locale, d, queue(d).as_ref().map(|queue| queue.as_str())))
            .collect(),
        since: locale.moment(recent.since).short,
        pager: Pager::new(number, ROWS, found.len() as u64, address),
        from: from_text.clone(),
        to: to_text.clone(),
        only: only.as_str(),
        words: Only::ALL.into_iter().skip(1).map(Only::as_str).collect(),
        filter: filter.clone(),
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
}

fn list_url(page: usize, only: Only, [from, to, filter]: [&String; 3]) -> String {
    let page = page.to_string();
    let pairs = [
        ("page", page.as_str()),
        ("only", only.as_str()),
        ("from", from),
        ("to", to),
        ("q", filter),
    ];
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    let said: Vec<String> = said
        .map(|(key, value)| format!("{key}={}", urls::encoded(value)))
        .collect();
    format!("{}/decisions?{}", urls::root(), said.join("&"))
}

/// As [`instant`] reads it.
fn shown_instant(locale: &Locale, at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| {
        let local = at.to_zoned(locale.zone.clone());
        local.strftime("%Y-%m-%d %H:%M").to_string()
    })
}
