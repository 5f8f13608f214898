//! Server settings that tasks depend on: what it does when memory runs out, and after a crash.

use redis::{RedisResult, Value};

use crate::redis::RedisBroker;
use crate::redis::format::reply;
use crate::redis::net::dial::Connection;
use crate::{BrokerError, BrokerResult, Caveat};

const DOING: &str = "ask how the server is set up";

/// What one server reports; `None` where our user lacks the right.
#[derive(Debug, Default)]
struct ServerSetup {
    policy: Option<String>,
    append_only: Option<bool>,
}

impl RedisBroker {
    pub(in crate::redis) async fn look_at_setup(&self) -> BrokerResult<Vec<Caveat>> {
        // An ordinary call first: it finds out whether the connection still works.
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("TIME");
        trip.one().await?;
        let mut setups = Vec::new();
        for mut server in self.conn.reached(DOING).await? {
            // A server that has just gone is skipped; the next look finds it again, or another in its place.
            setups.extend(ask(&mut server).await);
        }
        if setups.is_empty() {
            return Err(BrokerError::Unreachable {
                doing: DOING,
                source: "no server answered".into(),
            });
        }
        Ok(judge(&setups, self.allow_eviction))
    }
}

/// `None` if the server became unreachable meanwhile.
async fn ask(server: &mut Connection) -> Option<ServerSetup> {
    let memory = info(server, "memory").await.ok()?;
    let policy = match memory {
        Some(info) => field(&info, "maxmemory_policy"),
        None => allowed(
            redis::cmd("CONFIG")
                .arg("GET")
                .arg("maxmemory-policy")
                .query_async(server)
                .await,
        )
        .ok()?
        .and_then(|answer| values(answer).into_iter().nth(1)),
    };
    let persistence = info(server, "persistence").await.ok()?;
    Some(ServerSetup {
        policy,
        append_only: persistence
            .and_then(|info| field(&info, "aof_enabled"))
            .map(|value| value != "0"),
    })
}

/// A section of the server's INFO; `None` if our user lacks the right.
async fn info(server: &mut Connection, section: &str) -> RedisResult<Option<String>> {
    let answer = redis::cmd("INFO").arg(section).query_async(server).await;
    Ok(allowed(answer)?.and_then(reply::text))
}

/// `None` for a command that our user may not send or that the server does not know; any other error is returned.
fn allowed(answer: RedisResult<Value>) -> RedisResult<Option<Value>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge(setups: &[ServerSetup], allow_eviction: bool) -> Vec<Caveat> {
    let mut found = Vec::new();
    let policies = setups.iter().filter_map(|setup| setup.policy.as_deref());
    if let Some(policy) = policies.filter(|policy| *policy != "noeviction").min() {
        found.push(Caveat {
            code: "broker_evicts",
            message: format!("the server's maxmemory-policy is {policy}: it may delete tasks, leases and locks"),
            hint: "CONFIG SET maxmemory-policy noeviction, or redis.allow_eviction: true to accept that",
            grave: !allow_eviction,
        });
    }
    if setups.iter().any(|setup| setup.append_only == Some(false)) {
        found.push(Caveat {
            code: "broker_not_durable",
            message: "the server keeps no append-only file: a crash loses all changes since its last snapshot"
                .to_owned(),
            hint: "appendonly yes",
            grave: false,
        });
    }
    found
}

fn values(answer: Value) -> Vec<String> {
    reply::list(answer).into_iter().filter_map(reply::text).collect()
}

fn field(info: &str, key: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Memory\r\nmaxmemory_policy_x:1\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(field(info, "maxmemory_policy").as_deref(), Some("allkeys-lru"));
        assert_eq!(field(info, "maxmemory"), None);
    }

    #[test]
    fn one_server_of_several_is_enough() {
        let of = |policy: &str, append_only| ServerSetup {
            policy: Some(policy.to_owned()),
            append_only: Some(append_only),
        };
        let codes = |setups: &[ServerSetup]| judge(setups, false).iter().map(|c| c.code).collect::<Vec<_>>();
        assert!(codes(&[of("noeviction", true), ServerSetup::default()]).is_empty());
        let both = [of("noeviction", true), of("allkeys-lru", false)];
        assert_eq!(codes(&both), ["broker_evicts", "broker_not_durable"]);
        assert!(judge(&both, true).iter().all(|caveat| !caveat.grave));
    }
}
