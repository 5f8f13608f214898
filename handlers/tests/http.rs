//! HTTP calls as functions, against a small server of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use runner_core::function::{Function, FunctionKind, Functions, HttpBody, HttpResult, HttpSpec};
use runner_handlers::{HandlerSettings, HttpProxy, HttpSettings, ProxyUrl, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Outcome, Registry, StopReason};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request that the server received.
#[derive(Debug, Clone, Default)]
struct ReceivedRequest {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A server that gives every request the same answer; with an empty answer it never answers.
struct Server {
    address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    came: Arc<Notify>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            came: Arc::default(),
        };
        let (received, came, answer) = (server.received.clone(), server.came.clone(), Arc::new(answer.into()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, received.clone(), came.clone(), answer.clone()));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/hook?key=t0ken", self.address)
    }

    fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    came: Arc<Notify>,
    answer: Arc<Vec<u8>>,
) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        let read = stream.read_buf(&mut bytes).await.unwrap_or(0);
        // It has no TLS, and hangs up on clients that try.
        if read == 0 || bytes[0] == 0x16 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let pairs = lines.filter_map(|l| l.split_once(": "));
    let headers: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0);
    }
    received.lock().unwrap().push(ReceivedRequest { line, headers, body });
    came.notify_one();
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    // The client may stop reading in the middle of a long answer.
    stream.write_all(&answer).await.ok();
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn status(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: 3\r\nconnection: close\r\n\r\nwhy")
}

fn open() -> HttpSettings {
    HttpSettings {
        allow_private: true,
        ..HttpSettings::default()
    }
}

fn registry(spec: HttpSpec, settings: HttpSettings) -> Registry {
    let functions = Functions::new(vec![Function {
        name: "call".into(),
        description: String::new(),
        kind: FunctionKind::Http(spec),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let settings = HandlerSettings {
        http: settings,
        ..HandlerSettings::default()
    };
    register_with(Registry::new(), functions, settings)
}

async fn run(spec: HttpSpec, settings: HttpSettings, trial: Trial) -> TrialReport {
    trial.run(registry(spec, settings)).await.unwrap()
}

fn trial() -> Trial {
    Trial::of("fn:call").payload(r#"{"n":1}"#)
}

async fn outcome(url: impl Into<String>, settings: HttpSettings) -> Outcome {
    run(HttpSpec::new(url), settings, trial()).await.outcome
}

#[tokio::test]
async fn the_payload_is_posted_with_the_context() {
    let server = Server::answering(ok("fine")).await;
    let mut spec = HttpSpec::new(server.url());
    spec.headers = BTreeMap::from([
        ("X-Team".into(), "${env:CARGO_PKG_NAME}".into()),
        ("X-Runner-Queue".into(), "pretended".into()),
    ]);
    let task = trial()
        .attempt(2)
        .limits(None, Some(Duration::from_secs(60)))
        .header("runner-schedule-id", "m:call:nightly")
        .header("runner-scheduled-at", "2030-01-01T00:00:00Z")
        .header("runner-missed", "two\r\nInjected: yes")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let report = run(spec, open(), task).await;
    assert_eq!(report.outcome, Outcome::success("fine"));
    let received = server.received().remove(0);
    assert_eq!(received.line, "POST /hook?key=t0ken HTTP/1.1");
    assert_eq!(received.body, br#"{"n":1}"#);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", concat!("runner/", env!("CARGO_PKG_VERSION"))),
        ("x-team", "runner-handlers"),
        ("idempotency-key", "trial"),
        ("x-runner-task-id", "trial"),
        ("x-runner-function", "call"),
        ("x-runner-queue", "default"),
        ("x-runner-attempt", "2"),
        ("x-runner-schedule", "m:call:nightly"),
        ("x-runner-scheduled-at", "2030-01-01T00:00:00Z"),
        ("x-runner-timeout", "60"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        assert_eq!(received.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["x-runner-missed", "injected", "x-runner-catch-up"] {
        assert!(!received.headers.contains_key(name), "{name}");
    }
    assert!(!report.log.contains("t0ken"), "{}", report.log);
}

#[tokio::test]
async fn method_and_body_are_the_manifests() {
    let server = Server::answering(ok("")).await;
    let spec = |method: &str, body: HttpBody| HttpSpec {
        method: method.into(),
        body,
        ..HttpSpec::new(server.url())
    };
    for (method, body, expected) in [
        ("get", HttpBody::Payload, ""),
        ("PUT", HttpBody::Text("text".into()), "text"),
        ("DELETE", HttpBody::None, ""),
    ] {
        assert_eq!(run(spec(method, body), open(), trial()).await.outcome, Outcome::done());
        let received = server.received().pop().unwrap();
        assert!(received.line.starts_with(&method.to_uppercase()), "{}", received.line);
        assert_eq!(received.body, expected.as_bytes(), "{method}");
        assert_eq!(
            received.headers.contains_key("content-type"),
            !expected.is_empty(),
            "{method}"
        );
    }
    let wrong = run(spec("NO METHOD", HttpBody::None), open(), trial()).await.outcome;
    assert!(matches!(wrong, Outcome::Skip(_)));
}

#[tokio::test]
async fn a_payload_that_is_not_json_is_not_sent_as_json_and_not_tried_again() {
    let server = Server::answering(ok("")).await;
    let spec = |method: &str, kind: Option<&str>| {
        let mut spec = HttpSpec::new(server.url());
        spec.method = method.into();
        spec.headers
            .extend(kind.map(|kind| ("content-type".into(), kind.into())));
        spec
    };
    let bytes = || Trial::of("fn:call").payload(&b"\x81\xa1a\x01"[..]);
    for kind in [
        None,
        Some("application/json; charset=utf-8"),
        Some("application/x+JSON"),
    ] {
        let Outcome::Skip(why) = run(spec("POST", kind), open(), bytes()).await.outcome else {
            panic!("{kind:?} was not skipped")
        };
        let expected = "the payload is not JSON (byte 0x81 at line 1 column 1 is not UTF-8), and the call sends it as ";
        assert!(why.starts_with(expected), "{why}");
    }
    assert!(server.received().is_empty(), "nothing was sent");
    for (method, kind, sent) in [
        ("POST", Some("application/msgpack"), &b"\x81\xa1a\x01"[..]),
        ("GET", None, b""),
    ] {
        assert_eq!(run(spec(method, kind), open(), bytes()).await.outcome, Outcome::done());
        assert_eq!(server.received().pop().unwrap().body, sent, "{method}");
    }
}

#[tokio::test]
async fn the_status_decides() {
    let after = Duration::from_secs(7);
    let error = "status 429 Too Many Requests: why".to_owned();
    for (answer, expected) in [
        (
            status("429 Too Many Requests", "retry-after: 7\r\n"),
            Outcome::RetryAfter { after, error },
        ),
        (
            status("500 Oops", ""),
            Outcome::Retry("status 500 Internal Server Error: why".into()),
        ),
        (
            status("404 Not Found", ""),
            Outcome::Skip("status 404 Not Found: why".into()),
        ),
    ] {
        let server = Server::answering(answer.clone()).await;
        assert_eq!(outcome(server.url(), open()).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_manifest_may_read_statuses_otherwise() {
    let server = Server::answering(status("404 Not Found", "")).await;
    let mut spec = HttpSpec::new(server.url());
    spec.retry_on.push((404, 404));
    assert!(matches!(
        run(spec.clone(), open(), trial()).await.outcome,
        Outcome::Retry(_)
    ));
    spec.success.push((400, 404));
    assert_eq!(run(spec, open(), trial()).await.outcome, Outcome::success("why"));
}

#[tokio::test]
async fn a_signed_request_can_be_verified() {
    let server = Server::answering(ok("fine")).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "key-of-both\n").unwrap();
    let mut spec = HttpSpec::new(server.url());
    spec.sign_secret = Some(format!("${{file:{}}}", secret.path().display()));
    let report = run(spec.clone(), open(), trial().payload(r#"{"a":1}"#)).await;
    assert_eq!(report.outcome, Outcome::success("fine"));
    let received = &server.received()[0];
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key-of-both").unwrap();
    mac.update(received.headers["x-runner-timestamp"].as_bytes());
    mac.update(b".");
    mac.update(received.headers["idempotency-key"].as_bytes());
    mac.update(b".");
    mac.update(&received.body);
    let digits: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(received.headers["x-runner-signature"], format!("sha256={digits}"));
    spec.sign_secret = Some("${env:RUNNER_TEST_NOT_SET}".into());
    let report = run(spec, open(), trial()).await;
    assert!(matches!(report.outcome, Outcome::Retry(why) if why.starts_with("misconfigured: ")));
}

#[tokio::test]
async fn a_proxy_gets_every_call_except_those_that_go_direct() {
    let proxy = Server::answering(ok("by proxy")).await;
    let direct = Server::answering(ok("direct")).await;
    let url = format!("http://user:s3cret-value@localhost:{}", proxy.address.port());
    let through = |except: &[&str]| HttpSettings {
        proxy: Some(HttpProxy {
            url: ProxyUrl::read_from({
                let url = url.clone();
                move || Ok(url.clone())
            }),
            except: except.iter().map(|host| (*host).to_owned()).collect(),
        }),
        ..HttpSettings::default()
    };
    // The proxy is inside, and the only thing inside that is reached.
    let out = outcome("http://example.com/x", through(&[])).await;
    assert_eq!(out, Outcome::success("by proxy"));
    let received = &proxy.received()[0];
    assert_eq!(received.line, "POST http://example.com/x HTTP/1.1");
    assert!(received.headers["proxy-authorization"].starts_with("Basic "));
    let inside = outcome(direct.url(), through(&[])).await;
    assert!(matches!(inside, Outcome::Skip(why) if why.contains("not allowed")));
    let settings = HttpSettings {
        allow_private: true,
        ..through(&["127.0.0.1"])
    };
    assert_eq!(outcome(direct.url(), settings).await, Outcome::success("direct"));
}

#[tokio::test]
async fn the_whole_answer_can_be_the_result() {
    let answer = status("404 Not Found", "etag: abc\r\nset-cookie: secret=1\r\n");
    let server = Server::answering(answer).await;
    let mut spec = HttpSpec::new(server.url());
    (spec.result, spec.success) = (HttpResult::Response, vec![(404, 404)]);
    let Outcome::Success(Some(kept)) = run(spec, open(), trial()).await.outcome else {
        panic!("it failed");
    };
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let headers = serde_json::json!({"content-length": "3", "etag": "abc"});
    assert_eq!(
        kept,
        serde_json::json!({"status": 404, "headers": headers, "body": "why"})
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::answering(ok("never")).await;
    let moved = status("302 Found", &format!("location: {}\r\n", other.url()));
    let server = Server::answering(moved).await;
    let Outcome::Skip(text) = outcome(server.url(), open()).await else {
        panic!("a redirect was not refused");
    };
    assert!(text.contains("redirects are not followed"), "{text}");
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn long_answers_are_cut() {
    let body = "x".repeat(1024 * 1024);
    let server = Server::answering(ok(&body)).await;
    let Outcome::Success(Some(kept)) = outcome(server.url(), open()).await else {
        panic!("a long answer failed");
    };
    assert_eq!(kept.len(), 64 * 1024);
    let server = Server::answering(ok(&body).replace("200 OK", "500 Oops")).await;
    let Outcome::Retry(text) = outcome(server.url(), open()).await else {
        panic!("500 was not tried again");
    };
    assert!((2048..2200).contains(&text.len()), "{}", text.len());
}

#[tokio::test]
async fn no_answer_is_a_timeout_and_a_stop_is_obeyed() {
    let server = Server::answering("").await;
    let limit = Some(Duration::from_millis(200));
    let report = run(HttpSpec::new(server.url()), open(), trial().limits(None, limit)).await;
    assert_eq!(report.outcome, Outcome::Retry("timeout after 200ms".into()));
    server.came.notified().await;

    let task = trial();
    let stop = task.stop();
    let running = tokio::spawn(run(HttpSpec::new(server.url()), open(), task));
    server.came.notified().await;
    stop.stop(StopReason::Cancelled);
    assert_eq!(
        running.await.unwrap().outcome,
        Outcome::Retry("cancelled on request".into())
    );
}

#[tokio::test]
async fn transport_errors_are_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/?key=t0ken", listener.local_addr().unwrap());
    drop(listener);
    let plain = Server::answering(ok("")).await;
    let cut = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
    let junk = Server::answering("this is not HTTP\r\n\r\n").await;
    let tls = plain.url().replace("http:", "https:");
    for url in [closed, tls, cut.url(), junk.url()] {
        let Outcome::Retry(text) = outcome(url.clone(), open()).await else {
            panic!("{url} was not tried again");
        };
        assert!(!text.contains("t0ken"), "{text}");
    }
}

#[tokio::test]
async fn inner_addresses_are_refused_by_number_and_by_name() {
    let server = Server::answering(ok("inside")).await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "LOCALHOST",
    ] {
        let url = format!("http://{host}:{port}/");
        let Outcome::Skip(text) = outcome(&url, HttpSettings::default()).await else {
            panic!("{url} was not refused");
        };
        assert!(text.contains("not allowed"), "{text}");
    }
    assert!(server.received().is_empty());
    let only = |host: &str| HttpSettings {
        allowed_hosts: vec![host.to_owned()],
        ..HttpSettings::default()
    };
    let url = format!("http://localhost:{port}/");
    assert_eq!(outcome(&url, only("local*")).await, Outcome::success("inside"));
    let Outcome::Skip(text) = outcome(&url, only("*.example.com")).await else {
        panic!("a host that is not listed was not refused");
    };
    assert!(text.contains("allowed_hosts"), "{text}");
    for url in ["file:///etc/passwd", "ftp://example.com/", "/relative"] {
        assert!(matches!(outcome(url, open()).await, Outcome::Skip(_)), "{url}");
    }
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret-value\n").unwrap();
    for (answer, good) in [
        (ok("you sent s3cret-value"), true),
        (ok("s3cret-value").replace("200 OK", "403 No"), false),
    ] {
        let server = Server::answering(answer).await;
        let mut spec = HttpSpec::new(server.url());
        let reference = format!("Bearer ${{file:{}}}", secret.path().display());
        spec.headers.insert("Authorization".into(), reference);
        let report = run(spec, open(), trial()).await;
        assert_eq!(server.received()[0].headers["authorization"], "Bearer s3cret-value");
        assert_eq!(matches!(report.outcome, Outcome::Success(_)), good);
        let shown = format!("{report:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let mut spec = HttpSpec::new("http://example.com/");
    spec.headers.insert("A".into(), "${env:RUNNER_TEST_NOT_SET}".into());
    let report = run(spec, open(), trial()).await;
    assert!(matches!(report.outcome, Outcome::Retry(t) if t.starts_with("misconfigured: ")));
}
