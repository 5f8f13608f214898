//! The tasks of all queues in one state: filtered, searched, sorted, and selected for an action on many.
//!
//! The search is in `task_search`. Not here: the list of one queue (`tasks`), whose pages reach every task of it.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::DateTime;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::TaskInfo;
use serde::{Deserialize, Serialize};

use super::rows::{self, Pager};
use crate::task_search::{self, ErrorGroup, TaskFilter, TasksFound, instant_of};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Rows per page: as many as a form may select at once.
pub const ROWS: usize = 50;
/// Characters of a filter, at most.
const LONGEST_FILTER: usize = 200;
/// Queues that are searched, and offered for a choice.
const QUEUES: usize = 500;

/// One task.
#[derive(Debug, Serialize)]
struct FoundTask {
    /// Names it in the form: its queue and its id.
    pick: String,
    id: String,
    url: String,
    kind: String,
    queue: String,
    payload: String,
    when: Option<InstantText>,
    retried: u32,
    max_retry: u32,
    error: String,
}

/// The number of tasks in one state, with the list of these.
#[derive(Debug, Serialize)]
struct StateLink {
    state: &'static str,
    n: u64,
    url: String,
}

/// An error that many tasks have, with the list of these.
#[derive(Debug, Serialize)]
struct ErrorLink {
    error: String,
    n: usize,
    url: String,
}

/// The page.
#[derive(Debug, Serialize)]
struct AllTasksPage {
    state: &'static str,
    states: Vec<StateLink>,
    queues: Vec<String>,
    tasks: Vec<FoundTask>,
    pager: Pager,
    query: ListQuery,
    narrowed: bool,
    clear_url: String,
    searched: u64,
    all: u64,
    /// The list of the next part of the search.
    more_url: Option<String>,
    unreadable: usize,
    errors: Vec<ErrorLink>,
    sorts: [&'static str; 4],
    /// Whether an action of this name makes sense in this state.
    can_run: bool,
    can_archive: bool,
    can_delete: bool,
}

impl PageTemplate for AllTasksPage {
    const TEMPLATE: &'static str = "all_tasks.html";
}

/// The query of the page: every text is that of the address.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ListQuery {
    pub state: String,
    pub queue: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub q: String,
    pub error: String,
    pub from: String,
    pub to: String,
    pub sort: String,
    pub part: String,
    pub page: String,
}

impl ListQuery {
    /// The address of the list with this query, without what says nothing.
    pub fn url(&self) -> String {
        let pairs = [
            ("state", &self.state),
            ("queue", &self.queue),
            ("type", &self.kind),
            ("q", &self.q),
            ("error", &self.error),
            ("from", &self.from),
            ("to", &self.to),
            ("sort", &self.sort),
            ("part", &self.part),
            ("page", &self.page),
        ];
        let said = pairs.iter().filter(|(_, value)| !value.is_empty());
        let said: Vec<String> = said
            .map(|(key, value)| format!("{key}={}", urls::encoded(value)))
            .collect();
        format!("{}/tasks?{}", urls::root(), said.join("&"))
    }

    /// The same from the beginning, with another value.
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = Self {
            part: String::new(),
            page: String::new(),
            ..self.clone()
        };
        change(&mut other);
        other
    }

    /// The state: pending unless another is named.
    ///
    /// # Errors
    ///
    /// [`PageError::BadQuery`] if there is no such state.
    pub fn task_state(&self) -> Result<TaskState, PageError> {
        if self.state.is_empty() {
            return Ok(TaskState::Pending);
        }
        let words = || TaskState::ALL.map(TaskState::as_str).join(", ");
        self.state.parse().map_err(|_| PageError::BadQuery("state", words()))
    }

    /// What is looked for.
    ///
    /// # Errors
    ///
    /// [`PageError::BadQuery`] if an instant or a name cannot be read.
    pub fn filter(&self, locale: &Locale) -> Result<TaskFilter, PageError> {
        let text = |text: &str| format::cut(text.trim(), LONGEST_FILTER);
        let queue = match self.queue.is_empty() {
            true => None,
            false => {
                Some(QueueName::new(self.queue.as_str()).map_err(|_| PageError::BadQuery("queue", String::new()))?)
            }
        };
        Ok(TaskFilter {
            queue,
            kind: text(&self.kind),
            text: text(&self.q),
            error: text(&self.error),
            from: instant(locale, "from", &self.from)?,
            to: instant(locale, "to", &self.to)?,
        })
    }

    /// The part of the search, counted from 1.
    ///
    /// # Errors
    ///
    /// [`PageError::BadQuery`] unless it is such a number.
    pub fn part(&self) -> Result<usize, PageError> {
        if self.part.is_empty() {
            return Ok(1);
        }
        let found = self
            .part
            .parse()
            .ok()
            .filter(|n| (1..=task_search::LAST_PART).contains(n));
        found.ok_or_else(|| PageError::BadQuery("part", "1-1000000".to_owned()))
    }
}

/// An instant of a query: with an offset, or in the zone of the page.
pub(super) fn instant(locale: &Locale, name: &'static str, text: &str) -> Result<Option<Timestamp>, PageError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let local = || {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(locale.zone.clone()).ok()?.timestamp())
    };
    let found = text.parse().ok().or_else(local);
    let bad = || PageError::BadQuery(name, "2026-11-28 02:00, 2026-11-28T02:00:00Z".to_owned());
    found.map(Some).ok_or_else(bad)
}

/// The orders of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Newest,
    Oldest,
    Kind,
    Id,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Newest, Self::Oldest, Self::Kind, Self::Id];

    /// Ended tasks are listed newest first, the others in the order of their turn, unless a word says otherwise.
    fn of(word: &str, state: TaskState) -> Result<Self, PageError> {
        if word.is_empty() {
            let ended = matches!(state, TaskState::Archived | TaskState::Completed);
            return Ok(if ended { Self::Newest } else { Self::Oldest });
        }
        let found = Self::ALL.into_iter().find(|sort| sort.as_str() == word);
        found.ok_or_else(|| PageError::BadQuery("sort", Self::ALL.map(Self::as_str).join(", ")))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Kind => "type",
            Self::Id => "id",
        }
    }

    fn apply(self, tasks: &mut [TaskInfo]) {
        match self {
            Self::Newest => tasks.sort_by_key(|task| std::cmp::Reverse(instant_of(task))),
            Self::Oldest => tasks.sort_by_key(instant_of),
            Self::Kind => tasks.sort_by(|a, b| a.record.kind.cmp(&b.record.kind)),
            Self::Id => tasks.sort_by(|a, b| a.record.id.as_str().cmp(b.record.id.as_str())),
        }
    }
}

/// The tasks that a query finds.
///
/// # Errors
///
/// Those of the broker, and of queries that make no sense.
pub async fn find(app: &AppState, locale: &Locale, query: &ListQuery) -> Result<TasksFound, PageError> {
    let names = app.broker.queue_names().await?;
    let names: Vec<QueueName> = names.into_iter().take(QUEUES).collect();
    let queues = app.broker.queues_of(&names).await?;
    let (state, filter, part) = (query.task_state()?, query.filter(locale)?, query.part()?);
    Ok(task_search::search(&*app.broker, &queues, state, &filter, part).await?)
}

/// `GET /queue/tasks`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<ListQuery>,
) -> Result<Response, PageError> {
    let locale = &cx.locale;
    let number = rows::page_number(Some(query.page.as_str()).filter(|page| !page.is_empty()))?;
    let (state, part) = (query.task_state()?, query.part()?);
    let sort = Sort::of(&query.sort, state)?;
    let names: Vec<QueueName> = app.broker.queue_names().await?.into_iter().take(QUEUES).collect();
    let queues = app.broker.queues_of(&names).await?;
    let filter = query.filter(locale)?;
    let mut found = task_search::search(&*app.broker, &queues, state, &filter, part).await?;
    sort.apply(&mut found.tasks);
    let shown = found.tasks.iter().skip((number - 1).saturating_mul(ROWS)).take(ROWS);
    let counted = queues
        .iter()
        .filter(|queue| filter.queue.as_ref().is_none_or(|name| *name == queue.name));
    let states = TaskState::ALL.map(|state| StateLink {
        state: state.as_str(),
        n: counted.clone().filter_map(|queue| queue.counts.get(&state)).sum(),
        url: query.with(|query| state.as_str().clone_into(&mut query.state)).url(),
    });
    let page = AllTasksPage {
        state: state.as_str(),
        states: states.into_iter().collect(),
        queues: names.iter().map(ToString::to_string).collect(),
        tasks: shown.map(|task| row(locale, task)).collect(),
        pager: Pager::new(number, ROWS, found.tasks.len() as u64, |page| {
            let page = page.to_string();
            ListQuery { page, ..query.clone() }.url()
        }),
        narrowed: !filter.is_empty() || filter.queue.is_some(),
        clear_url: ListQuery {
            state: state.as_str().to_owned(),
            ..ListQuery::default()
        }
        .url(),
        searched: found.searched,
        all: found.all,
        more_url: found
            .more
            .then(|| query.with(|query| query.part = (part + 1).to_string()).url()),
        unreadable: found.unreadable,
        errors: found
            .errors
            .into_iter()
            .map(|group| error_link(&query, group))
            .collect(),
        sorts: Sort::ALL.map(Sort::as_str),
        can_run: !matches!(state, TaskState::Active | TaskState::Pending),
        can_archive: !matches!(state, TaskState::Active | TaskState::Archived | TaskState::Completed),
        can_delete: state != TaskState::Active,
        query,
    };
    layout::show(&app, &cx, NavSection::Tasks, &page)
}

fn error_link(query: &ListQuery, group: ErrorGroup) -> ErrorLink {
    let url = query.with(|query| query.error.clone_from(&group.error)).url();
    ErrorLink {
        url,
        n: group.n,
        error: group.error,
    }
}

fn row(locale: &Locale, task: &TaskInfo) -> FoundTask {
    let record = &task.record;
    let error = record.last_error.lines().next().unwrap_or_default();
    FoundTask {
        pick: pick_of(&record.queue, record.id.as_str()),
        id: record.id.to_string(),
        url: urls::task(record.queue.as_str(), record.id.as_str()),
        kind: format::cut(&record.kind, IN_A_LIST),
        queue: record.queue.to_string(),
        payload: payload::preview(&record.payload, task.payload_bytes),
        when: instant_of(task).map(|at| locale.moment(at)),
        retried: record.retried,
        max_retry: record.max_retry,
        error: format::cut(error, IN_A_LIST),
    }
}

/// Names a task in a form: the length of the queue's name, the name, the id.
pub fn pick_of(queue: &QueueName, id: &str) -> String {
    format!("{}:{queue}{id}", queue.as_str().len())
}

/// The task of such a name.
pub fn picked(text: &str) -> Option<(QueueName, TaskId)> {
    let (length, rest) = text.split_once(':')?;
    let (queue, id) = rest.split_at_checked(length.parse().ok()?)?;
    Some((QueueName::new(queue).ok()?, TaskId::new(id).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_picked_task_is_the_one_that_was_named() {
        for (queue, id) in [("default", "a"), ("a:b", "7:x/y"), ("空", "空")] {
            let (queue, id) = (QueueName::new(queue).unwrap(), TaskId::new(id).unwrap());
            assert_eq!(picked(&pick_of(&queue, id.as_str())), Some((queue, id)));
        }
        for bad in ["", "7", "x:default", "99:default", "7:default", "1:空a", "-1:a"] {
            assert_eq!(picked(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_says_what_the_query_says_and_no_more() {
        let query = ListQuery {
            state: "archived".to_owned(),
            q: "a b".to_owned(),
            part: "3".to_owned(),
            ..ListQuery::default()
        };
        assert_eq!(query.url(), "/queue/tasks?state=archived&q=a%20b&part=3");
        let other = query.with(|query| query.error = "x".to_owned());
        assert_eq!(other.url(), "/queue/tasks?state=archived&q=a%20b&error=x");
    }
}
