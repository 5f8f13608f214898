//! Makes connections: the shared one, which carries the commands of all callers, and connections of a caller's own.
//!
//! Chooses the address. Not here: what is sent, and when a connection is discarded (`conn`).

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, PubSub};
use redis::{Pipeline, RedisResult, Value};

use crate::BrokerResult;
use crate::redis::format::scripts::Hashes;
use crate::redis::net::cluster::Cluster;
use crate::redis::net::dial::{self, Connection, DialAddress, DialError, RESPONSE_TIMEOUT};
use crate::redis::net::login::RedisLogin;
use crate::redis::net::sentinel::{self, Sentinels};
use crate::redis::net::settings::{RedisSettings, RedisTarget, RedisTls, address};
use crate::redis::net::{fault, load_scripts};
use crate::tls;

/// A live connection, shared by cloning it.
#[derive(Clone)]
pub(in crate::redis) enum SharedConnection {
    /// To one server.
    One(Connection),
    /// To the nodes of a cluster.
    Cluster(Arc<Cluster>),
}

impl SharedConnection {
    /// Gives the server, or each of a cluster, all scripts.
    pub(in crate::redis) async fn load_scripts(&mut self) -> Result<Hashes, DialError> {
        match self {
            Self::One(server) => {
                let flags = load_scripts::knows_flags(server).await?;
                Ok(load_scripts::load_as(server, flags).await?)
            }
            Self::Cluster(cluster) => cluster.load().await,
        }
    }

    /// Sends all commands; returns one answer for each, in order. An error of the server is an answer too. `within`
    /// limits the wait for each node of a cluster.
    pub(in crate::redis) async fn send(
        &mut self,
        pipe: &Pipeline,
        within: Option<Duration>,
    ) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(line) => line.req_packed_commands(pipe, 0, pipe.len()).await,
            Self::Cluster(cluster) => Ok(cluster.send(pipe, within).await),
        }
    }

    /// A connection to each reachable server that has keys.
    pub(in crate::redis) async fn reached(&self) -> Vec<Connection> {
        match self {
            Self::One(line) => vec![line.clone()],
            Self::Cluster(cluster) => cluster.each().await.into_iter().flatten().collect(),
        }
    }

    /// A connection to each server that has keys; an error if one cannot be reached.
    #[cfg(feature = "contract")]
    pub(in crate::redis) async fn servers(&self) -> Result<Vec<Connection>, DialError> {
        match self {
            Self::One(line) => Ok(vec![line.clone()]),
            Self::Cluster(cluster) => cluster.each().await.into_iter().collect(),
        }
    }
}

/// Makes connections according to the settings. Cheap to clone.
#[derive(Clone)]
pub(in crate::redis) struct Dialer(Arc<Inner>);

struct Inner {
    target: RedisTarget,
    login: RedisLogin,
    tls: Option<RedisTls>,
    sentinels: Option<Sentinels>,
    cluster: Option<Arc<Cluster>>,
}

impl Dialer {
    /// Checks the settings; touches no network.
    pub(in crate::redis) fn new(settings: &RedisSettings) -> BrokerResult<Self> {
        check(settings).map_err(|error| fault::of(error, "read where the Redis server is"))?;
        let sentinels = match &settings.target {
            RedisTarget::Sentinels(sentinels) => Some(Sentinels::new(sentinels.clone(), settings.tls.clone())),
            _ => None,
        };
        let login = RedisLogin {
            username: settings.username.clone(),
            password: settings.password.clone(),
            database: settings.database,
        };
        let cluster = match &settings.target {
            RedisTarget::Cluster(nodes) => Some(Arc::new(Cluster::new(nodes, login.clone(), settings.tls.clone()))),
            _ => None,
        };
        Ok(Self(Arc::new(Inner {
            target: settings.target.clone(),
            login,
            tls: settings.tls.clone(),
            sentinels,
            cluster,
        })))
    }

    /// Whether keys are spread over slots of several servers, so that no script may touch the keys of two queues.
    pub(in crate::redis) fn is_cluster(&self) -> bool {
        self.0.cluster.is_some()
    }

    /// A connection to share: each answer must arrive within [`RESPONSE_TIMEOUT`].
    pub(in crate::redis) async fn shared(&self) -> Result<SharedConnection, DialError> {
        match &self.0.cluster {
            Some(cluster) => {
                cluster.refresh_slots().await?;
                Ok(SharedConnection::Cluster(Arc::clone(cluster)))
            }
            None => self.one(Some(RESPONSE_TIMEOUT)).await.map(SharedConnection::One),
        }
    }

    /// A connection of the caller's own for blocking commands, to the server that has `key`. It waits for answers
    /// without limit, so the caller sets one and drops the connection when it runs out.
    pub(in crate::redis) async fn dedicated(&self, key: &str) -> Result<Connection, DialError> {
        match &self.0.cluster {
            Some(cluster) => cluster.dedicated(key).await,
            None => self.one(None).await,
        }
    }

    /// As [`Self::dedicated`]; in a cluster the owner of the key is asked for first, because nothing else notices for this
    /// caller that a slot has moved.
    pub(in crate::redis) async fn dedicated_to_owner(&self, key: &str) -> Result<Connection, DialError> {
        if let Some(cluster) = &self.0.cluster {
            cluster.refresh_slots().await?;
        }
        self.dedicated(key).await
    }

    /// A connection of the caller's own that listens to a channel.
    pub(in crate::redis) async fn listener(&self) -> Result<PubSub, DialError> {
        if let Some(cluster) = &self.0.cluster {
            return cluster.listener().await;
        }
        let Inner { login, tls, .. } = &*self.0;
        match self.master().await? {
            Some(master) => dial::listener(DialAddress::Tcp(&master), tls.as_ref(), login).await,
            None => dial::listener(self.address()?, tls.as_ref(), login).await,
        }
    }

    async fn one(&self, answer_within: Option<Duration>) -> Result<Connection, DialError> {
        let Inner { login, tls, .. } = &*self.0;
        let Some(master) = self.master().await? else {
            return dial::line(self.address()?, tls.as_ref(), login, answer_within).await;
        };
        // Sentinels learn of a failover one after the other. Without the check a connection to the old primary would
        // take writes that are lost as soon as it becomes a replica.
        let mut line = dial::line(DialAddress::Tcp(&master), tls.as_ref(), login, answer_within).await?;
        sentinel::confirm(&mut line, &master).await?;
        Ok(line)
    }

    /// The server that the sentinels name; `None` without sentinels.
    async fn master(&self) -> Result<Option<String>, DialError> {
        match &self.0.sentinels {
            Some(sentinels) => sentinels.master().await.map(Some),
            None => Ok(None),
        }
    }

    fn address(&self) -> Result<DialAddress<'_>, DialError> {
        match &self.0.target {
            RedisTarget::Server(host) => Ok(DialAddress::Tcp(host)),
            RedisTarget::Socket(path) => Ok(DialAddress::Socket(path)),
            RedisTarget::Sentinels(_) | RedisTarget::Cluster(_) => {
                Err(DialError::Refused("no one server is named".to_owned()))
            }
        }
    }
}

const NO_PASSWORD: &str = "a username without a password cannot log in; a user that needs none (nopass) takes any";

fn check(settings: &RedisSettings) -> Result<(), DialError> {
    let refused = |why: &str| Err(DialError::Refused(why.to_owned()));
    let mut logins = vec![(&settings.username, &settings.password)];
    if let RedisTarget::Sentinels(sentinels) = &settings.target {
        logins.push((&sentinels.username, &sentinels.password));
    }
    if logins
        .iter()
        .any(|(username, password)| username.is_some() && password.is_none())
    {
        return refused(NO_PASSWORD);
    }
    let must_be_address = |text: &String| match address(text) {
        Some(_) => Ok(()),
        None => refused(&format!("{text:?} is not of the form host:port")),
    };
    match &settings.target {
        RedisTarget::Server(host) => must_be_address(host)?,
        RedisTarget::Socket(path) if path.as_os_str().is_empty() => return refused("the socket has no path"),
        RedisTarget::Socket(_) if settings.tls.is_some() => {
            return Err(DialError::Tls("a socket takes no TLS".to_owned()));
        }
        RedisTarget::Socket(_) => {}
        RedisTarget::Sentinels(sentinels) if sentinels.addresses.is_empty() || sentinels.master.is_empty() => {
            return refused("sentinels need addresses and the name of a master");
        }
        RedisTarget::Sentinels(sentinels) => sentinels.addresses.iter().try_for_each(must_be_address)?,
        RedisTarget::Cluster(nodes) if nodes.is_empty() => return refused("a cluster needs addresses of nodes"),
        RedisTarget::Cluster(_) if settings.database != 0 => {
            return refused("a cluster has no databases but number 0");
        }
        RedisTarget::Cluster(nodes) => nodes.iter().try_for_each(must_be_address)?,
    }
    // Now rather than at the first call: a missing file is most likely a typing error.
    match &settings.tls {
        Some(settings) => tls::terms(settings, "localhost").map(drop).map_err(DialError::Tls),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::Cause;
    use crate::redis::RedisBroker;
    use crate::redis::net::settings::{Password, RedisSentinels};

    #[tokio::test]
    async fn unusable_tls_settings_are_known_as_such_before_the_first_call() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.pem");
        std::fs::write(&text, "no certificate").unwrap();
        let of = |path: &std::path::Path| RedisTls {
            ca_file: Some(path.to_owned()),
            ..RedisTls::default()
        };
        let mut missing = RedisSettings::at("localhost:6379");
        missing.tls = Some(of(&dir.path().join("missing.pem")));
        let mut no_pem = RedisSettings::at("localhost:6379");
        no_pem.tls = Some(of(&text));
        let mut socket = RedisSettings::of(RedisTarget::Socket(dir.path().join("redis.sock")));
        socket.tls = Some(RedisTls::default());
        for (settings, words) in [(missing, "cannot read"), (no_pem, "no certificate"), (socket, "no TLS")] {
            let error = RedisBroker::lazy(&settings).err().unwrap();
            let why = std::error::Error::source(&error).unwrap().to_string();
            assert!(why.contains(words), "{why}");
            assert_eq!(
                (error.code(), error.cause()),
                ("broker_refused", Some(Cause::Tls)),
                "{why}"
            );
        }
    }

    #[test]
    fn a_username_without_a_password_is_refused_and_not_forgotten() {
        let mut server = RedisSettings::at("localhost:6379");
        server.username = Some("app".to_owned());
        let mut sentinels = RedisSettings::of(RedisTarget::Sentinels(RedisSentinels {
            master: "m".to_owned(),
            addresses: vec!["localhost:26379".to_owned()],
            username: Some("watch".to_owned()),
            password: None,
        }));
        for settings in [&server, &sentinels] {
            let error = Dialer::new(settings).err().unwrap();
            assert_eq!(error.code(), "broker_refused");
            let why = std::error::Error::source(&error).unwrap().to_string();
            assert!(why.contains("username without a password"), "{why}");
        }
        server.password = Some(Password::new("p"));
        let RedisTarget::Sentinels(target) = &mut sentinels.target else {
            panic!("not sentinels")
        };
        target.password = Some(Password::new("p"));
        assert!([server, sentinels].iter().all(|settings| Dialer::new(settings).is_ok()));
    }
}
