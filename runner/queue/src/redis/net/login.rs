//! The login: the first commands on a bare socket, one at a time, so that the server's own refusal is read.
//!
//! A server that turns clients away, because it has too many or is in protected mode, sends the reason unasked and
//! hangs up. On a shared connection such an answer would match no command and be lost.

use redis::{Cmd, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::redis::net::settings::Password;

/// The parts of a new connection.
pub(in crate::redis) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The longest answer to a command of the login; protected mode's text is about 1 KiB.
const MAX_ANSWER: usize = 4096;

/// The credentials and the database to select.
#[derive(Clone, Default)]
pub(in crate::redis) struct RedisLogin {
    pub(in crate::redis) username: Option<String>,
    pub(in crate::redis) password: Option<Password>,
    pub(in crate::redis) database: i64,
}

impl RedisLogin {
    /// A copy with the current password.
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

/// Logs in with our own commands, so that the text of a refusal is preserved.
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
    // Always at least one command: with TLS the server's objection to our certificate comes with its first answer.
    let named = ask(bytes, redis::cmd("CLIENT").arg("SETNAME").arg("runner")).await?;
    if may_go_unnamed(&named) {
        return Ok(());
    }
    accepted(named, login)
}

fn accepted(answer: Value, login: &RedisLogin) -> Result<(), RedisError> {
    match answer {
        // A proxy or a server that renamed AUTH may quote the arguments of an unknown command, so the text is dropped.
        Value::ServerError(error) => Err(without(error.into(), login)),
        _ => Ok(()),
    }
}

/// Accepts a refused name: it only serves people who list clients, and a user may lack the right or a proxy the command.
fn may_go_unnamed(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else {
        return false;
    };
    let detail = error.details().unwrap_or_default().to_ascii_lowercase();
    error.code() == "NOPERM" || detail.starts_with("unknown ")
}

/// Sends one command and reads its answer, which is one line.
async fn ask(bytes: &mut Box<dyn ByteStream>, command: &Cmd) -> Result<Value, RedisError> {
    let sent = async {
        bytes.write_all(&command.get_packed_command()).await?;
        bytes.flush().await
    };
    // A server that hung up may have sent the reason before it did.
    let sent = sent.await;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut part = [0; 512];
        let read = match bytes.read(&mut part).await {
            Ok(read) => read,
            Err(error) => return Err(sent.err().unwrap_or(error).into()),
        };
        // Nothing behind the line is lost: one command is sent at a time, so the server has nothing else to say.
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

    /// The result of a login to a server that answers with these bytes and closes.
    async fn login_with(words: &[u8]) -> Result<(), String> {
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
            assert_eq!(login_with(fine).await, Ok(()));
        }
        for (words, expected) in [
            (&b"-NOAUTH Authentication required.\r\n"[..], "NOAUTH"),
            (b"-ERR max number of clients reached\r\n", "max number of clients"),
            (b"-DENIED Redis is running in protected mode\r\n", "protected mode"),
        ] {
            let said = login_with(words).await.unwrap_err();
            assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{said}");
        }
        assert!(login_with(b"").await.unwrap_err().contains("end of file"));
        assert!(login_with(&[b'+'; 6000]).await.is_err(), "an endless line is refused");
    }
}
