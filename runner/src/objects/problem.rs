//! A problem of a manifest, a row, a schedule in code or a setting, as an object.

use runner_core::schedule::Problem;
use serde::Serialize;

use super::reason::word;

/// Something wrong with what defines functions and schedules.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = DefinitionProblem))]
pub struct ProblemObject {
    /// `warning`: it works, perhaps not as intended; `error`: it is not in force.
    pub severity: String,
    /// Stable.
    pub code: String,
    /// In one sentence.
    pub message: String,
    /// Where it is.
    pub origin: OriginObject,
    /// The schedule that it concerns, if it is one.
    pub schedule: Option<String>,
    /// The line with a caret under the fault.
    pub excerpt: Option<String>,
    /// How to correct it.
    pub hint: Option<String>,
}

/// Where something is defined.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Origin))]
pub struct OriginObject {
    /// `manifest`, `table` or `code`; `null`: the settings.
    pub source: Option<String>,
    /// File and line, or row.
    pub place: String,
}

impl ProblemObject {
    /// The same as the problem itself serializes to.
    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        Self {
            severity: word(&problem.severity),
            code: problem.code.clone(),
            message: problem.message.clone(),
            origin: OriginObject {
                source: problem.source.as_ref().map(word),
                place: problem.place.clone(),
            },
            schedule: problem.schedule.as_ref().map(ToString::to_string),
            excerpt: problem.excerpt.clone(),
            hint: problem.hint.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::schedule::{Origin, ScheduleId, Source};

    use super::*;

    #[test]
    fn a_problem_is_the_same_as_object_and_by_itself() {
        let origin = Origin {
            source: Source::Table,
            place: "sys_crontab id 7".to_owned(),
        };
        let problem = Problem::warning("W252", "odd status", origin)
            .hint("write 0 or 1")
            .about(ScheduleId::from_text("db:7"));
        let object = serde_json::to_value(ProblemObject::of(&problem)).unwrap();
        assert_eq!(object, serde_json::to_value(&problem).unwrap());
        let of_settings = Problem::of_settings("CFG_RANGE", "config.yaml:3", "too large");
        let object = serde_json::to_value(ProblemObject::of(&of_settings)).unwrap();
        assert_eq!(object, serde_json::to_value(&of_settings).unwrap());
    }
}
