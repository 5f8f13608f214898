//! Making connections: the shared one, on which all callers' commands travel, and those of one's own.
//!
//! Where the server is and how to log in is decided here once. What travels, and when a connection is thrown away
//! and made anew, is decided by `conn`.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Value};

use super::settings::RedisSettings;
use crate::{BrokerError, BrokerResult};

/// How long the server may take to answer; a script of ours takes a few milliseconds at most.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A live connection that is shared by cloning it.
#[derive(Clone)]
pub(super) enum Link {
    /// To one server.
    One(MultiplexedConnection),
}

impl Link {
    /// Sends all commands; one answer for each, in order. What the server refused is an answer too.
    pub(super) async fn send(&mut self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(link) => link.send_packed_commands(pipe, 0, pipe.len()).await,
        }
    }

    /// The connections to every server that must know the scripts.
    pub(super) fn servers(&mut self) -> Vec<&mut MultiplexedConnection> {
        match self {
            Self::One(link) => vec![link],
        }
    }
}

/// Makes connections as the settings say. Cheap to clone.
#[derive(Clone)]
pub(super) struct Dialer {
    client: Client,
}

impl Dialer {
    /// Checks the settings; touches no network.
    pub(super) fn new(settings: &RedisSettings) -> BrokerResult<Self> {
        const DOING: &str = "read where the Redis server is";
        let refused = |source| BrokerError::Refused { doing: DOING, source };
        let address = settings
            .address()
            .ok_or_else(|| refused(format!("{:?} is not of the form host:port", settings.host).into()))?;
        let mut login = redis::RedisConnectionInfo::default().set_db(settings.database);
        if let Some(username) = &settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password);
        }
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = redis::IntoConnectionInfo::into_connection_info(redis::ConnectionAddr::Tcp(address.0, address.1))
            .map_err(|error| refused(Box::new(error)))?
            .set_redis_settings(login)
            .set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|error| refused(Box::new(error)))?;
        Ok(Self { client })
    }

    /// A connection to be shared: each answer must come within a bound.
    pub(super) async fn shared(&self) -> RedisResult<Link> {
        self.one(Some(RESPONSE_TIMEOUT)).await.map(Link::One)
    }

    /// A connection of one's own for blocking commands, to the server that holds `key`. It waits for answers as
    /// long as it takes, so the caller sets the bound, and throws the connection away when it ran out.
    pub(super) async fn dedicated(&self, _key: &str) -> RedisResult<MultiplexedConnection> {
        self.one(None).await
    }

    /// A connection of one's own that listens to a channel.
    pub(super) async fn listener(&self) -> RedisResult<PubSub> {
        self.client.get_async_pubsub().await
    }

    async fn one(&self, answer_within: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(answer_within);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}
