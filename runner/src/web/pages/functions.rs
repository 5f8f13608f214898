//! The functions of all manifests, and what starts each. Those that only triggers or people start are on no other list. Also the
//! task types without a manifest whose runs are recorded.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use runner_core::function::Function;
use runner_core::trigger::TriggerDefinition;
use runner_queue::type_runs;
use serde::{Deserialize, Serialize};

use super::function::schedules_of;
use super::rows::{self, Pager};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Rows per page.
const ROWS: usize = 50;

/// Task types that are listed: as many as one instance follows.
const TYPES: usize = 200;

/// What starts one function: this many are named.
const NAMED: usize = 3;

/// Characters of the filter, at most.
const LONGEST_FILTER: usize = 200;

/// One function.
#[derive(Debug, Serialize)]
struct FunctionRow {
    name: String,
    url: String,
    kind: &'static str,
    place: String,
    description: String,
    /// Its schedules and triggers in a few words.
    starts: Vec<String>,
    /// Further ones.
    more: usize,
}

/// The page.
#[derive(Debug, Serialize)]
struct FunctionsPage {
    functions: Vec<FunctionRow>,
    all: usize,
    filter: String,
    pager: Pager,
    types: Vec<TypeRow>,
}

/// A task type whose runs are recorded.
#[derive(Debug, Serialize)]
struct TypeRow {
    kind: String,
    url: String,
    last: InstantText,
    /// Whether an instance counts its runs at present, because there are too many for records.
    counting: bool,
}

impl PageTemplate for FunctionsPage {
    const TEMPLATE: &'static str = "functions.html";
}

/// The query of the page.
#[derive(Debug, Deserialize)]
pub struct FunctionsQuery {
    q: Option<String>,
    page: Option<String>,
}

/// `GET /queue/functions`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<FunctionsQuery>,
) -> Result<Response, PageError> {
    let number = rows::page_number(query.page.as_deref())?;
    let filter = format::cut(query.q.as_deref().unwrap_or_default().trim(), LONGEST_FILTER);
    let all = app.catalog.functions();
    let needle = filter.to_lowercase();
    let fits = |f: &&(std::sync::Arc<Function>, String)| {
        let (function, place) = f;
        let texts = [
            function.name.as_str(),
            function.kind.key(),
            place,
            &function.description,
        ];
        needle.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&needle))
    };
    let found: Vec<_> = all.iter().filter(fits).collect();
    let types = types(&app, &cx.locale, &needle).await;
    let on_page = found.iter().skip((number - 1).saturating_mul(ROWS)).take(ROWS);
    let page = FunctionsPage {
        functions: on_page.map(|(function, place)| row(&app, function, place)).collect(),
        all: all.len(),
        pager: Pager::new(number, ROWS, found.len() as u64, |n| {
            format!("{}?page={n}&q={}", urls::functions(), urls::encoded(&filter))
        }),
        filter,
        types,
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
}

/// The types of which instances say that they record them, by name. None while the store does not answer: the functions are known
/// without it, and the page says what is wrong with it.
async fn types(app: &AppState, locale: &Locale, needle: &str) -> Vec<TypeRow> {
    let mut rows: Vec<(String, Timestamp, bool)> = Vec::new();
    for (_, said) in type_runs(&*app.broker).await.unwrap_or_default() {
        if !said.kind.to_lowercase().contains(needle) {
            continue;
        }
        let counting = said.counting().is_some();
        match rows.last_mut().filter(|(kind, ..)| *kind == said.kind) {
            Some(row) => (row.1, row.2) = (row.1.max(said.last_at), row.2 || counting),
            None => rows.push((said.kind, said.last_at, counting)),
        }
    }
    let shown = rows.into_iter().take(TYPES).map(|(kind, last, counting)| TypeRow {
        url: urls::runs_of_type(&kind),
        kind: format::cut(&kind, IN_A_LIST),
        last: locale.moment(last),
        counting,
    });
    shown.collect()
}

fn row(app: &AppState, function: &Function, place: &str) -> FunctionRow {
    let plan = app.catalog.plan();
    let triggers = app.catalog.triggers();
    let schedules = schedules_of(&plan, function).map(|definition| definition.timing.text.clone());
    let own = triggers.iter().filter(|trigger| trigger.function == function.name);
    let mut starts: Vec<String> = schedules.chain(own.map(|trigger| in_words(trigger))).collect();
    let more = starts.len().saturating_sub(NAMED);
    starts.truncate(NAMED);
    FunctionRow {
        url: urls::function(&function.name),
        name: function.name.clone(),
        kind: function.kind.key(),
        place: place.to_owned(),
        description: format::cut(&function.description, IN_A_LIST),
        starts: starts.iter().map(|text| format::cut(text, IN_A_LIST)).collect(),
        more,
    }
}

fn in_words(trigger: &TriggerDefinition) -> String {
    let (word, event) = (trigger.kind.key(), trigger.kind.event());
    format!("{word} {event}").trim_end().to_owned()
}
