//! Clients that hold connections without reading, sending or ending: probes and pages still answer.
//!
//! `RUNNER_LONG=1` opens as many as an attack that once stopped the dashboard, and holds them for longer than every limit.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::dashboard::Site;
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): readers_that_never_read_are_closed, heads_that_never_end, bodies_that_never_end, silent_connections,
            halves_that_are_closed, requests_sent_ahead_leave_room_for_others
    ]
}

/// The attacker's address, and that of another client.
const ATTACKER: &str = "127.0.0.1:0";
const OTHER: &str = "127.0.0.2:0";

/// More than one address may have.
const SHORT: usize = 400;
const LONG: usize = 520;

/// Upper bound for every wait while this machine is busy; a quiet one answers in a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

fn many() -> usize {
    if std::env::var_os("RUNNER_LONG").is_some() {
        LONG
    } else {
        SHORT
    }
}

async fn connect(site: &Site, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from.parse().expect("an address")).expect("a port");
    let to = site
        .base
        .strip_prefix("http://")
        .expect("a base")
        .parse()
        .expect("an address");
    socket.connect(to).await.expect("a connection")
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n")
}

/// Sends a request on a new connection; returns the status.
async fn ask(site: &Site, from: &str, path: &str) -> u16 {
    let whole = async {
        let mut stream = connect(site, from).await;
        let request = get(path, "connection: close\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    };
    let answered = tokio::time::timeout(PATIENCE, whole).await;
    answered.unwrap_or_else(|_| panic!("{path} from {from} was not answered within {PATIENCE:?}"))
}

/// Opens the connections and sends each of them as much of `data` as it accepts.
async fn flood(site: &Site, data: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..many() {
        let stream = connect(site, ATTACKER).await;
        // The rest waits for a server that never reads it.
        let _full = stream.try_write(data);
        held.push(stream);
    }
    held
}

/// All requests are answered, from others and from the attacker's own address.
async fn all_answer(site: &Site) {
    for from in [OTHER, ATTACKER] {
        for path in ["/healthz", "/readyz", "/metrics", "/queue", "/queue/assets/queue.css"] {
            assert_eq!(ask(site, from, path).await, 200, "{path} from {from}");
        }
    }
}

/// How many of these connections the server has closed.
fn closed(held: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| {
        let mut sink = vec![0; 1 << 16];
        loop {
            match stream.try_read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    };
    held.iter().filter(is_closed).count()
}

async fn readers_that_never_read_are_closed() {
    let site = Site::full().await;
    let ahead = get("/queue/assets/queue.css", "").repeat(400);
    let held = flood(&site, ahead.as_bytes()).await;
    all_answer(&site).await;
    if many() == LONG {
        let until = Instant::now() + Duration::from_secs(40);
        while Instant::now() < until {
            all_answer(&site).await;
        }
        assert_eq!(closed(&held), LONG, "all were closed for not reading");
    }
}

async fn heads_that_never_end() {
    let site = Site::full().await;
    let _held = flood(&site, b"GET /queue HTTP/1.1\r\nhost: loc").await;
    all_answer(&site).await;
}

async fn bodies_that_never_end() {
    let site = Site::full().await;
    let form = "POST /queue/sync HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\
                content-type: application/x-www-form-urlencoded\r\n\r\ntoken";
    let mut held = flood(&site, form.as_bytes()).await;
    all_answer(&site).await;
    let mut last = held.pop().expect("a connection");
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

async fn silent_connections() {
    let site = Site::full().await;
    let held = flood(&site, b"").await;
    all_answer(&site).await;
    assert!(closed(&held) >= many() - 384, "those that were too many are closed");
}

async fn halves_that_are_closed() {
    let site = Site::full().await;
    let mut held = flood(&site, get("/queue/assets/queue.css", "").repeat(3).as_bytes()).await;
    for stream in &mut held {
        // A connection may be closed already.
        let _gone = stream.shutdown().await;
    }
    all_answer(&site).await;
}

/// However many requests one address sends without reading the answers, others get theirs.
async fn requests_sent_ahead_leave_room_for_others() {
    let site = Site::full().await;
    for path in ["/readyz", "/metrics"] {
        let held = flood(&site, get(path, "").repeat(10).as_bytes()).await;
        for asked in ["/healthz", "/readyz", "/metrics", "/queue"] {
            assert_eq!(ask(&site, OTHER, asked).await, 200, "{asked} beside {path}");
        }
        drop(held);
    }
}
