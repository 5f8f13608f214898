//! A call as a task: its identity and its payload, by the rules of its trigger.

use std::cell::OnceCell;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use runner_core::task::{TRACEPARENT, TRACESTATE, Task, TaskId, check_json};
use runner_core::template::{Values, inside};
use runner_core::trigger::{HookBody, HookCredential, SignatureForm, TriggerDefinition, WebhookTrigger};
use runner_queue::Delivery;
use serde_json::{Map, Value};

use super::credential::{Proof, is_secret_header};
use super::{HookCall, HookRefusal, allowed};
use crate::trigger::identity::{bounded, made};

/// How long a call without an identity is known, so that the repeated request of a lost answer of the broker is no second
/// task.
const UNNAMED: Duration = Duration::from_secs(60);

/// How long the task of a call that waits is kept after its end, so that its result can be read.
const KEPT_FOR_WAIT: Duration = Duration::from_secs(60);

/// Fields of a form or a query that are read; the rest is refused.
const MAX_FIELDS: usize = 1000;

/// The text that Slack wants to see when an address is entered there.
pub(super) fn challenge(spec: &WebhookTrigger, call: &HookCall<'_>) -> Option<String> {
    let HookCredential::Signature {
        form: SignatureForm::Slack,
        ..
    } = spec.credential
    else {
        return None;
    };
    let body: Value = serde_json::from_slice(&call.body).ok()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let asked = text("type").filter(|kind| *kind == "url_verification");
    asked.and_then(|_| text("challenge")).map(str::to_owned)
}

/// The task of a call.
pub(super) fn to_delivery(
    trigger: &TriggerDefinition,
    spec: &WebhookTrigger,
    proof: &Proof,
    call: HookCall<'_>,
) -> Result<Delivery, HookRefusal> {
    if !spec.methods.iter().any(|method| method.as_str() == call.method) {
        let allow = allowed(&spec.methods);
        let message = format!("this hook takes {allow}");
        return Err(HookRefusal {
            allow: Some(allow),
            ..HookRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "hook_method", message)
        });
    }
    if call.body.len() > spec.max_bytes {
        let message = format!(
            "the body has {} bytes, and max_bytes is {}",
            call.body.len(),
            spec.max_bytes
        );
        return Err(HookRefusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "hook_body_too_large",
            message,
        ));
    }
    check_media_type(spec.format, call.headers, call.body.is_empty())?;
    let body = body(spec.format, call.body.clone())?;
    let values = CallValues {
        call: &call,
        credential: &spec.credential,
        body: &body,
        parsed: OnceCell::new(),
    };
    let identity = match &spec.dedupe {
        Some(template) => Some(
            template
                .text(&values)
                .map_err(|why| bad_payload(format!("dedupe: {why}")))?,
        ),
        None => values.id(),
    };
    let payload = match &spec.payload {
        Some(template) => {
            let value = template
                .value(&values)
                .map_err(|why| bad_payload(format!("payload: {why}")))?;
            Some(made(&value).map_err(bad_payload)?)
        }
        None => None,
    };
    let identity = identity.filter(|identity| !identity.is_empty());
    let identity = identity.or_else(|| proof.signed.clone());
    let mut task = trigger.task.clone();
    task.payload = payload
        .or_else(|| (!body.is_empty()).then(|| body.clone()))
        .or(task.payload);
    if let Some(fault) = trigger.payload_fault(task.payload.as_deref()) {
        return Err(bad_payload(fault.to_string()));
    }
    if let Some(wait) = spec.wait {
        task.retention = task.retention.max(wait + KEPT_FOR_WAIT);
    }
    let (id, remember) = match identity {
        Some(identity) => (format!("{}@hook-{}", trigger.id, bounded(&identity)), remembered(spec)),
        None => (format!("{}@{}", trigger.id, TaskId::random()), UNNAMED),
    };
    task.id = Some(TaskId::new(id).map_err(|why| bad_payload(why.to_string()))?);
    Ok(Delivery {
        task: traced(task, call.headers),
        remember,
    })
}

/// The task in the trace of the caller. Of several parents none counts, and the parts of a state are one list.
fn traced(task: Task, headers: &HeaderMap) -> Task {
    let all = |name: &str| -> Vec<&str> {
        let texts = headers.get_all(name).iter();
        texts.filter_map(|value| value.to_str().ok()).collect()
    };
    match all(TRACEPARENT)[..] {
        [parent] => task.traced(parent, Some(&all(TRACESTATE).join(","))),
        _ => task,
    }
}

/// At least as long as a signature with a time is accepted: from one tolerance before that time to one after it.
fn remembered(spec: &WebhookTrigger) -> Duration {
    match &spec.credential {
        HookCredential::Signature { form, tolerance, .. } if *form != SignatureForm::GitHub => {
            spec.remember.max(*tolerance * 2)
        }
        _ => spec.remember,
    }
}

fn bad_payload(why: String) -> HookRefusal {
    HookRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, "hook_bad_payload", why)
}

fn check_media_type(format: HookBody, headers: &HeaderMap, empty: bool) -> Result<(), HookRefusal> {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = stated.map(|stated| stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let right = match (format, kind.as_deref()) {
        (HookBody::Bytes, _) => true,
        (HookBody::Json, None) => true,
        (HookBody::Json, Some(kind)) => kind == "application/json" || kind.ends_with("+json"),
        (HookBody::Form, kind) => kind == Some("application/x-www-form-urlencoded"),
    };
    if right || empty {
        return Ok(());
    }
    let wanted = match format {
        HookBody::Form => "application/x-www-form-urlencoded",
        HookBody::Json | HookBody::Bytes => "application/json",
    };
    let message = format!("the body must be {wanted}");
    Err(HookRefusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "hook_media_type",
        message,
    ))
}

/// The body as a payload.
fn body(format: HookBody, body: Bytes) -> Result<Bytes, HookRefusal> {
    match format {
        HookBody::Json if !body.is_empty() => match check_json(&body) {
            Ok(()) => Ok(body),
            Err(why) => Err(bad_payload(format!("the body is not JSON: {why}"))),
        },
        HookBody::Form if !body.is_empty() => {
            let fields = fields(&body).map_err(bad_payload)?;
            Ok(fields.to_string().into())
        }
        HookBody::Json | HookBody::Form | HookBody::Bytes => Ok(body),
    }
}

/// The fields of a form or a query as an object; a field that is there several times is a list.
fn fields(text: &[u8]) -> Result<Value, String> {
    let mut object = Map::new();
    for (place, (name, value)) in form_urlencoded::parse(text).enumerate() {
        if place == MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} fields"));
        }
        let value = Value::String(value.into_owned());
        match object.get_mut(&*name) {
            None => drop(object.insert(name.into_owned(), value)),
            Some(Value::Array(all)) => all.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(Value::Object(object))
}

/// The values that templates name.
struct CallValues<'a> {
    call: &'a HookCall<'a>,
    credential: &'a HookCredential,
    body: &'a Bytes,
    parsed: OnceCell<Option<Value>>,
}

impl CallValues<'_> {
    fn body(&self) -> Option<&Value> {
        self.parsed
            .get_or_init(|| serde_json::from_slice(self.body).ok())
            .as_ref()
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.call.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// What identifies the call by itself. Beside a time that is signed only what is signed too: otherwise a recorded call
    /// could be sent again with another id.
    fn id(&self) -> Option<String> {
        let stated = self.header("idempotency-key").filter(|key| !key.is_empty());
        let HookCredential::Signature { form, .. } = self.credential else {
            return stated;
        };
        let in_body = |name: &str| self.body()?.get(name)?.as_str().map(str::to_owned);
        match form {
            SignatureForm::GitHub => self.header("x-github-delivery").filter(|id| !id.is_empty()).or(stated),
            SignatureForm::Stripe => in_body("id"),
            SignatureForm::Slack => in_body("event_id"),
            SignatureForm::Runner => stated,
        }
    }

    fn headers(&self) -> Value {
        let own = self
            .call
            .headers
            .keys()
            .filter(|name| !is_secret_header(name.as_str(), self.credential));
        let all = own.filter_map(|name| Some((name.as_str().to_owned(), self.header(name.as_str())?.into())));
        Value::Object(all.collect::<Map<_, _>>())
    }
}

impl Values for CallValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [root, name, rest @ ..] = path else { return None };
        if root != "request" {
            return None;
        }
        match name.as_str() {
            "body" => inside(self.body()?, rest),
            "headers" => match rest {
                [] => Some(self.headers()),
                [name] if is_secret_header(&name.to_ascii_lowercase(), self.credential) => None,
                [name] => self.header(name).map(Value::String),
                _ => None,
            },
            "query" => inside(&fields(self.call.query.as_bytes()).ok()?, rest),
            "method" => Some(self.call.method.into()),
            "client" => Some(self.call.client.as_str().into()),
            "id" => self.id().map(Value::String),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::schedule::{Origin, Source};
    use runner_core::template::{JsonTemplate, Template};
    use runner_core::trigger::{DEFAULT_REMEMBER, HookMethod, MAX_BODY, TriggerId, TriggerKind};
    use serde_json::json;

    use super::*;

    fn spec() -> WebhookTrigger {
        WebhookTrigger {
            credential: HookCredential::Token {
                header: None,
                secrets: Vec::new(),
            },
            methods: vec![HookMethod::Post],
            wait: None,
            dedupe: None,
            remember: DEFAULT_REMEMBER,
            format: HookBody::Json,
            payload: None,
            max_bytes: MAX_BODY,
        }
    }

    fn signed(form: SignatureForm) -> WebhookTrigger {
        WebhookTrigger {
            credential: HookCredential::Signature {
                form,
                secrets: Vec::new(),
                tolerance: Duration::from_secs(300),
            },
            ..spec()
        }
    }

    fn made_of(spec: WebhookTrigger, all: &[(&'static str, &str)], body: &str) -> Result<Delivery, HookRefusal> {
        let headers = all
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        let trigger = TriggerDefinition {
            id: TriggerId::new("orders", "in"),
            function: "orders".to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: "a.yaml:1:1".to_owned(),
            },
            enabled: true,
            kind: TriggerKind::Webhook(spec.clone()),
            task: Task::new("fn:orders"),
            payload_schema: None,
        };
        let call = HookCall {
            function: "orders",
            trigger: None,
            method: "POST",
            query: "a=1&b=x%20y&b=z",
            headers: &headers,
            client: "127.0.0.1".to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let proof = Proof {
            signed: Some("digest".to_owned()).filter(|_| !matches!(spec.credential, HookCredential::Token { .. })),
        };
        to_delivery(&trigger, &spec, &proof, call)
    }

    fn id_of(spec: WebhookTrigger, all: &[(&'static str, &str)], body: &str) -> String {
        made_of(spec, all, body).unwrap().task.id.unwrap().to_string()
    }

    #[test]
    fn the_task_belongs_to_the_trace_of_the_caller() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = |all: &[(&'static str, &str)]| made_of(spec(), all, "{}").unwrap().task.headers;
        let of_call = headers(&[("traceparent", parent), ("tracestate", "v=1")]);
        assert_eq!(
            (of_call["traceparent"].as_str(), of_call["tracestate"].as_str()),
            (parent, "v=1")
        );
        assert!(headers(&[("traceparent", "x"), ("tracestate", "v=1")]).is_empty());
        let parts = headers(&[("traceparent", parent), ("tracestate", "v=1"), ("tracestate", "w=2")]);
        assert_eq!(parts["tracestate"], "v=1,w=2");
        assert!(headers(&[("traceparent", parent), ("traceparent", parent)]).is_empty());
    }

    #[test]
    fn each_form_has_its_own_identity() {
        assert_eq!(id_of(spec(), &[("idempotency-key", "k")], "{}"), "orders:in@hook-k");
        let (first, second) = (id_of(spec(), &[], "{}"), id_of(spec(), &[], "{}"));
        assert!(first != second && !first.contains("hook-"), "{first}");
        let all = [("x-github-delivery", "d")];
        assert_eq!(id_of(signed(SignatureForm::GitHub), &all, "{}"), "orders:in@hook-d");
        assert_eq!(
            id_of(signed(SignatureForm::Stripe), &[], r#"{"id":"evt"}"#),
            "orders:in@hook-evt"
        );
        assert_eq!(
            id_of(signed(SignatureForm::Slack), &[], r#"{"event_id":"e"}"#),
            "orders:in@hook-e"
        );
        // A signature with a time can be sent again within the tolerance, also with another key or an empty one.
        for form in [SignatureForm::Stripe, SignatureForm::Slack, SignatureForm::Runner] {
            assert_eq!(id_of(signed(form), &[], "{}"), "orders:in@hook-digest", "{form:?}");
            assert_eq!(
                id_of(signed(form), &[("idempotency-key", "")], "{}"),
                "orders:in@hook-digest"
            );
        }
        for form in [SignatureForm::Stripe, SignatureForm::Slack] {
            assert_eq!(
                id_of(signed(form), &[("idempotency-key", "k")], "{}"),
                "orders:in@hook-digest"
            );
        }
        let dedupe = WebhookTrigger {
            dedupe: Some(Template::parse("{{ request.body.n }}").unwrap()),
            ..spec()
        };
        assert_eq!(id_of(dedupe, &[], r#"{"n":7}"#), "orders:in@hook-7");
        let empty = WebhookTrigger {
            dedupe: Some(Template::parse("{{ request.body.n }}").unwrap()),
            ..signed(SignatureForm::Stripe)
        };
        assert_eq!(id_of(empty, &[], r#"{"n":""}"#), "orders:in@hook-digest");
    }

    #[test]
    fn a_call_is_known_for_as_long_as_its_signature_holds() {
        let short = |spec: WebhookTrigger| WebhookTrigger {
            remember: Duration::from_secs(1),
            ..spec
        };
        for (spec, seconds) in [
            (short(signed(SignatureForm::Runner)), 600),
            (signed(SignatureForm::Runner), DEFAULT_REMEMBER.as_secs()),
        ] {
            assert_eq!(made_of(spec, &[], "{}").unwrap().remember.as_secs(), seconds);
        }
        let short = short(spec());
        assert_eq!(
            made_of(short.clone(), &[("idempotency-key", "k")], "{}")
                .unwrap()
                .remember
                .as_secs(),
            1
        );
        assert_eq!(made_of(short, &[], "{}").unwrap().remember, UNNAMED);
    }

    #[test]
    fn a_payload_is_the_body_or_made_of_values_without_secrets() {
        let delivery = made_of(spec(), &[], r#"{"n": 1}"#).unwrap();
        assert_eq!(delivery.task.payload.as_deref(), Some(&br#"{"n": 1}"#[..]));
        let template =
            json!({"q": "{{ request.query.b.1 }}", "m": "{{ request.method }}", "h": "{{ request.headers }}"});
        let made = WebhookTrigger {
            payload: Some(JsonTemplate::new(template).unwrap()),
            ..spec()
        };
        let all = [("authorization", "Bearer secret"), ("x-event", "push")];
        let payload = made_of(made, &all, "").unwrap().task.payload.unwrap();
        let expected = json!({"q": "z", "m": "POST", "h": {"x-event": "push"}});
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), expected);
        let secret = WebhookTrigger {
            payload: Some(JsonTemplate::new(json!("{{ request.headers.authorization }}")).unwrap()),
            ..spec()
        };
        assert_eq!(
            made_of(secret, &all, "").unwrap_err().message,
            "payload: request.headers.authorization has no value"
        );
    }

    #[test]
    fn a_form_becomes_an_object() {
        let form = WebhookTrigger {
            format: HookBody::Form,
            ..spec()
        };
        let all = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let payload = made_of(form, &all, "text=a+b&x=1&x=2").unwrap().task.payload.unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&payload).unwrap(),
            json!({"text": "a b", "x": ["1", "2"]})
        );
        let form = WebhookTrigger {
            format: HookBody::Form,
            ..spec()
        };
        assert_eq!(
            made_of(form, &[], "").unwrap().task.payload,
            None,
            "that of the function"
        );
    }

    #[test]
    fn what_cannot_become_a_task_is_refused_with_a_code() {
        let json = [("content-type", "application/json")];
        let small = WebhookTrigger { max_bytes: 3, ..spec() };
        let get = WebhookTrigger {
            methods: vec![HookMethod::Get],
            ..spec()
        };
        for (spec, all, body, status, code) in [
            (spec(), &json[..], "{", 422, "hook_bad_payload"),
            (spec(), &[("content-type", "text/plain")], "{}", 415, "hook_media_type"),
            (small, &json, "[1,2]", 413, "hook_body_too_large"),
            (get, &json, "{}", 405, "hook_method"),
        ] {
            let refusal = made_of(spec, all, body).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code), (status, code), "{body}");
        }
    }

    #[test]
    fn a_call_that_waits_keeps_its_task_until_it_is_answered() {
        let waits = WebhookTrigger {
            wait: Some(Duration::from_secs(10)),
            ..spec()
        };
        assert_eq!(
            made_of(waits, &[], "{}").unwrap().task.retention,
            Duration::from_secs(70)
        );
    }
}
