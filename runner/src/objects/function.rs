//! A function of the manifests as an object, with what starts it.

use std::sync::Arc;

use runner_core::function::{Function, FunctionOptions};
use runner_core::schedule::Plan;
use runner_core::trigger::TriggerDefinition;
use serde::Serialize;
use serde_json::Value;

use super::{JsonField, payload};

/// A function.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Function))]
pub struct FunctionObject {
    /// Its name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// What it does: `exec`, `http`, `mail`, `sql`, `enqueue`, `publish`, `wasm` or `handler`.
    pub kind: String,
    /// The manifest.
    pub origin: String,
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The queue of its tasks, where they state none.
    pub queue: String,
    /// Retries of its tasks, where they state none.
    pub max_retry: u32,
    /// The time limit of an attempt, where its tasks state none.
    pub timeout_seconds: Option<u64>,
    /// How long its tasks are kept after their success.
    pub retention_seconds: u64,
    /// Whether payloads are checked by a schema.
    pub checks_payload: bool,
    /// The payload of a run that states none.
    pub payload: JsonField,
    /// The ids of its schedules.
    pub schedules: Vec<String>,
    /// The ids of its triggers.
    pub triggers: Vec<String>,
    /// Changes with every change of the definition.
    pub revision: String,
}

impl FunctionObject {
    /// From its manifest; `options`: those that its tasks get if they state none.
    #[must_use]
    pub fn of(
        function: &Function,
        place: &str,
        options: &FunctionOptions,
        plan: &Plan,
        triggers: &[Arc<TriggerDefinition>],
    ) -> Self {
        let mut task = runner_core::task::Task::new(function.task_type());
        options.apply(&mut task);
        let own = plan
            .schedules
            .values()
            .filter(|schedule| schedule.function() == Some(function.name.as_str()));
        let by = triggers.iter().filter(|trigger| trigger.function == function.name);
        Self {
            name: function.name.clone(),
            description: function.description.clone(),
            kind: function.kind.key().to_owned(),
            origin: place.to_owned(),
            task_type: function.task_type(),
            queue: task.queue.to_string(),
            max_retry: task.max_retry,
            timeout_seconds: task.timeout.map(|timeout| timeout.as_secs()),
            retention_seconds: task.retention.as_secs(),
            checks_payload: function.payload_schema.is_some(),
            payload: function.payload.as_ref().map_or(JsonField::Value(Value::Null), payload),
            schedules: own.map(|schedule| schedule.id.to_string()).collect(),
            triggers: by.map(|trigger| trigger.id.as_str().to_owned()).collect(),
            revision: function.revision.clone(),
        }
    }
}
