//! A row of the table as an object: what can be edited of it, and what its rule would do.

use serde::Serialize;

use super::{JsonField, ProblemObject, WrittenInstant};

/// A row as it is in the table.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Row))]
pub struct RowObject {
    /// The identity of its schedule, `db:<id>`.
    pub id: String,
    /// The label.
    pub name: String,
    /// The task type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The cron expression.
    pub spec: String,
    /// Its zone, if it names one.
    pub timezone: Option<String>,
    /// The payload without options.
    pub payload: JsonField,
    /// The options besides the zone.
    pub options: JsonField,
    /// Whether it is on.
    pub enabled: bool,
    /// This version; an edit brings it in `If-Match`.
    pub version: String,
    /// Whether the payload is text, so that the row can be changed and not only be switched or deleted.
    pub editable: bool,
}

/// What a rule would do.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = SchedulePreview))]
pub struct PreviewObject {
    /// In a sentence.
    pub words: String,
    /// The zone that it is in.
    pub timezone: String,
    /// The next ten occurrences; of `@every`, whose grid follows from the id of the schedule, those of a new one.
    pub next: Vec<PreviewedObject>,
    /// How many there are in the next 24 hours, at most 2,000.
    pub in_a_day: usize,
    /// Whether there are more than that.
    pub more: bool,
    /// What is doubtful.
    pub problems: Vec<ProblemObject>,
}

/// An occurrence of a preview.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = PreviewedOccurrence))]
pub struct PreviewedObject {
    /// When, with the offset of its zone.
    pub at: WrittenInstant,
    /// The offset before, if clocks change between the occurrence before it and this one.
    pub offset_before: Option<String>,
}
