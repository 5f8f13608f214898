//! Reasons as pages show them, in the language of the page.

use serde::Serialize;

use super::app_state::AppState;
use super::format::{self, IN_A_LIST, Locale};
use super::translations::Lang;
use crate::diagnose::{Reason, ReasonValue, closed};

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
        let show = |value: &ReasonValue| match value {
            ReasonValue::Text(text) => format::cut(text, IN_A_LIST),
            ReasonValue::Count(count) => format::grouped(*count),
            ReasonValue::At(at) => locale.ago(*at),
            ReasonValue::State(state) => say(&format!("state.{state}"), &[]),
            ReasonValue::Outcome(outcome) => say(&format!("outcome.{outcome}"), &[]),
        };
        let code = reason.code.as_str();
        let (key, values) = (format!("why.{code}"), reason.shown_in_hint(show));
        let mut hint = say(&format!("{key}.hint"), &values);
        if reason.adds_meant(reason.code.hint()) {
            hint += &say("why.meant", &values);
        }
        let (colon, stop) = if locale.lang == Lang::Zh {
            ('：', "。")
        } else {
            (':', ".")
        };
        Self {
            code,
            bad: reason.is_warning(),
            text: closed(&say(&key, &reason.shown(show)), colon, stop),
            hint: Some(hint).filter(|hint| !hint.is_empty()),
        }
    }
}
