//! The Redis broker in a cluster, beyond the contract: interrupted commits, migrating slots, signals.
//!
//! Not here: nodes that die (`story_cluster`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::{Clock as _, ManualClock};
use runner_core::limit::{LimitRule, Limits, SharedSemaphore, TaskLimit};
use runner_core::schedule::{MissedRange, Overlap, ScheduleId};
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::contract::START;
use runner_queue::redis::{Cut, RedisBroker, RedisSettings, RedisTarget};
use runner_queue::{
    Claims as _, Commit, CommitFire, Committed, DecisionKind, InspectQueues as _, InspectTasks as _, Presence as _,
    Producer as _, Registration, Schedules as _, ServerInfo, ServerStatus, Settlement, Signals as _, Upkeep as _,
    Verdict,
};
use tokio::time::{Instant, timeout};

use crate::kit::{self, Cluster};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Cluster): an_interrupted_commit_is_completed_as_intended, a_change_completes_an_interrupted_commit,
            a_fire_is_not_repeated_though_its_task_is_long_gone, a_decider_that_slept_too_long_fires_nothing,
            forgotten_scripts_are_loaded_again, slots_that_move_are_followed,
            a_task_that_migrates_before_its_queue_is_not_damage,
            a_semaphore_of_another_slot_lets_none_start_and_loses_none,
            pushes_and_cancellations_arrive_from_every_node, a_node_that_is_away_silences_no_worker;
    ]
}

const LEASE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

pub async fn open(cluster: &Cluster) -> RedisBroker {
    let settings = RedisSettings::of(RedisTarget::Cluster(cluster.addresses()));
    RedisBroker::connect(settings).await.unwrap()
}

/// Two brokers as in two instances, with one clock.
async fn two(cluster: &Cluster) -> (RedisBroker, RedisBroker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()));
    let (one, other) = (open(cluster).await, open(cluster).await);
    (one.with_clock(clock.clone()), other.with_clock(clock.clone()), clock)
}

async fn is_sound(broker: &RedisBroker) {
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

fn id() -> ScheduleId {
    ScheduleId::code("nightly")
}

async fn register(broker: &RedisBroker, revision: &str) -> Timestamp {
    let registration = Registration {
        id: id(),
        revision: revision.to_owned(),
    };
    broker.register(&[registration]).await.unwrap().remove(0).cursor
}

fn commit(queue: &str, from: Timestamp, to: Timestamp, instance: &str) -> Commit {
    let task = Task::new("report")
        .queue(queue)
        .id(TaskId::new(format!("nightly@{}", to.as_second())).unwrap());
    Commit {
        id: id(),
        from,
        to,
        fires: vec![CommitFire {
            nominal: to,
            fire_at: to,
            task,
            catch_up: false,
        }],
        missed: None,
        overlap: Overlap::Skip,
        unserved: false,
        instance: instance.to_owned(),
    }
}

async fn send(broker: &RedisBroker, commit: &Commit) -> Committed {
    broker.commit(std::slice::from_ref(commit)).await.unwrap().remove(0)
}

/// Kind, instance and nominal instant of each decision, the oldest first.
async fn decided(broker: &RedisBroker) -> Vec<(DecisionKind, String, Timestamp)> {
    let mut all = broker.decisions(Some(&id()), 100).await.unwrap();
    assert_eq!(broker.decisions(None, 100).await.unwrap(), all);
    all.reverse();
    all.into_iter().map(|d| (d.kind, d.instance, d.nominal)).collect()
}

/// Claims and settles everything; returns the ids.
async fn work_off(broker: &RedisBroker, queue: &QueueName) -> Vec<String> {
    let claims = broker.claim(std::slice::from_ref(queue), 10, LEASE).await.unwrap();
    let names = claims.iter().map(|claim| claim.task().id.to_string()).collect();
    let settlements = claims.into_iter().map(|claim| Settlement {
        claim,
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    });
    broker.settle(&settlements.collect::<Vec<_>>()).await.unwrap();
    names
}

async fn an_interrupted_commit_is_completed_as_intended() {
    for cut in [Cut::Intended, Cut::Fired] {
        let turn = kit::cluster().await;
        let (dying, next, clock) = two(&turn).await;
        let queue: QueueName = "reports".parse().unwrap();
        let from = register(&dying, "1").await;
        clock.advance(MINUTE);
        let first = clock.now();
        dying
            .commit_until(&[commit("reports", from, first, "dying")], cut)
            .await
            .unwrap();
        let standing = next.standings(&[id()]).await.unwrap().remove(0).unwrap();
        assert_eq!((standing.cursor, standing.last), (from, None), "{cut:?}");
        assert_eq!(decided(&next).await, [], "{cut:?}");

        // The next instance comes late, and would decide otherwise.
        clock.advance(MINUTE);
        let mut other = commit("reports", from, clock.now(), "next");
        other.missed = Some(MissedRange {
            first,
            last: first,
            count: 1,
            more: false,
            bound: None,
        });
        let Committed::Completed(cursor, reported) = send(&next, &other).await else {
            panic!("{cut:?}: what was left unfinished is not reported");
        };
        assert_eq!(cursor, first, "{cut:?}");
        let reported: Vec<_> = reported.into_iter().map(|d| (d.kind, d.instance, d.nominal)).collect();
        assert_eq!(reported, [(DecisionKind::Fired, "dying".to_owned(), first)], "{cut:?}");
        let fired = (DecisionKind::Fired, "dying".to_owned(), first);
        assert_eq!(decided(&next).await, std::slice::from_ref(&fired), "{cut:?}");
        let standing = next.standings(&[id()]).await.unwrap().remove(0).unwrap();
        let name = TaskId::new(format!("nightly@{}", first.as_second())).unwrap();
        assert_eq!((standing.cursor, standing.last), (first, Some((first, name))));
        assert_eq!(work_off(&next, &queue).await.len(), 1, "{cut:?}");

        // The dead one was only slow: its commit no longer applies.
        let late = send(&dying, &commit("reports", from, first, "dying")).await;
        assert_eq!(late, Committed::Moved(first));
        let on = commit("reports", first, clock.now(), "next");
        assert!(matches!(send(&next, &on).await, Committed::Done(_)), "{cut:?}");
        assert_eq!(decided(&next).await.len(), 2, "{cut:?}");
        is_sound(&next).await;
    }
}

async fn a_change_completes_an_interrupted_commit() {
    let turn = kit::cluster().await;
    let (dying, next, clock) = two(&turn).await;
    let from = register(&dying, "1").await;
    clock.advance(MINUTE);
    let first = clock.now();
    dying
        .commit_until(&[commit("reports", from, first, "dying")], Cut::Fired)
        .await
        .unwrap();
    clock.advance(MINUTE);
    // The cursor moves to now; the earlier fire is recorded anyway.
    assert_eq!(register(&next, "2").await, clock.now());
    assert_eq!(decided(&next).await, [(DecisionKind::Fired, "dying".to_owned(), first)]);
    is_sound(&next).await;
}

async fn a_fire_is_not_repeated_though_its_task_is_long_gone() {
    let turn = kit::cluster().await;
    let (dying, next, clock) = two(&turn).await;
    let queue: QueueName = "reports".parse().unwrap();
    let from = register(&dying, "1").await;
    clock.advance(MINUTE);
    let first = clock.now();
    dying
        .commit_until(&[commit("reports", from, first, "dying")], Cut::Fired)
        .await
        .unwrap();
    assert_eq!(work_off(&next, &queue).await.len(), 1);
    clock.advance(MINUTE);
    let again = send(&next, &commit("reports", from, first, "next")).await;
    assert!(matches!(again, Committed::Completed(at, _) if at == first), "{again:?}");
    assert_eq!(work_off(&next, &queue).await, Vec::<String>::new());
    assert_eq!(decided(&next).await, [(DecisionKind::Fired, "dying".to_owned(), first)]);
}

async fn a_decider_that_slept_too_long_fires_nothing() {
    let turn = kit::cluster().await;
    let (slow, next, clock) = two(&turn).await;
    let queue: QueueName = "reports".parse().unwrap();
    let from = register(&slow, "1").await;
    clock.advance(MINUTE);
    let first = clock.now();
    let meant = [commit("reports", from, first, "slow")];
    let walks = slow.commit_paused(&meant).await.unwrap();
    let completed = send(&next, &meant[0]).await;
    assert!(
        matches!(completed, Committed::Completed(at, _) if at == first),
        "{completed:?}"
    );
    assert_eq!(work_off(&next, &queue).await.len(), 1);
    // By now the fire may be forgotten.
    clock.advance(100 * MINUTE);
    let mark = format!("runner:{{reports}}:fire:{}@{}", id(), first.as_second());
    let node = &turn.nodes[turn.owner("reports").await];
    assert_eq!(node.ask::<i64>(&["DEL", &mark]).await, 1);
    slow.resume_commits(walks).await.unwrap();
    assert_eq!(work_off(&next, &queue).await, Vec::<String>::new());
    assert_eq!(decided(&next).await.len(), 1);
}

async fn forgotten_scripts_are_loaded_again() {
    let turn = kit::cluster().await;
    let broker = open(&turn).await;
    let names = turn.queues(1).await.concat();
    for node in &turn.nodes {
        node.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    }
    let tasks: Vec<Task> = names.iter().map(|name| Task::new("x").queue(name.as_str())).collect();
    let results = broker.enqueue(&tasks).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let queues: Vec<QueueName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let claims = broker.claim(&queues, 10, LEASE).await.unwrap();
    let order: Vec<&QueueName> = claims.iter().map(|claim| &claim.task().queue).collect();
    assert_eq!(order, queues.iter().collect::<Vec<_>>(), "in the order given");
    is_sound(&broker).await;
}

async fn slots_that_move_are_followed() {
    let cluster = Cluster::start(0).await;
    let broker = open(&cluster).await;
    let name = cluster.queues(1).await[0][0].clone();
    let queue: QueueName = name.parse().unwrap();
    let put = async |id: &str| {
        let task = Task::new("x").queue(queue.clone()).id(TaskId::new(id).unwrap());
        broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    };
    put("before").await;
    let slot = cluster.nodes[0]
        .ask::<u32>(&["CLUSTER", "KEYSLOT", &name])
        .await
        .to_string();
    let (from, to) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]).await, to.ask(&["CLUSTER", "MYID"]).await);
    to.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
        .await;
    from.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
        .await;
    // A script that needs a missing key might find it there: it is refused, and may be called again.
    let early = broker
        .enqueue(&[Task::new("x").queue(queue.clone())])
        .await
        .unwrap_err();
    assert!(early.is_transient(), "{early:?}");
    let port = to.port.to_string();
    let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    words.extend(keys.iter().map(String::as_str));
    from.ask::<String>(&words).await;
    // The keys are there, the slot is not yet: other keys of the queue might still be here, so no script is redirected.
    let between = broker
        .enqueue(&[Task::new("x").queue(queue.clone())])
        .await
        .unwrap_err();
    assert!(between.is_transient(), "{between:?}");
    let state = broker.find(&TaskId::new("before").unwrap()).await.unwrap();
    assert_eq!(state, std::slice::from_ref(&queue), "a plain command is");
    for node in [to, from, &cluster.nodes[2]] {
        node.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    put("after").await;
    let claims = broker.claim(&[queue], 10, LEASE).await.unwrap();
    let ids: Vec<&str> = claims.iter().map(|claim| claim.task().id.as_str()).collect();
    assert_eq!(ids, ["before", "after"]);
    is_sound(&broker).await;
}

/// The settings and manifests refuse such a semaphore; a task of its type may come to another queue anyway.
async fn a_semaphore_of_another_slot_lets_none_start_and_loses_none() {
    let cluster = kit::cluster().await;
    let broker = open(&cluster).await;
    let mut limits = Limits::default();
    let shared = SharedSemaphore::new("{a}:api", 3).unwrap();
    limits.add("x", TaskLimit::new(LimitRule::Semaphore(shared)));
    broker.claims_limits(&limits);
    for names in cluster.queues(1).await {
        let queue: QueueName = names[0].parse().unwrap();
        let tasks = ["one", "two"].map(|id| Task::new("x").queue(queue.clone()).id(TaskId::new(id).unwrap()));
        for answer in broker.enqueue(&tasks).await.unwrap() {
            answer.unwrap();
        }
        assert!(
            broker
                .claim(std::slice::from_ref(&queue), 9, LEASE)
                .await
                .unwrap()
                .is_empty()
        );
        let info = broker
            .task(&queue, &TaskId::new("two").unwrap())
            .await
            .unwrap()
            .unwrap();
        let what = "limit semaphore {a}:api: it cannot be read here, place 2 of 2";
        assert_eq!(info.waiting_for.as_deref(), Some(what));
        assert_eq!(broker.limits_in_use(&queue).await.unwrap()[0].waiting, 2);
    }
    is_sound(&broker).await;
}

async fn a_task_that_migrates_before_its_queue_is_not_damage() {
    let cluster = Cluster::start(0).await;
    let broker = open(&cluster).await;
    let name = cluster.queues(1).await[0][0].clone();
    let queue: QueueName = name.parse().unwrap();
    for id in ["works", "stays", "goes"] {
        let task = Task::new("x").queue(queue.clone()).id(TaskId::new(id).unwrap());
        broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    }
    let works = broker
        .claim(std::slice::from_ref(&queue), 1, LEASE)
        .await
        .unwrap()
        .remove(0);
    let (from, to) = (&cluster.nodes[0], &cluster.nodes[1]);
    // A queue with some of everything, so that only the task itself is missing where it is searched.
    let sets = ["retry", "scheduled", "archived", "completed"].map(|set| format!("asynq:{{{name}}}:{set}"));
    for set in &sets {
        from.ask::<i64>(&["ZADD", set, "99999999999", "x"]).await;
    }
    let slot = from.ask::<u32>(&["CLUSTER", "KEYSLOT", &name]).await.to_string();
    let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]).await, to.ask(&["CLUSTER", "MYID"]).await);
    to.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
        .await;
    from.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
        .await;
    let port = to.port.to_string();
    let moved = format!("asynq:{{{name}}}:t:goes");
    let migrate = async |keys: &[String]| {
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        from.ask::<String>(&words).await;
    };
    migrate(std::slice::from_ref(&moved)).await;
    // The list is here and names it, its key is elsewhere: damage cannot be distinguished from migration.
    let error = broker.repair(std::slice::from_ref(&queue), 1000).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let pending = format!("asynq:{{{name}}}:pending");
    assert_eq!(from.ask::<i64>(&["LLEN", &pending]).await, 2);
    let rest: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
    migrate(&rest).await;
    for node in [to, from, &cluster.nodes[2]] {
        node.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    for set in &sets {
        to.ask::<i64>(&["DEL", set]).await;
    }
    let repaired = broker.repair(std::slice::from_ref(&queue), 1000).await.unwrap();
    assert_eq!(repaired.total(), 0, "{repaired:?}");
    let done = Settlement {
        claim: works,
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    };
    broker.settle(&[done]).await.unwrap();
    assert_eq!(work_off(&broker, &queue).await, ["stays", "goes"]);
    is_sound(&broker).await;
}

async fn pushes_and_cancellations_arrive_from_every_node() {
    let turn = kit::cluster().await;
    let (waiting, pushing) = (Arc::new(open(&turn).await), open(&turn).await);
    let names = turn.queues(1).await.concat();
    let queues: Vec<QueueName> = names.iter().map(|name| name.parse().unwrap()).collect();
    for queue in &queues {
        let (broker, all) = (Arc::clone(&waiting), queues.clone());
        let woken = tokio::spawn(async move { broker.wait_for_work(&all, Duration::from_secs(20)).await });
        let node = &turn.nodes[turn.owner(queue.as_str()).await];
        kit::eventually("a client waits at the node", async || {
            let clients: String = node.ask(&["CLIENT", "LIST"]).await;
            if clients.contains("cmd=blmove") {
                Ok(())
            } else {
                Err(clients)
            }
        })
        .await;
        let pushed = Instant::now();
        let task = Task::new("x").queue(queue.clone());
        pushing.enqueue(&[task]).await.unwrap().remove(0).unwrap();
        timeout(Duration::from_secs(5), woken).await.expect("it wakes").unwrap();
        println!("redis_cluster: woken after {:?}", pushed.elapsed());
        assert_eq!(work_off(&pushing, queue).await.len(), 1);
    }
    let mut received = waiting.cancellations().await.unwrap();
    for (nth, node) in turn.nodes.iter().enumerate() {
        node.ask::<i64>(&["PUBLISH", "asynq:cancel", &format!("t{nth}")]).await;
        let id = timeout(Duration::from_secs(5), received.recv())
            .await
            .expect("it is received");
        assert_eq!(id.unwrap().id.as_str(), format!("t{nth}"));
    }
    waiting.cancel(&TaskId::new("ours").unwrap()).await.unwrap();
    let id = timeout(Duration::from_secs(5), received.recv())
        .await
        .expect("it is received");
    assert_eq!(id.unwrap().id.as_str(), "ours");
}

fn worker(id: &str) -> ServerInfo {
    ServerInfo {
        host: "h".to_owned(),
        pid: 1,
        id: id.to_owned(),
        concurrency: 1,
        queues: [("default".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at: Timestamp::from_second(START).unwrap(),
        active: 0,
        handlers: Vec::new(),
    }
}

async fn a_node_that_is_away_silences_no_worker() {
    let cluster = Cluster::start(0).await;
    let broker = open(&cluster).await;
    // The node with the list of all queues dies, and with it a worker's description; that of another is elsewhere.
    let (dead, lists) = (
        cluster.owner("asynq:queues").await,
        cluster.owner("asynq:servers").await,
    );
    assert_ne!(dead, lists, "by their slots");
    let mut ids = [const { None }; 3];
    for nth in 0..100 {
        let id = format!("s{nth}");
        ids[cluster.owner(&format!("h:1:{id}")).await].get_or_insert(id);
    }
    let (gone, there) = (ids[dead].take().unwrap(), ids[lists].take().unwrap());
    let queues = cluster.queues(1).await.map(|of| of[0].parse::<QueueName>().unwrap());
    let task = Task::new("x").queue(queues[lists].clone());
    broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    let claims = broker.claim(&queues[lists..=lists], 1, LEASE).await.unwrap();
    for id in [&gone, &there] {
        broker.heartbeat(&worker(id), &[], MINUTE).await.unwrap();
    }
    assert_eq!(broker.servers().await.unwrap().len(), 2);
    cluster.nodes[dead].kill9();
    kit::eventually("its death is felt", async || match broker.queues().await {
        Ok(queues) => Err(format!("{queues:?}")),
        Err(_) => Ok(()),
    })
    .await;
    broker.heartbeat(&worker(&there), &[], MINUTE).await.unwrap();
    let listed = broker.servers().await.unwrap();
    assert_eq!(listed.iter().map(|view| &view.info.id).collect::<Vec<_>>(), [&there]);
    // One lease is known; that of the other queue is unknown.
    assert_eq!(claims.len(), 1);
    assert!(broker.next_lease_end(&queues).await.unwrap().is_some());
    let error = broker.next_lease_end(&queues[dead..=dead]).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    broker.leave(&worker(&there)).await.unwrap();
    let left: Vec<String> = cluster.nodes[lists].ask(&["ZRANGE", "asynq:servers", "0", "-1"]).await;
    assert_eq!(left, [format!("asynq:servers:{{h:1:{gone}}}")]);
}
