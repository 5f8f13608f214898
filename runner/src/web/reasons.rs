//! Reasons as pages show them, in the language of the page.

use serde::Serialize;

use super::app_state::AppState;
use super::format::{self, Locale};
use super::pages::rows::IN_A_LIST;
use crate::diagnose::{Reason, ReasonValue};

/// One reason.
#[derive(Debug, Serialize)]
pub(super) struct ReasonRow {
    code: &'static str,
    /// It lasts until someone acts.
    bad: bool,
    text: String,
    hint: Option<String>,
}

impl ReasonRow {
    /// All of them, in their order.
    pub(super) fn all(app: &AppState, locale: &Locale, reasons: &[Reason]) -> Vec<Self> {
        reasons.iter().map(|reason| Self::new(app, locale, reason)).collect()
    }

    fn new(app: &AppState, locale: &Locale, reason: &Reason) -> Self {
        let say = |key: &str, values: &[(&str, String)]| app.renderer.say(locale.lang, key, values).unwrap_or_default();
        let values = reason.shown(|value| match value {
            ReasonValue::Text(text) => format::cut(text, IN_A_LIST),
            ReasonValue::Count(count) => format::grouped(*count),
            ReasonValue::At(at) => locale.ago(*at),
            ReasonValue::State(state) => say(&format!("state.{state}"), &[]),
        });
        let code = reason.code.as_str();
        let hint = say(&format!("why.{code}.hint"), &values);
        Self {
            code,
            bad: reason.is_warning(),
            text: say(&format!("why.{code}"), &values),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        }
    }
}
