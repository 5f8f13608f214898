//! The cron engine: grammar, zones, daylight saving time, next and previous instants.
// interim signatures; replaced whole by the engine
use jiff::{Timestamp, tz::TimeZone};
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(String);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DstRule {
    #[default]
    Vixie,
    Go,
}
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);
impl CronError {
    pub fn never(e: &Expression) -> Self {
        Self(e.0.clone())
    }
    pub fn code(&self) -> &'static str {
        "E203"
    }
    pub fn span(&self) -> std::ops::Range<usize> {
        0..0
    }
    pub fn hint(&self) -> Option<String> {
        None
    }
}
impl Expression {
    pub fn parse(text: &str) -> Result<Self, CronError> {
        Ok(Self(text.into()))
    }
    pub fn zone_name(&self) -> Option<&str> {
        None
    }
    pub fn zone(&self) -> Option<&TimeZone> {
        None
    }
    pub fn every(&self) -> Option<std::time::Duration> {
        self.0
            .strip_prefix("@every ")
            .and_then(|d| d.strip_suffix('s'))
            .and_then(|d| d.parse().ok())
            .map(std::time::Duration::from_secs)
    }
    pub fn has_seconds(&self) -> bool {
        false
    }
    pub fn never_fires(&self) -> bool {
        false
    }
    pub fn next(&self, after: Timestamp, _: &TimeZone, _: DstRule) -> Option<Timestamp> {
        Timestamp::from_second((after.as_second().div_euclid(60) + 1) * 60).ok()
    }
    pub fn prev(&self, before: Timestamp, _: &TimeZone, _: DstRule) -> Option<Timestamp> {
        Timestamp::from_second((before.as_second() - 1).div_euclid(60) * 60).ok()
    }
    pub fn describe(&self, _: Language) -> String {
        self.0.clone()
    }
}
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {name:?}")]
pub struct UnknownZone {
    pub name: String,
    pub suggestion: Option<String>,
}
pub fn find_zone(name: &str) -> Result<TimeZone, UnknownZone> {
    TimeZone::get(name).map_err(|_| UnknownZone {
        name: name.into(),
        suggestion: None,
    })
}
pub mod duration {
    use std::time::Duration;
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("{0}")]
    pub struct DurationError(pub String);
    pub fn parse_go(t: &str) -> Result<Duration, DurationError> {
        t.trim_end_matches('s')
            .parse()
            .map(Duration::from_secs)
            .map_err(|_| DurationError(t.into()))
    }
    pub fn parse(t: &str) -> Result<Duration, DurationError> {
        parse_go(t)
    }
    pub fn format(d: Duration) -> String {
        format!("{}s", d.as_secs())
    }
}
