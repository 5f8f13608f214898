//! Messages and entries that could not become tasks and are kept: the list, one of them, its body as a file.
//!
//! What went to a dead letter is at its server, and what was dropped is nowhere. Running and deleting is in `act`.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use runner_queue::MAX_DOCUMENT_NAMES;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{self, Pager};
use crate::trigger::{self, SavedMessage, SavedNames};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::payload::{self, PayloadText};
use crate::web::render::PageTemplate;
use crate::web::request_context::SharedContext;
use crate::web::urls;

/// Messages on a page of the list.
const SIZE: usize = 50;

/// Characters of a body in the list: it is a link there, in one line.
const PREVIEW: usize = 48;

/// Triggers to choose from.
const CHOICES: usize = 100;

/// Characters of a reason and of a fact, at most.
const LONGEST_TEXT: usize = 4000;

/// One message of the list.
#[derive(Debug, Serialize)]
struct MessageRow {
    url: String,
    trigger: String,
    trigger_url: String,
    at: Option<InstantText>,
    why: String,
    bytes: u64,
    body: String,
}

impl MessageRow {
    fn new(locale: &Locale, message: &SavedMessage) -> Self {
        Self {
            url: urls::bad_message(&message.name, &message.stamp),
            trigger: format::cut(message.trigger(), IN_A_LIST),
            trigger_url: urls::bad_messages(Some(message.trigger())),
            at: message.at().map(|at| locale.moment(at)),
            why: format::cut(message.why(), IN_A_LIST * 4),
            bytes: message.bytes(),
            body: format::cut(&payload::preview(&message.body(), message.bytes()), PREVIEW),
        }
    }
}

/// Those of one trigger, or of all.
#[derive(Debug, Serialize)]
struct TriggerChoice {
    /// Its id; empty for all.
    trigger: String,
    n: usize,
    url: String,
    is_shown: bool,
}

/// The list.
#[derive(Debug, Serialize)]
struct BadMessagesPage {
    rows: Vec<MessageRow>,
    /// The trigger whose messages are listed; empty for those of all.
    trigger: String,
    /// How many are kept, of this trigger or of all.
    count: usize,
    /// How many are counted, if there may be more.
    most: Option<usize>,
    /// All triggers that have any, after the choice of all; nothing to choose from: empty.
    choices: Vec<TriggerChoice>,
    pager: Pager,
}

impl PageTemplate for BadMessagesPage {
    const TEMPLATE: &'static str = "bad_messages.html";
}

/// The query of the list.
#[derive(Debug, Deserialize)]
pub struct BadMessagesQuery {
    trigger: Option<String>,
    page: Option<String>,
}

/// `GET /queue/bad-messages`
pub async fn show(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Query(query): Query<BadMessagesQuery>,
) -> Result<Response, PageError> {
    let number = rows::page_number(query.page.as_deref())?;
    let wanted = query.trigger.as_deref().filter(|wanted| !wanted.is_empty());
    let all = SavedNames::all(&*app.broker).await?;
    let names = all.of(wanted);
    let skipped = (number - 1).saturating_mul(SIZE);
    let of_page: Vec<String> = names.iter().skip(skipped).take(SIZE).cloned().collect();
    let messages = trigger::messages_named(&*app.broker, &of_page).await?;
    let page = BadMessagesPage {
        rows: messages
            .iter()
            .map(|message| MessageRow::new(&cx.locale, message))
            .collect(),
        trigger: format::cut(wanted.unwrap_or_default(), IN_A_LIST),
        count: names.len(),
        most: all.are_cut().then_some(MAX_DOCUMENT_NAMES),
        choices: choices(&all, wanted),
        pager: Pager::new(number, SIZE, names.len() as u64, |n| urls::bad_messages_page(wanted, n)),
    };
    layout::show(&app, &cx, NavSection::None, &page)
}

fn choices(all: &SavedNames, wanted: Option<&str>) -> Vec<TriggerChoice> {
    let triggers = all.by_trigger();
    if triggers.len() < 2 && wanted.is_none() {
        return Vec::new();
    }
    let of_all = TriggerChoice {
        trigger: String::new(),
        n: all.of(None).len(),
        url: urls::bad_messages(None),
        is_shown: wanted.is_none(),
    };
    let each = triggers.iter().take(CHOICES).map(|one| TriggerChoice {
        trigger: format::cut(&one.trigger, IN_A_LIST),
        n: one.count,
        url: urls::bad_messages(Some(&one.trigger)),
        is_shown: wanted == Some(one.trigger.as_str()),
    });
    std::iter::once(of_all).chain(each).collect()
}

/// One message.
#[derive(Debug, Serialize)]
struct BadMessagePage {
    trigger: String,
    back_url: String,
    /// The page of the function, if it is in force.
    function: Option<(String, String)>,
    at: Option<InstantText>,
    why: String,
    /// What its kind knows of it.
    facts: Vec<(String, String)>,
    body: PayloadText,
    url: String,
    /// Why it cannot be run.
    refused: Option<String>,
}

impl PageTemplate for BadMessagePage {
    const TEMPLATE: &'static str = "bad_message.html";
}

/// The message that an address names.
///
/// # Errors
///
/// [`PageError::Gone`] if it is not kept any more; those of the broker.
pub(crate) async fn message_of(app: &AppState, name: &str, stamp: &str) -> Result<SavedMessage, PageError> {
    let name = urls::text_in(name).unwrap_or_else(|| name.to_owned());
    let found = trigger::kept_message(&*app.broker, &name, stamp).await?;
    found.ok_or_else(|| PageError::Gone("message", format::cut(&name, IN_A_LIST)))
}

/// `GET /queue/bad-messages/{name}/{stamp}`
pub async fn one(
    State(app): State<AppState>,
    Extension(cx): Extension<SharedContext>,
    Path((name, stamp)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let message = message_of(&app, &name, &stamp).await?;
    let triggers = app.catalog.triggers();
    let trigger = triggers.iter().find(|trigger| trigger.id.as_str() == message.trigger());
    let page = BadMessagePage {
        trigger: format::cut(message.trigger(), IN_A_LIST),
        back_url: urls::bad_messages(Some(message.trigger())),
        function: trigger.map(|trigger| (trigger.function.clone(), urls::function(&trigger.function))),
        at: message.at().map(|at| cx.locale.moment(at)),
        why: format::cut(message.why(), LONGEST_TEXT),
        facts: message
            .facts()
            .map(|(name, value)| (format::cut(name, IN_A_LIST), fact(value)))
            .collect(),
        body: PayloadText::part(&message.body(), message.bytes()),
        url: urls::bad_message(&message.name, &message.stamp),
        refused: trigger.and_then(|trigger| message.delivery(trigger).err()),
    };
    layout::show(&app, &cx, NavSection::None, &page)
}

fn fact(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    format::cut(&text, LONGEST_TEXT)
}

/// `GET /queue/bad-messages/{name}/{stamp}/body`: what is kept of it, as a file.
pub async fn body(
    State(app): State<AppState>,
    Path((name, stamp)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let message = message_of(&app, &name, &stamp).await?;
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"message.bin\""),
    ];
    Ok((headers, message.body()).into_response())
}
