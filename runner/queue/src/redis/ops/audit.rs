//! Checks the whole database, for tests: that related keys agree and nothing is left over.
//!
//! Reads in two round trips, more if the store is inconsistent, so it is not atomic: nothing else may run meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redis::Value;

use crate::BrokerResult;
use crate::redis::RedisBroker;
use crate::redis::format::reply;
use crate::redis::net::fault;

const DOING: &str = "audit the store";

/// The lists of a queue, and the state of the tasks in each; `lease` belongs to `active`.
const PLACES: [(&str, bool); 6] = [
    ("pending", true),
    ("active", true),
    ("scheduled", false),
    ("retry", false),
    ("archived", false),
    ("completed", false),
];

impl RedisBroker {
    /// The inconsistencies of the database, one sentence each; empty when there are none.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn audit(&self) -> BrokerResult<Vec<String>> {
        let mut audit = Audit {
            broker: self,
            known: HashMap::new(),
        };
        let keys = audit.all_keys().await?;
        audit.foresee(&keys).await?;
        audit.all(&keys).await
    }
}

/// An audit under way.
struct Audit<'a> {
    broker: &'a RedisBroker,
    /// Answers to commands that were sent in advance, by their arguments.
    known: HashMap<String, Value>,
}

/// The queues that any key belongs to.
fn queues_of(keys: &BTreeSet<String>) -> BTreeSet<&str> {
    keys.iter()
        .filter_map(|key| key.strip_prefix("asynq:{").or(key.strip_prefix("runner:{")))
        .filter_map(|rest| rest.rsplit_once("}:").map(|(queue, _)| queue))
        .collect()
}

impl Audit<'_> {
    /// Sends in one round trip what will be asked anyway.
    async fn foresee(&mut self, keys: &BTreeSet<String>) -> BrokerResult<()> {
        let mut commands: Vec<Vec<String>> = Vec::new();
        let mut add = |words: &[&str]| commands.push(words.iter().map(|w| (*w).to_owned()).collect());
        for queue in queues_of(keys) {
            let prefix = crate::redis::format::keys::queue(queue);
            for (place, is_list) in PLACES
                .into_iter()
                .chain([("lease", false), ("aggregation_sets", false)])
            {
                let command = if is_list { "LRANGE" } else { "ZRANGE" };
                add(&[command, &format!("{prefix}{place}"), "0", "-1"]);
            }
            add(&["SMEMBERS", &format!("{prefix}groups")]);
            add(&["HKEYS", &crate::redis::format::keys::waiting(queue)]);
            add(&["HKEYS", &crate::redis::format::keys::claims(queue)]);
        }
        for key in keys {
            if key.contains("}:t:") {
                add(&["HGET", key, "state"]);
                add(&["HEXISTS", key, "msg"]);
            }
            if key.contains("}:g:") {
                add(&["ZRANGE", key, "0", "-1"]);
            }
            if ["}:t:", "}:processed:", "}:failed:"]
                .iter()
                .any(|part| key.contains(part))
            {
                add(&["TTL", key]);
            }
        }
        if commands.is_empty() {
            return Ok(());
        }
        let mut trip = self.broker.conn.trip(DOING).await?;
        for words in &commands {
            trip.command(&words[0]);
            words[1..].iter().for_each(|word| {
                trip.arg(word);
            });
        }
        let answers = trip.send().await?;
        self.known = commands
            .into_iter()
            .map(|words| words.join("\n"))
            .zip(answers)
            .collect();
        Ok(())
    }

    async fn all(&self, keys: &BTreeSet<String>) -> BrokerResult<Vec<String>> {
        let mut wrong = Vec::new();
        for queue in queues_of(keys) {
            self.audit_queue(queue, keys, &mut wrong).await?;
        }
        for key in keys {
            let counter = ["}:processed:", "}:failed:"].iter().any(|part| key.contains(part));
            if counter && self.ask(&["TTL", key]).await? == Value::Int(-1) {
                wrong.push(format!("{key} never ends"));
            }
        }
        Ok(wrong)
    }

    async fn audit_queue(&self, queue: &str, keys: &BTreeSet<String>, wrong: &mut Vec<String>) -> BrokerResult<()> {
        let prefix = crate::redis::format::keys::queue(queue);
        let places = self.places(&prefix, keys).await?;
        let tasks: BTreeSet<&str> = keys
            .iter()
            .filter_map(|key| key.strip_prefix(&prefix)?.strip_prefix("t:"))
            .collect();
        for id in &tasks {
            let key = format!("{prefix}t:{id}");
            let state = reply::text(self.ask(&["HGET", &key, "state"]).await?).unwrap_or_default();
            let found = places.get(*id).map_or(&[][..], |p| &p[..]);
            if found != [state.clone()] {
                wrong.push(format!("{key} says {state:?} and is in {found:?}"));
            }
            if self.ask(&["HEXISTS", &key, "msg"]).await? != Value::Int(1) {
                wrong.push(format!("{key} has no message"));
            }
            if self.ask(&["TTL", &key]).await? != Value::Int(-1) {
                wrong.push(format!("{key} has an end"));
            }
        }
        for (id, found) in &places {
            if !tasks.contains(id.as_str()) {
                wrong.push(format!("{prefix}t:{id} is gone, its id is in {found:?}"));
            }
        }
        let active: BTreeSet<&String> = places
            .iter()
            .filter(|(_, found)| found.iter().any(|place| place == "active"))
            .map(|(id, _)| id)
            .collect();
        let leased = self.texts(&["ZRANGE", &format!("{prefix}lease"), "0", "-1"]).await?;
        if active != leased.iter().collect() {
            wrong.push(format!("{prefix}active holds {active:?}, lease {leased:?}"));
        }
        self.audit_groups(queue, keys, wrong).await?;
        self.audit_own(queue, &places, wrong).await
    }

    /// Every group is named and every staged set is listed: one that is not is never visited again.
    async fn audit_groups(&self, queue: &str, keys: &BTreeSet<String>, wrong: &mut Vec<String>) -> BrokerResult<()> {
        let prefix = crate::redis::format::keys::queue(queue);
        let named = self.texts(&["SMEMBERS", &format!("{prefix}groups")]).await?;
        let listed = self
            .texts(&["ZRANGE", &format!("{prefix}aggregation_sets"), "0", "-1"])
            .await?;
        for set in &listed {
            if !keys.contains(set) {
                wrong.push(format!("{prefix}aggregation_sets has {set}, which is gone"));
            }
        }
        let groups = keys
            .iter()
            .filter_map(|key| Some((key, key.strip_prefix(&prefix)?.strip_prefix("g:")?)));
        for (key, group) in groups {
            if !listed.contains(key) && !named.iter().any(|name| name == group) {
                wrong.push(format!("{key} is neither a named group nor a listed set"));
            }
        }
        Ok(())
    }

    async fn audit_own(
        &self,
        queue: &str,
        places: &BTreeMap<String, Vec<String>>,
        wrong: &mut Vec<String>,
    ) -> BrokerResult<()> {
        let own = crate::redis::format::keys::own(queue);
        for id in self
            .texts(&["HKEYS", &crate::redis::format::keys::waiting(queue)])
            .await?
        {
            if places.get(&id).is_none_or(|found| found != &["scheduled"]) {
                wrong.push(format!("{own}waiting has {id}, which is not scheduled"));
            }
        }
        for id in self
            .texts(&["HKEYS", &crate::redis::format::keys::claims(queue)])
            .await?
        {
            let active = places.get(&id).is_some_and(|found| found == &["active"]);
            if !id.is_empty() && !active {
                wrong.push(format!("{own}claims has {id}, which is not active"));
            }
        }
        Ok(())
    }

    /// Each id of the queue with every list that has it.
    async fn places(&self, prefix: &str, keys: &BTreeSet<String>) -> BrokerResult<BTreeMap<String, Vec<String>>> {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (place, is_list) in PLACES {
            let command = if is_list { "LRANGE" } else { "ZRANGE" };
            for id in self.texts(&[command, &format!("{prefix}{place}"), "0", "-1"]).await? {
                places.entry(id).or_default().push(place.to_owned());
            }
        }
        for key in keys {
            if key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("g:")) {
                for id in self.texts(&["ZRANGE", key, "0", "-1"]).await? {
                    places.entry(id).or_default().push("aggregating".to_owned());
                }
            }
        }
        Ok(places)
    }

    async fn all_keys(&self) -> BrokerResult<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        for mut server in self.broker.conn.servers(DOING).await? {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(&cursor).arg("COUNT").arg(1000);
                let answer = scan.query_async::<Value>(&mut server).await;
                let mut answer = reply::list(answer.map_err(|error| fault::of(error, DOING))?).into_iter();
                cursor = answer.next().and_then(reply::text).unwrap_or_default();
                let part = answer.next().map(reply::list).unwrap_or_default();
                keys.extend(part.into_iter().filter_map(reply::text));
                if cursor == "0" || cursor.is_empty() {
                    break;
                }
            }
        }
        Ok(keys)
    }

    async fn texts(&self, command: &[&str]) -> BrokerResult<Vec<String>> {
        let answer = reply::list(self.ask(command).await?);
        Ok(answer.into_iter().filter_map(reply::text).collect())
    }

    async fn ask(&self, command: &[&str]) -> BrokerResult<Value> {
        if let Some(answer) = self.known.get(&command.join("\n")) {
            return Ok(answer.clone());
        }
        let mut trip = self.broker.conn.trip(DOING).await?;
        let (name, args) = command.split_first().unwrap_or((&"PING", &[]));
        trip.command(name);
        for arg in args {
            trip.arg(arg);
        }
        trip.one().await
    }
}
