//! The connection: made at the first call, shared by all, made anew when it breaks.
//!
//! While the server cannot be reached each call fails at once, and new attempts are spaced out. The
//! scripts are loaded with each new connection; a server that lost them is given them again.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, ToRedisArgs, Value};
use runner_core::clock::Clock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dial::DialError;
use super::link::{Dialer, Link};
use super::scripts::{Hashes, Script};
use super::settings::RedisSettings;
use super::{fault, scripts};
use crate::BrokerResult;

/// The pause after the first failed attempt to connect; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The one shared connection and what is needed to make it.
pub(super) struct Conn {
    dialer: Dialer,
    slot: Mutex<Slot>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Default)]
struct Slot {
    live: Option<Live>,
    made: u64,
    failure: Option<Failure>,
}

struct Failure {
    error: DialError,
    pause: Duration,
    until: Instant,
}

#[derive(Clone)]
struct Live {
    link: Link,
    hashes: Arc<Hashes>,
    number: u64,
}

impl Conn {
    /// Checks the settings; touches no network.
    pub(super) fn new(settings: &RedisSettings) -> BrokerResult<Self> {
        Ok(Self {
            dialer: Dialer::new(settings)?,
            slot: Mutex::default(),
            clock: None,
        })
    }

    /// Uses this clock instead of the server's.
    pub(super) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = Some(clock);
    }

    /// The clock in use, if it is not the server's.
    pub(super) fn clock(&self) -> Option<&dyn Clock> {
        self.clock.as_deref()
    }

    /// What is needed for connections of one's own.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Starts a round trip.
    pub(super) async fn trip(&self, doing: &'static str) -> BrokerResult<Trip<'_>> {
        let live = self.live().await.map_err(|error| fault::of(error, doing))?;
        Ok(Trip {
            conn: self,
            live,
            pipe: Pipeline::new(),
            doing,
        })
    }

    async fn live(&self) -> Result<Live, DialError> {
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            return Ok(live.clone());
        }
        if let Some(failure) = &slot.failure
            && Instant::now() < failure.until
        {
            return Err(failure.error.clone());
        }
        match self.connect(slot.made + 1).await {
            Ok(live) => {
                slot.made = live.number;
                slot.failure = None;
                slot.live = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                let pause = slot
                    .failure
                    .as_ref()
                    .map_or(FIRST_PAUSE, |f| (f.pause * 2).min(LONGEST_PAUSE));
                slot.failure = Some(Failure {
                    error: error.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
                Err(error)
            }
        }
    }

    async fn connect(&self, number: u64) -> Result<Live, DialError> {
        let mut link = self.dialer.shared().await?;
        let hashes = Arc::new(scripts::load(&mut link).await?);
        Ok(Live { link, hashes, number })
    }

    /// Throws the connection of this number away, unless somebody did already.
    async fn discard(&self, number: u64) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|live| live.number == number) {
            slot.live = None;
        }
    }
}

/// Commands that travel together in one round trip.
pub(super) struct Trip<'a> {
    conn: &'a Conn,
    live: Live,
    pipe: Pipeline,
    doing: &'static str,
}

impl Trip<'_> {
    /// Adds a command; its arguments follow.
    pub(super) fn command(&mut self, name: &str) -> &mut Self {
        self.pipe.cmd(name);
        self
    }

    /// Adds a call of a script, with the clock as its first two arguments; its other arguments follow.
    pub(super) fn script<K: AsRef<[u8]>>(&mut self, script: Script, keys: &[K]) -> &mut Self {
        let (seconds, nanos) = match self.conn.clock() {
            None => (String::new(), String::new()),
            Some(clock) => {
                let now = super::wire::Instant::from(clock.now());
                (now.seconds.to_string(), format!("{:09}", now.nanos))
            }
        };
        self.pipe
            .cmd("EVALSHA")
            .arg(self.live.hashes.of(script))
            .arg(keys.len());
        for key in keys {
            self.pipe.arg(key.as_ref());
        }
        self.arg(seconds).arg(nanos)
    }

    /// Adds an argument to the last command.
    pub(super) fn arg<T: ToRedisArgs>(&mut self, arg: T) -> &mut Self {
        self.pipe.arg(arg);
        self
    }

    /// Sends everything; one answer for each command, in order.
    ///
    /// # Errors
    ///
    /// If the connection failed, or if the server refused any of the commands.
    pub(super) async fn send(self) -> BrokerResult<Vec<Value>> {
        self.each().await?.into_iter().collect()
    }

    /// Sends everything; one answer or refusal for each command, in order.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub(super) async fn each(mut self) -> BrokerResult<Vec<BrokerResult<Value>>> {
        if self.pipe.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = exchange(self.conn, &mut self.live, &self.pipe, self.doing).await?;
        if answers.iter().any(is_unknown_script) {
            scripts::load(&mut self.live.link)
                .await
                .map_err(|error| fault::of(error, self.doing))?;
            self.repeat_unknown(&mut answers).await?;
        }
        let mut checked = Vec::with_capacity(answers.len());
        for answer in answers {
            checked.push(match answer {
                Value::ServerError(error) => {
                    if fault::is_wrong_server(&error) {
                        self.conn.discard(self.live.number).await;
                    }
                    Err(fault::answered(&error, self.doing))
                }
                answer => Ok(answer),
            });
        }
        Ok(checked)
    }

    /// Sends a single command.
    pub(super) async fn one(self) -> BrokerResult<Value> {
        let doing = self.doing;
        let answers = self.send().await?;
        answers.into_iter().next().ok_or_else(|| fault::odd_answer(doing))
    }

    /// A script that the server did not know has not run: only those are sent again.
    async fn repeat_unknown(&mut self, answers: &mut [Value]) -> BrokerResult<()> {
        let mut again = Pipeline::new();
        for (command, _) in self
            .pipe
            .cmd_iter()
            .zip(answers.iter())
            .filter(|(_, answer)| is_unknown_script(answer))
        {
            again.add_command(command.clone());
        }
        let second = exchange(self.conn, &mut self.live, &again, self.doing).await?;
        let mut second = second.into_iter();
        for answer in answers.iter_mut().filter(|a| is_unknown_script(a)) {
            *answer = second.next().unwrap_or_default();
        }
        Ok(())
    }
}

async fn exchange(conn: &Conn, live: &mut Live, pipe: &Pipeline, doing: &'static str) -> BrokerResult<Vec<Value>> {
    match live.link.send(pipe).await {
        Ok(answers) if answers.len() == pipe.len() => Ok(answers),
        Ok(_) => Err(fault::odd_answer(doing)),
        Err(error) => {
            if fault::needs_new_connection(&error) {
                conn.discard(live.number).await;
            }
            Err(fault::of(error, doing))
        }
    }
}

fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
