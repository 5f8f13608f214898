//! A trigger of a manifest as an object, with how each running instance is doing with it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::trigger::TriggerDefinition;
use serde::Serialize;

use super::{WrittenInstant, instant};
use crate::trigger::{FaultReport, InstanceReport, TriggerReport};

/// A trigger.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Trigger))]
pub struct TriggerObject {
    /// `<function>:<id>`.
    pub id: String,
    /// Its function.
    pub function: String,
    /// `rabbitmq`, `redis_stream`, `webhook`, `after`, `file` or `on_start`.
    pub kind: String,
    /// In words.
    pub listens_to: String,
    /// Whether its manifest enables it.
    pub enabled: bool,
    /// The manifest.
    pub origin: String,
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The queue of its tasks.
    pub queue: String,
    /// What running instances say, at most five seconds ago.
    pub instances: Vec<TriggerInstanceObject>,
}

/// How an instance is doing with a trigger.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = TriggerInstance))]
pub struct TriggerInstanceObject {
    /// The instance.
    pub instance: String,
    /// For how long it has said nothing, if that is too long.
    pub silent_seconds: Option<u64>,
    /// The trigger.
    pub id: String,
    /// What it listens to.
    pub what: String,
    /// `disabled`, `starting`, `waiting`, `listening`, `holding` or `failing`.
    pub state: String,
    /// Since when.
    pub since: WrittenInstant,
    /// Tasks that were enqueued since the instance began.
    pub enqueued: u64,
    /// Messages whose task was enqueued before.
    pub repeated: u64,
    /// Messages of which no task could be made.
    pub bad: u64,
    /// Messages that are becoming tasks.
    pub unacked: u64,
    /// Calls without a credential that is accepted.
    pub refused: u64,
    /// Why it does not listen.
    pub fault: Option<FaultObject>,
    /// When the last bad message came, and why it is bad.
    pub last_bad: Option<Vec<String>>,
}

/// Why something does not work.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Fault))]
pub struct FaultObject {
    /// Stable.
    pub code: String,
    /// What happened.
    pub why: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl From<&FaultReport> for FaultObject {
    fn from(fault: &FaultReport) -> Self {
        Self {
            code: fault.code.clone(),
            why: fault.why.clone(),
            hint: fault.hint.clone(),
        }
    }
}

impl TriggerObject {
    /// From its manifest and from what instances say.
    #[must_use]
    pub fn of(definition: &TriggerDefinition, reports: &[InstanceReport], now: Timestamp, zone: &TimeZone) -> Self {
        let own = reports.iter().flat_map(|instance| {
            let of = instance.triggers.iter();
            let of = of.filter(|report| report.id == definition.id.as_str());
            of.map(move |report| TriggerInstanceObject::of(instance, report, now, zone))
        });
        Self {
            id: definition.id.as_str().to_owned(),
            function: definition.function.clone(),
            kind: definition.kind.key().to_owned(),
            listens_to: definition.describe(),
            enabled: definition.enabled,
            origin: definition.origin.place.clone(),
            task_type: definition.task.kind.clone(),
            queue: definition.task.queue.to_string(),
            instances: own.collect(),
        }
    }
}

impl TriggerInstanceObject {
    fn of(instance: &InstanceReport, report: &TriggerReport, now: Timestamp, zone: &TimeZone) -> Self {
        Self {
            instance: instance.instance.clone(),
            silent_seconds: instance.silent_for(now).map(|silent| silent.as_secs()),
            id: report.id.clone(),
            what: report.what.clone(),
            state: report.state.clone(),
            since: WrittenInstant::of(report.since, zone),
            enqueued: report.enqueued,
            repeated: report.repeated,
            bad: report.bad,
            unacked: report.unacked,
            refused: report.refused,
            fault: report.fault.as_ref().map(FaultObject::from),
            last_bad: report
                .last_bad
                .as_ref()
                .map(|(at, why)| vec![instant(*at, zone), why.clone()]),
        }
    }
}
