//! The connection: made at the first call, shared by all, made anew when it breaks.
//!
//! The scripts are loaded with each new connection; a server that lost them is given them again. Of a cluster,
//! where several servers share the keys, the connections to each are made by `cluster`; here it looks like one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Arg, Cmd, Pipeline, ToRedisArgs, Value};
use runner_core::clock::Clock;

use crate::BrokerResult;
use crate::redis::format::scripts::{Hashes, Script};
use crate::redis::net::dial::DialError;
use crate::redis::net::fault;
use crate::redis::net::link::{Dialer, SharedConnection};
use crate::redis::net::load_scripts;
use crate::redis::net::reconnect::Reconnecting;
use crate::redis::net::settings::RedisSettings;

/// How often a call loads the scripts again: somebody may throw them away between loading and calling.
const LOADS: usize = 3;

/// The one shared connection and what is needed to make it.
pub(in crate::redis) struct Conn {
    dialer: Dialer,
    kept: Reconnecting<LiveConnection>,
    clock: OnceLock<Arc<dyn Clock>>,
}

#[derive(Clone)]
struct LiveConnection {
    link: SharedConnection,
    hashes: Arc<Hashes>,
}

impl Conn {
    /// Checks the settings; touches no network.
    pub(in crate::redis) fn new(settings: &RedisSettings) -> BrokerResult<Self> {
        Ok(Self {
            dialer: Dialer::new(settings)?,
            kept: Reconnecting::default(),
            clock: OnceLock::new(),
        })
    }

    /// Uses this clock instead of the server's; the first one that is set stays.
    pub(in crate::redis) fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.clock.get_or_init(|| clock);
    }

    /// The clock in use, if it is not the server's.
    pub(in crate::redis) fn clock(&self) -> Option<&dyn Clock> {
        self.clock.get().map(AsRef::as_ref)
    }

    /// What is needed for connections of one's own.
    pub(in crate::redis) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Whether keys lie in slots of several servers, so that no script may touch those of two queues.
    pub(in crate::redis) fn is_cluster(&self) -> bool {
        self.dialer.is_cluster()
    }

    /// Starts a round trip.
    pub(in crate::redis) async fn trip(&self, doing: &'static str) -> BrokerResult<RoundTrip<'_>> {
        let (live, number) = self
            .kept
            .get(|| self.connect())
            .await
            .map_err(|error| fault::of(error, doing))?;
        Ok(RoundTrip {
            conn: self,
            live,
            number,
            pipe: Pipeline::new(),
            within: None,
            doing,
        })
    }

    /// A connection to each server that has keys and can be reached.
    pub(in crate::redis) async fn reached(
        &self,
        doing: &'static str,
    ) -> BrokerResult<Vec<crate::redis::net::dial::Connection>> {
        let live = self.kept.get(|| self.connect()).await;
        let (live, _) = live.map_err(|error| fault::of(error, doing))?;
        Ok(live.link.reached().await)
    }

    /// A connection to each server that has keys.
    #[cfg(feature = "contract")]
    pub(in crate::redis) async fn servers(
        &self,
        doing: &'static str,
    ) -> BrokerResult<Vec<crate::redis::net::dial::Connection>> {
        let live = self.kept.get(|| self.connect()).await;
        let (live, _) = live.map_err(|error| fault::of(error, doing))?;
        live.link.servers().await.map_err(|error| fault::of(error, doing))
    }

    async fn connect(&self) -> Result<LiveConnection, DialError> {
        let mut link = self.dialer.shared().await?;
        let hashes = Arc::new(load_scripts::load(&mut link).await?);
        Ok(LiveConnection { link, hashes })
    }
}

/// Commands that travel together in one round trip.
pub(in crate::redis) struct RoundTrip<'a> {
    conn: &'a Conn,
    live: LiveConnection,
    number: u64,
    pipe: Pipeline,
    within: Option<Duration>,
    doing: &'static str,
}

impl RoundTrip<'_> {
    /// Waits no longer than this for each node of a cluster; the answers of the others are not lost by it.
    pub(in crate::redis) fn within(&mut self, within: Option<Duration>) -> &mut Self {
        self.within = within;
        self
    }

    /// Adds a command; its arguments follow.
    pub(in crate::redis) fn command(&mut self, name: &str) -> &mut Self {
        self.pipe.cmd(name);
        self
    }

    /// Adds a call of a script, with the clock as its first two arguments; its other arguments follow.
    pub(in crate::redis) fn script<K: AsRef<[u8]>>(&mut self, script: Script, keys: &[K]) -> &mut Self {
        let (seconds, nanos) = match self.conn.clock() {
            None => (String::new(), String::new()),
            Some(clock) => {
                let now = crate::redis::format::wire::Instant::from(clock.now());
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
    pub(in crate::redis) fn arg<T: ToRedisArgs>(&mut self, arg: T) -> &mut Self {
        self.pipe.arg(arg);
        self
    }

    /// Sends everything; one answer for each command, in order.
    ///
    /// # Errors
    ///
    /// If the connection failed, or if the server refused any of the commands.
    pub(in crate::redis) async fn send(self) -> BrokerResult<Vec<Value>> {
        self.each().await?.into_iter().collect()
    }

    /// Sends everything; one answer or refusal for each command, in order: of a cluster some servers may be away.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub(in crate::redis) async fn each(mut self) -> BrokerResult<Vec<BrokerResult<Value>>> {
        if self.pipe.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.exchange(None).await?;
        for _ in 0..LOADS {
            if !answers.iter().any(is_unknown_script) {
                break;
            }
            load_scripts::load(&mut self.live.link)
                .await
                .map_err(|error| fault::of(error, self.doing))?;
            self.repeat_unknown(&mut answers).await?;
        }
        let mut checked = Vec::with_capacity(answers.len());
        for answer in answers {
            checked.push(match answer {
                Value::ServerError(error) => {
                    if fault::is_wrong_server(&error) {
                        self.conn.kept.discard(self.number).await;
                    }
                    Err(fault::answered(&error, self.doing))
                }
                answer => Ok(answer),
            });
        }
        Ok(checked)
    }

    /// Sends a single command.
    pub(in crate::redis) async fn one(self) -> BrokerResult<Value> {
        let doing = self.doing;
        let answers = self.send().await?;
        answers.into_iter().next().ok_or_else(|| fault::odd_answer(doing))
    }

    /// A script that the server did not know has not run: only those are sent again, and what confirms them.
    async fn repeat_unknown(&mut self, answers: &mut [Value]) -> BrokerResult<()> {
        let mut again = Pipeline::new();
        for (command, _) in self
            .pipe
            .cmd_iter()
            .zip(answers.iter())
            .filter(|(command, answer)| must_go_again(command, answer))
        {
            again.add_command(command.clone());
        }
        let second = self.exchange(Some(&again)).await?;
        let mut second = second.into_iter();
        let answers = self.pipe.cmd_iter().zip(answers.iter_mut());
        for (_, answer) in answers.filter(|(command, answer)| must_go_again(command, answer)) {
            *answer = second.next().unwrap_or_default();
        }
        Ok(())
    }

    /// Sends these commands, or the trip's own.
    async fn exchange(&mut self, pipe: Option<&Pipeline>) -> BrokerResult<Vec<Value>> {
        let pipe = pipe.unwrap_or(&self.pipe);
        match self.live.link.send(pipe, self.within).await {
            Ok(answers) if answers.len() == pipe.len() => Ok(answers),
            Ok(_) => Err(fault::odd_answer(self.doing)),
            Err(error) => {
                if fault::needs_new_connection(&error) {
                    self.conn.kept.discard(self.number).await;
                }
                Err(fault::of(error, self.doing))
            }
        }
    }
}

fn must_go_again(command: &Cmd, answer: &Value) -> bool {
    is_unknown_script(answer) || matches!(command.args_iter().next(), Some(Arg::Simple(b"WAIT")))
}

pub(in crate::redis) fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
