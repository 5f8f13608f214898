//! An ended task as the task that follows it: its identity and its payload, by the rules of its trigger.

use runner_core::task::TaskId;
use runner_core::template::{Values, inside};
use runner_core::trigger::{AFTER_HEADER, AfterTrigger, FOLLOW_REMEMBER, TriggerDefinition};
use runner_queue::{Delivery, EndedTask};
use serde_json::Value;

use crate::trigger::identity::{bounded, made};

/// The task that follows; else why there is none.
pub(super) fn to_delivery(
    trigger: &TriggerDefinition,
    spec: &AfterTrigger,
    ended: &EndedTask<'_>,
) -> Result<Delivery, String> {
    let before = ended.task;
    let values = EndedValues { spec, ended };
    let mut task = trigger.task.clone().started_by(trigger.kind.key(), values.function());
    if let Some(template) = &spec.payload {
        let value = template.value(&values).map_err(|why| format!("payload: {why}"))?;
        task.payload = Some(made(&value)?);
    }
    if let Some(fault) = trigger.payload_fault(task.payload.as_deref()) {
        return Err(fault.to_string());
    }
    let identity = bounded(&format!("{}-{}-{}", before.queue, before.id, ended.run));
    let id = TaskId::new(format!("{}@after-{identity}", trigger.id)).map_err(|why| why.to_string())?;
    task = task.header(AFTER_HEADER, format!("{}/{}", before.queue, before.id));
    task.id = Some(id);
    // A follower is written in the step that ends the task before, and must not be refused there.
    task.unique = None;
    Ok(Delivery {
        task,
        remember: FOLLOW_REMEMBER,
    })
}

/// The values that templates name.
struct EndedValues<'a> {
    spec: &'a AfterTrigger,
    ended: &'a EndedTask<'a>,
}

impl EndedValues<'_> {
    /// The name of the function that ended; of several with one handler one of them.
    fn function(&self) -> &str {
        let known = self.spec.follows.get(&self.ended.task.kind);
        known.unwrap_or(&self.spec.function)
    }
}

impl Values for EndedValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [root, name, rest @ ..] = path else { return None };
        if root != "after" {
            return None;
        }
        let task = self.ended.task;
        match name.as_str() {
            "function" => Some(self.function().into()),
            "type" => Some(task.kind.as_str().into()),
            "id" => Some(task.id.as_str().into()),
            "queue" => Some(task.queue.as_str().into()),
            "outcome" => Some(self.ended.end.as_str().into()),
            "error" => Some(self.ended.error.map_or(Value::Null, Value::from)),
            "payload" => inside(&json_or_text(Some(&task.payload)), rest),
            "result" => inside(&json_or_text(self.ended.result), rest),
            _ => None,
        }
    }
}

/// JSON as it is, anything else as a text, nothing as `null`.
fn json_or_text(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        return Value::Null;
    };
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::time::Duration;

    use runner_core::schedule::{Origin, Source};
    use runner_core::task::{QueueName, STARTED_BY_HEADER, Task};
    use runner_core::template::JsonTemplate;
    use runner_core::trigger::{FollowOn, TriggerId, TriggerKind};
    use runner_queue::{TaskEnd, TaskRecord};
    use serde_json::json;

    use super::*;

    fn record(id: &str) -> TaskRecord {
        TaskRecord {
            id: TaskId::new(id).unwrap(),
            kind: "fn:import".to_owned(),
            payload: (&br#"{"day":"mon"}"#[..]).into(),
            queue: QueueName::default(),
            max_retry: 0,
            retried: 0,
            timeout: Duration::ZERO,
            deadline: None,
            retention: Duration::ZERO,
            unique_key: None,
            group: None,
            headers: BTreeMap::new(),
            last_error: String::new(),
            last_failed_at: None,
            completed_at: None,
        }
    }

    fn followed(payload: Option<Value>, id: &str, result: Option<&[u8]>) -> Result<Delivery, String> {
        let spec = AfterTrigger {
            function: "im*".to_owned(),
            follows: BTreeMap::from([("fn:import".to_owned(), "import".to_owned())]),
            on: FollowOn::Any,
            payload: payload.map(|value| JsonTemplate::new(value).unwrap()),
        };
        let trigger = TriggerDefinition {
            id: TriggerId::new("report", "x"),
            function: "report".to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: "a.yaml:1:1".to_owned(),
            },
            enabled: true,
            kind: TriggerKind::After(spec.clone()),
            task: Task::new("fn:report").payload("own"),
            payload_schema: None,
        };
        let record = record(id);
        let ended = EndedTask {
            task: &record,
            run: 7,
            end: TaskEnd::Failed,
            result,
            error: Some("no disk"),
        };
        to_delivery(&trigger, &spec, &ended)
    }

    #[test]
    fn the_id_follows_from_task_and_run_and_the_payload_is_that_of_the_function() {
        let delivery = followed(None, "t-1", None).unwrap();
        assert_eq!(delivery.task.id.unwrap().as_str(), "report:x@after-default-t-1-7");
        assert_eq!(delivery.task.payload.as_deref(), Some(&b"own"[..]));
        assert_eq!(delivery.task.headers[AFTER_HEADER], "default/t-1");
        // The function that ended, not the pattern.
        assert_eq!(delivery.task.headers[STARTED_BY_HEADER], "after import");
        assert_eq!(delivery.remember, FOLLOW_REMEMBER);
        let long = followed(None, &"x".repeat(300), None).unwrap().task.id.unwrap();
        assert!(long.as_str().len() < 100, "{long}");
    }

    #[test]
    fn templates_name_what_ended() {
        let payload = json!({
            "day": "{{ after.payload.day }}", "n": "{{ after.result.n }}", "by": "{{ after.function }} {{ after.outcome }}",
            "why": "{{ after.error }}", "id": "{{ after.queue }}/{{ after.id }}", "all": "{{ after.result }}",
        });
        let delivery = followed(Some(payload), "t", Some(br#"{"n":3}"#)).unwrap();
        let made: Value = serde_json::from_slice(delivery.task.payload.as_deref().unwrap()).unwrap();
        let expected = json!({
            "day": "mon", "n": 3, "by": "import failure", "why": "no disk", "id": "default/t", "all": {"n": 3},
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn a_result_may_be_a_text_or_missing() {
        let of = |payload: Value, result: Option<&[u8]>| {
            let delivery = followed(Some(payload), "t", result)?;
            Ok(String::from_utf8(delivery.task.payload.unwrap().to_vec()).unwrap())
        };
        let whole = || json!({"r": "{{ after.result }}"});
        assert_eq!(
            of(whole(), Some(b"\xffplain")),
            Ok("{\"r\":\"\u{fffd}plain\"}".to_owned())
        );
        assert_eq!(of(whole(), None), Ok("{\"r\":null}".to_owned()));
        let inner = json!({"r": "{{ after.result.n }}"});
        assert_eq!(of(inner, None), Err("payload: after.result.n has no value".to_owned()));
    }
}
