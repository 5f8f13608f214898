//! Finds the server to write to, for each new connection: sentinels may have promoted another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Value;

use crate::redis::format::reply;
use crate::redis::net::dial::{self, Connection, DialAddress, DialError};
use crate::redis::net::login::RedisLogin;
use crate::redis::net::settings::{RedisSentinels, RedisTls};

/// How long a sentinel may take to answer; there are others to ask.
const ANSWER: Duration = Duration::from_secs(1);

/// How long the named server may take to confirm its role; as long as the rest of connecting.
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
    /// If no sentinel names a server. The error says that they know no server of this name, or why one refused the
    /// login, or what failed at each.
    pub(in crate::redis) async fn master(&self) -> Result<String, DialError> {
        let count = self.settings.addresses.len();
        let first = self.first.load(Ordering::Relaxed);
        // One after the other rather than all at once: usually the first one answers, and the order in which they were
        // tried is the order of the causes in the error.
        let mut failures = Vec::new();
        let (mut unknown, mut no_password, mut refusal) = (false, false, None);
        for step in 0..count {
            let index = (first + step) % count;
            let address = &self.settings.addresses[index];
            match self.ask(address).await {
                Ok(Some(master)) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(master);
                }
                // Asked on: a sentinel that was just added may not know the name yet.
                Ok(None) => unknown = true,
                // A wrong password at one sentinel must not skip the others.
                Err(DialError::Redis(error)) if !error.is_io_error() => {
                    tracing::warn!(sentinel = address, %error, "a sentinel refuses the login; trying the next one");
                    refusal = Some(error);
                }
                Err(error) => {
                    no_password |= matches!(error, DialError::NoPassword(_));
                    failures.push(error.to_string());
                }
            }
        }
        // A sentinel that answered says more than those that did not: a wrong name or login would otherwise look like
        // an outage.
        if unknown {
            let name = &self.settings.master;
            return Err(DialError::Refused(format!(
                "the sentinels watch no server called {name:?}"
            )));
        }
        if let Some(error) = refusal {
            return Err(DialError::Redis(error));
        }
        let text = format!("no sentinel answers: {}", failures.join("; "));
        Err(match no_password {
            true => DialError::NoPassword(text),
            false => DialError::Unreachable(text),
        })
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

/// Checks that the named server is a primary: right after a failover it may not be one any more, or not yet.
///
/// # Errors
///
/// [`DialError::Unreachable`] if it is a replica, because the sentinels will name another soon; or if it does not
/// answer in time, however long answers on this connection may take.
pub(in crate::redis) async fn confirm(line: &mut Connection, address: &str) -> Result<(), DialError> {
    let role = redis::cmd("ROLE");
    let answer: Value = match tokio::time::timeout(CONFIRMED, role.query_async(line)).await {
        Ok(Ok(answer)) => answer,
        // Our user may not ask. The first write reveals a replica anyway, as READONLY.
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
    async fn a_server_that_falls_silent_after_the_login_does_not_block() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut received = [0; 512];
            assert!(stream.read(&mut received).await.unwrap() > 0);
            stream.write_all(b"+OK\r\n").await.unwrap();
            // Until the client gives up.
            while stream.read(&mut received).await.unwrap_or(0) > 0 {}
        });
        // Like a connection that waits for pushes: its answers have no time limit.
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
