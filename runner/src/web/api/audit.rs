//! The audit list: what people and programs did.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::endpoint::{ApiCall, Endpoint, ListPart};
use super::paging;
use super::problem::ApiProblem;
use crate::access::TokenRight;
use crate::audit::{AuditFilter, search};
use crate::objects::AuditObject;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::list_for(
        TokenRight::Act,
        "/audit",
        "Lists what people and programs did, the newest first; needs the right to act, since it names people.",
        list,
    )]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditListQuery {
    /// Only what someone did whose name contains this.
    by: Option<String>,
    /// Only actions that begin with this, such as `queue.`.
    action: Option<String>,
    /// Only what was done to a target that contains this.
    target: Option<String>,
    /// Only at or after this instant, RFC 3339.
    from: Option<String>,
    /// Only before this instant, RFC 3339.
    to: Option<String>,
    /// How many, 50 unless given.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

fn instant(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiProblem> {
    let read = |text: &str| {
        text.parse().map_err(|_| {
            let detail = format!("{name} must be an instant such as 2026-11-28T02:00:00Z");
            ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_query", detail)
        })
    };
    text.map(read).transpose()
}

async fn list(call: ApiCall, query: AuditListQuery) -> Result<ListPart<AuditObject>, ApiProblem> {
    let before = paging::place("audit", query.cursor.as_deref())?;
    let limit = paging::limit(query.limit)?;
    let filter = AuditFilter {
        by: query.by.unwrap_or_default(),
        action: query.action.unwrap_or_default(),
        target: query.target.unwrap_or_default(),
        from: instant("from", query.from.as_deref())?,
        to: instant("to", query.to.as_deref())?,
    };
    let found = search(&*call.app.broker, &filter, before.as_deref(), limit).await?;
    let zone = &call.app.settings.zone;
    let entries = found.entries.into_iter();
    Ok(ListPart {
        items: entries.map(|(_, entry)| AuditObject::of(entry, zone)).collect(),
        next: found.next.map(|place| paging::cursor("audit", &place)),
    })
}
