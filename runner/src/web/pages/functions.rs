//! The functions of all manifests, and what starts each. Those that only triggers or people start are on no other list.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use runner_core::function::Function;
use runner_core::trigger::TriggerDefinition;
use serde::{Deserialize, Serialize};

use super::function::schedules_of;
use super::rows::{self, Pager};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Rows per page.
const ROWS: usize = 50;

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
    let on_page = found.iter().skip((number - 1).saturating_mul(ROWS)).take(ROWS);
    let page = FunctionsPage {
        functions: on_page.map(|(function, place)| row(&app, function, place)).collect(),
        all: all.len(),
        pager: Pager::new(number, ROWS, found.len() as u64, |n| {
            format!("{}?page={n}&q={}", urls::functions(), urls::encoded(&filter))
        }),
        filter,
    };
    layout::show(&app, &cx, NavSection::Schedules, &page)
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
