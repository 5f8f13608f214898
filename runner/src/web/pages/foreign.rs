//! Entries of other programs' schedulers on the same broker: read-only. Schedules of this program have their own pages.

use runner_core::schedule::ScheduleId;
use runner_queue::{EnqueueEvent, ForeignEntry, Page};
use serde::Serialize;

use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::page_error::PageError;
use crate::web::urls;

/// Entries listed: as many as fit beside the schedules of this program.
const LISTED: usize = 100;
/// Enqueues listed on the page of one entry.
const EVENTS: usize = 100;

/// One entry.
#[derive(Debug, Serialize)]
pub(super) struct ForeignRow {
    id: String,
    url: String,
    scheduler: String,
    expression: String,
    zone: String,
    kind: String,
    queue: String,
    options: String,
    next: Option<InstantText>,
    last: Option<InstantText>,
}

impl ForeignRow {
    fn new(locale: &Locale, entry: &ForeignEntry) -> Self {
        Self {
            id: format::cut(entry.id.as_str(), IN_A_LIST),
            url: urls::schedule(entry.id.as_str()),
            scheduler: format::cut(&entry.scheduler, IN_A_LIST),
            expression: format::cut(&entry.spec, IN_A_LIST),
            zone: format::cut(&entry.zone, IN_A_LIST),
            kind: format::cut(&entry.kind, IN_A_LIST),
            queue: format::cut(entry.queue(), IN_A_LIST),
            options: format::cut(&entry.options.join(", "), IN_A_LIST * 4),
            next: entry.next.map(|at| locale.moment(at)),
            last: entry.last.map(|at| locale.moment(at)),
        }
    }
}

/// Entries that match a filter, soonest first, and the total number of matches.
pub(super) async fn rows(app: &AppState, locale: &Locale, filter: &str) -> Result<(Vec<ForeignRow>, usize), PageError> {
    let entries = app.broker.foreign_entries().await?;
    let needle = filter.to_lowercase();
    let matches = |e: &&ForeignEntry| {
        [e.id.as_str(), &e.kind, &e.spec, &e.scheduler]
            .iter()
            .any(|text| text.to_lowercase().contains(&needle))
    };
    let chosen: Vec<&ForeignEntry> = entries.iter().filter(matches).collect();
    let rows = chosen.iter().take(LISTED).map(|e| ForeignRow::new(locale, e)).collect();
    Ok((rows, chosen.len()))
}

/// A task that an entry enqueued.
#[derive(Debug, Serialize)]
pub(super) struct EventRow {
    at: InstantText,
    task: String,
    url: Option<String>,
}

/// The details of one entry. The entry disappears with its scheduler; its enqueue events may remain.
#[derive(Debug, Serialize)]
pub(super) struct Foreign {
    row: Option<ForeignRow>,
    events: Vec<EventRow>,
    event_count: u64,
}

impl Foreign {
    /// The scheduler that has the entry, if it is live.
    pub(super) fn scheduler(&self) -> Option<&str> {
        self.row.as_ref().map(|row| row.scheduler.as_str())
    }
}

/// The entry of this id, `None` if there is neither an entry nor a history.
pub(super) async fn find(app: &AppState, locale: &Locale, id: &ScheduleId) -> Result<Option<Foreign>, PageError> {
    let page = Page {
        number: 1,
        size: EVENTS,
    };
    let (entries, history) = tokio::try_join!(app.broker.foreign_entries(), app.broker.enqueue_events(id, page))?;
    let entry = entries.iter().find(|entry| entry.id == *id);
    if entry.is_none() && history.events.is_empty() {
        return Ok(None);
    }
    let event = |event: &EnqueueEvent| EventRow {
        at: locale.moment(event.at),
        task: format::cut(event.task.as_str(), IN_A_LIST),
        url: entry.map(|entry| urls::task(entry.queue(), event.task.as_str())),
    };
    Ok(Some(Foreign {
        row: entry.map(|entry| ForeignRow::new(locale, entry)),
        events: history.events.iter().map(event).collect(),
        event_count: history.total,
    }))
}
