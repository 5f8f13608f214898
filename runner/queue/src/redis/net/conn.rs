//! The shared connection: made at the first call, used by all, replaced when it breaks.
//!
//! The scripts are loaded with each new connection, and again when the server has lost them. For a cluster, where
//! several servers share the keys, `cluster` makes a connection to each; here it looks like one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Arg, Cmd, Pipeline, ToRedisArgs, Value};
use runner_core::clock::Clock;

use crate::BrokerResult;
use crate::redis::format::scripts::{Hashes, Script};
use crate::redis::net::dial::DialError;
use crate::redis::net::fault;
use crate::redis::net::link::{Dialer, SharedConnection};
use crate::redis::net::load_scripts::is_unknown_script;
use crate::redis::net::reconnect::Reconnecting;
use crate::redis::net::settings::RedisSettings;

/// How often one call loads the scripts: someone may flush them between loading and calling.
const LOADS: usize = 3;

/// The shared connection and what is needed to make it.
pub(in crate::redis) struct Conn {
    dialer: Dialer,
    live: Reconnecting<LiveConnection>,
    /// Whether the server is given our scripts.
    scripts: bool,
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
            live: Reconnecting::default(),
            scripts: true,
            clock: OnceLock::new(),
        })
    }

    /// To a server that only gets plain commands: one of others, where our scripts have no business.
    pub(in crate::redis) fn without_scripts(settings: &RedisSettings) -> BrokerResult<Self> {
        let scripts = false;
        Ok(Self {
            scripts,
            ..Self::new(settings)?
        })
    }

    /// Uses this clock instead of the server's; only the first call has an effect.
    pub(in crate::redis) fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.clock.get_or_init(|| clock);
    }

    /// The clock set by [`Self::set_clock`]; `None` while the server's is used.
    pub(in crate::redis) fn clock(&self) -> Option<&dyn Clock> {
        self.clock.get().map(AsRef::as_ref)
    }

    /// Makes connections of the caller's own.
    pub(in crate::redis) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Whether keys are spread over slots of several servers, so that no script may touch the keys of two queues.
    pub(in crate::redis) fn is_cluster(&self) -> bool {
        self.dialer.is_cluster()
    }

    /// Starts a round trip, connecting if necessary.
    pub(in crate::redis) async fn trip(&self, doing: &'static str) -> BrokerResult<RoundTrip<'_>> {
        let (live, number) = self
            .live
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

    /// A connection to each reachable server that has keys.
    pub(in crate::redis) async fn reached(
        &self,
        doing: &'static str,
    ) -> BrokerResult<Vec<crate::redis::net::dial::Connection>> {
        let live = self.live.get(|| self.connect()).await;
        let (live, _) = live.map_err(|error| fault::of(error, doing))?;
        Ok(live.link.reached().await)
    }

    /// A connection to each server that has keys; an error if one cannot be reached.
    #[cfg(feature = "contract")]
    pub(in crate::redis) async fn servers(
        &self,
        doing: &'static str,
    ) -> BrokerResult<Vec<crate::redis::net::dial::Connection>> {
        let live = self.live.get(|| self.connect()).await;
        let (live, _) = live.map_err(|error| fault::of(error, doing))?;
        live.link.servers().await.map_err(|error| fault::of(error, doing))
    }

    async fn connect(&self) -> Result<LiveConnection, DialError> {
        // The scripts before anything else: all callers share this connection, so a missing script would cost each of
        // them a second round trip.
        let mut link = self.dialer.shared().await?;
        let hashes = match self.scripts {
            true => link.load_scripts().await?,
            false => Hashes::new(Vec::new()),
        };
        let hashes = Arc::new(hashes);
        Ok(LiveConnection { link, hashes })
    }
}

/// Commands that travel together in one round trip.
pub(in crate::redis) struct RoundTrip<'a> {
    conn: &'a Conn,
    live: LiveConnection,
    /// The number of the connection, to discard exactly this one if it breaks.
    number: u64,
    pipe: Pipeline,
    within: Option<Duration>,
    doing: &'static str,
}

impl RoundTrip<'_> {
    /// Whether no script may touch the keys of two queues.
    pub(in crate::redis) fn is_apart(&self) -> bool {
        self.conn.is_cluster()
    }

    /// Limits the wait for each node of a cluster; the answers of the other nodes are not affected.
    pub(in crate::redis) fn within(&mut self, within: Option<Duration>) -> &mut Self {
        self.within = within;
        self
    }

    /// Adds a command; call [`Self::arg`] for its arguments.
    pub(in crate::redis) fn command(&mut self, name: &str) -> &mut Self {
        self.pipe.cmd(name);
        self
    }

    /// Adds a call of a script with the clock as its first two arguments; call [`Self::arg`] for the others.
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

    /// Sends all commands; returns one answer for each, in order.
    ///
    /// # Errors
    ///
    /// If the connection failed, or if the server refused any of the commands.
    pub(in crate::redis) async fn send(self) -> BrokerResult<Vec<Value>> {
        self.each().await?.into_iter().collect()
    }

    /// Sends all commands; returns an answer or an error for each, in order: some servers of a cluster may be away.
    ///
    /// # Errors
    ///
    /// If the connection failed.
    pub(in crate::redis) async fn each(mut self) -> BrokerResult<Vec<BrokerResult<Value>>> {
        if self.pipe.is_empty() {
            return Ok(Vec::new());
        }
        // Pipelined, not in a transaction: every script is atomic by itself, and one that fails must not undo the
        // others.
        let mut answers = self.exchange(None).await?;
        // Bounded: a server whose scripts are flushed repeatedly must not block the call forever.
        for _ in 0..LOADS {
            if !answers.iter().any(is_unknown_script) {
                break;
            }
            self.live
                .link
                .load_scripts()
                .await
                .map_err(|error| fault::of(error, self.doing))?;
            self.repeat_unknown(&mut answers).await?;
        }
        let mut checked = Vec::with_capacity(answers.len());
        for answer in answers {
            checked.push(match answer {
                Value::ServerError(error) => {
                    // The address leads to a replica after a failover. Later calls must connect again, which asks
                    // the sentinels or DNS again; the answers of this trip stay valid.
                    if fault::is_wrong_server(&error) {
                        self.conn.live.discard(self.number).await;
                    }
                    Err(fault::answered(&error, self.doing))
                }
                answer => Ok(answer),
            });
        }
        Ok(checked)
    }

    /// Sends a single command and returns its answer.
    pub(in crate::redis) async fn one(self) -> BrokerResult<Value> {
        let doing = self.doing;
        let answers = self.send().await?;
        answers.into_iter().next().ok_or_else(|| fault::odd_answer(doing))
    }

    /// Repeats the scripts that the server did not know, which therefore have not run, and the `WAIT` that confirms
    /// them. All other commands have run and must not run twice.
    async fn repeat_unknown(&mut self, answers: &mut [Value]) -> BrokerResult<()> {
        let mut again = Pipeline::new();
        // `WAIT` counts the replicas that have everything sent before it on this connection, so its first answer did
        // not cover the scripts that run only now.
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
        // The same filter over the same answers: the second answers come in the same order.
        for (_, answer) in answers.filter(|(command, answer)| must_go_again(command, answer)) {
            *answer = second.next().unwrap_or_default();
        }
        Ok(())
    }

    /// Sends `pipe`, or all commands of the trip.
    async fn exchange(&mut self, pipe: Option<&Pipeline>) -> BrokerResult<Vec<Value>> {
        let pipe = pipe.unwrap_or(&self.pipe);
        match self.live.link.send(pipe, self.within).await {
            Ok(answers) if answers.len() == pipe.len() => Ok(answers),
            // Answers are matched by position, so one too few makes all of them worthless.
            Ok(_) => Err(fault::odd_answer(self.doing)),
            Err(error) => {
                // Only new calls are affected: calls under way hold a clone of the connection and still get their
                // replies.
                if fault::needs_new_connection(&error) {
                    self.conn.live.discard(self.number).await;
                }
                Err(fault::of(error, self.doing))
            }
        }
    }
}

fn must_go_again(command: &Cmd, answer: &Value) -> bool {
    is_unknown_script(answer) || matches!(command.args_iter().next(), Some(Arg::Simple(b"WAIT")))
}
