//! What `runner check` finds in the rows of the table, and whether all rows or files have just disappeared.
//!
//! It creates no file and writes nothing.

use std::sync::Arc;
use std::time::Duration;

use runner_core::schedule::{Definition, Problem, Source};
use runner_queue::Broker;
use serde_json::Value;

use super::check_findings::{finding, of_problem, unserved, with_next};
use super::state_store::BrokerStateStore;
use super::{CommandContext, assemble};
use crate::config::Settings;
use crate::source::{self, ALL_FILES_GONE, Catalog, Code};

/// How long the database may take to answer: a check must be quick where there is none.
const LIMIT: Duration = Duration::from_secs(3);

/// The rows, and their problems.
#[derive(Default)]
pub(super) struct TableFindings {
    /// Problems.
    pub(super) findings: Vec<Value>,
    /// The rows that are in force.
    pub(super) definitions: Vec<Definition>,
    /// Whether the rows could not be read, which is not an error in a row.
    pub(super) unseen: bool,
}

/// Reads the rows. What was in force before is asked of the broker, if there is one.
pub(super) async fn look(
    context: &CommandContext,
    settings: &Settings,
    broker: Option<Arc<dyn Broker>>,
) -> TableFindings {
    let sources = source::SourceSettings {
        keep: broker.and_then(|broker| BrokerStateStore::of_look(broker, settings)),
        ..assemble::looked_at(settings, Code::default())
    };
    let place = sources.table.as_ref().map(source::TableSettings::place);
    let loaded = Catalog::load_once(sources, context.clock.clone());
    let Ok(loaded) = tokio::time::timeout(LIMIT, loaded).await else {
        return unread(place, &format!("no answer within {}s", LIMIT.as_secs()));
    };
    let plan = &loaded.plan;
    let is_of_rows = |p: &&Problem| p.source == Some(Source::Table) || p.code == ALL_FILES_GONE;
    let rows = plan.schedules.values().filter(|d| d.origin.source == Source::Table);
    let definitions: Vec<Definition> = rows.cloned().collect();
    let now = context.clock.now();
    let problems = plan.problems.iter().filter(is_of_rows);
    let findings: Vec<Value> = problems
        .map(|p| with_next(of_problem(p), p, &definitions, now))
        .chain(unserved(settings, &definitions))
        .collect();
    let status = loaded.statuses.iter().find(|s| s.source == Source::Table);
    let reason = status.and_then(|s| s.state.reason());
    // A table that does not exist is an error of its own.
    let unseen = reason.filter(|_| findings.iter().all(|f| f["severity"] != "error"));
    let unseen = unseen.map(|reason| unread(place, reason));
    TableFindings {
        unseen: unseen.is_some(),
        findings: unseen.into_iter().flat_map(|u| u.findings).chain(findings).collect(),
        definitions,
    }
}

fn unread(place: Option<String>, reason: &str) -> TableFindings {
    let text = format!("the table cannot be read, so its rows are not checked: {reason}");
    let place = place.unwrap_or_default();
    TableFindings {
        findings: vec![finding("warning", "D109", &place, &text, None, None)],
        definitions: Vec::new(),
        unseen: true,
    }
}
