//! A receiver of calls over HTTP: answers as its script says, and remembers what arrived and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What to answer.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// A status, more lines of the head, a body.
    Says(u16, &'static str, &'static str),
    /// Nothing, ever.
    Silence,
}

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct ReceivedCall {
    pub at: Instant,
    /// Method, target, version.
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The body, byte for byte.
    pub bytes: Vec<u8>,
}

impl ReceivedCall {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A running receiver.
pub struct HttpReceiver {
    /// Its port on 127.0.0.1.
    pub port: u16,
    calls: Arc<Mutex<Vec<ReceivedCall>>>,
}

impl HttpReceiver {
    /// Starts one that gives these answers in order, and the last one from then on.
    pub async fn start(script: &[Scripted]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let calls: Arc<Mutex<Vec<ReceivedCall>>> = Arc::default();
        let (script, kept) = (script.to_vec(), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), Arc::clone(&kept)));
            }
        });
        Self { port, calls }
    }

    /// One that answers 200 to everything.
    pub async fn friendly() -> Self {
        Self::start(&[Scripted::Says(200, "", "ok")]).await
    }

    /// What arrived so far.
    pub fn calls(&self) -> Vec<ReceivedCall> {
        self.calls.lock().expect("its log").clone()
    }
}

async fn serve(mut stream: TcpStream, script: Vec<Scripted>, calls: Arc<Mutex<Vec<ReceivedCall>>>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let pairs = lines.filter_map(|l| l.split_once(": "));
    let headers: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap_or(0));
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let call = ReceivedCall {
        at: Instant::now(),
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body,
    };
    let number = {
        let mut calls = calls.lock().expect("its log");
        calls.push(call);
        calls.len() - 1
    };
    let Some(Scripted::Says(status, head, body)) = script.get(number).or(script.last()) else {
        return std::future::pending().await;
    };
    let answer = format!(
        "HTTP/1.1 {status} x\r\n{head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.ok();
}
