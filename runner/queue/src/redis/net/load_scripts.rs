//! Loads all scripts into a server, or into each primary of a cluster. Not here: what the scripts do (`format::scripts`).

use redis::{RedisResult, Value};

use crate::redis::format::reply;
use crate::redis::format::scripts::{self, Hashes};
use crate::redis::net::dial::Connection;
use crate::redis::net::fault;

/// Whether the server answered that it does not know the script. Then the script has not run.
pub(in crate::redis) fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Whether this server's version supports script flags.
pub(in crate::redis) async fn knows_flags(server: &mut Connection) -> RedisResult<bool> {
    // A server that hides its version (our user may lack the right) is treated as an old one.
    let info: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(server).await;
    match info {
        Ok(info) => Ok(major_version(&info) >= 7),
        Err(error) if fault::needs_new_connection(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Loads all scripts into one server, with or without flags. The hashes depend on that and on nothing else.
pub(in crate::redis) async fn load_as(server: &mut Connection, flags: bool) -> RedisResult<Hashes> {
    let mut pipe = redis::pipe();
    for text in scripts::all(flags) {
        pipe.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let answers: Vec<Value> = pipe.query_async(server).await?;
    Ok(Hashes::new(
        answers
            .into_iter()
            .map(|answer| reply::text(answer).unwrap_or_default())
            .collect(),
    ))
}

fn major_version(info: &str) -> u32 {
    info.lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .and_then(|version| version.split('.').next()?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_servers_own_words() {
        assert_eq!(major_version("# Server\r\nredis_version:7.0.15\r\n"), 7);
        assert_eq!(major_version("redis_version:6.2.0\r\n"), 6);
        assert_eq!(major_version(""), 0);
    }
}
