//! How the server is set up, as far as tasks depend on it: what it does when memory runs out, and after a crash.

use redis::Value;

use super::{RedisBroker, fault, reply};
use crate::{BrokerResult, Caveat};

const DOING: &str = "ask how the server is set up";

impl RedisBroker {
    pub(super) async fn look_at_setup(&self) -> BrokerResult<Vec<Caveat>> {
        let mut found = Vec::new();
        let policy = match self.info("memory").await? {
            Some(info) => field(&info, "maxmemory_policy"),
            None => self.configured_policy().await?,
        };
        if let Some(policy) = policy
            && policy != "noeviction"
        {
            found.push(Caveat {
                code: "broker_evicts",
                message: format!("the server's maxmemory-policy is {policy}: it may delete tasks, leases and locks"),
                hint: "CONFIG SET maxmemory-policy noeviction, or redis.allow_eviction: true to live with it",
                grave: !self.allow_eviction,
            });
        }
        if let Some(info) = self.info("persistence").await? {
            let is_off = |key: &str| field(&info, key).is_some_and(|value| value == "0");
            if is_off("aof_enabled") {
                found.push(Caveat {
                    code: "broker_not_durable",
                    message: "the server keeps no append-only file: a crash loses what came since its last snapshot"
                        .to_owned(),
                    hint: "appendonly yes",
                    grave: false,
                });
            }
        }
        Ok(found)
    }

    /// A section of what the server says about itself; `None` if our user may not ask.
    async fn info(&self, section: &str) -> BrokerResult<Option<String>> {
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("INFO").arg(section);
        match trip.one().await {
            Ok(answer) => reply::text(answer).map(Some).ok_or_else(|| fault::odd_answer(DOING)),
            Err(error) if error.code() == "broker_auth" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The policy from the configuration; `None` if our user may not read that either, and so nobody can tell.
    async fn configured_policy(&self) -> BrokerResult<Option<String>> {
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("CONFIG").arg("GET").arg("maxmemory-policy");
        match trip.one().await {
            Ok(answer) => Ok(values(answer).into_iter().nth(1)),
            Err(error) if error.code() == "broker_auth" => Ok(None),
            Err(error) => Err(error),
        }
    }
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
}
