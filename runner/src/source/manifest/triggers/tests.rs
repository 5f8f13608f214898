//! What triggers of manifests become, and what is said about those that cannot be used.

#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::tz::TimeZone;
use runner_core::cron::DstRule;
use runner_core::trigger::{
    BadMessage, DeclareQueue, ExchangeType, FileEnd, FollowOn, HookBody, HookCredential, HookMethod, RabbitMqTrigger,
    SignatureForm, TriggerDefinition, TriggerKind, WebhookTrigger,
};

use crate::source::manifest::{Reading, ScheduleContext, read};

fn reading(triggers: &str) -> Reading {
    let context = ScheduleContext {
        rabbitmq: vec!["main".to_owned(), "billing".to_owned()],
        redis: vec!["main".to_owned()],
        channels: Vec::new(),
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: DstRule::default(),
        vet: Default::default(),
        semaphores: runner_core::limit::SemaphoreReach::Everywhere,
    };
    let text = format!("name: a\nexec: [x]\npayload: {{mode: full, n: 1}}\ntriggers:\n{triggers}");
    read(&text, "a.yaml", &context)
}

fn one(triggers: &str) -> (TriggerDefinition, RabbitMqTrigger) {
    let reading = reading(triggers);
    assert!(reading.problems.is_empty(), "{:#?}", reading.problems);
    let trigger = reading.entries[0].triggers[0].clone();
    let TriggerKind::RabbitMq(spec) = trigger.kind.clone() else {
        panic!("{:?}", trigger.kind);
    };
    (trigger, spec)
}

#[test]
fn a_queue_is_enough() {
    let (trigger, spec) = one("  - id: new\n    rabbitmq: {queue: orders}\n");
    assert_eq!((trigger.id.as_str(), trigger.enabled), ("a:new", true));
    assert_eq!(trigger.task.kind, "fn:a");
    assert_eq!(trigger.task.max_retry, 2, "the defaults of the function");
    assert_eq!(trigger.task.headers["runner-trigger"], "a:new");
    assert_eq!(
        (spec.connection.as_str(), spec.queue.as_str(), spec.prefetch),
        ("main", "orders", 500)
    );
    assert_eq!(
        (spec.declare, spec.bad_messages),
        (DeclareQueue::Passive, BadMessage::Keep)
    );
    assert!(spec.payload.is_none() && spec.dedupe.is_none());
}

#[test]
fn all_keys_are_read() {
    let (_, spec) = one(
        "  - id: new\n    rabbitmq:\n      connection: billing\n      queue: q\n      declare: create\n      \
         single_active_consumer: true\n      bind: {exchange: e, type: direct, routing_keys: [k, l]}\n      prefetch: 7\n      \
         dedupe: '{{ message.headers.id }}'\n      remember: 1h\n      body: json\n      max_bytes: 10\n      \
         on_bad_message: drop\n      payload: {n: '{{ message.body.n }}'}\n",
    );
    let single_active_consumer = true;
    assert_eq!(spec.declare, DeclareQueue::Create { single_active_consumer });
    let binding = spec.bind.unwrap();
    assert_eq!((binding.exchange.as_str(), binding.kind), ("e", ExchangeType::Direct));
    assert_eq!(binding.routing_keys, ["k", "l"]);
    assert_eq!((spec.prefetch, spec.max_bytes, spec.remember.as_secs()), (7, 10, 3600));
    assert_eq!(spec.bad_messages, BadMessage::Drop);
    // The payload is laid over that of the function.
    assert!(matches!(spec.payload, Some(runner_core::template::JsonTemplate::Object(members)) if members.len() == 2));
}

#[test]
fn a_queue_that_is_made_has_a_dead_letter_queue_for_bad_messages() {
    let (_, spec) = one("  - id: new\n    rabbitmq: {queue: q, declare: create}\n");
    assert_eq!(spec.bad_messages, BadMessage::DeadLetter);
}

fn hook(keys: &str) -> (TriggerDefinition, WebhookTrigger) {
    let reading = reading(&format!("  - id: in\n    webhook: {{{keys}}}\n"));
    assert!(reading.problems.is_empty(), "{:#?}", reading.problems);
    let trigger = reading.entries[0].triggers[0].clone();
    let TriggerKind::Webhook(spec) = trigger.kind.clone() else {
        panic!("{:?}", trigger.kind);
    };
    (trigger, spec)
}

#[test]
fn a_hook_needs_a_credential_and_nothing_else() {
    let (trigger, spec) = hook("token: '${env:T}'");
    assert_eq!(trigger.describe(), "POST /hooks/a/in");
    let (header, secrets) = (None, vec!["${env:T}".to_owned()]);
    assert_eq!(spec.credential, HookCredential::Token { header, secrets });
    assert_eq!(
        (spec.methods.as_slice(), spec.format),
        (&[HookMethod::Post][..], HookBody::Json)
    );
    assert_eq!(
        (spec.wait, spec.max_bytes, spec.remember.as_secs()),
        (None, 1 << 20, 86_400)
    );
}

#[test]
fn all_keys_of_a_hook_are_read() {
    let (_, spec) = hook(
        "token: ['${env:A}', '${file:b}'], header: X-Gitlab-Token, methods: [PUT, POST], wait: 10s, \
        dedupe: '{{ request.body.id }}', remember: 1h, body: form, max_bytes: 10, payload: {n: '{{ request.query.n }}'}",
    );
    let HookCredential::Token { header, secrets } = &spec.credential else {
        panic!("{:?}", spec.credential);
    };
    assert_eq!((header.as_deref(), secrets.len()), (Some("x-gitlab-token"), 2));
    assert_eq!(spec.methods, [HookMethod::Put, HookMethod::Post]);
    assert_eq!(
        (spec.wait.unwrap().as_secs(), spec.format, spec.max_bytes),
        (10, HookBody::Form, 10)
    );
    let (_, spec) = hook("hmac: {secret: '${env:S}', form: slack, tolerance: 1m}");
    let HookCredential::Signature { form, tolerance, .. } = spec.credential else {
        panic!("{:?}", spec.credential);
    };
    assert_eq!((form, tolerance.as_secs()), (SignatureForm::Slack, 60));
}

#[test]
fn hooks_that_cannot_be_used_are_said_and_no_secret_is_repeated() {
    for (keys, expected) in [
        ("", "E145 triggers[0].webhook needs token or hmac"),
        (
            "token: hunter2hunter2hunter2",
            "E146 triggers[0].webhook.token must be a reference",
        ),
        (
            "token: 'x${env:A}'",
            "E146 triggers[0].webhook.token must be a reference",
        ),
        (
            "token: ['${env:A}', '${env:B}', '${env:C}']",
            "E146 triggers[0].webhook.token lists 3 secrets",
        ),
        (
            "token: '${env:A}', header: 'a b'",
            "E145 triggers[0].webhook.header must be the name of a header",
        ),
        (
            "token: '${env:A}', hmac: {secret: '${env:A}', form: github}",
            "E145 triggers[0].webhook has both",
        ),
        (
            "hmac: {secret: '${env:A}'}",
            "E145 triggers[0].webhook.hmac.form is required",
        ),
        (
            "hmac: {secret: '${env:A}', form: gitea}",
            "E145 triggers[0].webhook.hmac.form",
        ),
        (
            "hmac: {secret: '${env:A}', form: github, tolerance: 1m}",
            "E145 triggers[0].webhook.hmac.tolerance has no effect",
        ),
        (
            "token: '${env:A}', methods: [HEAD]",
            "E145 triggers[0].webhook.methods may list",
        ),
        ("token: '${env:A}', wait: 2m", "E145 triggers[0].webhook.wait"),
        (
            "token: '${env:A}', payload: '{{ message.body }}'",
            "E144 template error in triggers[0].webhook.payload: a request has",
        ),
        (
            "token: '${env:A}', body: bytes, payload: '{{ request.body }}'",
            "E145 triggers[0].webhook.payload names request.body",
        ),
    ] {
        let problems = reading(&format!("  - id: in\n    webhook: {{{keys}}}\n")).problems;
        let said: Vec<String> = problems.iter().map(|p| format!("{} {}", p.code, p.message)).collect();
        assert!(
            said.iter().any(|line| line.starts_with(expected)),
            "{keys}\n{expected}\n{said:#?}"
        );
        assert!(!said.iter().any(|line| line.contains("hunter2")), "{said:#?}");
    }
}

#[test]
fn what_cannot_be_used_is_said() {
    for (triggers, expected) in [
        ("  {}\n", "E142 triggers must be a list of 1-20 maps"),
        ("  - rabbitmq: {queue: q}\n", "E142 triggers[0] needs an id"),
        ("  - id: x\n", "E142 triggers[0] listens to nothing: add rabbitmq"),
        (
            "  - id: X\n    rabbitmq: {queue: q}\n",
            "E142 triggers[0].id \"X\" may use",
        ),
        (
            "  - id: x\n    rabbitmq: {}\n",
            "E143 triggers[0].rabbitmq.queue is required",
        ),
        ("  - id: x\n    rabbitmq: {queu: q}\n", "E110 unknown key \"queu\""),
        (
            "  - {id: x, rabbitmq: {queue: q}}\n  - {id: x, rabbitmq: {queue: r}}\n",
            "E140 the id of triggers[1] is used twice",
        ),
        (
            "  - id: x\n    rabbitmq: {queue: q, single_active_consumer: true}\n",
            "E143 triggers[0].rabbitmq.single_active_consumer is a property of the queue",
        ),
        (
            "  - id: x\n    rabbitmq: {queue: q, dedupe: '{{ message.id }}'}\n",
            "E144 template error in triggers[0].rabbitmq.dedupe: a message has no value \"message.id\"",
        ),
        (
            "  - id: x\n    rabbitmq: {queue: q, payload: {a: '{{ message.body'}}\n",
            "E144 template error in triggers[0].rabbitmq.payload: \"{{\" is not closed",
        ),
        (
            "  - id: x\n    rabbitmq: {queue: q, body: bytes, payload: '{{ message.body }}'}\n",
            "E143 triggers[0].rabbitmq.payload names message.body",
        ),
        (
            "  - id: x\n    redis_stream: {}\n",
            "E147 triggers[0].redis_stream.stream is required",
        ),
        (
            "  - id: x\n    redis_stream: {stream: s, body: json}\n",
            "E147 triggers[0].redis_stream.body says what the field",
        ),
        (
            "  - id: x\n    redis_stream: {stream: s, dead_stream: d}\n",
            "E147 triggers[0].redis_stream.dead_stream goes with",
        ),
        (
            "  - id: x\n    redis_stream: {stream: s, take_over: 1s}\n",
            "E147 triggers[0].redis_stream.take_over",
        ),
        (
            "  - id: x\n    redis_stream: {stream: s, dedupe: '{{ message.id }}'}\n",
            "E144 template error in triggers[0].redis_stream.dedupe: an entry has no value",
        ),
        (
            "  - id: x\n    redis_stream: {stream: s, connection: mian}\n",
            "W217 connection \"mian\" is not defined",
        ),
        (
            "  - id: x\n    rabbitmq: {queue: q, connection: mian}\n",
            "W216 connection \"mian\" is not defined",
        ),
    ] {
        let problems = reading(triggers).problems;
        let said: Vec<String> = problems.iter().map(|p| format!("{} {}", p.code, p.message)).collect();
        assert!(
            said.iter().any(|line| line.starts_with(expected)),
            "{triggers}\n{expected}\n{said:#?}"
        );
    }
}

#[test]
fn another_function_is_followed_after_its_success_unless_said_otherwise() {
    let after = |keys: &str| {
        let reading = reading(&format!("  - id: x\n    after: {{{keys}}}\n"));
        assert!(reading.problems.is_empty(), "{:#?}", reading.problems);
        match reading.entries[0].triggers[0].kind.clone() {
            TriggerKind::After(spec) => spec,
            other => panic!("{other:?}"),
        }
    };
    let spec = after("function: b");
    assert_eq!((spec.function.as_str(), spec.on), ("b", FollowOn::Success));
    assert!(spec.payload.is_none() && spec.follows.is_empty());
    let spec = after("function: b, on: any, payload: {n: '{{ after.result.rows.0 }}'}");
    assert_eq!(spec.on, FollowOn::Any);
    assert!(matches!(spec.payload, Some(runner_core::template::JsonTemplate::Object(members)) if members.len() == 2));

    for (keys, expected) in [
        ("on: any", "E147 triggers[0].after.function is required"),
        (
            "function: 'fn:b'",
            "E147 triggers[0].after.function \"fn:b\" is not the name",
        ),
        ("function: b, on: always", "E147 triggers[0].after.on"),
        (
            "function: b, payload: '{{ after.output }}'",
            "E144 template error in triggers[0].after.payload: the end of a task has no value \"after.output\"",
        ),
    ] {
        let problems = reading(&format!("  - id: x\n    after: {{{keys}}}\n")).problems;
        let said: Vec<String> = problems.iter().map(|p| format!("{} {}", p.code, p.message)).collect();
        assert!(said.iter().any(|line| line.starts_with(expected)), "{keys}\n{said:#?}");
    }
}

#[test]
fn a_directory_is_enough_and_its_files_stay_below_it() {
    let file = |keys: &str| {
        let reading = reading(&format!("  - id: in\n    file: {{{keys}}}\n"));
        assert!(reading.problems.is_empty(), "{:#?}", reading.problems);
        match reading.entries[0].triggers[0].kind.clone() {
            TriggerKind::File(spec) => spec,
            other => panic!("{other:?}"),
        }
    };
    let spec = file("dir: /spool/in");
    let moved = |to: &str| FileEnd::Move(to.into());
    assert_eq!(
        (spec.pattern.as_str(), spec.stable.as_secs(), spec.in_flight),
        ("*", 2, 100)
    );
    assert_eq!(
        (spec.done, spec.failed),
        (moved("/spool/in/done"), moved("/spool/in/failed"))
    );
    let all = "dir: /a, pattern: '*.csv', stable: 10s, done: delete, failed: /b, max_in_flight: 3, payload: '{{ file.path }}'";
    let spec = file(all);
    assert_eq!(
        (spec.pattern.as_str(), spec.stable.as_secs(), spec.in_flight),
        ("*.csv", 10, 3)
    );
    assert_eq!((spec.done, spec.failed), (FileEnd::Delete, moved("/b")));

    for (keys, expected) in [
        ("pattern: '*'", "E149 triggers[0].file.dir is required"),
        (
            "dir: spool",
            "E149 triggers[0].file.dir \"spool\" must be an absolute path",
        ),
        (
            "dir: /a, pattern: 'b/*'",
            "E149 triggers[0].file.pattern \"b/*\" is compared with names",
        ),
        (
            "dir: /a, done: /a",
            "E149 triggers[0].file.done is the watched directory itself",
        ),
        ("dir: /a, stable: 0s", "E149 triggers[0].file.stable"),
        (
            "dir: /a, payload: '{{ file.owner }}'",
            "E144 template error in triggers[0].file.payload: a file has no value \"file.owner\"",
        ),
    ] {
        let problems = reading(&format!("  - id: in\n    file: {{{keys}}}\n")).problems;
        let said: Vec<String> = problems.iter().map(|p| format!("{} {}", p.code, p.message)).collect();
        assert!(said.iter().any(|line| line.starts_with(expected)), "{keys}\n{said:#?}");
    }
}
