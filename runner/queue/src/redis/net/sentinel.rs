//! Which server is the one to write to, asked anew for each connection: sentinels may have promoted another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;

use crate::redis::format::reply;
use crate::redis::net::dial::{self, Connection, DialAddress, DialError};
use crate::redis::net::login::RedisLogin;
use crate::redis::net::settings::{RedisSentinels, RedisTls};

/// How long a sentinel may take to answer; there are others to ask.
const ANSWER: Duration = Duration::from_secs(1);

/// How long the server that they name may take to say that it is the one; as long as all the rest of connecting.
const CONFIRMED: Duration = Duration::from_secs(3);

/// The sentinels of one server.
pub(in crate::redis) struct Sentinels {
    settings: RedisSentinels,
    tls: Option<RedisTls>,
    /// The one that answered last is asked first.
    first: AtomicUsize,
}

impl Sentinels {
    pub(in crate::redis) fn new(settings: RedisSentinels, tls: Option<RedisTls>) -> Self {
        Self {
            settings,
            tls,
            first: AtomicUsize::new(0),
        }
    }

    /// `host:port` of the server to write to.
    ///
    /// # Errors
    ///
    /// If none answers the question: that those asked know no server of this name, or why one turned us away, or what
    /// became of each.
    pub(in crate::redis) async fn master(&self) -> Result<String, DialError> {
        let count = self.settings.addresses.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        let (mut unknown, mut refusal) = (false, None);
        for step in 0..count {
            let index = (first + step) % count;
            let address = &self.settings.addresses[index];
            match self.ask(address).await {
                Ok(Some(master)) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(master);
                }
                Ok(None) => unknown = true,
                // One with another password is no reason not to ask the others.
                Err(DialError::Redis(error)) if !error.is_io_error() => {
                    tracing::warn!(sentinel = address, %error, "a sentinel turns us away; the next one is asked");
                    refusal = Some(error);
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        if unknown {
            let name = &self.settings.master;
            return Err(DialError::Refused(format!(
                "the sentinels watch no server called {name:?}"
            )));
        }
        if let Some(error) = refusal {
            return Err(DialError::Redis(error));
        }
        Err(DialError::Unreachable(format!(
            "no sentinel answers: {}",
            failures.join("; ")
        )))
    }

    async fn ask(&self, address: &str) -> Result<Option<String>, DialError> {
        let login = RedisLogin {
            username: self.settings.username.clone(),
            password: self.settings.password.clone(),
            database: 0,
        };
        let dialing = dial::line(DialAddress::Tcp(address), self.tls.as_ref(), &login, Some(ANSWER));
        let mut line = match tokio::time::timeout(ANSWER, dialing).await {
            Ok(line) => line?,
            Err(_) => return Err(DialError::Unreachable(format!("{address}: no answer in time"))),
        };
        let answer: Value = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(&self.settings.master)
            .query_async(&mut line)
            .await?;
        let mut parts = reply::list(answer).into_iter().map(reply::text);
        Ok(match (parts.next().flatten(), parts.next().flatten()) {
            (Some(host), Some(port)) if host.contains(':') => Some(format!("[{host}]:{port}")),
            (Some(host), Some(port)) => Some(format!("{host}:{port}")),
            _ => None,
        })
    }
}

/// Makes sure that a server that sentinels named knows of its office: right after a failover it may not, or not yet.
///
/// # Errors
///
/// [`DialError::Unreachable`] if it is a replica: the sentinels will name another soon. The same if it does not answer in
/// time, however long answers on this connection may take.
pub(in crate::redis) async fn confirm(line: &mut Connection, address: &str) -> Result<(), DialError> {
    let role = redis::cmd("ROLE");
    let answer: Value = match tokio::time::timeout(CONFIRMED, role.query_async(line)).await {
        Ok(Ok(answer)) => answer,
        // Forbidden to our user: the first write says the same, as READONLY.
        Ok(Err(error)) if error.code() == Some("NOPERM") => return Ok(()),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            return Err(DialError::Unreachable(format!(
                "{address}: no answer in time after the login"
            )));
        }
    };
    match reply::list(answer).into_iter().next().and_then(reply::text).as_deref() {
        Some("master") => Ok(()),
        _ => Err(DialError::Unreachable(format!(
            "{address}: READONLY, the sentinels name it but it is a replica; a failover is under way"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_server_that_falls_silent_after_the_login_holds_nobody_up() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut said = [0; 512];
            assert!(stream.read(&mut said).await.unwrap() > 0);
            stream.write_all(b"+OK\r\n").await.unwrap();
            // Until the other side gives up.
            while stream.read(&mut said).await.unwrap_or(0) > 0 {}
        });
        // As a connection that waits for pushes: its answers have no bound.
        let mut line = dial::line(DialAddress::Tcp(&address), None, &RedisLogin::default(), None)
            .await
            .unwrap();
        let confirmed = tokio::time::timeout(CONFIRMED * 10, confirm(&mut line, &address)).await;
        let error = confirmed.unwrap().unwrap_err();
        assert!(matches!(error, DialError::Unreachable(_)), "{error}");
        drop(line);
        silent.await.unwrap();
    }
}
