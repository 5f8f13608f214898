//! The form of a row: what was typed, what is wrong with it, what it would do, and what someone else has saved meanwhile.
//!
//! Only shows; forms are taken by `act`.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use runner_core::schedule::{Definition, Problem, ScheduleId, When};
use serde::Serialize;

use super::rows::ProblemRow;
use super::schedule_row::in_words;
use crate::source::{EditableRow, RowField, RowFields};
use crate::web::app_state::AppState;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::layout::{self, NavSection};
use crate::web::page_error::PageError;
use crate::web::preview::Preview;
use crate::web::render::PageTemplate;
use crate::web::request_context::RequestContext;
use crate::web::urls;

/// Types that are proposed.
const PROPOSED: usize = 200;

/// The most characters of a stored text beside a typed one.
const LONGEST_OTHER: usize = 20_000;

/// What is shown besides what was typed.
#[derive(Default)]
pub(crate) struct RowFormState {
    /// The row; `None`: it is a new one.
    pub id: Option<ScheduleId>,
    /// The version that saving replaces.
    pub version: String,
    /// What was typed, or is stored.
    pub fields: RowFields,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What it would do.
    pub preview: Option<(Definition, Preview)>,
    /// What someone else has saved meanwhile.
    pub other: Option<EditableRow>,
    /// Why it was not saved.
    pub refusal: Option<String>,
    /// Whether it may have been saved nevertheless.
    pub unsure: bool,
}

/// The page.
#[derive(Debug, Serialize)]
struct RowEditorPage {
    id: String,
    /// Where the form goes.
    url: String,
    back: String,
    version: String,
    fields: TypedFields,
    faults: FieldFaults,
    types: Vec<String>,
    server_zone: String,
    preview: Option<PreviewView>,
    differences: Vec<Difference>,
    unsure: bool,
    refusal: Option<String>,
}

impl PageTemplate for RowEditorPage {
    const TEMPLATE: &'static str = "row_editor.html";
}

#[derive(Debug, Serialize)]
struct TypedFields {
    name: String,
    kind: String,
    spec: String,
    zone: String,
    payload: String,
    options: String,
    enabled: bool,
}

/// The problems of each field.
#[derive(Debug, Default, Serialize)]
struct FieldFaults {
    name: Vec<ProblemRow>,
    kind: Vec<ProblemRow>,
    spec: Vec<ProblemRow>,
    zone: Vec<ProblemRow>,
    payload: Vec<ProblemRow>,
    options: Vec<ProblemRow>,
    row: Vec<ProblemRow>,
}

impl FieldFaults {
    fn of(problems: &[Problem]) -> Self {
        let mut faults = Self::default();
        for problem in problems {
            let list = match RowField::of(problem) {
                RowField::Name => &mut faults.name,
                RowField::Kind => &mut faults.kind,
                RowField::Spec => &mut faults.spec,
                RowField::Zone => &mut faults.zone,
                RowField::Payload => &mut faults.payload,
                RowField::Options => &mut faults.options,
                RowField::Status | RowField::Row => &mut faults.row,
            };
            list.push(ProblemRow::new(problem));
        }
        faults
    }
}

#[derive(Debug, Serialize)]
struct PreviewView {
    words: String,
    zone: String,
    next: Vec<PreviewedInstant>,
    in_a_day: usize,
    more: bool,
    /// Whether its grid follows from an id that it does not have yet.
    shifted: bool,
}

#[derive(Debug, Serialize)]
struct PreviewedInstant {
    at: InstantText,
    /// The offsets before and after a change of clocks.
    clocks: Option<(String, String)>,
}

impl PreviewView {
    fn new(locale: &Locale, id: Option<&ScheduleId>, definition: &Definition, preview: &Preview) -> Self {
        let zone = &definition.timing.zone;
        let next = preview.next.iter().map(|one| PreviewedInstant {
            at: locale.moment_in(one.at, zone),
            clocks: one.clocks.clone(),
        });
        Self {
            words: in_words(locale, definition),
            zone: definition.timing.zone_name.clone(),
            next: next.collect(),
            in_a_day: preview.in_a_day,
            more: preview.more,
            shifted: id.is_none() && matches!(definition.timing.when, When::Every { .. }),
        }
    }
}

/// A field that someone else has saved otherwise.
#[derive(Debug, Serialize)]
struct Difference {
    /// The key of its label.
    field: &'static str,
    stored: String,
}

fn differences(typed: &RowFields, stored: &RowFields) -> Vec<Difference> {
    let state = |on: bool| if on { "1" } else { "0" };
    let pairs = [
        ("name", typed.name.as_str(), stored.name.as_str()),
        ("kind", &typed.kind, &stored.kind),
        ("spec", &typed.spec, &stored.spec),
        ("zone", &typed.zone, &stored.zone),
        ("payload", &typed.payload, &stored.payload),
        ("options", &typed.options, &stored.options),
        ("enabled", state(typed.enabled), state(stored.enabled)),
    ];
    let differ = pairs.into_iter().filter(|(_, typed, stored)| typed != stored);
    differ
        .map(|(field, _, stored)| Difference {
            field,
            stored: format::cut(stored, LONGEST_OTHER),
        })
        .collect()
}

/// What a type may be: functions of manifests, and the types of other schedules.
fn proposed(app: &AppState) -> Vec<String> {
    let functions = app.catalog.functions();
    let of_functions = functions.iter().map(|(function, _)| function.task_type());
    let plan = app.catalog.plan();
    let of_schedules = plan.schedules.values().map(|definition| definition.task.kind.clone());
    let all: BTreeSet<String> = of_functions.chain(of_schedules).collect();
    let short = all.into_iter().filter(|kind| kind.chars().count() <= IN_A_LIST);
    short.take(PROPOSED).collect()
}

/// The page, with this status.
pub(crate) fn show(
    app: &AppState,
    cx: &RequestContext,
    status: StatusCode,
    state: RowFormState,
) -> Result<Response, PageError> {
    let id = state.id.as_ref();
    let (url, back) = match id {
        Some(id) => {
            let page = urls::schedule(id.as_str());
            (format!("{page}/edit"), page)
        }
        None => (format!("{}/new", urls::schedules()), urls::schedules()),
    };
    let preview = state.preview.as_ref();
    let differences = state
        .other
        .as_ref()
        .map(|other| differences(&state.fields, &other.fields));
    let page = RowEditorPage {
        id: id.map(ToString::to_string).unwrap_or_default(),
        url,
        back,
        version: state
            .other
            .as_ref()
            .map_or(state.version, |other| other.version.clone()),
        faults: FieldFaults::of(&state.problems),
        types: proposed(app),
        server_zone: app.settings.zone_name.clone(),
        preview: preview.map(|(definition, preview)| PreviewView::new(&cx.locale, id, definition, preview)),
        differences: differences.unwrap_or_default(),
        unsure: state.unsure,
        refusal: state.refusal,
        fields: TypedFields {
            name: state.fields.name,
            kind: state.fields.kind,
            spec: state.fields.spec,
            zone: state.fields.zone,
            payload: state.fields.payload,
            options: state.fields.options,
            enabled: state.fields.enabled,
        },
    };
    let page = layout::show(app, cx, NavSection::Schedules, &page)?;
    Ok((status, page).into_response())
}
