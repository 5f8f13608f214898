//! What people and programs did: the audit list, filtered, and as a file.
//!
//! For operators and administrators: it has names and addresses of people.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use runner_queue::{AuditEntry, MAX_AUDIT_ENTRIES};
use serde::{Deserialize, Serialize};

use super::all_tasks::instant;
use crate::access::UserRole;
use crate::audit::{AuditFilter, search};
use crate::web::app_state::AppState;
use crate::web::csv;
use crate::web::format::{self, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Entries on a page.
const SIZE: usize = 50;

/// Characters of a filter, at most.
const LONGEST_FILTER: usize = 200;

/// The query: every text is that of the address.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AuditQuery {
    by: String,
    action: String,
    target: String,
    from: String,
    to: String,
    before: String,
}

impl AuditQuery {
    fn filter(&self, locale: &Locale) -> Result<AuditFilter, PageError> {
        let text = |text: &str| format::cut(text.trim(), LONGEST_FILTER);
        Ok(AuditFilter {
            by: text(&self.by),
            action: text(&self.action),
            target: text(&self.target),
            from: instant(locale, "from", &self.from)?,
            to: instant(locale, "to", &self.to)?,
        })
    }

    /// The address of the page or file with this query, and the place where it continues.
    fn url(&self, page: &str, before: &str) -> String {
        let pairs = [
            ("by", self.by.as_str()),
            ("action", &self.action),
            ("target", &self.target),
            ("from", &self.from),
            ("to", &self.to),
            ("before", before),
        ];
        let said = pairs.iter().filter(|(_, value)| !value.is_empty());
        let said: Vec<String> = said
            .map(|(key, value)| format!("{key}={}", urls::encoded(value)))
            .collect();
        let sign = if said.is_empty() { "" } else { "?" };
        format!("{}/{page}{sign}{}", urls::root(), said.join("&"))
    }
}

/// One action.
#[derive(Debug, Serialize)]
struct AuditRow {
    key: String,
    at: InstantText,
    by: String,
    from: Option<String>,
    action: String,
    target: String,
    note: Option<String>,
    before: Option<String>,
    after: Option<String>,
    outcome: String,
    bad: bool,
}

impl AuditRow {
    fn of(locale: &Locale, (key, entry): (String, AuditEntry)) -> Self {
        Self {
            key,
            at: locale.moment(entry.at),
            by: entry.by,
            from: entry.from,
            action: entry.action,
            target: entry.target,
            note: entry.note,
            before: entry.before,
            after: entry.after,
            bad: matches!(entry.outcome.as_str(), "refused" | "unknown" | "interrupted"),
            outcome: entry.outcome,
        }
    }
}

/// The page.
#[derive(Debug, Serialize)]
struct AuditListPage {
    rows: Vec<AuditRow>,
    query: AuditQuery,
    narrowed: bool,
    /// The part after this one, and the first one unless this is it.
    older_url: Option<String>,
    newest_url: Option<String>,
    file_url: String,
    most: usize,
}

impl PageTemplate for AuditListPage {
    const TEMPLATE: &'static str = "audit.html";
}

/// `GET /queue/audit`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<AuditQuery>,
) -> Result<Response, PageError> {
    cx.may(UserRole::Operator)?;
    let filter = query.filter(&cx.locale)?;
    let before = Some(query.before.as_str()).filter(|place| !place.is_empty());
    let found = search(&*app.broker, &filter, before, SIZE).await?;
    let page = AuditListPage {
        rows: found
            .entries
            .into_iter()
            .map(|entry| AuditRow::of(&cx.locale, entry))
            .collect(),
        narrowed: !filter.is_empty(),
        older_url: found.next.map(|place| query.url("audit", &place)),
        newest_url: before.map(|_| query.url("audit", "")),
        file_url: query.url("audit.csv", ""),
        most: MAX_AUDIT_ENTRIES,
        query,
    };
    layout::show(&app, &cx, NavSection::Audit, &page)
}

/// `GET /queue/audit.csv`: all that the query finds, at most ten thousand rows of some hundred bytes.
pub async fn file(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<AuditQuery>,
) -> Result<Response, PageError> {
    cx.may(UserRole::Operator)?;
    let filter = query.filter(&cx.locale)?;
    let found = search(&*app.broker, &filter, None, MAX_AUDIT_ENTRIES).await?;
    let mut text = String::new();
    let heads = [
        "at", "by", "from", "action", "target", "note", "before", "after", "outcome",
    ];
    csv::add_row(&mut text, &heads);
    for (_, entry) in found.entries {
        let at = format!("{:.3}", entry.at);
        let maybe = |text: &Option<String>| text.clone().unwrap_or_default();
        let cells = [
            &at,
            &entry.by,
            &maybe(&entry.from),
            &entry.action,
            &entry.target,
            &maybe(&entry.note),
            &maybe(&entry.before),
            &maybe(&entry.after),
            &entry.outcome,
        ];
        csv::add_row(&mut text, &cells.map(String::as_str));
    }
    Ok((csv::headers("audit.csv"), text).into_response())
}
