//! A parsed cron expression and its queries.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::error::CronError;
use super::instants::{self, DstRule};
use super::parse::{self, Parsed, ParsedRule};
use super::{Language, describe};

/// A parsed cron text. Displays as the text it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    text: String,
    parsed: Parsed,
}

impl Expression {
    /// Reads five fields (minute hour day month weekday), six with seconds first, or a descriptor,
    /// each with an optional prefix `CRON_TZ=Zone ` or `TZ=Zone `.
    ///
    /// # Errors
    ///
    /// [`CronError`] with the place, the reason and a hint. An expression that never fires is not
    /// an error here; see [`CronError::never`].
    pub fn parse(text: &str) -> Result<Self, CronError> {
        Ok(Self {
            parsed: parse::parse(text)?,
            text: text.to_owned(),
        })
    }

    /// The zone of the prefix as written: `UTC` for an empty one, `Local` for the caller's.
    #[must_use]
    pub fn zone_name(&self) -> Option<&str> {
        let prefix = self.parsed.zone.as_ref()?;
        Some(&prefix.name)
    }

    /// The zone of the prefix. `None` without a prefix and for `Local`: the caller's zone holds.
    #[must_use]
    pub fn zone(&self) -> Option<&TimeZone> {
        self.parsed.zone.as_ref()?.zone.as_ref()
    }

    /// The distance of `@every`: whole seconds, at least one.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        match self.parsed.plan {
            ParsedRule::Every(distance) => Some(distance),
            ParsedRule::Calendar { .. } => None,
        }
    }

    /// Whether the text has a field of seconds.
    #[must_use]
    pub fn has_seconds(&self) -> bool {
        matches!(self.parsed.plan, ParsedRule::Calendar { seconds: true, .. })
    }

    /// Whether no instant matches, such as 30 February. Decided without a search.
    #[must_use]
    pub fn never_fires(&self) -> bool {
        match &self.parsed.plan {
            ParsedRule::Every(_) => false,
            ParsedRule::Calendar { calendar, .. } => calendar.is_empty(),
        }
    }

    /// The first occurrence strictly after `after`, in whole seconds. The zone of the prefix, if
    /// any, wins over `zone`. `@every` counts from `after` without its fraction of a second and
    /// heeds no zone. `None` if there is none before the end of the calendar (year 9999).
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone, dst: DstRule) -> Option<Timestamp> {
        let floor = floor(after)?;
        match &self.parsed.plan {
            ParsedRule::Every(distance) => {
                let distance = SignedDuration::try_from(*distance).ok()?;
                floor.checked_add(distance).ok()
            }
            ParsedRule::Calendar { calendar, .. } => {
                let from = floor.checked_add(SignedDuration::from_secs(1)).ok()?;
                instants::at_or_after(calendar, self.zone().unwrap_or(zone), dst, from)
            }
        }
    }

    /// The last occurrence strictly before `before`; the mirror of [`next`](Self::next). `@every`
    /// counts back from `before` rounded up to a second, as it has no grid of its own.
    #[must_use]
    pub fn prev(&self, before: Timestamp, zone: &TimeZone, dst: DstRule) -> Option<Timestamp> {
        let mut ceiling = floor(before)?;
        if ceiling < before {
            // The last second of the calendar has none above it.
            let above = ceiling.checked_add(SignedDuration::from_secs(1));
            ceiling = above.unwrap_or(ceiling);
        }
        match &self.parsed.plan {
            ParsedRule::Every(distance) => {
                let distance = SignedDuration::try_from(*distance).ok()?;
                ceiling.checked_sub(distance).ok()
            }
            ParsedRule::Calendar { calendar, .. } => {
                instants::before(calendar, self.zone().unwrap_or(zone), dst, ceiling)
            }
        }
    }

    /// The expression in words, such as `at 01:00 every day` or `每天 01:00`.
    #[must_use]
    pub fn describe(&self, language: Language) -> String {
        describe::describe(&self.parsed, language)
    }

    pub(super) fn plan(&self) -> &ParsedRule {
        &self.parsed.plan
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expression {
    type Err = CronError;
    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text)
    }
}

/// The instant without its fraction of a second, also before 1970.
fn floor(instant: Timestamp) -> Option<Timestamp> {
    let below = i64::from(instant.subsec_nanosecond() < 0);
    Timestamp::from_second(instant.as_second().checked_sub(below)?).ok()
}
