//! Recovers the headers of a schedule's task from its id when they are lost: workers of asynq before 0.26 drop them when
//! they write a task back. Not here: how the headers are written (`decide`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::task::TaskId;

/// The header of every task of a schedule.
pub const SCHEDULE_HEADER: &str = "runner-schedule-id";

/// Prefixes of schedule ids; see `ScheduleId`.
const SOURCES: [&str; 3] = ["m:", "db:", "code:"];

/// Separates the schedule's id from a random one in a manual run.
const BY_HAND: &str = "manual-";

/// Headers implied by the id of a task; empty if it is not the id of a schedule's task.
///
/// ```
/// use runner_core::schedule::headers_in_id;
/// use runner_core::task::TaskId;
/// let id = TaskId::new("m:backup:nightly@20261128T020000Z").unwrap();
/// assert_eq!(headers_in_id(&id)["runner-scheduled-at"], "2026-11-28T02:00:00Z");
/// assert!(headers_in_id(&TaskId::new("order@20261128T020000Z").unwrap()).is_empty());
/// ```
#[must_use]
pub fn headers_in_id(id: &TaskId) -> BTreeMap<String, String> {
    let known = id.as_str().rsplit_once('@').and_then(|(schedule, occasion)| {
        let named = SOURCES.iter().any(|source| schedule.starts_with(source));
        let kind = if occasion.starts_with(BY_HAND) {
            "manual"
        } else {
            "schedule"
        };
        let at = instant(occasion);
        (named && (at.is_some() || kind == "manual")).then_some((schedule, kind, at))
    });
    let Some((schedule, kind, at)) = known else {
        return BTreeMap::new();
    };
    let mut headers = BTreeMap::from([
        (SCHEDULE_HEADER.to_owned(), schedule.to_owned()),
        ("runner-fire-kind".to_owned(), kind.to_owned()),
    ]);
    headers.extend(at.map(|at| ("runner-scheduled-at".to_owned(), at.to_string())));
    headers
}

/// `20261128T020000Z`, or RFC 3339.
fn instant(text: &str) -> Option<Timestamp> {
    let short = || {
        let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    short().or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(id: &str) -> BTreeMap<String, String> {
        headers_in_id(&TaskId::new(id).unwrap())
    }

    #[test]
    fn ids_of_schedule_tasks_name_schedule_and_instant() {
        for id in ["db:7@20261128T211410Z", "db:7@2026-11-28T21:14:10Z"] {
            let headers = of(id);
            assert_eq!(headers["runner-schedule-id"], "db:7");
            assert_eq!(headers["runner-scheduled-at"], "2026-11-28T21:14:10Z");
            assert_eq!(headers["runner-fire-kind"], "schedule");
        }
        let headers = of("m:a@b:c@manual-0b0e");
        assert_eq!(headers["runner-schedule-id"], "m:a@b:c");
        assert_eq!(headers["runner-fire-kind"], "manual");
        assert!(!headers.contains_key("runner-scheduled-at"));
    }

    #[test]
    fn other_ids_imply_no_headers() {
        for id in [
            "a",
            "m:a:b",
            "m:a:b@",
            "m:a:b@20261328T000000Z",
            "ann@manual-1",
            "x@20261128T211410Z",
        ] {
            assert!(of(id).is_empty(), "{id}");
        }
    }
}
