//! HTTP calls to servers that misbehave: slow, endless, garbled, cut off, or pointing elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runner_core::function::{Function, FunctionKind, Functions, HttpResult, HttpSpec};
use runner_handlers::{HandlerSettings, HttpSettings, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Outcome, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves each connection by a function, which gets its number.
async fn server<F>(serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, number));
        }
    });
    (address, connections)
}

/// Reads a request; returns its first line and its head.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

async fn call(spec: HttpSpec, settings: HttpSettings) -> TrialReport {
    let functions = Functions::new(vec![Function {
        name: "it".into(),
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
    // Generous where the end of the call is expected, so that a loaded machine changes nothing.
    let trial = Trial::of("fn:it")
        .payload("{}")
        .limits(None, Some(Duration::from_secs(60)));
    trial
        .run(register_with(Registry::new(), functions, settings))
        .await
        .unwrap()
}

fn open() -> HttpSettings {
    HttpSettings {
        allow_private: true,
        ..HttpSettings::default()
    }
}

/// Local servers may be called, and nothing else inside.
fn local_only() -> HttpSettings {
    HttpSettings {
        allowed_hosts: vec!["127.0.0.1".into(), "*.*.*.*".into(), "localhost".into()],
        ..HttpSettings::default()
    }
}

fn spec(address: SocketAddr) -> HttpSpec {
    HttpSpec::new(format!("http://{address}/first"))
}

/// Runs until the limit of the attempt, which is short here.
async fn within_300_ms(address: SocketAddr) -> Outcome {
    let functions = Functions::new(vec![Function {
        name: "it".into(),
        description: String::new(),
        kind: FunctionKind::Http(spec(address)),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let settings = HandlerSettings {
        http: open(),
        ..HandlerSettings::default()
    };
    let trial = Trial::of("fn:it").limits(None, Some(Duration::from_millis(300)));
    let report = trial
        .run(register_with(Registry::new(), functions, settings))
        .await
        .unwrap();
    report.outcome
}

/// Reads a request and writes a piece again and again, until the client hangs up.
async fn drip(mut stream: TcpStream, first: &'static [u8], piece: &'static [u8]) {
    request(&mut stream).await;
    stream.write_all(first).await.ok();
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    while stream.write_all(piece).await.is_ok() {
        pause.tick().await;
    }
}

#[tokio::test]
async fn a_server_that_is_slow_in_any_phase_takes_no_longer_than_the_limit() {
    let (no_answer, _) = server(|mut stream, _| async move { while stream.read_u8().await.is_ok() {} }).await;
    let (slow_headers, _) = server(|stream, _| drip(stream, b"HTTP/1.1 200 OK\r\n", b"x: y\r\n")).await;
    let (slow_status, _) = server(|stream, _| drip(stream, b"", b"H")).await;
    let (slow_body, _) =
        server(|stream, _| drip(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", b"x")).await;
    let (stalled, _) = server(|stream, _| drip(stream, b"HTTP/1.1 100 Continue\r\n\r\n", b"")).await;
    for address in [no_answer, slow_headers, slow_body, stalled] {
        let ended = within_300_ms(address).await;
        assert_eq!(ended, Outcome::Retry("timeout after 300ms".into()));
    }
    // Not HTTP at all: noticed before the limit, or not.
    let ended = within_300_ms(slow_status).await;
    assert!(matches!(ended, Outcome::Retry(_)), "{ended:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    const CHUNK: &[u8] = b"4\r\nabcd\r\n";
    let (endless, _) = server(|mut stream, _| async move {
        request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .ok();
        while stream.write_all(CHUNK).await.is_ok() {}
    })
    .await;
    let Outcome::Success(Some(kept)) = call(spec(endless), open()).await.outcome else {
        panic!("it failed");
    };
    assert_eq!(kept.len(), 64 * 1024);
    let mut whole = spec(endless);
    whole.result = HttpResult::Response;
    let Outcome::Success(Some(kept)) = call(whole, open()).await.outcome else {
        panic!("it failed");
    };
    assert!(kept.ends_with(br#""truncated":true}"#));
    let (headers, _) = server(|mut stream, _| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok();
        while stream.write_all(b"header: value\r\n").await.is_ok() {}
    })
    .await;
    let ended = call(spec(headers), open()).await.outcome;
    assert!(matches!(ended, Outcome::Retry(_)), "{ended:?}");
}

#[tokio::test]
async fn what_is_compressed_stays_as_it_is() {
    let (bomb, _) = server(|mut stream, _| async move {
        let head = request(&mut stream).await.unwrap_or_default();
        assert!(!head.contains("accept-encoding"), "{head}");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
        stream.write_all(answer).await.ok();
    })
    .await;
    assert_eq!(
        call(spec(bomb), open()).await.outcome,
        Outcome::success(&b"\x1f\x8b\x08\x00"[..])
    );
}

#[tokio::test]
async fn a_connection_that_is_cut_or_garbled_is_tried_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 20",
        b"\x16\x03\x01\x00\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ] {
        let (address, _) = server(move |mut stream, _| async move {
            request(&mut stream).await;
            stream.write_all(answer).await.ok();
            // A reset, where the system has one.
            stream.set_zero_linger().ok();
        })
        .await;
        let ended = call(spec(address), open()).await.outcome;
        assert!(matches!(ended, Outcome::Retry(_)), "{ended:?}");
    }
}

/// A server that redirects every request to this address.
async fn redirecting(status: &'static str, to: impl Into<String>) -> (SocketAddr, Arc<AtomicUsize>) {
    let to = to.into();
    server(move |mut stream, _| {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        async move {
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.ok();
        }
    })
    .await
}

#[tokio::test]
async fn a_redirect_leads_nowhere_else() {
    let (inside, reached) = server(|_, _| async {}).await;
    for to in [
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://{inside}/"),
        format!("http://localhost:{}/", inside.port()),
        format!("http://user:password@{inside}/"),
        "file:///etc/passwd".to_owned(),
        "//evil.example/".to_owned(),
    ] {
        let (address, _) = redirecting("307 Temporary Redirect", to.clone()).await;
        let mut spec = spec(address);
        spec.redirects = 3;
        let Outcome::Skip(why) = call(spec, local_only()).await.outcome else {
            panic!("{to} was followed");
        };
        assert!(why.contains("status 307"), "{why}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let (address, connections) = redirecting("308 Permanent Redirect", "/again").await;
    let mut spec = spec(address);
    spec.redirects = 3;
    let Outcome::Skip(why) = call(spec, open()).await.outcome else {
        panic!("it did not end");
    };
    assert!(why.contains("too many redirects"), "{why}");
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed_by_its_rule() {
    for (status, method, has_body) in [
        ("307 Temporary Redirect", "post", true),
        ("308 Permanent Redirect", "post", true),
        ("303 See Other", "get", false),
        ("302 Found", "get", false),
    ] {
        let (address, _) = server(move |mut stream, _| async move {
            let head = request(&mut stream).await.unwrap_or_default();
            let answer = match head.contains(" /first ") {
                true => {
                    format!("HTTP/1.1 {status}\r\nlocation: /second\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                }
                false => {
                    let signed = head.contains("x-runner-signature: sha256=");
                    let begins = head.starts_with(&format!("{method} /second "));
                    let said = format!("{begins} {signed} {}", head.contains("content-length: 2"));
                    let length = said.len();
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}")
                }
            };
            stream.write_all(answer.as_bytes()).await.ok();
        })
        .await;
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "key-of-both").unwrap();
        let mut spec = spec(address);
        spec.redirects = 1;
        spec.sign_secret = Some(format!("${{file:{}}}", secret.path().display()));
        let expected = format!("true {has_body} {has_body}");
        assert_eq!(call(spec, open()).await.outcome, Outcome::success(expected), "{status}");
    }
}
