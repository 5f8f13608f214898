//! The primary dies: sentinels promote another, and producer and worker continue there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use runner_queue::redis::{Password, RedisBroker, RedisSentinels, RedisSettings, RedisTarget};
use runner_queue::{
    Broker as _, Claim, Claims as _, Enqueued, InspectQueues as _, Producer as _, Refusal, Settlement, Signals as _,
    Upkeep as _, Verdict,
};
use tokio::time::{Instant, MissedTickBehavior};

use crate::kit::sentinel::{MASTER, PASSWORD, SENTINEL_PASSWORD, SentinelSet};
use crate::kit::{self, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_dead_primary_is_followed_by_another,
            a_frozen_primary_is_left_and_not_believed_when_it_wakes, confirmed_tasks_survive_the_primary,
            an_enqueue_that_no_replica_confirms_fails_loudly, unconfirmed_batches_are_sent_to_the_last_task,
            sentinels_and_their_logins_are_distinguished;
    ]
}

/// Between two tasks: 300 a second.
const PACE: Duration = Duration::from_micros(3_333);
/// How many must have been acknowledged before the primary dies, and after another took over.
const ENOUGH: usize = 500;
const LEASE: Duration = Duration::from_secs(2);
/// From the death of the primary to the next acknowledged task.
const FAILOVER: Duration = Duration::from_secs(10);

fn settings(set: &SentinelSet) -> RedisSettings {
    let mut settings = RedisSettings::of(RedisTarget::Sentinels(RedisSentinels {
        master: MASTER.to_owned(),
        addresses: set.addresses(),
        username: None,
        password: Some(Password::new(SENTINEL_PASSWORD)),
    }));
    settings.password = Some(Password::new(PASSWORD));
    settings
}

/// Acknowledged ids, and the time of the last one.
#[derive(Default)]
struct Accepted {
    ids: HashSet<String>,
    refused: u64,
}

type Shared<T> = Arc<std::sync::Mutex<T>>;

async fn produce(broker: Arc<RedisBroker>, accepted: Shared<Accepted>, stop: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0_u64.. {
        pace.tick().await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("t{n}");
        let task = Task::new("count").id(TaskId::new(id.clone()).unwrap());
        let answer = broker.enqueue(&[task]).await;
        let mut accepted = accepted.lock().unwrap();
        match answer.map(|mut results| results.remove(0)) {
            Ok(Ok(Enqueued { .. })) => {
                accepted.ids.insert(id);
            }
            Ok(Err(refusal)) => panic!("{id}: {refusal}"),
            Err(_) => accepted.refused += 1,
        }
    }
}

/// Claims and settles; counts how often each id was started.
async fn work(broker: Arc<RedisBroker>, begun: Shared<HashMap<String, u32>>, stop: Arc<AtomicBool>) {
    let queues = [QueueName::default()];
    let mut unsettled: Vec<Settlement> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Verdicts are stored and repeated until they are acknowledged, as a worker does.
        if !unsettled.is_empty() && broker.settle(&unsettled).await.is_ok() {
            unsettled.clear();
        }
        // A dead server answers with an error at once; the wait bounds the polling.
        let _ = broker.recover(&queues, Duration::ZERO, 100, u32::MAX).await;
        let _ = broker.forward(&queues, 100).await;
        let claims: Vec<Claim> = broker.claim(&queues, 50, LEASE).await.unwrap_or_default();
        if claims.is_empty() {
            broker.wait_for_work(&queues, Duration::from_millis(200)).await;
        }
        let mut begun = begun.lock().unwrap();
        for claim in claims {
            *begun.entry(claim.task().id.to_string()).or_default() += 1;
            unsettled.push(Settlement {
                claim,
                verdict: Verdict::Done,
                result: None,
                attempt: None,
            });
        }
    }
}

struct Figures {
    failover: Duration,
    acked: usize,
    lost: usize,
    duplicated: usize,
    refused: u64,
}

/// The fate of the primary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// It is gone.
    Kill,
    /// It hangs with its connections open, and continues later.
    Freeze,
}

async fn strike(set: &SentinelSet, settings: RedisSettings, blow: Blow) -> Figures {
    let broker = Arc::new(RedisBroker::connect(settings.clone()).await.unwrap());
    let worker = Arc::new(RedisBroker::connect(settings).await.unwrap());
    let (accepted, begun) = (Shared::<Accepted>::default(), Shared::default());
    let (halt, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let producing = tokio::spawn(produce(broker.clone(), accepted.clone(), halt.clone()));
    let working = tokio::spawn(work(worker, Arc::clone(&begun), end.clone()));
    let count = || accepted.lock().unwrap().ids.len();
    let reaches = |wanted: usize| async move {
        kit::eventually_within(Duration::from_secs(40), "tasks are acknowledged", || async {
            if count() >= wanted {
                Ok(())
            } else {
                Err(format!("{} of {wanted}", count()))
            }
        })
        .await;
    };
    reaches(ENOUGH).await;
    match blow {
        Blow::Kill => set.servers[0].kill9(),
        Blow::Freeze => set.servers[0].child().signal(Signal::SIGSTOP),
    }
    let killed = Instant::now();
    // Calls sent before the death may still count; the first refusal separates before from after.
    kit::eventually("the death is felt", || async {
        let refused = accepted.lock().unwrap().refused;
        if refused > 0 { Ok(()) } else { Err("no call failed yet") }
    })
    .await;
    reaches(count() + 1).await;
    let failover = killed.elapsed();
    if blow == Blow::Freeze {
        // It wakes up as a supposed primary.
        set.servers[0].child().signal(Signal::SIGCONT);
    }
    reaches(count() + ENOUGH).await;
    halt.store(true, Ordering::Relaxed);
    producing.await.unwrap();
    let missing = || {
        let (accepted, begun) = (accepted.lock().unwrap(), begun.lock().unwrap());
        let begun: &HashMap<String, u32> = &begun;
        accepted.ids.iter().filter(|id| !begun.contains_key(*id)).count()
    };
    // Everything is drained within two leases, once the worker has found the new primary: a primary that woke up
    // accepts calls until the sentinels reconfigure it. What is missing then was lost with the primary.
    let patience = Instant::now() + LEASE * 2 + Duration::from_secs(40);
    while missing() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    end.store(true, Ordering::Relaxed);
    working.await.unwrap();
    let duplicated = begun.lock().unwrap().values().filter(|n| **n > 1).count();
    let accepted = accepted.lock().unwrap();
    Figures {
        failover,
        acked: accepted.ids.len(),
        lost: missing_now(&accepted, &begun),
        duplicated,
        refused: accepted.refused,
    }
}

fn missing_now(accepted: &Accepted, begun: &Shared<HashMap<String, u32>>) -> usize {
    let begun = begun.lock().unwrap();
    accepted.ids.iter().filter(|id| !begun.contains_key(*id)).count()
}

/// How soon a new primary must be found. Beside other work on the machine the sentinels themselves are late.
fn in_time() -> Duration {
    if kit::long() { FAILOVER } else { FAILOVER * 3 }
}

fn report(mode: &str, figures: &Figures) {
    let Figures {
        failover,
        acked,
        lost,
        duplicated,
        refused,
    } = figures;
    println!(
        "FT id=F21 result=pass mode={mode} failover_ms={} acked={acked} acked_lost={lost} duplicated={duplicated} \
         refused={refused}",
        failover.as_millis()
    );
}

async fn a_dead_primary_is_followed_by_another() {
    let set = SentinelSet::start().await;
    let figures = strike(&set, settings(&set), Blow::Kill).await;
    report("nowait", &figures);
    assert!(figures.failover < in_time(), "{:?}", figures.failover);
    // Tasks acknowledged within the replication lag, at 300 a second.
    assert!(figures.lost <= 30, "{} of {} lost", figures.lost, figures.acked);
}

async fn a_frozen_primary_is_left_and_not_believed_when_it_wakes() {
    let set = SentinelSet::start().await;
    let figures = strike(&set, settings(&set), Blow::Freeze).await;
    report("frozen", &figures);
    assert!(figures.failover < in_time(), "{:?}", figures.failover);
    assert!(figures.lost <= 30, "{} of {} lost", figures.lost, figures.acked);
}

async fn confirmed_tasks_survive_the_primary() {
    let set = SentinelSet::start().await;
    let mut settings = settings(&set);
    settings.replicas = 1;
    let figures = strike(&set, settings, Blow::Kill).await;
    report("wait", &figures);
    assert!(figures.failover < in_time(), "{:?}", figures.failover);
    assert_eq!(figures.lost, 0, "of {}", figures.acked);
}

async fn an_enqueue_that_no_replica_confirms_fails_loudly() {
    let server = RedisServer::start(&[]);
    let mut unreplicated = RedisSettings::at(format!("127.0.0.1:{}", server.port));
    unreplicated.replicas = 1;
    let broker = RedisBroker::connect(unreplicated).await.unwrap();
    let error = broker.enqueue(&[Task::new("x")]).await.unwrap_err();
    assert_eq!(error.code(), "broker_not_replicated", "{error:?}");
    assert!(error.to_string().contains("0 of 1"), "{error}");
    // Work continues: only new tasks need a second copy.
    assert_eq!(broker.claim(&[QueueName::default()], 1, LEASE).await.unwrap().len(), 1);
}

async fn unconfirmed_batches_are_sent_to_the_last_task() {
    let server = RedisServer::start(&[]);
    let mut unreplicated = RedisSettings::at(format!("127.0.0.1:{}", server.port));
    unreplicated.replicas = 1;
    let broker = RedisBroker::connect(unreplicated).await.unwrap();
    // More than travel together.
    let tasks: Vec<Task> = (0..5000)
        .map(|n| Task::new("x").id(TaskId::new(format!("t{n}")).unwrap()))
        .collect();
    let error = broker.enqueue(&tasks).await.unwrap_err();
    assert_eq!(error.code(), "broker_not_replicated", "{error:?}");
    let pending = broker.queues().await.unwrap()[0].counts[&TaskState::Pending];
    assert_eq!(pending, 5000);
    // No part of a refused batch needs confirmation, so the refusal is returned.
    let again = broker.enqueue(&tasks[..1]).await.unwrap();
    assert!(matches!(again[..], [Err(Refusal::IdTaken)]), "{again:?}");
}

async fn sentinels_and_their_logins_are_distinguished() {
    let set = SentinelSet::start().await;
    let refused = |settings: RedisSettings| async move {
        let error = RedisBroker::connect(settings).await.unwrap_err();
        (error.code(), format!("{error:?}"))
    };
    let right = settings(&set);
    let change = |what: fn(&mut RedisSentinels)| {
        let mut settings = right.clone();
        match &mut settings.target {
            RedisTarget::Sentinels(sentinels) => what(sentinels),
            other => panic!("{other:?}"),
        }
        settings
    };
    let (code, text) = refused(change(|s| s.password = Some(Password::new("hunter2")))).await;
    assert_eq!(code, "broker_auth", "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let (code, text) = refused(change(|s| s.master = "other".to_owned())).await;
    assert_eq!(code, "broker_refused", "{text}");
    assert!(text.contains("\\\"other\\\"") || text.contains("\"other\""), "{text}");
    let mut wrong = right.clone();
    wrong.password = Some(Password::new("hunter2"));
    assert_eq!(refused(wrong).await.0, "broker_auth");
    let (code, text) = refused(change(|s| s.addresses = vec!["127.0.0.1:1".to_owned()])).await;
    assert_eq!(code, "broker_unavailable", "{text}");
    assert!(text.contains("no sentinel answers"), "{text}");
    // One sentinel that refuses the login must not stop the search.
    let stranger = RedisServer::start(&["--requirepass", "another"]);
    let mut odd = right.clone();
    if let RedisTarget::Sentinels(sentinels) = &mut odd.target {
        sentinels.addresses.insert(0, format!("127.0.0.1:{}", stranger.port));
    }
    RedisBroker::connect(odd).await.unwrap();
    // Changed passwords of the server and of the sentinels are read again for the next connection.
    let said = Arc::new(std::sync::Mutex::new("hunter2".to_owned()));
    let source = said.clone();
    let mut changed = right.clone();
    if let RedisTarget::Sentinels(sentinels) = &mut changed.target {
        let read = move || -> Result<String, String> { Ok(source.lock().unwrap().clone()) };
        sentinels.password = Some(Password::new("hunter2").read_from(read));
    }
    let broker = RedisBroker::lazy(&changed).unwrap();
    assert_eq!(broker.now().await.unwrap_err().code(), "broker_auth");
    *said.lock().unwrap() = SENTINEL_PASSWORD.to_owned();
    kit::eventually("the sentinels let us in", || async {
        broker.now().await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
    // Nor is one that is gone.
    let url = format!(
        "redis-sentinel://:{SENTINEL_PASSWORD}@127.0.0.1:1,{}/7?master={MASTER}",
        set.addresses().join(",")
    );
    let mut settings = RedisSettings::from_url(&url).unwrap();
    settings.password = Some(Password::new(PASSWORD));
    let broker = RedisBroker::connect(settings).await.unwrap();
    assert!(
        broker.describe().contains(MASTER) && !broker.describe().contains("of-the"),
        "{}",
        broker.describe()
    );
}
