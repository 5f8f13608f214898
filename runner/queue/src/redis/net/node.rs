//! One node of a cluster: its connection, the scripts it knows, and an exchange with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike as _, PubSub};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::redis::net::dial::{self, Connection, DialError, RESPONSE_TIMEOUT};
use crate::redis::net::fault;
use crate::redis::net::load_scripts::{self, is_unknown_script};
use crate::redis::net::login::RedisLogin;
use crate::redis::net::reconnect::Reconnecting;
use crate::redis::net::settings::RedisTls;
use crate::redis::net::slots::NodeAddress;

/// The credentials and TLS settings for any node of a cluster.
pub(in crate::redis) struct NodeAccess {
    pub(in crate::redis) login: RedisLogin,
    pub(in crate::redis) tls: Option<RedisTls>,
}

/// A primary, for as long as the slot map names it.
pub(in crate::redis) struct ClusterNode {
    pub(in crate::redis) address: NodeAddress,
    access: Arc<NodeAccess>,
    live: Reconnecting<Connection>,
    /// Why it cannot be reached, while it cannot: calls fail at once, and a background task reconnects.
    away: Mutex<Option<DialError>>,
    trying: AtomicBool,
}

/// An exchange without answers.
pub(in crate::redis) struct NoAnswer {
    pub(in crate::redis) error: DialError,
    /// Whether the commands may have reached the node.
    pub(in crate::redis) sent: bool,
}

impl ClusterNode {
    pub(in crate::redis) fn new(address: NodeAddress, access: Arc<NodeAccess>) -> Self {
        Self {
            address,
            access,
            live: Reconnecting::default(),
            away: Mutex::default(),
            trying: AtomicBool::new(false),
        }
    }

    /// The shared connection and its number.
    ///
    /// Only the first callers wait for it: a slow node must not hold up callers that need other nodes as well.
    pub(in crate::redis) async fn connection(self: &Arc<Self>) -> Result<(Connection, u64), DialError> {
        let away = self.away().clone();
        match away {
            None => self.connect().await,
            Some(error) => {
                // One background attempt at a time; `swap` makes exactly one caller start it.
                if !self.trying.swap(true, Ordering::AcqRel) {
                    let node = Arc::clone(self);
                    tokio::spawn(async move {
                        // `connect` stores the result in `away`, where the next caller looks.
                        let _noted = node.connect().await;
                        node.trying.store(false, Ordering::Release);
                    });
                }
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, u64), DialError> {
        let made = self.live.get(|| self.dial(Some(RESPONSE_TIMEOUT))).await;
        *self.away() = made.as_ref().err().cloned();
        made
    }

    fn away(&self) -> MutexGuard<'_, Option<DialError>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of the caller's own; `answer_within` limits each of its answers.
    pub(in crate::redis) async fn dial(&self, answer_within: Option<Duration>) -> Result<Connection, DialError> {
        let NodeAccess { login, tls } = &*self.access;
        let at = self.address.to_string();
        dial::line(dial::DialAddress::Tcp(&at), tls.as_ref(), login, answer_within).await
    }

    /// A connection of the caller's own that listens.
    pub(in crate::redis) async fn listener(&self) -> Result<PubSub, DialError> {
        let NodeAccess { login, tls } = &*self.access;
        let at = self.address.to_string();
        dial::listener(dial::DialAddress::Tcp(&at), tls.as_ref(), login).await
    }

    /// Sends commands and returns one answer for each, in order. `once`: each is preceded by `ASKING`.
    ///
    /// Loads the scripts if the node lacks one, and calls that script again.
    pub(in crate::redis) async fn exchange(
        self: &Arc<Self>,
        commands: &[&Cmd],
        once: bool,
        flags: &OnceLock<bool>,
    ) -> Result<Vec<Value>, NoAnswer> {
        let before = |error| NoAnswer { error, sent: false };
        let (mut link, number) = self.connection().await.map_err(before)?;
        let mut answers = match send(&mut link, commands, once).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.lost(error, number).await),
        };
        let unknown: Vec<usize> = (0..answers.len())
            .filter(|at| is_unknown_script(&answers[*at]))
            .collect();
        if unknown.is_empty() {
            return Ok(answers);
        }
        // Unknown scripts have not run, everything else has: repeat only the former.
        let repeated = async {
            load_scripts::load_as(&mut link, flags.get().copied().unwrap_or(false)).await?;
            let commands: Vec<&Cmd> = unknown.iter().map(|at| commands[*at]).collect();
            send(&mut link, &commands, once).await
        };
        match repeated.await {
            Ok(second) => {
                for (at, answer) in unknown.into_iter().zip(second) {
                    answers[at] = answer;
                }
                Ok(answers)
            }
            Err(error) => Err(self.lost(error, number).await),
        }
    }

    async fn lost(&self, error: RedisError, number: u64) -> NoAnswer {
        if fault::needs_new_connection(&error) {
            self.live.discard(number).await;
        }
        // A node that is silent once would make each caller wait for the whole timeout: fail fast from now on.
        if error.is_timeout() {
            *self.away() = Some(error.clone().into());
        }
        NoAnswer {
            error: error.into(),
            // Even if nothing was written: only a failed connection attempt proves that.
            sent: true,
        }
    }
}

async fn send(link: &mut Connection, commands: &[&Cmd], once: bool) -> RedisResult<Vec<Value>> {
    let mut pipe = Pipeline::with_capacity(commands.len());
    for command in commands {
        if once {
            pipe.cmd("ASKING");
        }
        pipe.add_command((*command).clone());
    }
    // One pipeline, so that no command of another caller comes between an `ASKING` and its command: the flag is valid
    // for exactly the next command on the connection.
    let mut answers = link.req_packed_commands(&pipe, 0, pipe.len()).await?;
    if once {
        // Every other answer is the `OK` of an `ASKING`.
        let mut asking = true;
        answers.retain(|_| {
            asking = !asking;
            asking
        });
    }
    if answers.len() == commands.len() {
        Ok(answers)
    } else {
        Err((redis::ErrorKind::UnexpectedReturnType, "an answer is missing").into())
    }
}
