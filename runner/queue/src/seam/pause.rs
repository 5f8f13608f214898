//! Pauses of schedules: who, since when, why, until when; and how one ends.

use std::fmt;

use jiff::Timestamp;
use runner_core::schedule::{MissedRange, ScheduleId};
use serde::{Deserialize, Serialize};

use super::Decision;

/// Bytes of a note that are kept.
pub const MAX_PAUSE_NOTE: usize = 300;

/// Why a schedule does not fire, or no worker takes tasks of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pause {
    /// Since when; set by the broker, unless it continues an earlier pause.
    pub at: Option<Timestamp>,
    /// Who paused it.
    pub by: String,
    /// Why, in one line.
    pub note: Option<String>,
    /// When a scheduler resumes it, in whole seconds; `None`: a person does.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// A pause without a note that a person ends.
    #[must_use]
    pub fn by(who: impl Into<String>) -> Self {
        Self {
            by: who.into(),
            ..Self::default()
        }
    }

    /// The same with a note; one line of it is kept, of at most [`MAX_PAUSE_NOTE`] bytes.
    #[must_use]
    pub fn because(self, note: Option<&str>) -> Self {
        let line = note.and_then(|note| note.trim().lines().next()).unwrap_or_default();
        let line = &line[..line.floor_char_boundary(MAX_PAUSE_NOTE)];
        Self {
            note: (!line.is_empty()).then(|| line.to_owned()),
            ..self
        }
    }

    /// The same if the schedule is already paused: it began with that pause, whose note stays unless there is a new
    /// one.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        Self {
            at: before.at,
            note: self.note.or_else(|| before.note.clone()),
            ..self
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The reason in the decision about the occurrences that fell into it.
    #[must_use]
    pub fn reason(&self, range: &MissedRange, end: Timestamp) -> String {
        let since = self.at.map_or_else(String::new, |at| format!(" from {at:.0}"));
        let note = self
            .note
            .as_deref()
            .map_or_else(String::new, |note| format!(": {note}"));
        let first = range.first;
        format!(
            "paused{since} to {end:.0} by {}{note}; from {first}{}",
            self.by,
            range.note()
        )
    }

    /// As one text. The first line is what older versions wrote.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn to_text(&self, at: Timestamp) -> String {
        let until = self
            .until
            .map_or_else(String::new, |until| until.as_second().to_string());
        let by = self.by.replace('\n', " ");
        format!("{at} by {by}\n{until}\n{}", self.note.as_deref().unwrap_or_default())
    }

    /// From the text that [`Pause::to_text`] or an older version wrote; `None` for nothing.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let first = lines.next().filter(|line| !line.is_empty())?;
        let (at, by) = match first.split_once(" by ") {
            Some((at, by)) => (at.parse().ok(), by),
            None => (None, first),
        };
        let until = lines
            .next()
            .and_then(|second| Timestamp::from_second(second.parse().ok()?).ok());
        Some(
            Self {
                at,
                until,
                ..Self::by(by)
            }
            .because(lines.next()),
        )
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "since {at:.0} ")?;
        }
        write!(f, "by {}", self.by)?;
        if let Some(until) = self.until {
            write!(f, ", until {until:.0}")?;
        }
        match &self.note {
            Some(note) => write!(f, ": {note}"),
            None => Ok(()),
        }
    }
}

/// How a pause ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// The schedule.
    pub id: ScheduleId,
    /// Who ends it.
    pub by: String,
    /// The cursor that `paused` was counted from; the pause ends only if the cursor is still there. `None`: in any
    /// case.
    pub cursor: Option<Timestamp>,
    /// When it ended, not later than now; `None`: now. The cursor goes there.
    pub end: Option<Timestamp>,
    /// The occurrences that fell into it, and the reason for the decision about them; `None` if there are none.
    pub paused: Option<(MissedRange, String)>,
}

impl Resume {
    /// Ends it now, without counting occurrences.
    #[must_use]
    pub fn now(id: ScheduleId, by: impl Into<String>) -> Self {
        Self {
            id,
            by: by.into(),
            cursor: None,
            end: None,
            paused: None,
        }
    }
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub enum Resumed {
    /// It was resumed; the decision about the occurrences that fell into the pause.
    Done(Option<Decision>),
    /// The cursor is elsewhere; nothing was written. Count again from there.
    Moved,
    /// It was not paused.
    Running,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_older_versions_wrote_can_be_read() {
        let at: Timestamp = "2026-11-28T21:29:48.689341Z".parse().unwrap();
        let old = Pause::of_text("2026-11-28T21:29:48.689341Z by local").unwrap();
        assert_eq!(
            (old.at, old.by.as_str(), old.until, old.note),
            (Some(at), "local", None, None)
        );
        let until = Timestamp::from_second(1_800_000_000).unwrap();
        let pause = Pause {
            at: Some(at),
            until: Some(until),
            ..Pause::by("ann").because(Some("new disks\nsecond line"))
        };
        assert_eq!(pause.note.as_deref(), Some("new disks"));
        assert_eq!(Pause::of_text(&pause.to_text(at)), Some(pause.clone()));
        assert!(pause.is_over(until) && !pause.is_over(at));
        assert_eq!(Pause::of_text(""), None);
        let odd = Pause::of_text("an operator").unwrap();
        assert_eq!((odd.at, odd.by.as_str()), (None, "an operator"));
    }
}
