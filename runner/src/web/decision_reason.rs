//! Why a decision was made, as pages say it: in their language, with instants in the zone of the page.
//!
//! Brokers write the reason as one English sentence, which commands print. What is not known here is shown as it is.

use jiff::Timestamp;
use runner_queue::Decision;
use serde::Serialize;

use super::format::{self, IN_A_LIST, Locale};

/// A reason: a key of the word list and what is filled in.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionReason {
    /// `None`: `what` is all there is.
    key: Option<&'static str>,
    what: String,
    when: String,
    until: String,
    /// Keys of sentences that follow, each with its value.
    notes: Vec<(&'static str, String)>,
}

/// Sentences that may end a reason, with the key of each; the value is between the two parts.
const NOTES: [(&str, &str, &str); 3] = [
    ("catch_up all runs the newest ", " at most (catch_up.max)", "bound"),
    ("older ones were not counted", "", "more"),
    ("no live server serves its queue", "", "unserved"),
];

impl DecisionReason {
    /// The reason of a decision.
    #[must_use]
    pub fn new(locale: &Locale, decision: &Decision) -> Self {
        let mut text = decision.reason.as_str();
        let mut notes = Vec::new();
        while let Some((before, key, value)) = last_note(text) {
            notes.insert(0, (key, value));
            text = before;
        }
        Self {
            notes,
            ..known(locale, text).unwrap_or_else(|| Self {
                what: format::cut(text, IN_A_LIST),
                ..Self::default()
            })
        }
    }
}

fn last_note(text: &str) -> Option<(&str, &'static str, String)> {
    let (before, last) = text.rsplit_once("; ")?;
    NOTES.iter().find_map(|(begin, end, key)| {
        let value = last.strip_prefix(begin)?.strip_suffix(end)?;
        Some((before, *key, value.to_owned()))
    })
}

fn known(locale: &Locale, text: &str) -> Option<DecisionReason> {
    let reason = |key| DecisionReason {
        key: Some(key),
        ..DecisionReason::default()
    };
    let when = |text: &str| Some(locale.moment(text.parse::<Timestamp>().ok()?).short);
    let what = |text: &str| format::cut(text, IN_A_LIST);
    if let Some(key) = match text {
        "on_time" => Some("on_time"),
        "catch_up" => Some("catch_up"),
        "its task was there already" => Some("there"),
        "unique: another task of this type and payload holds the lock" => Some("unique"),
        "too late" => Some("late"),
        _ => None,
    } {
        return Some(reason(key));
    }
    if let Some(first) = text.strip_prefix("too late, from ") {
        return Some(DecisionReason {
            when: when(first)?,
            ..reason("too_late")
        });
    }
    if let Some(rest) = text.strip_prefix("overlap: previous task ") {
        return overlap(rest, when);
    }
    if let Some(who) = text.strip_prefix("by ") {
        return Some(DecisionReason {
            what: what(who),
            ..reason("by")
        });
    }
    if let Some(rest) = text.strip_prefix("paused from ") {
        let (from, rest) = rest.split_once(" to ")?;
        let (to, rest) = rest.split_once(" by ")?;
        let (who, _) = rest.rsplit_once("; from ")?;
        return Some(DecisionReason {
            when: when(from)?,
            until: when(to)?,
            what: what(who),
            ..reason("paused")
        });
    }
    let seconds = text
        .strip_prefix("the cursor was ")?
        .strip_suffix(" s ahead of the broker's clock; it is set to the present")?;
    Some(DecisionReason {
        what: what(seconds),
        ..reason("ahead")
    })
}

/// `rest` is the id of the task and what it does.
fn overlap(rest: &str, when: impl Fn(&str) -> Option<String>) -> Option<DecisionReason> {
    const DOES: [(&str, &str); 3] = [
        (" is active", "overlap_active"),
        (" is pending", "overlap_pending"),
        (" is scheduled", "overlap_scheduled"),
    ];
    for (end, key) in DOES {
        if rest.ends_with(end) {
            return Some(DecisionReason {
                key: Some(key),
                ..DecisionReason::default()
            });
        }
    }
    let (_, at) = rest.rsplit_once(" waits for its retry at ")?;
    Some(DecisionReason {
        key: Some("overlap_retry"),
        when: when(at)?,
        ..DecisionReason::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::schedule::ScheduleId;
    use runner_queue::DecisionKind;

    use super::*;
    use crate::web::translations::Lang;

    fn said(text: &str) -> DecisionReason {
        let now = "2026-11-28T02:00:00Z".parse().unwrap();
        let locale = Locale {
            lang: Lang::En,
            zone: jiff::tz::TimeZone::get("Asia/Shanghai").unwrap(),
            now,
        };
        let decision = Decision {
            schedule: ScheduleId::code("a"),
            nominal: now,
            kind: DecisionKind::Missed,
            reason: text.to_owned(),
            task: None,
            queue: None,
            end: None,
            count: 1,
            decided_at: now,
            instance: String::new(),
        };
        DecisionReason::new(&locale, &decision)
    }

    #[test]
    fn the_sentences_of_brokers_are_taken_apart() {
        for (text, key, what, when) in [
            ("on_time", "on_time", "", ""),
            (
                "too late, from 2026-11-27T18:00:00Z",
                "too_late",
                "",
                "2026-11-28 02:00:00",
            ),
            ("overlap: previous task m:a:b@2 is active", "overlap_active", "", ""),
            (
                "overlap: previous task x waits for its retry at 2026-11-28T02:00:00Z",
                "overlap_retry",
                "",
                "2026-11-28 10:00:00",
            ),
            ("by ann", "by", "ann", ""),
            (
                "paused from 2026-11-28T00:00:00Z to 2026-11-28T01:00:00Z by ann: stock-taking; from 2026-11-28T00:30:00Z",
                "paused",
                "ann: stock-taking",
                "2026-11-28 08:00:00",
            ),
            (
                "the cursor was 90 s ahead of the broker's clock; it is set to the present",
                "ahead",
                "90",
                "",
            ),
        ] {
            let found = said(text);
            assert_eq!(found.key, Some(key), "{text}");
            assert_eq!((found.what.as_str(), found.when.as_str()), (what, when), "{text}");
        }
        let other = said("invalid: the payload has 300 MB");
        assert_eq!(
            (other.key, other.what.as_str()),
            (None, "invalid: the payload has 300 MB")
        );
        assert_eq!(said("too late, from never").what, "too late, from never");
    }

    #[test]
    fn notes_follow_the_reason() {
        let late = "too late, from 2026-11-27T18:00:00Z; catch_up all runs the newest 5 at most (catch_up.max); older ones were not counted";
        let found = said(late);
        assert_eq!(found.key, Some("too_late"));
        assert_eq!(found.notes, [("bound", "5".to_owned()), ("more", String::new())]);
        let skipped = said("overlap: previous task x is pending; no live server serves its queue");
        assert_eq!(skipped.key, Some("overlap_pending"));
        assert_eq!(skipped.notes, [("unserved", String::new())]);
    }
}
