//! Manifests of the kinds that have a file of their own here.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use jiff::tz::TimeZone;
use runner_core::cron::DstRule;
use runner_core::function::{
    EnqueuePayload, ExecLimits, ExecSpec, FunctionKind, HttpResult, HttpSpec, PublishTarget, Shell, SqlMode,
    SqlParameter, WasmDir, WasmSpec,
};

use crate::source::ScheduleContext;
use crate::source::manifest::read;

fn context() -> ScheduleContext {
    ScheduleContext {
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        dst: DstRule::default(),
        vet: Default::default(),
        rabbitmq: Default::default(),
        redis: Default::default(),
        channels: Vec::new(),
        semaphores: runner_core::limit::SemaphoreReach::Everywhere,
    }
}

fn kind(text: &str) -> FunctionKind {
    let reading = read(text, "a.yaml", &context());
    let errors: Vec<_> = reading.problems.iter().filter(|p| p.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    reading.entries.into_iter().next().unwrap().function.kind
}

/// The codes of the errors, with the beginning of each message.
fn errors(text: &str) -> Vec<String> {
    let reading = read(&format!("name: a\n{text}"), "a.yaml", &context());
    let errors = reading.problems.iter().filter(|p| p.is_error());
    errors.map(|p| format!("{} {}", p.code, p.message)).collect()
}

fn is_refused(text: &str, expected: &str) {
    let errors = errors(text);
    let found = errors.iter().any(|error| error.starts_with(expected));
    assert!(found, "{text}\n{expected}\n{errors:?}");
}

#[test]
fn a_message_has_a_short_and_a_long_form() {
    let FunctionKind::Mail(short) = kind("name: a\nmail: {to: ann@example.com, subject: s, text: t}\n") else {
        panic!("not mail")
    };
    assert_eq!((short.to.len(), short.to[0].fixed()), (1, Some("ann@example.com")));
    let FunctionKind::Mail(long) = kind(
        "name: a\nmail:\n  to: [a@b.c, '{{ payload.to }}']\n  cc: c@b.c\n  bcc: [d@b.c]\n  reply_to: e@b.c\n  subject: s\n  \
         html: <b>{{ payload.x }}</b>\n  attachments:\n  - {name: a.csv, type: text/csv, content: x}\n  - {name: b, content: y}\n",
    ) else {
        panic!("not mail")
    };
    assert_eq!((long.to.len(), long.cc.len(), long.bcc.len()), (2, 1, 1));
    assert!(long.text.is_none() && long.html.is_some() && long.uses_payload() && !short.uses_payload());
    let types: Vec<&str> = long.attachments.iter().map(|a| a.media_type.as_str()).collect();
    assert_eq!(types, ["text/csv", "text/plain; charset=utf-8"]);
}

#[test]
fn a_message_that_cannot_be_sent_is_refused() {
    for (text, expected) in [
        ("mail: {subject: s, text: t}", "E320 mail.to is required"),
        ("mail: {to: a@b.c, text: t}", "E321 mail.subject is required"),
        (
            "mail: {to: a@b.c, subject: s}",
            "E321 mail.text or mail.html is required",
        ),
        ("mail: {to: 7, subject: s, text: t}", "E320 mail.to must be a string"),
        (
            "mail: {to: [], subject: [s], text: t}",
            "E321 mail.subject must be a string",
        ),
        (
            "mail: {to: a@b.c, subject: '{{ payload.', text: t}",
            "E150 template error in mail.subject",
        ),
        (
            "mail: {to: a@b.c, subject: '{{ fire.at }}', text: t}",
            "E150 template error in mail.subject: {{ fire.at }}",
        ),
        (
            "mail: {to: [a@b.c, '{{ x }}'], subject: s, text: t}",
            "E150 template error in mail.to[1]",
        ),
        (
            "mail: {to: a@b.c, subject: s, text: t, attachments: [{name: a}]}",
            "E321 mail.attachments[0].content",
        ),
        (
            "mail: {to: a@b.c, subject: s, text: t, attachments: a}",
            "E321 mail.attachments must be a list",
        ),
        (
            "mail: {too: a@b.c, subject: s, text: t}",
            "E110 unknown key \"too\" in mail",
        ),
        ("mail: a@b.c", "E108 mail must be a map"),
    ] {
        is_refused(text, expected);
    }
}

#[test]
fn statements_have_a_short_and_a_long_form() {
    let FunctionKind::Sql(short) = kind(
        "name: a\nsql: {connection: main, statement: 'DELETE FROM t WHERE a < ?', params: [1, -2.5, true, null, '{{ payload.x }}', x], \
         expect_rows: {max: 5}}\n",
    ) else {
        panic!("not sql")
    };
    let parameters = &short.statements[0].parameters;
    assert_eq!((short.mode, short.max_rows, parameters.len()), (SqlMode::Exec, 1000, 6));
    assert_eq!(parameters[1], SqlParameter::Fixed((-2.5).into()));
    assert!(short.uses_payload() && short.statements[0].expect_rows.max == Some(5));
    let FunctionKind::Sql(long) = kind(
        "name: a\nsql:\n  connection: main\n  mode: query\n  max_rows: 10\n  read_only: true\n  statements:\n  - SET x = 1\n  - {statement: SELECT \
         1, params: [2], expect_rows: {min: 1, max: 1}}\n",
    ) else {
        panic!("not sql")
    };
    assert_eq!((long.mode, long.max_rows, long.read_only), (SqlMode::Query, 10, true));
    assert_eq!(long.statements.len(), 2);
    assert!(!long.uses_payload() && long.statements[1].expect_rows.min == Some(1));
}

#[test]
fn statements_that_a_payload_could_change_are_refused() {
    for (text, expected) in [
        (
            "sql: {connection: main, statement: 'DELETE FROM {{ payload.table }}'}",
            "E330 sql.statement must not contain templates",
        ),
        (
            "sql: {connection: main, statements: ['SELECT {{ payload.x }}']}",
            "E330 sql.statements[0]",
        ),
        (
            "sql: {connection: main, statements: [{statement: '{{ x }}'}]}",
            "E330 sql.statements[0].statement",
        ),
        ("sql: {statement: SELECT 1}", "E332 sql.connection is required"),
        (
            "sql: {connection: main}",
            "E332 sql.statement or sql.statements is required",
        ),
        (
            "sql: {connection: main, statement: a, statements: [b]}",
            "E332 both statement and statements",
        ),
        (
            "sql: {connection: main, statements: []}",
            "E332 sql.statements must have 1 to 100 items",
        ),
        (
            "sql: {connection: main, statements: [a], params: [1]}",
            "E332 sql.params belongs to a statement",
        ),
        (
            "sql: {connection: main, statement: a, params: [[1]]}",
            "E332 sql.params[0] must be a text",
        ),
        (
            "sql: {connection: main, statement: a, params: ['{{ x }}']}",
            "E150 template error in sql.params[0]",
        ),
        (
            "sql: {connection: main, statement: a, params: x}",
            "E332 sql.params must be a list",
        ),
        (
            "sql: {connection: main, statement: a, mode: select}",
            "E332 sql.mode must be exec or query",
        ),
        (
            "sql: {connection: main, statement: a, max_rows: 0}",
            "E332 sql.max_rows must be",
        ),
        (
            "sql: {connection: main, statement: a, expect_rows: {min: 2, max: 1}}",
            "E332 sql.expect_rows.min is greater",
        ),
    ] {
        is_refused(text, expected);
    }
}

fn exec(keys: &str) -> ExecSpec {
    let FunctionKind::Exec(spec) = kind(&format!("name: a\nexec:\n{keys}")) else {
        panic!("not exec")
    };
    spec
}

#[test]
fn a_script_has_an_interpreter() {
    for (keys, interpreter) in [
        ("  script: |\n    id\n", &["sh"][..]),
        (
            "  script: |\n    #!/usr/bin/env python3\n    print(1)\n",
            &["/usr/bin/env", "python3"],
        ),
        ("  script: |\n    #! /bin/bash\n    id\n", &["/bin/bash"]),
        ("  script: |\n    #!\n    id\n", &["sh"]),
        ("  script: id\n  interpreter: python3\n", &["python3"]),
        (
            "  script: '#!/bin/x'\n  interpreter: [node, --test]\n",
            &["node", "--test"],
        ),
    ] {
        let spec = exec(keys);
        assert_eq!(spec.command, interpreter, "{keys}");
        assert!(spec.script.is_some() && spec.shell.is_none(), "{keys}");
    }
    let spec = exec("  script: |\n    echo {{ payload.x }} ${env:HOME}\n");
    assert_eq!(spec.script.as_deref(), Some("echo {{ payload.x }} ${env:HOME}\n"));
}

#[test]
fn a_shell_has_a_name() {
    for (word, shell) in [
        ("true", Some(Shell::Sh)),
        ("sh", Some(Shell::Sh)),
        ("bash", Some(Shell::Bash)),
    ] {
        assert_eq!(exec(&format!("  command: id\n  shell: {word}\n")).shell, shell);
    }
    assert_eq!(exec("  command: [id]\n  shell: false\n").shell, None);
}

#[test]
fn limits_have_units() {
    let spec = exec(
        "  command: [id]\n  user: root\n  umask: '027'\n  limits: {memory: 256M, cpu_time: 1m, open_files: 64, file_size: \
         1G, processes: 8}\n",
    );
    assert_eq!((spec.user.as_deref(), spec.umask), (Some("root"), 0o027));
    let limits = ExecLimits {
        memory: Some(256 << 20),
        cpu_time: Some(Duration::from_secs(60)),
        open_files: Some(64),
        file_size: Some(1 << 30),
        processes: Some(8),
    };
    assert_eq!(spec.limits, limits);
    let plain = exec("  command: [id]\n");
    assert_eq!((plain.limits, plain.umask), (ExecLimits::default(), 0o077));
}

#[test]
fn what_a_command_cannot_have_is_refused() {
    for (keys, expected) in [
        ("{}", "E301 exec.command or exec.script is required"),
        (
            "{command: [id], script: id}",
            "E301 exec.command and exec.script are both set",
        ),
        ("{script: ''}", "E301 exec.script must not be empty"),
        ("{script: id, shell: bash}", "E305 exec.shell has no effect"),
        (
            "{command: [id], interpreter: sh}",
            "E305 exec.interpreter has no effect without exec.script",
        ),
        (
            "{script: id, interpreter: python3 -u}",
            "E305 exec.interpreter must be one program",
        ),
        ("{script: id, interpreter: []}", "E301 exec.interpreter must begin"),
        ("{command: id, shell: zsh}", "E305 exec.shell must be sh or bash"),
        (
            "{command: [id], limits: {memory: 1M}}",
            "E308 exec.limits.memory must be between 16M",
        ),
        (
            "{command: [id], limits: {memory: 64}}",
            "E308 exec.limits.memory must be a size",
        ),
        (
            "{command: [id], limits: {cpu_time: 5}}",
            "E308 exec.limits.cpu_time needs a unit",
        ),
        ("{command: [id], limits: {processes: 0}}", "E308 exec.limits.processes"),
        ("{command: [id], limits: {swap: 1G}}", "E110 unknown key \"swap\""),
        ("{command: [id], umask: 22}", "E307 exec.umask must be octal digits"),
        ("{command: [id], umask: '1777'}", "E307 exec.umask must be octal digits"),
        ("{command: [id], user: 'a b'}", "E307 exec.user must be the name"),
        (
            "{command: id, shell: 1}",
            "E305 exec.shell must be true, false, sh or bash",
        ),
    ] {
        is_refused(&format!("exec: {keys}"), expected);
    }
}

#[test]
fn a_call_may_be_signed_follow_redirects_and_show_a_certificate() {
    let FunctionKind::Http(spec) = kind(
        "name: a\nhttp:\n  url: https://example.com/x\n  redirects: 3\n  async: true\n  result: response\n  sign: {secret: '${file:/run/secrets/x}'}\n  \
         tls: {ca_file: /etc/ca.pem, cert_file: /etc/a.pem, key_file: /etc/a.key}\n",
    ) else {
        panic!("not http")
    };
    assert_eq!(
        (spec.redirects, spec.result, spec.reports_end),
        (3, HttpResult::Response, true)
    );
    assert_eq!(spec.sign_secret.as_deref(), Some("${file:/run/secrets/x}"));
    let tls = &spec.tls;
    assert!(tls.ca_file.is_some() && tls.cert_file.is_some() && tls.key_file.is_some());
    assert_eq!(HttpSpec::new("https://example.com/x").redirects, 0);
    for (keys, expected) in [
        ("redirects: 4", "E312 http.redirects must be"),
        ("result: all", "E312 http.result must be body, response or none"),
        ("async: later", "E312 http.async must be true or false"),
        ("sign: {}", "E313 http.sign.secret is required"),
        ("sign: {secret: hunter2}", "E313 http.sign.secret must be"),
        ("sign: {secret: '${PARTNER_KEY}'}", "E313 http.sign.secret must be"),
        ("sign: {secret: '${env:A}b'}", "E313 http.sign.secret must be"),
        ("sign: hunter2", "E108 http.sign must be a map"),
        (
            "tls: {ca_file: ca.pem}",
            "E313 http.tls.ca_file must be an absolute path",
        ),
        ("tls: {key_file: /a}", "E313 http.tls.key_file has no effect"),
        ("tls: {verify: false}", "E110 unknown key \"verify\""),
    ] {
        is_refused(&format!("http: {{url: 'http://example.com', {keys}}}"), expected);
    }
}

#[test]
fn a_task_has_a_short_and_a_long_form() {
    let FunctionKind::Enqueue(short) = kind("name: a\nenqueue: email:welcome\n") else {
        panic!("not enqueue")
    };
    assert_eq!(
        (short.kind.as_str(), &short.payload),
        ("email:welcome", &EnqueuePayload::OfRun)
    );
    let FunctionKind::Enqueue(long) = kind(
        "name: a\nenqueue:\n  type: image:scale\n  payload: {id: '{{ payload.id }}', n: 1}\n  queue: low\n  retry: 5\n  \
         timeout: 2m\n  retention: 1h\n  delay: 10s\n  deadline: 1h\n  unique: 1m\n  headers: {tenant: '{{ payload.tenant }}'}\n",
    ) else {
        panic!("not enqueue")
    };
    assert!(long.uses_payload() && !short.uses_payload() && matches!(long.payload, EnqueuePayload::Json(_)));
    let options = &long.options;
    assert_eq!(
        (options.queue.as_ref().unwrap().as_str(), options.max_retry),
        ("low", Some(5))
    );
    let spans = [
        long.delay,
        long.deadline,
        options.unique.as_ref().map(|unique| unique.ttl),
        options.timeout,
        options.retention,
    ];
    assert_eq!(spans.map(|span| span.unwrap().as_secs()), [10, 3600, 60, 120, 3600]);
    assert!(long.headers.contains_key("tenant") && long.group.is_none());
}

#[test]
fn a_task_that_cannot_be_enqueued_is_refused() {
    for (text, expected) in [
        ("enqueue: {queue: low}", "E350 enqueue.type is required"),
        ("enqueue: {type: '{{ payload.type }}'}", "E350 enqueue.type"),
        ("enqueue: {type: a, delay: 0s}", "E350 enqueue.delay"),
        (
            "enqueue: {type: a, group: g, delay: 1s}",
            "E350 enqueue.delay has no effect",
        ),
        (
            "enqueue: {type: a, headers: {runner-x: y}}",
            "E350 enqueue.headers.runner-x",
        ),
        (
            "enqueue: {type: a, payload: {x: '{{ nothing }}'}}",
            "E150 template error in enqueue.payload",
        ),
        ("enqueue: {type: a, max_retry: 1}", "E110 unknown key"),
    ] {
        is_refused(text, expected);
    }
}

#[test]
fn a_published_message_goes_to_an_exchange_a_channel_or_a_stream() {
    let FunctionKind::Publish(spec) =
        kind("name: a\npublish: {exchange: orders, routing_key: 'o.{{ payload.kind }}'}\n")
    else {
        panic!("not publish")
    };
    let PublishTarget::Exchange(target) = &spec.target else {
        panic!("no exchange")
    };
    assert_eq!((spec.connection.as_str(), target.exchange.as_str()), ("main", "orders"));
    assert!(target.persistent && target.mandatory && spec.uses_payload() && spec.body == EnqueuePayload::OfRun);
    let FunctionKind::Publish(spec) =
        kind("name: a\npublish: {connection: other, redis: {stream: s, max_len: 9}, body: none, headers: {a: b}}\n")
    else {
        panic!("not publish")
    };
    let (stream, max_len) = ("s".to_owned(), Some(9));
    assert_eq!(spec.target, PublishTarget::Stream { stream, max_len });
    assert!(spec.headers.contains_key("a") && !spec.uses_payload());
}

#[test]
fn a_message_that_cannot_be_published_is_refused() {
    for (text, expected) in [
        ("publish: {}", "E360 publish goes nowhere"),
        ("publish: {exchange: 'x{{ payload.y }}'}", "E360 publish.exchange"),
        ("publish: {exchange: ''}", "E360 publish.routing_key is required"),
        (
            "publish: {exchange: x, redis: {channel: c}}",
            "E360 publish.exchange does not go with publish.redis",
        ),
        ("publish: {redis: {}}", "E360 publish.redis must have either"),
        (
            "publish: {redis: {channel: c, stream: s}}",
            "E360 publish.redis must have either",
        ),
        (
            "publish: {redis: {channel: c, max_len: 1}}",
            "E360 publish.redis.max_len is for a stream",
        ),
        (
            "publish: {redis: {channel: c}, headers: {a: b}}",
            "E360 publish.headers does not go with a channel",
        ),
        (
            "publish: {redis: {stream: s}, headers: {id: b}}",
            "E360 publish.headers.id: every entry has",
        ),
        ("publish: {exchange: x, body: '{{ nothing }}'}", "E150 template error"),
        ("publish: {exchange: x, key: y}", "E110 unknown key \"key\""),
    ] {
        is_refused(text, expected);
    }
}

#[test]
fn a_module_has_a_short_and_a_long_form() {
    let FunctionKind::Wasm(short) = kind("name: a\nwasm: /srv/a.wasm\n") else {
        panic!("not wasm")
    };
    assert_eq!(*short, WasmSpec::new("/srv/a.wasm"));
    let FunctionKind::Wasm(long) = kind(
        "name: a\nwasm:\n  module: /srv/a.wasm\n  args: [-x, '1']\n  env: {A: b}\n  memory: 64M\n  result: none\n  dirs:\n    \
         /in: /srv/in\n    /out: {path: /srv/out, write: true}\n",
    ) else {
        panic!("not wasm")
    };
    let dir = |host: &str, guest: &str, write| WasmDir {
        host: host.into(),
        guest: guest.to_owned(),
        write,
    };
    assert_eq!((long.args.len(), long.env["A"].as_str()), (2, "b"));
    assert_eq!((long.memory, long.stdout_is_result), (64 << 20, false));
    assert_eq!(long.dirs, [dir("/srv/in", "/in", false), dir("/srv/out", "/out", true)]);
    for (text, expected) in [
        ("wasm: {}", "E370 wasm.module is required"),
        ("wasm: a.wasm", "E370 wasm must be an absolute path"),
        ("wasm: {module: a.wasm}", "E370 wasm.module must be an absolute path"),
        (
            "wasm: {module: /a, dirs: {/in: files}}",
            "E370 wasm.dirs./in must be an absolute path",
        ),
        (
            "wasm: {module: /a, dirs: {/in: {write: true}}}",
            "E370 wasm.dirs./in.path is required",
        ),
        ("wasm: {module: /a, env: {A-B: x}}", "E3"),
        (
            "wasm: {module: /a, args: [\"a\\0b\"]}",
            "E370 wasm.args must not contain NUL",
        ),
        ("wasm: {module: /a, memory: 1M}", "E3"),
        ("wasm: {module: /a, result: file}", "E370 wasm.result"),
        ("wasm: {module: /a, network: true}", "E110"),
    ] {
        is_refused(text, expected);
    }
}
