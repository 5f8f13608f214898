//! Pings: short calls that tell a monitoring service that a run began and how it ended, in the form that healthchecks.io made common:
//! the address with `/start`, the address itself, and the address with `/fail`.
//!
//! A run never waits for them and never fails because of them: they are sent beside it, and what does not arrive is logged.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Request, Url};
use runner_core::chain::chain;
use tokio::sync::mpsc;

use super::{Caller, guard};

/// Pings that wait on one line; more are dropped.
const WAITING: usize = 250;

/// Lines on which pings are sent one after the other, so that those of one address stay in order and a server that does not answer
/// holds up a part of the others only.
const LINES: usize = 4;

/// How long a server may take for one, and how often it is tried.
const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Pause after the first try that failed, doubled by the next.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a text that goes along.
const MAX_TEXT: usize = 10_000;

/// What a ping says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ping {
    Start,
    Success,
    /// Why.
    Fail(String),
}

impl Ping {
    /// The address: before what follows `?`.
    fn url(&self, base: &str) -> Result<Url, String> {
        // The error could show a token.
        let mut url = Url::parse(base).map_err(|_| "ping_url is no URL".to_owned())?;
        let word = match self {
            Self::Success => return Ok(url),
            Self::Start => "start",
            Self::Fail(_) => "fail",
        };
        let path = format!("{}/{word}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }
}

struct Waiting {
    function: String,
    url: String,
    ping: Ping,
}

/// Sends pings; the tasks that do so end with it.
pub(crate) struct Pinger {
    lines: std::sync::OnceLock<Vec<mpsc::Sender<Waiting>>>,
    caller: Arc<Caller>,
    hash: RandomState,
}

impl Pinger {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self {
            lines: std::sync::OnceLock::new(),
            caller,
            hash: RandomState::new(),
        }
    }

    /// Sends one beside the caller; dropped if too many wait.
    pub(crate) fn send(&self, function: &str, url: &str, ping: Ping) {
        let lines = self.lines.get_or_init(|| (0..LINES).map(|_| self.line()).collect());
        let place = usize::try_from(self.hash.hash_one(url) % LINES as u64).unwrap_or_default();
        let waiting = Waiting {
            function: function.to_owned(),
            url: url.to_owned(),
            ping,
        };
        if lines[place].try_send(waiting).is_err() {
            tracing::warn!(
                code = "ping_dropped",
                function,
                "a ping was dropped: {WAITING} others wait"
            );
        }
    }

    fn line(&self) -> mpsc::Sender<Waiting> {
        let (line, mut waiting) = mpsc::channel::<Waiting>(WAITING);
        let caller = self.caller.clone();
        tokio::spawn(async move {
            while let Some(Waiting { function, url, ping }) = waiting.recv().await {
                if let Err(error) = deliver(&caller, &url, &ping).await {
                    tracing::warn!(code = "ping_failed", function, error, "a ping did not arrive");
                }
            }
        });
        line
    }
}

async fn deliver(caller: &Caller, url: &str, ping: &Ping) -> Result<(), String> {
    let url = ping.url(url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("ping_url must be http or https".to_owned());
    }
    guard::check(&url, &caller.settings)?;
    let client = caller.client(&runner_core::function::HttpTls::default())?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let (mut pause, mut why) = (AGAIN, String::new());
    for tried in 1..=TRIES {
        let mut request = Request::new(Method::POST, url.clone());
        *request.timeout_mut() = Some(TIMEOUT);
        if let Ping::Fail(text) = ping {
            *request.body_mut() = Some(text[..text.floor_char_boundary(MAX_TEXT)].to_owned().into());
        }
        why = match client.execute(request).await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) if answer.status().is_client_error() => {
                return Err(format!("{host} answered {}", answer.status()));
            }
            Ok(answer) => format!("{host} answered {}", answer.status()),
            Err(error) => format!("{host}: {}", chain(&error.without_url())),
        };
        if tried < TRIES {
            pause_for(pause).await;
            pause *= 2;
        }
    }
    Err(why)
}

#[allow(clippy::disallowed_methods)] // between two tries, beside everything else
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_address_says_what_happened() {
        let url = |ping: Ping, base: &str| ping.url(base).unwrap().to_string();
        let base = "https://hc.example.com/ping/0-1/";
        assert_eq!(url(Ping::Start, base), "https://hc.example.com/ping/0-1/start");
        assert_eq!(url(Ping::Success, base), base);
        let asked = "https://hc.example.com/k/backup?create=1";
        let failed = url(Ping::Fail("x".to_owned()), asked);
        assert_eq!(failed, "https://hc.example.com/k/backup/fail?create=1");
        let why = Ping::Start.url("t0ken").unwrap_err();
        assert!(!why.contains("t0ken"), "{why}");
    }
}
