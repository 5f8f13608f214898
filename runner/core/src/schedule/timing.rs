//! When a schedule occurs: cron expressions, a fixed interval on the epoch's grid, or single instants.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cron::{CronError, DstRule, Expression};

/// The rule that yields occurrences; all instants are whole seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// The union of one or more expressions.
    Cron(Vec<Expression>),
    /// Every `every`, shifted by `phase`, on the grid of the Unix epoch: the same on every instance
    /// and across restarts.
    Every {
        /// Whole seconds, at least one.
        every: Duration,
        /// Less than `every`.
        phase: Duration,
    },
    /// Exactly these instants, ascending.
    At(Vec<Timestamp>),
}

/// A rule with the zone and the daylight saving rule that apply to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The rule.
    pub when: When,
    /// The rule as written by its author.
    pub text: String,
    /// IANA name of the zone in force, for people.
    pub zone_name: String,
    /// The zone in force.
    pub zone: TimeZone,
    /// The treatment of clock changes.
    pub dst: DstRule,
}

/// Why a timing is unusable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TimingError {
    /// The expression is not valid.
    #[error(transparent)]
    Cron(#[from] CronError),
}

/// A 64-bit hash (FNV-1a, finished with a mixer) that is the same on every machine and in every release.
#[must_use]
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        // The length distinguishes ("ab", "c") from ("a", "bc").
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part.as_bytes()) {
            hash ^= u64::from(*byte);
            hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

impl Timing {
    /// Reads an expression of the cron grammar, `@every` and `CRON_TZ=` included.
    ///
    /// `zone` applies unless the text names one. The phase of `@every` follows from `id`.
    ///
    /// # Errors
    ///
    /// [`TimingError::Cron`] if the text is not valid or never fires.
    pub fn parse(id: &str, text: &str, zone_name: &str, zone: &TimeZone, dst: DstRule) -> Result<Self, TimingError> {
        let expression = Expression::parse(text)?;
        if expression.never_fires() {
            return Err(CronError::never(&expression.to_string()).into());
        }
        let (zone_name, zone) = match (expression.zone_name(), expression.zone()) {
            (Some(name), Some(own)) => (name.to_owned(), own.clone()),
            _ => (zone_name.to_owned(), zone.clone()),
        };
        let when = match expression.every() {
            Some(every) => Self::every(id, every),
            None => When::Cron(vec![expression]),
        };
        Ok(Self {
            when,
            text: text.trim().to_owned(),
            zone_name,
            zone,
            dst,
        })
    }

    /// A fixed interval of at least a second whose phase follows from `id`.
    #[must_use]
    pub fn every(id: &str, every: Duration) -> When {
        let seconds = every.as_secs().max(1);
        let phase = stable_hash(&[id]) % seconds;
        When::Every {
            every: Duration::from_secs(seconds),
            phase: Duration::from_secs(phase),
        }
    }

    /// The rule in the form of Go's schedulers: `CRON_TZ=Asia/Shanghai 0 2 * * *`. The zone is left out if it is UTC,
    /// which they assume, if it has no name, and if the rule does not depend on it.
    #[must_use]
    pub fn in_go(&self) -> String {
        let depends = matches!(&self.when, When::Cron(_)) && !self.text.contains("TZ=");
        let named = !matches!(self.zone_name.as_str(), "" | "UTC") && self.zone.iana_name().is_some();
        match depends && named {
            true => format!("CRON_TZ={} {}", self.zone_name, self.text),
            false => self.text.clone(),
        }
    }

    /// The first occurrence strictly after `after`, if there is one.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron(expressions) => expressions
                .iter()
                .filter_map(|e| e.next(after, &self.zone, self.dst))
                .min(),
            When::Every { every, phase } => grid(after.as_second(), *every, *phase, 1),
            When::At(instants) => instants.iter().copied().find(|at| *at > after),
        }
    }

    /// The last occurrence strictly before `before`, if there is one.
    #[must_use]
    pub fn prev(&self, before: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Cron(expressions) => expressions
                .iter()
                .filter_map(|e| e.prev(before, &self.zone, self.dst))
                .max(),
            When::Every { every, phase } => {
                let exact = before.subsec_nanosecond() == 0;
                let at_or_before = before.as_second() - i64::from(exact);
                grid(at_or_before, *every, *phase, 0)
            }
            When::At(instants) => instants.iter().rev().copied().find(|at| *at < before),
        }
    }

    /// Up to `count` occurrences after `after`, ascending.
    #[must_use]
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |t| self.next(*t))
            .take(count)
            .collect()
    }

    /// A hash of everything that determines the occurrences; equal for the same text, zone and rules.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let dst = match self.dst {
            DstRule::Vixie => "vixie",
            DstRule::Go => "go",
        };
        stable_hash(&[&self.text, &self.zone_name, dst])
    }
}

/// The point of the grid that contains second `second`, moved on by `steps`.
fn grid(second: i64, every: Duration, phase: Duration, steps: i64) -> Option<Timestamp> {
    let every = i64::try_from(every.as_secs()).ok()?.max(1);
    let phase = i64::try_from(phase.as_secs()).ok()?;
    let index = second.checked_sub(phase)?.div_euclid(every);
    let point = index.checked_add(steps)?.checked_mul(every)?.checked_add(phase)?;
    Timestamp::from_second(point).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(seconds: u64, phase: u64) -> Timing {
        Timing {
            when: When::Every {
                every: Duration::from_secs(seconds),
                phase: Duration::from_secs(phase),
            },
            text: String::new(),
            zone_name: "UTC".into(),
            zone: TimeZone::UTC,
            dst: DstRule::default(),
        }
    }

    #[test]
    fn go_is_shown_the_zone_where_the_rule_depends_on_it() {
        let shown = |text: &str, zone: &str| {
            let zone_of = TimeZone::get(zone).unwrap();
            Timing::parse("s", text, zone, &zone_of, DstRule::default())
                .unwrap()
                .in_go()
        };
        assert_eq!(shown("0 2 * * *", "Asia/Shanghai"), "CRON_TZ=Asia/Shanghai 0 2 * * *");
        assert_eq!(
            shown("CRON_TZ=Asia/Tokyo 0 2 * * *", "Asia/Shanghai"),
            "CRON_TZ=Asia/Tokyo 0 2 * * *"
        );
        assert_eq!(shown("0 2 * * *", "UTC"), "0 2 * * *");
        assert_eq!(shown("@every 90s", "Asia/Shanghai"), "@every 90s");
    }

    #[test]
    fn intervals_lie_on_the_grid_of_the_epoch() {
        let timing = every(45, 10);
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        assert_eq!(timing.next(at(0)), Some(at(10)));
        assert_eq!(timing.next(at(10)), Some(at(55)));
        assert_eq!(timing.prev(at(55)), Some(at(10)));
        assert_eq!(timing.prev(at(56)), Some(at(55)));
        let half = Timestamp::from_millisecond(55_500).unwrap();
        assert_eq!(timing.prev(half), Some(at(55)));
        assert_eq!(timing.next(half), Some(at(100)));
    }

    #[test]
    fn the_hash_keeps_parts_apart_and_never_changes() {
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
        assert_eq!(stable_hash(&["db:42"]) % 3600, stable_hash(&["db:42"]) % 3600);
    }
}
