//! A proxy between the program and its Redis that loses, fails and cuts on demand.
//!
//! It parses just enough of the protocol to distinguish commands and answers, so that a test can select the answer to lose.
//! It learns the hash of a script from the command that loads it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// The error that the client gets in place of the lost answer.
const ERROR: &[u8] = b"-LOADING injected by the test\r\n";

/// What happens to one call of the watched script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It never reaches the server.
    NotSent,
    /// The server executes it, the client gets an error.
    AnswerLost,
    /// The server executes it, then the connection breaks.
    Cut,
}

/// Decides about the nth call (from 1) of the watched script.
type Plan = dyn Fn(u64) -> Option<Harm> + Send + Sync;

/// A running proxy; stopped with the test.
#[derive(Clone)]
pub struct Proxy {
    /// Its port on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
}

/// When each timed argument was first sent, and how long its answer took.
type Waits = HashMap<Vec<u8>, (Instant, Option<Duration>)>;

struct Shared {
    upstream: u16,
    /// Words that identify the watched script.
    mark: &'static str,
    plan: Box<Plan>,
    sha: Mutex<Option<Vec<u8>>>,
    calls: AtomicU64,
    harmed: AtomicU64,
    down: AtomicBool,
    cut: watch::Sender<u64>,
    /// Arguments of the script with this prefix are timed: from the first call to the first answer.
    prefix: &'static str,
    waits: Mutex<Waits>,
}

/// What happens to the answer of a pending command.
enum Fate {
    Pass,
    /// The answer is the hash of the script.
    Learn,
    /// The answer to a call of the script, with the timed arguments.
    Watched(Vec<Vec<u8>>),
    Fail,
    Swallow,
    Cut,
}

impl Proxy {
    /// Starts one in front of `upstream`. `plan` decides about calls of the script that contains `mark`.
    pub async fn start(
        upstream: u16,
        mark: &'static str,
        prefix: &'static str,
        plan: impl Fn(u64) -> Option<Harm> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            upstream,
            mark,
            plan: Box::new(plan),
            sha: Mutex::default(),
            calls: AtomicU64::new(0),
            harmed: AtomicU64::new(0),
            down: AtomicBool::new(false),
            cut: watch::channel(0).0,
            prefix,
            waits: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !serving.down.load(Ordering::SeqCst) {
                    tokio::spawn(serve(client, Arc::clone(&serving)));
                }
            }
        });
        Self { port, shared }
    }

    /// Breaks every connection and refuses new ones for this long.
    pub async fn outage(&self, length: Duration) {
        self.shared.down.store(true, Ordering::SeqCst);
        self.shared.cut.send_modify(|n| *n += 1);
        tokio::time::sleep(length).await;
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// Calls of the script so far, and how many of them were harmed.
    pub fn counts(&self) -> (u64, u64) {
        let shared = &self.shared;
        (
            shared.calls.load(Ordering::SeqCst),
            shared.harmed.load(Ordering::SeqCst),
        )
    }

    /// The longest time from the first call with an argument to an answer that reached the client.
    pub fn longest_wait(&self) -> Duration {
        let waits = self.shared.waits.lock().expect("the waits");
        waits
            .values()
            .filter_map(|(_, waited)| *waited)
            .max()
            .unwrap_or_default()
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    tokio::select! {
        _ = cut.changed() => (),
        _ = pump(client, &shared) => (),
    }
}

/// Forwards until either side ends or the connection is to break.
async fn pump(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", shared.upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    let mut fates: VecDeque<Fate> = VecDeque::new();
    loop {
        let from_client = tokio::select! {
            read = client.read_buf(&mut requests) => (read?, true),
            read = server.read_buf(&mut responses) => (read?, false),
        };
        if from_client.0 == 0 {
            return Ok(());
        }
        while let Some(length) = frame(&requests) {
            let command: Vec<u8> = requests.drain(..length).collect();
            let fate = shared.fate(&command);
            if !matches!(fate, Fate::Fail) {
                server.write_all(&command).await?;
            }
            fates.push_back(fate);
        }
        loop {
            if matches!(fates.front(), Some(Fate::Fail)) {
                client.write_all(ERROR).await?;
                fates.pop_front();
                continue;
            }
            let Some(length) = frame(&responses) else { break };
            let answer: Vec<u8> = responses.drain(..length).collect();
            match fates.pop_front().unwrap_or(Fate::Pass) {
                Fate::Cut => return Ok(()),
                Fate::Swallow => client.write_all(ERROR).await?,
                Fate::Learn => {
                    let name = answer.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
                    *shared.sha.lock().expect("the name") = Some(name.trim_ascii().to_vec());
                    client.write_all(&answer).await?;
                }
                Fate::Watched(names) => {
                    shared.waited(names);
                    client.write_all(&answer).await?;
                }
                Fate::Pass | Fate::Fail => client.write_all(&answer).await?,
            }
        }
    }
}

impl Shared {
    fn fate(&self, command: &[u8]) -> Fate {
        let words = words(command);
        let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
        if is(0, "SCRIPT") && is(1, "LOAD") {
            let code = words.get(2).map(|code| String::from_utf8_lossy(code));
            let found = code.is_some_and(|code| code.contains(self.mark));
            return if found { Fate::Learn } else { Fate::Pass };
        }
        let known = self.sha.lock().expect("the name").clone();
        if !is(0, "EVALSHA") || words.get(1).map(|sha| sha.to_vec()) != known {
            return Fate::Pass;
        }
        let names: Vec<Vec<u8>> = words
            .iter()
            .filter(|word| word.starts_with(self.prefix.as_bytes()))
            .map(|word| word.to_vec())
            .collect();
        if names.is_empty() {
            return Fate::Pass;
        }
        let mut waits = self.waits.lock().expect("the waits");
        for name in &names {
            waits.entry(name.clone()).or_insert_with(|| (Instant::now(), None));
        }
        let nth = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let harm = (self.plan)(nth);
        self.harmed.fetch_add(u64::from(harm.is_some()), Ordering::SeqCst);
        match harm {
            None => Fate::Watched(names),
            Some(Harm::NotSent) => Fate::Fail,
            Some(Harm::AnswerLost) => Fate::Swallow,
            Some(Harm::Cut) => Fate::Cut,
        }
    }

    fn waited(&self, names: Vec<Vec<u8>>) {
        let mut waits = self.waits.lock().expect("the waits");
        for name in names {
            if let Some((since, waited)) = waits.get_mut(&name) {
                waited.get_or_insert(since.elapsed());
            }
        }
    }
}

/// The words of a command, which is a list of strings.
fn words(command: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let Some(mut at) = line(command, 0) else { return words };
    while command.get(at) == Some(&b'$') {
        let Some(body) = line(command, at) else { break };
        let length = number(&command[at + 1..body - 2]);
        let end = body + usize::try_from(length).unwrap_or(0);
        words.push(&command[body..end]);
        at = end + 2;
    }
    words
}

/// The length of the first complete command or answer, if there is one.
fn frame(bytes: &[u8]) -> Option<usize> {
    frame_at(bytes, 0)
}

fn frame_at(bytes: &[u8], at: usize) -> Option<usize> {
    let kind = *bytes.get(at)?;
    let mut end = line(bytes, at)?;
    let count = number(&bytes[at + 1..end - 2]);
    match kind {
        b'$' | b'=' | b'!' if count >= 0 => {
            end += usize::try_from(count).ok()? + 2;
            (bytes.len() >= end).then_some(end)
        }
        b'*' | b'~' | b'>' | b'%' => {
            let each = if kind == b'%' { 2 } else { 1 };
            for _ in 0..count.max(0) * each {
                end = frame_at(bytes, end)?;
            }
            Some(end)
        }
        _ => Some(end),
    }
}

/// The end of the line that begins at `at`, after its line break.
fn line(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    rest.windows(2).position(|two| two == b"\r\n").map(|n| at + n + 2)
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(-1)
}
