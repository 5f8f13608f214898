//! Errors of cron texts: a stable code, the position, the reason, and a hint.
//!
//! Messages name only the field; the caller that knows the file or row puts it in front.

use std::ops::Range;

/// An unusable cron text. [`Display`](std::fmt::Display) gives only the reason, such as
/// `hour 25 is not in 0-23`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    code: &'static str,
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

impl CronError {
    /// A field, descriptor or prefix that is not understood.
    pub(super) const BAD_FIELD: &'static str = "E203";
    /// An expression that is well formed but has no occurrence.
    pub(super) const NEVER: &'static str = "E204";
    /// The wrong number of fields.
    pub(super) const FIELD_COUNT: &'static str = "E205";
    /// A zone that the database does not have.
    pub(super) const UNKNOWN_ZONE: &'static str = "E210";

    pub(super) fn new(code: &'static str, span: Range<usize>, message: String) -> Self {
        Self {
            code,
            span,
            message,
            hint: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error for an expression of this text that never fires, as `Expression::never_fires` says. Parsing accepts
    /// such texts, because Go schedulers do; the code that loads a schedule decides whether to refuse it.
    #[must_use]
    pub fn never(text: &str) -> Self {
        let span = 0..text.len();
        Self::new(Self::NEVER, span, "never matches".to_owned())
            .with_hint("none of the months given has such a day, or a field lists nothing")
    }

    /// The stable code: `E203` bad field, `E204` never matches, `E205` number of fields, `E210`
    /// unknown zone.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The offending part, as a byte range in the text that was parsed.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A suggestion, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// The position of `part` in `whole`, in bytes. `part` must be a slice of `whole`.
pub(super) fn span_of(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start.saturating_add(part.len()).min(whole.len())
}
