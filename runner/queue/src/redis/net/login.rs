//! The login: the first words on a bare socket, one command after the other, so that the server's own are heard.
//!
//! A server that turns everybody away, because it has too many clients or is in protected mode, says so unasked and
//! hangs up. On a connection that is shared already such an answer belongs to no call and is lost.

use redis::{Cmd, RedisError, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::redis::net::dial::ByteStream;
use crate::redis::net::settings::Password;

/// The longest answer to a command of the login; what protected mode has to say takes about 1 KiB.
const MAX_ANSWER: usize = 4096;

/// Who we are to a server.
#[derive(Clone, Default)]
pub(in crate::redis) struct RedisLogin {
    pub(in crate::redis) username: Option<String>,
    pub(in crate::redis) password: Option<Password>,
    pub(in crate::redis) database: i64,
}

impl RedisLogin {
    /// With the password as it is now.
    pub(in crate::redis) async fn now(&self) -> Result<Self, String> {
        let password = match &self.password {
            Some(password) => Some(password.now().await?),
            None => None,
        };
        Ok(Self {
            password,
            ..self.clone()
        })
    }
}

/// Logs in with commands of our own, so that the server's words are known when it refuses.
pub(in crate::redis) async fn enter(bytes: &mut Box<dyn ByteStream>, login: &RedisLogin) -> Result<(), RedisError> {
    if let Some(password) = &login.password {
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = &login.username {
            auth.arg(username);
        }
        auth.arg(password.expose());
        accepted(ask(bytes, &auth).await?, login)?;
    }
    if login.database != 0 {
        accepted(ask(bytes, redis::cmd("SELECT").arg(login.database)).await?, login)?;
    }
    // Always something: with TLS the server's objection to our certificate comes with its first answer.
    let named = ask(bytes, redis::cmd("CLIENT").arg("SETNAME").arg("runner")).await?;
    if may_go_unnamed(&named) {
        return Ok(());
    }
    accepted(named, login)
}

fn accepted(answer: Value, login: &RedisLogin) -> Result<(), RedisError> {
    match answer {
        // A proxy or a server that renamed AUTH may quote the arguments of a command that it does not know.
        Value::ServerError(error) => Err(without(error.into(), login)),
        _ => Ok(()),
    }
}

/// A name is only for people who list the clients: a user may lack that right, a proxy the command.
fn may_go_unnamed(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else {
        return false;
    };
    let detail = error.details().unwrap_or_default().to_ascii_lowercase();
    error.code() == "NOPERM" || detail.starts_with("unknown ")
}

/// Sends one command and reads its answer, which is a line.
async fn ask(bytes: &mut Box<dyn ByteStream>, command: &Cmd) -> Result<Value, RedisError> {
    let sent = async {
        bytes.write_all(&command.get_packed_command()).await?;
        bytes.flush().await
    };
    // A server that hung up may have said why before it did.
    let sent = sent.await;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut part = [0; 512];
        let read = match bytes.read(&mut part).await {
            Ok(read) => read,
            Err(error) => return Err(sent.err().unwrap_or(error).into()),
        };
        line.extend_from_slice(&part[..read]);
        if read == 0 || line.len() > MAX_ANSWER {
            let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(sent.err().unwrap_or_else(ended).into());
        }
    }
    redis::parse_redis_value(&line)
}

fn without(error: RedisError, login: &RedisLogin) -> RedisError {
    let quoted = login
        .password
        .as_ref()
        .is_some_and(|password| !password.expose().is_empty() && error.to_string().contains(password.expose()));
    if quoted {
        RedisError::from((redis::ErrorKind::AuthenticationFailed, "the server refused the login"))
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What comes of a login to a server that says this, and nothing more.
    async fn told(words: &[u8]) -> Result<(), String> {
        let (ours, mut theirs) = tokio::io::duplex(8192);
        theirs.write_all(words).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut bytes: Box<dyn ByteStream> = Box::new(ours);
        let entered = enter(&mut bytes, &RedisLogin::default()).await;
        entered.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_the_name_may_be_refused() {
        for fine in [
            &b"+OK\r\n"[..],
            b"-NOPERM this user has no permissions to run the 'client|setname' command\r\n",
            b"-ERR unknown command 'CLIENT'\r\n",
            b"-ERR Unknown subcommand or wrong number of arguments for 'SETNAME'\r\n",
        ] {
            assert_eq!(told(fine).await, Ok(()));
        }
        for (words, expected) in [
            (&b"-NOAUTH Authentication required.\r\n"[..], "NOAUTH"),
            (b"-ERR max number of clients reached\r\n", "max number of clients"),
            (b"-DENIED Redis is running in protected mode\r\n", "protected mode"),
        ] {
            let said = told(words).await.unwrap_err();
            assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{said}");
        }
        assert!(told(b"").await.unwrap_err().contains("end of file"));
        assert!(told(&[b'+'; 6000]).await.is_err(), "nor is there an end to it");
    }
}
