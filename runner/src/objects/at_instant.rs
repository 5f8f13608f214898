//! The decision about one instant of a schedule, or why there is none, as an object.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{DecisionObject, WrittenInstant};
use crate::diagnose::AtInstant;

/// The decision about an instant, or why there is none.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = ScheduleAtInstant))]
pub struct AtInstantObject {
    /// The instant, in the zone of the schedule.
    pub at: WrittenInstant,
    /// `decided`; `covered`: by a decision about several occurrences; `not_due`: by the rule as it is now; `not_yet`;
    /// `forgotten`: decisions as old are not stored any more; `no_record`: the schedule was not there, not enabled, or had another
    /// rule.
    pub answer: String,
    /// The decision.
    pub decision: Option<DecisionObject>,
    /// The occurrence before, if it is not due.
    pub before: Option<WrittenInstant>,
    /// The occurrence after, if it is not due.
    pub after: Option<WrittenInstant>,
    /// Up to where everything is decided, if it is not yet.
    pub decided_to: Option<WrittenInstant>,
    /// The oldest decision that is stored, if it is forgotten.
    pub known_from: Option<WrittenInstant>,
}

impl AtInstantObject {
    /// In this zone.
    #[must_use]
    pub fn of(at: Timestamp, answer: &AtInstant<'_>, zone: &TimeZone) -> Self {
        let mut object = Self {
            at: WrittenInstant::of(at, zone),
            answer: answer.word().to_owned(),
            decision: None,
            before: None,
            after: None,
            decided_to: None,
            known_from: None,
        };
        match answer {
            AtInstant::Decided(decision) | AtInstant::Covered(decision) => {
                object.decision = Some(DecisionObject::of(decision, zone));
            }
            AtInstant::NotDue { before, after } => {
                object.before = WrittenInstant::maybe(*before, zone);
                object.after = WrittenInstant::maybe(*after, zone);
            }
            AtInstant::NotYet(cursor) => object.decided_to = WrittenInstant::maybe(*cursor, zone),
            AtInstant::Forgotten(oldest) => object.known_from = Some(WrittenInstant::of(*oldest, zone)),
            AtInstant::NoRecord => (),
        }
        object
    }
}
