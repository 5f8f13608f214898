//! OpenTelemetry: a whole program beside a receiver of OTLP, which decodes what arrives by OpenTelemetry's own types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use reqwest::Method;

use crate::kit::{self, Child, Http, HttpReceiver, Scripted, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): one_trace_from_the_caller_to_the_spans_of_a_handler, figures_are_those_of_metrics,
            a_receiver_that_is_away_or_broken_harms_no_run, a_receiver_that_never_answers_delays_no_stop;
    ]
}

const PATIENCE: Duration = Duration::from_secs(40);

const TOKEN: &str = "a token of sixteen bytes or more";

/// The caller's span.
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const MANIFESTS: &str = "name: orders
handler: report
retention: 1h
triggers:
  - id: in
    webhook: {token: '${file:token}'}
---
name: noted
exec: {command: ['sh', '-c', 'echo $TRACEPARENT'], result: stdout}
retention: 1h
triggers:
  - id: next
    after: {function: orders}
";

fn settings(receiver: &HttpReceiver, port: u16) -> String {
    format!(
        "server: {{addr: '127.0.0.1:{port}'}}\ntelemetry:\n  otlp:\n    endpoint: http://127.0.0.1:{}\n    \
         headers: {{x-key: '${{file:token}}'}}\n    service_name: it\n    interval: 1s\n",
        receiver.port
    )
}

/// The example with a handler that makes spans, in a site with the hook.
fn traced(site: &Site) -> Child {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
    let program = beside.with_file_name("examples").join("traced").display().to_string();
    site.write("token", TOKEN);
    Child::start(&program, None, Signal::SIGKILL, &site.dir.join("log"), |command| {
        command.args(["-c", "config.yaml"]).current_dir(&site.dir);
    })
}

/// The spans that have arrived.
fn spans(receiver: &HttpReceiver) -> Vec<Span> {
    let calls = receiver
        .calls()
        .into_iter()
        .filter(|call| call.line.starts_with("POST /v1/traces "));
    let requests = calls.map(|call| {
        assert_eq!(call.headers["content-type"], "application/x-protobuf");
        assert_eq!(call.headers["x-key"], TOKEN);
        ExportTraceServiceRequest::decode(&call.bytes[..]).expect("spans")
    });
    let resources = requests.flat_map(|request| request.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn fact(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == name);
    text(
        found
            .and_then(|pair| pair.value.as_ref())
            .and_then(|value| value.value.as_ref()),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans below this one, as a tree of names.
fn tree(spans: &[Span], parent: &[u8], level: usize, out: &mut String) {
    let mut below: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == parent).collect();
    below.sort_by_key(|span| (span.start_time_unix_nano, span.name.clone()));
    for span in below {
        out.push_str(&format!("{}{}\n", "  ".repeat(level), span.name));
        tree(spans, &span.span_id, level + 1, out);
    }
}

async fn call_hook(port: u16, headers: &[(&str, &str)]) {
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    eventually_within(PATIENCE, "the hook takes a call", async || {
        let mut call = http.request(Method::POST, "/hooks/orders").bearer_auth(TOKEN).body("3");
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        match http.send(call).await {
            Ok(answer) if answer.status == 202 => Ok(()),
            Ok(answer) => Err(answer.body),
            Err(error) => Err(error),
        }
    })
    .await;
}

async fn one_trace_from_the_caller_to_the_spans_of_a_handler() {
    let (receiver, port) = (HttpReceiver::friendly().await, kit::free_port());
    let site = Site::new(&settings(&receiver, port));
    let scheduled = "---\nname: tick\nhandler: report\npayload: 1\nschedule: '@every 1s'\n";
    site.write("manifests/all.yaml", &format!("{MANIFESTS}{scheduled}"));
    let program = traced(&site);
    let headers = [
        ("traceparent", CALLER),
        ("tracestate", "vendor=7"),
        ("idempotency-key", "k1"),
    ];
    call_hook(port, &headers).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let found = eventually_within(PATIENCE, "a whole trace", async || {
        let all = spans(&receiver);
        let own: Vec<Span> = all.into_iter().filter(|span| hex(&span.trace_id) == trace).collect();
        match own.len() {
            7 => Ok(own),
            count => Err(format!("{count} spans: {own:#?}\n{}", program.tail())),
        }
    })
    .await;
    let mut shown = String::new();
    tree(&found, &[0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7], 0, &mut shown);
    println!("the trace of the caller {CALLER}:\n{shown}");
    for line in [
        "enqueue report",
        "  attempt report",
        "    read rows",
        "      sort",
        "    enqueue mail",
        "      attempt mail",
        "    attempt fn:noted",
    ] {
        assert!(shown.lines().any(|known| known == line), "{line:?} is not in\n{shown}");
    }
    the_facts_are_those_of_the_conventions(&found);
    the_function_saw_its_span(&site, &found, trace).await;
    a_schedule_begins_traces(&receiver).await;
    program.signal(Signal::SIGINT);
    assert!(program.wait(Duration::from_secs(15)).success(), "{}", program.tail());
}

fn named<'a>(found: &'a [Span], name: &str) -> &'a Span {
    found
        .iter()
        .find(|span| span.name == name)
        .expect("a span of this name")
}

fn the_facts_are_those_of_the_conventions(found: &[Span]) {
    let of = |name: &str| named(found, name);
    let attempt = of("attempt report");
    assert_eq!((attempt.kind, attempt.trace_state.as_str()), (5, "vendor=7"));
    assert_eq!(of("enqueue report").kind, 4);
    for (name, value) in [
        ("messaging.system", "runner"),
        ("messaging.destination.name", "default"),
        ("messaging.message.id", "orders:in@hook-k1"),
        ("runner.attempt", "1"),
        ("runner.outcome", "success"),
    ] {
        assert_eq!(fact(attempt, name), value);
    }
    assert_eq!(fact(of("read rows"), "count"), "3");
    let sort = of("sort");
    assert_eq!(
        (fact(sort, "rows").as_str(), sort.events[0].name.as_str()),
        ("3", "sorted")
    );
    assert!(
        found
            .iter()
            .all(|span| span.end_time_unix_nano >= span.start_time_unix_nano)
    );
}

/// What it was given is the span that was sent.
async fn the_function_saw_its_span(site: &Site, found: &[Span], trace: &str) {
    let noted = site.cli(["runs", "noted", "--json"]).await.json();
    // It follows the occurrences as well.
    let run = noted
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["trace_id"] == trace)
        .expect("its run");
    let task = run["task"].as_str().unwrap().to_owned();
    let task = site.cli(["task", "show", &task, "--json"]).await.json();
    let seen = task["result"].as_str().unwrap_or_default().trim().to_owned();
    assert_eq!(
        seen,
        format!("00-{trace}-{}-01", hex(&named(found, "attempt fn:noted").span_id)),
        "{task}"
    );
}

/// Each occurrence is one, and its parts are within it.
async fn a_schedule_begins_traces(receiver: &HttpReceiver) {
    let mut shown = eventually_within(PATIENCE, "two occurrences", async || {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in spans(receiver) {
            traces.entry(hex(&span.trace_id)).or_default().push(span);
        }
        let trees = traces.into_values().map(|spans| {
            let mut shown = String::new();
            tree(&spans, &[], 0, &mut shown);
            shown
        });
        let fired: Vec<String> = trees
            .filter(|tree| {
                tree.starts_with("schedule fire\n  attempt report\n") && tree.contains("      attempt mail\n")
            })
            .collect();
        if fired.len() >= 2 {
            Ok(fired)
        } else {
            Err(format!("{fired:?}"))
        }
    })
    .await;
    println!("the trace of an occurrence:\n{}", shown.remove(0));
}

async fn figures_are_those_of_metrics() {
    let (receiver, port) = (HttpReceiver::friendly().await, kit::free_port());
    let site = Site::new(&settings(&receiver, port));
    site.write("manifests/all.yaml", MANIFESTS);
    let program = traced(&site);
    call_hook(port, &[]).await;
    let processed = eventually_within(PATIENCE, "the figures", async || {
        let mut calls = receiver
            .calls()
            .into_iter()
            .filter(|call| call.line.starts_with("POST /v1/metrics "));
        let last = calls.next_back().ok_or("no figures yet")?;
        let request = ExportMetricsServiceRequest::decode(&last.bytes[..]).expect("figures");
        let resource = &request.resource_metrics[0];
        let service = resource
            .resource
            .as_ref()
            .unwrap()
            .attributes
            .iter()
            .find(|pair| pair.key == "service.name");
        assert_eq!(text(service.unwrap().value.as_ref().unwrap().value.as_ref()), "it");
        let metrics = &resource.scope_metrics[0].metrics;
        let sum = metrics
            .iter()
            .find(|metric| metric.name == "runner_tasks_processed")
            .ok_or("not yet")?;
        let Some(Data::Sum(sum)) = &sum.data else {
            return Err("no sum");
        };
        let counted: Vec<i64> = sum
            .data_points
            .iter()
            .filter_map(|point| match point.value {
                Some(number_data_point::Value::AsInt(count)) => Some(count),
                _ => None,
            })
            .collect();
        // The report, its mail, and the function that follows.
        if counted.contains(&3) {
            Ok(metrics.iter().map(|metric| metric.name.clone()).collect::<Vec<_>>())
        } else {
            Err("fewer")
        }
    })
    .await;
    let text = Http::new(format!("http://127.0.0.1:{port}")).get("/metrics").await.body;
    let named = |family: &&str| processed.iter().any(|name| name == family);
    let families: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .collect();
    let both = families.iter().filter(|family| named(family)).count();
    println!(
        "{} families in /metrics, {} of them sent, {} in all",
        families.len(),
        both,
        processed.len()
    );
    assert_eq!(both, processed.len(), "{processed:?}\n{families:?}");
    program.signal(Signal::SIGINT);
    assert!(program.wait(Duration::from_secs(15)).success(), "{}", program.tail());
}

/// Tasks that a program has run, by its log.
fn ended(program: &Child) -> usize {
    program.log().lines().filter(|line| line.contains("task ended")).count()
}

async fn a_receiver_that_is_away_or_broken_harms_no_run() {
    let broken = Scripted::Says(500, "", "no\r\nroom");
    let busy = Scripted::Says(503, "retry-after: 1\r\n", "later");
    let fine = Scripted::Says(200, "", "");
    let receiver = HttpReceiver::start(&[broken, busy, fine]).await;
    let port = kit::free_port();
    let config = settings(&receiver, port).replace("interval: 1s", "metrics: false");
    let site = Site::new(&config);
    site.write("manifests/all.yaml", MANIFESTS);
    let program = traced(&site);
    eventually_within(PATIENCE, "tasks run on, and what happened is in the log", async || {
        // More spans, so that there is something to send.
        call_hook(port, &[]).await;
        let (log, ended) = (program.log(), ended(&program));
        let codes = ["otlp_refused", "otlp_busy", "otlp_back"];
        match codes.iter().find(|code| !log.contains(**code)) {
            None if ended >= 9 => Ok(()),
            missing => Err(format!("{missing:?}, {ended} tasks: {log}")),
        }
    })
    .await;
    let log = program.log();
    assert_eq!(log.matches("code=otlp_refused").count(), 1, "said once: {log}");
    program.signal(Signal::SIGINT);
    assert!(program.wait(Duration::from_secs(15)).success(), "{}", program.tail());
    // The same where no receiver listens.
    let away = Site::new(&config.replace(&receiver.port.to_string(), &kit::free_port().to_string()));
    away.write("manifests/all.yaml", MANIFESTS);
    let program = traced(&away);
    call_hook(port, &[]).await;
    eventually_within(PATIENCE, "it is said", async || {
        let log = program.log();
        log.contains("otlp_unreachable").then_some(()).ok_or(log)
    })
    .await;
    assert!(ended(&program) >= 1);
    let began = tokio::time::Instant::now();
    program.signal(Signal::SIGINT);
    assert!(program.wait(Duration::from_secs(15)).success(), "{}", program.tail());
    println!("without a receiver it stopped within {:?}", began.elapsed());
    assert!(program.log().contains("otlp_lost"), "{}", program.tail());
}

async fn a_receiver_that_never_answers_delays_no_stop() {
    let receiver = HttpReceiver::start(&[Scripted::Silence]).await;
    let port = kit::free_port();
    let site = Site::new(&settings(&receiver, port));
    site.write("manifests/all.yaml", MANIFESTS);
    let program = traced(&site);
    call_hook(port, &[]).await;
    eventually_within(
        PATIENCE,
        "all its tasks have run, and a call waits for its answer",
        async || match (ended(&program), receiver.calls().len()) {
            (3.., 1..) => Ok(()),
            other => Err(format!("{other:?}\n{}", program.tail())),
        },
    )
    .await;
    let began = tokio::time::Instant::now();
    program.signal(Signal::SIGINT);
    assert!(program.wait(Duration::from_secs(15)).success(), "{}", program.tail());
    let took = began.elapsed();
    println!("beside a receiver that is silent it stopped within {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(program.log().contains("otlp_lost"), "{}", program.tail());
}
