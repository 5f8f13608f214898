//! F19: a corrupt value in Redis, wherever a script or a command reads, affects no other task.
//!
//! The values to corrupt are not listed here but observed: each call of the seam runs once while the server reports
//! what it accesses. Then it runs again for each key and field of that in each of six corrupt forms, beside five
//! healthy tasks. Afterwards each healthy task is in exactly one place, that of its state, and runs to its end. A
//! script that no call here runs, and a key or field in its text that no call here accesses, fail the test.

mod accesses;
mod calls;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use runner_core::clock::ManualClock;
use runner_queue::redis::{RedisBroker, RedisSettings, RedisTarget};

use accesses::{Accesses, Place};
pub use calls::{At, Call, Held, INNOCENT, begin, drain, heal, left_of, of_people, of_schedulers, of_workers};

use crate::kit::{self, Fault, RedisServer, free_port};

/// Stores that are tested in parallel: the machine has few processors, and one server serves all.
const AT_ONCE: usize = 4;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): f19_spoiled_values_harm_no_other_task;
        needs(Cluster): f19_spoiled_values_harm_no_other_task_in_a_cluster
    ]
}

/// A corrupt form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Absent,
    WrongType,
    Word,
    Negative,
    Huge,
    NotText,
}

const FORMS: [Form; 6] = [
    Form::Absent,
    Form::WrongType,
    Form::Word,
    Form::Negative,
    Form::Huge,
    Form::NotText,
];

impl Form {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Absent | Self::WrongType => b"",
            Self::Word => b"x",
            Self::Negative => b"-7",
            Self::Huge => b"99999999999999999999999999",
            Self::NotText => b"\xff\xfe",
        }
    }
}

/// A store on one server, alone or in a cluster.
struct Store {
    at: At,
    link: MultiplexedConnection,
    port: u16,
}

impl Store {
    async fn open(server: &RedisServer, cluster: bool) -> Self {
        let db = server.fresh_db();
        let number = if cluster { 0 } else { db.number };
        let settings = if cluster {
            RedisSettings::of(RedisTarget::Cluster(vec![format!("127.0.0.1:{}", server.port)]))
        } else {
            RedisSettings {
                database: i64::from(number),
                ..RedisSettings::at(format!("127.0.0.1:{}", server.port))
            }
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()));
        let broker = RedisBroker::connect(settings).await.unwrap().with_clock(clock.clone());
        let broker = Arc::new(broker);
        let link = kit::RedisDb {
            port: server.port,
            number,
        };
        Self {
            at: At {
                broker: broker.clone(),
                redis: Some(broker),
                clock,
            },
            link: link.connect().await,
            port: server.port,
        }
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&[u8]]) -> T {
        let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut self.link).await.unwrap()
    }

    async fn empty(&mut self) {
        self.at.clock.set(Timestamp::from_second(START).unwrap());
        let _: () = self.ask(&[b"FLUSHDB"]).await;
    }

    /// Prepares the state before a call.
    async fn begin(&mut self, call: &Call) -> Held {
        self.empty().await;
        let held = begin(&self.at, call.start).await;
        if call.name.ends_with("_unreadable") {
            let _: i64 = self
                .ask(&[b"HSET", b"asynq:{default}:t:bad", b"msg", b"\xff\xff"])
                .await;
        }
        held
    }

    /// Writes a corrupt value; returns whether that form applies to such a place.
    async fn spoil(&mut self, place: &Place, form: Form) -> bool {
        let key = &place.key[..];
        let kind: String = self.ask(&[b"TYPE", key]).await;
        let kind = if kind == "none" { place.kind.to_owned() } else { kind };
        let text = form.text();
        if let Some(field) = &place.field {
            if form == Form::WrongType {
                return false;
            }
            let _: redis::Value = match form {
                Form::Absent => self.ask(&[b"HDEL", key, field]).await,
                _ => self.ask(&[b"HSET", key, field, text]).await,
            };
            return true;
        }
        match (form, kind.as_str()) {
            (Form::Absent, _) => {
                let _: i64 = self.ask(&[b"DEL", key]).await;
            }
            (Form::WrongType, _) => {
                let _: i64 = self.ask(&[b"DEL", key]).await;
                let words: &[&[u8]] = match kind.as_str() {
                    "zset" => &[b"SADD", key, b"bad", b"in1"],
                    "list" => &[b"ZADD", key, b"1", b"bad", b"2", b"in1"],
                    "string" => &[b"RPUSH", key, b"bad", b"in1"],
                    _ => &[b"SET", key, b"x"],
                };
                let _: redis::Value = self.ask(words).await;
            }
            (_, "string") => {
                let _: redis::Value = self.ask(&[b"SET", key, text]).await;
            }
            (_, "list") => {
                let _: i64 = self.ask(&[b"LPUSH", key, text, b"", b"bad"]).await;
            }
            (_, "set") => {
                let _: i64 = self.ask(&[b"SADD", key, text]).await;
            }
            (Form::Negative, "zset") => {
                let _: i64 = self.ask(&[b"ZADD", key, b"-inf", text, b"-1e300", b"bad"]).await;
            }
            (Form::Huge, "zset") => {
                // For staged sets this is a deadline that never comes.
                if key.ends_with(b"aggregation_sets") {
                    let sets: Vec<Vec<u8>> = self.ask(&[b"ZRANGE", key, b"0", b"-1"]).await;
                    for set in sets {
                        let _: i64 = self.ask(&[b"ZADD", key, b"1e300", &set]).await;
                    }
                }
                let _: i64 = self.ask(&[b"ZADD", key, b"+inf", text, b"1e300", b"bad"]).await;
            }
            (_, "zset") => {
                let _: i64 = self.ask(&[b"ZADD", key, b"1", text, b"1", b""]).await;
            }
            _ => return false,
        }
        true
    }

    /// Inconsistencies of healthy tasks: each must be in the one place of its state.
    async fn misplaced(&mut self, gone: &BTreeSet<&str>) -> Vec<String> {
        let left: Vec<&str> = INNOCENT.into_iter().filter(|name| !gone.contains(name)).collect();
        // One round trip; a key of the wrong type counts as empty.
        let mut pipe = redis::pipe();
        for list in LISTS {
            pipe.cmd("LRANGE")
                .arg(format!("asynq:{{default}}:{list}"))
                .arg(0)
                .arg(-1);
        }
        for name in &left {
            pipe.cmd("HGET").arg(format!("asynq:{{default}}:t:{name}")).arg("state");
            for (set, _) in SETS {
                pipe.cmd("ZSCORE").arg(format!("asynq:{{default}}:{set}")).arg(*name);
            }
        }
        let answers = self.link.req_packed_commands(&pipe, 0, pipe.len()).await.unwrap();
        let mut answers = answers.into_iter();
        let mut lists = Vec::new();
        for list in LISTS {
            let ids: Vec<Vec<u8>> = redis::from_redis_value(answers.next().unwrap()).unwrap_or_default();
            lists.extend(ids.into_iter().map(|id| (id, list)));
        }
        let mut wrong = Vec::new();
        for name in left {
            let state: Option<String> = redis::from_redis_value(answers.next().unwrap()).unwrap_or_default();
            let in_lists = lists.iter().filter(|(id, _)| id == name.as_bytes());
            let mut places: Vec<&str> = in_lists.map(|(_, list)| *list).collect();
            for (_, place) in SETS {
                let score: Option<f64> = redis::from_redis_value(answers.next().unwrap()).unwrap_or_default();
                places.extend(score.map(|_| place));
            }
            if state.as_deref().is_none_or(|state| places != [state]) {
                wrong.push(format!("{name} is {state:?} and is in {places:?}"));
            }
        }
        wrong
    }
}

/// Lists of a queue, by the states of their tasks.
const LISTS: [&str; 2] = ["pending", "active"];
/// Sorted sets of a queue, by the states of their tasks.
const SETS: [(&str, &str); 5] = [
    ("scheduled", "scheduled"),
    ("retry", "retry"),
    ("archived", "archived"),
    ("completed", "completed"),
    ("g:g", "aggregating"),
];

/// The instant at which the tests' clock starts.
const START: i64 = 1_893_553_445;

/// The failures of one case; empty if there are none.
async fn one(store: &mut Store, call: &Call, place: &Place, form: Form) -> Option<Vec<String>> {
    let at = store.at.clone();
    let mut held = store.begin(call).await;
    if !store.spoil(place, form).await {
        return None;
    }
    let made = (call.make)(&at, &mut held).await;
    let mut wrong = Vec::new();
    let gone = match made {
        Ok(gone) => gone,
        Err(error) => {
            // The names of all queues cannot be restored from other data.
            let named = place.key == b"asynq:queues" && (error.contains("wrong type") || error.contains("no queue"));
            if !call.single && !named {
                wrong.push(format!("refused: {error}"));
            }
            BTreeSet::new()
        }
    };
    if !call.start.has_tasks() && !call.name.starts_with("enqueue") {
        return Some(wrong);
    }
    // Usually everything is consistent at once; otherwise repair runs.
    if !store.misplaced(&gone).await.is_empty() {
        if let Err(error) = heal(&at).await {
            wrong.push(format!("not healed: {error}"));
        }
        wrong.extend(store.misplaced(&gone).await);
    }
    match drain(&at, &mut left_of(&gone)).await {
        Ok(left) => wrong.extend(left),
        Err(error) => wrong.push(format!("not drained: {error}")),
    }
    Some(wrong)
}

/// The forms for one place: all in the long form, else the wrong type and two others, in turn.
fn forms(call: &Call, place: &Place) -> Vec<Form> {
    let turn = call.name.len() + place.key.len() + place.field.as_ref().map_or(0, Vec::len);
    let picked = |nth: usize| kit::long() || FORMS[nth] == Form::WrongType || (nth + turn) % 5 < 2;
    (0..FORMS.len())
        .filter(|nth| picked(*nth))
        .map(|nth| FORMS[nth])
        .collect()
}

/// All cases of some calls on one server.
async fn spoil_all(id: &'static str, server: Arc<RedisServer>, cluster: bool, calls: Vec<Call>) {
    let mut store = Store::open(&server, cluster).await;
    let mut accesses = Accesses::default();
    let mut cases = Vec::new();
    for call in &calls {
        let mut held = store.begin(call).await;
        let places = accesses
            .listen(store.port, async { (call.make)(&store.at, &mut held).await })
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", call.name));
        cases.extend(places.into_iter().map(|place| (*call, place)));
    }
    let uncovered = accesses.uncovered(!cluster);
    let places: BTreeSet<&Place> = cases.iter().map(|(_, place)| place).collect();
    let (places, cases) = (places.len(), Arc::new(std::sync::Mutex::new(cases)));
    let stores = if cluster { 1 } else { AT_ONCE };
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..stores {
        let (server, cases) = (Arc::clone(&server), Arc::clone(&cases));
        running.spawn(async move {
            let mut store = Store::open(&server, cluster).await;
            let (mut done, mut wrong) = (0, BTreeMap::new());
            loop {
                let Some((call, place)) = cases.lock().unwrap().pop() else {
                    return (done, wrong);
                };
                for form in forms(&call, &place) {
                    let Some(found) = one(&mut store, &call, &place, form).await else {
                        continue;
                    };
                    done += 1;
                    if !found.is_empty() {
                        wrong.insert(format!("{} with {place} {form:?}", call.name), found);
                    }
                }
            }
        });
    }
    let (mut done, mut wrong) = (0, BTreeMap::new());
    for (some, bad) in running.join_all().await {
        done += some;
        wrong.extend(bad);
    }
    let lost = wrong.values().flatten().filter(|text| text.starts_with("in")).count();
    let mut fault = Fault::new(id);
    fault
        .figure("calls", calls.len())
        .figure("places", places)
        .require("cases", done, done > 100)
        .require("uncovered", uncovered.len(), uncovered.is_empty())
        .require("lost", lost, lost == 0)
        .require("bad_cases", wrong.len(), wrong.is_empty());
    fault.end(|| format!("{uncovered:#?}\n{wrong:#?}"));
}

async fn f19_spoiled_values_harm_no_other_task() {
    let server = Arc::new(RedisServer::start(&[]));
    let calls = [of_workers(), of_schedulers(), of_people()].concat();
    spoil_all("F19", server, false, calls).await;
}

/// Cases that differ in a cluster: commits in steps, and keys outside of queues.
async fn f19_spoiled_values_harm_no_other_task_in_a_cluster() {
    // The default port of its bus is among those that the system gives to clients.
    let bus = free_port().to_string();
    let server = Arc::new(RedisServer::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
    ]));
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let mut link = kit::link_to(&url).await.unwrap();
    let mut slots = redis::cmd("CLUSTER");
    let _: () = slots
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16383)
        .query_async(&mut link)
        .await
        .unwrap();
    kit::eventually("the only node has all slots", async || {
        let info: String = redis::cmd("CLUSTER")
            .arg("INFO")
            .query_async(&mut link.clone())
            .await
            .unwrap();
        if info.contains("cluster_state:ok") {
            Ok(())
        } else {
            Err(info)
        }
    })
    .await;
    let mut calls = of_schedulers();
    calls.extend(of_workers().into_iter().filter(|call| call.name.starts_with("repair")));
    spoil_all("F19c", server, true, calls).await;
}
