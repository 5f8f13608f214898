//! The program on a Redis Cluster: queues on three servers, servers that die, schedulers that die.
//!
//! Not here: one broker in a cluster (`brokers`, `redis_cluster`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::RedisBroker;
use runner_queue::{Claims as _, Decision, Presence as _, Producer as _, Schedules as _};
use tokio::time::{Instant, sleep};

use crate::kit::{self, Cluster, Runner, Site, eventually_within};
use crate::redis_cluster::open;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Cluster): three_queues_on_three_servers_are_drained, killed_schedulers_lose_and_repeat_nothing,
            a_dead_server_stops_only_its_own_queues, a_hanging_server_does_not_block_other_queues,
            claims_do_not_wait_for_a_server_that_hangs, a_replica_takes_over;
    ]
}

/// Upper bound for anything once all servers are up.
const SOON: Duration = Duration::from_secs(30);

/// A site with three queues, one on each server, and a function for each that records its tasks in the file `ran`.
fn site(cluster: &Cluster, queues: &[String], roles: &str, schedule: &str) -> Site {
    let weights: Vec<String> = queues.iter().map(|queue| format!("{queue}: 1")).collect();
    let site = Site::new(&format!(
        "{}roles: [{roles}, web]\nworker: {{concurrency: 10, lease: 5s, queues: {{{}}}}}\n",
        cluster.yaml(),
        weights.join(", ")
    ));
    for queue in queues {
        let manifest = format!(
            "name: note-{queue}\nqueue: {queue}\n{schedule}exec:\n  shell: true\n  cwd: \"{}\"\n  \
             command: \"echo $RUNNER_TASK_ID >> ran\"\n",
            site.dir.display()
        );
        site.write(&format!("manifests/note-{queue}.yaml"), &manifest);
    }
    site
}

const EVERY_SECOND: &str = "schedule: {cron: \"* * * * * *\", overlap: allow, catch_up: {policy: all, window: 5m}}\n";

/// Runs so far, by task.
fn ran(site: &Site) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(site.dir.join("ran")).unwrap_or_default();
    let mut runs = BTreeMap::new();
    for line in text.lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    runs
}

/// Waits until each of these tasks has run; returns those that have not by then.
async fn until_ran(site: &Site, tasks: &BTreeSet<String>, patience: Duration) -> BTreeSet<String> {
    let end = Instant::now() + patience;
    loop {
        let runs = ran(site);
        let left: BTreeSet<String> = tasks.iter().filter(|id| !runs.contains_key(*id)).cloned().collect();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Enqueues one task for the function of this queue; returns its id if it was accepted.
async fn put(broker: &RedisBroker, queue: &str) -> Result<String, String> {
    let id = TaskId::random();
    let task = Task::new(format!("fn:note-{queue}"))
        .queue(queue.parse::<QueueName>().unwrap())
        .id(id.clone());
    let answers = broker.enqueue(&[task]).await.map_err(|error| format!("{error:?}"))?;
    assert!(answers[0].is_ok(), "{answers:?}");
    Ok(id.to_string())
}

async fn decisions(broker: &RedisBroker) -> Vec<Decision> {
    broker.decisions(None, 10_000).await.unwrap()
}

/// Every occurrence of every schedule has exactly one decision, without gaps, and every fired task ran exactly once.
async fn judge(broker: &RedisBroker, site: &Site, schedules: usize) -> usize {
    let mut by_schedule: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut fired = BTreeSet::new();
    for decision in decisions(broker).await {
        assert_eq!(decision.count, 1, "{decision:?}");
        let of = by_schedule.entry(decision.schedule.to_string()).or_default();
        of.push(decision.nominal.as_second());
        fired.insert(decision.task.expect("a task").to_string());
    }
    assert_eq!(by_schedule.len(), schedules);
    for (schedule, mut seconds) in by_schedule {
        seconds.sort_unstable();
        let (first, count) = (seconds[0], i64::try_from(seconds.len()).unwrap());
        let whole: Vec<i64> = (first..first + count).collect();
        assert_eq!(seconds, whole, "{schedule}");
    }
    assert_eq!(until_ran(site, &fired, SOON).await, BTreeSet::new());
    let more: Vec<(String, usize)> = ran(site)
        .into_iter()
        .filter(|(id, runs)| *runs != 1 || !fired.contains(id))
        .collect();
    assert_eq!(more, [], "run twice, or never decided");
    fired.len()
}

async fn three_queues_on_three_servers_are_drained() {
    let turn = kit::cluster().await;
    let queues = turn.queues(1).await.concat();
    let site = site(&turn, &queues, "scheduler, worker", EVERY_SECOND);
    let runner = site.start().await;
    for queue in &queues {
        let enqueued = site
            .cli(["enqueue", &format!("fn:note-{queue}"), "--queue", queue])
            .await;
        let id = enqueued.ok().stdout.trim().to_owned();
        assert_eq!(
            until_ran(&site, &[id].into(), SOON).await,
            BTreeSet::new(),
            "{}",
            runner.child.tail()
        );
    }
    let broker = open(&turn).await;
    eventually_within(SOON, "each schedule has fired thrice", async || {
        let all = decisions(&broker).await;
        let of = |queue: &String| all.iter().filter(|d| d.schedule.as_str().contains(queue)).count();
        if queues.iter().all(|queue| of(queue) >= 3) {
            Ok(())
        } else {
            Err(format!("{all:?}\n{}", runner.child.tail()))
        }
    })
    .await;
    let listed = site.cli(["ls", "queues", "--json"]).await.json();
    let names: BTreeSet<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|q| q["name"].as_str())
        .collect();
    assert_eq!(names, queues.iter().map(String::as_str).collect());
    let servers = broker.servers().await.unwrap();
    assert_eq!(servers.len(), 1, "{servers:?}");
    let page = runner.http.get("/queue").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(runner.stop().await.success());
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

async fn killed_schedulers_lose_and_repeat_nothing() {
    let (length, kill_every) = match std::env::var_os("RUNNER_LONG") {
        Some(_) => (60, Duration::from_millis(900)),
        None => (12, Duration::from_millis(900)),
    };
    let turn = kit::cluster().await;
    let queues = turn.queues(2).await.concat();
    let worker_site = site(&turn, &queues, "worker", "");
    let worker = worker_site.start().await;
    // The same functions, without a worker here.
    let schedulers = site(&turn, &queues, "scheduler", EVERY_SECOND);
    let mut instances: Vec<Runner> = (0..2).map(|_| schedulers.launch()).collect();
    let broker = open(&turn).await;
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < Duration::from_secs(length) {
        sleep(kill_every).await;
        let victim = kills % instances.len();
        instances[victim].kill9();
        instances[victim] = schedulers.launch();
        kills += 1;
    }
    let ended = jiff::Timestamp::now();
    eventually_within(SOON, "every schedule is decided", async || {
        let all = decisions(&broker).await;
        let newest = queues.iter().map(|queue| {
            let of = all
                .iter()
                .filter(|d| d.schedule.as_str().contains(&format!("note-{queue}:")));
            of.map(|d| d.nominal).max()
        });
        let late = newest
            .filter(|newest| newest.is_none_or(|newest| newest < ended))
            .count();
        if late == 0 {
            Ok(())
        } else {
            Err(format!("{late} are behind\n{}", instances[0].child.tail()))
        }
    })
    .await;
    for instance in instances {
        assert!(instance.stop().await.success());
    }
    let fired = judge(&broker, &worker_site, queues.len()).await;
    println!("story_cluster: {kills} schedulers killed, {fired} occurrences, each decided and run once");
    assert!(worker.stop().await.success());
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

/// The first server without any of the keys that belong to no queue, else one without the cursors.
async fn dispensable(cluster: &Cluster) -> usize {
    let mut needed = BTreeSet::new();
    for key in ["runner:cur", "asynq:queues", "asynq:servers", "asynq:workers"] {
        needed.insert(cluster.owner(key).await);
        if needed.len() == 3 {
            needed.remove(&cluster.owner(key).await);
        }
    }
    (0..3).find(|nth| !needed.contains(nth)).expect("one of three")
}

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn a_dead_server_stops_only_its_own_queues() {
    let cluster = Cluster::start(0).await;
    let queues = cluster.queues(1).await.concat();
    let victim = dispensable(&cluster).await;
    let site = site(&cluster, &queues, "scheduler, worker", EVERY_SECOND);
    let runner = site.start().await;
    let broker = open(&cluster).await;
    for queue in &queues {
        let first = put(&broker, queue).await.unwrap();
        assert_eq!(
            until_ran(&site, &[first].into(), SOON).await,
            BTreeSet::new(),
            "{}",
            runner.child.tail()
        );
    }

    cluster.nodes[victim].kill9();
    let killed = Instant::now();
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    while killed.elapsed() < Duration::from_secs(8) {
        if put(&broker, &queues[victim]).await.is_err() {
            refused += 1;
        }
        for (nth, queue) in queues.iter().enumerate() {
            if nth != victim {
                let began = Instant::now();
                let id = put(&broker, queue).await.expect("its server is up");
                let left = until_ran(&site, &[id].into(), SOON).await;
                assert_eq!(left, BTreeSet::new(), "{queue}\n{}", runner.child.tail());
                slowest = slowest.max(began.elapsed());
            }
        }
    }
    assert!(refused > 0, "the queue of the dead server took tasks");

    cluster.nodes[victim].start_again();
    let back = Instant::now();
    let id = eventually_within(SOON, "the queue is back", async || put(&broker, &queues[victim]).await).await;
    assert_eq!(
        until_ran(&site, &[id].into(), SOON).await,
        BTreeSet::new(),
        "{}",
        runner.child.tail()
    );
    println!(
        "story_cluster: one of three servers away for 8 s: the others' slowest task took {slowest:.1?}, \
         the queue was back {:.1?} after its server",
        back.elapsed()
    );
    // Occurrences that fell into the outage are caught up.
    let ended = jiff::Timestamp::now();
    eventually_within(SOON, "every schedule is decided", async || {
        let all = decisions(&broker).await;
        let late = queues.iter().filter(|queue| {
            let mut of = all
                .iter()
                .filter(|d| d.schedule.as_str().contains(&format!("note-{queue}:")));
            !of.any(|d| d.nominal >= ended)
        });
        let late: Vec<&String> = late.collect();
        if late.is_empty() {
            Ok(())
        } else {
            Err(format!("{late:?}\n{}", runner.child.tail()))
        }
    })
    .await;
    let mut seen = BTreeSet::new();
    for decision in decisions(&broker).await {
        assert!(
            seen.insert((decision.schedule.clone(), decision.nominal)),
            "twice: {decision:?}"
        );
        let task = decision.task.expect("a task").to_string();
        assert_eq!(until_ran(&site, &[task].into(), SOON).await, BTreeSet::new());
    }
    assert!(runner.stop().await.success());
}

async fn a_hanging_server_does_not_block_other_queues() {
    // Answers are awaited for 5 s, once; from then on the other queues must not be affected.
    const NOTICED: Duration = Duration::from_secs(7);
    const FROZEN: Duration = Duration::from_secs(15);
    let cluster = Cluster::start(0).await;
    let queues = cluster.queues(1).await.concat();
    let victim = dispensable(&cluster).await;
    let site = site(&cluster, &queues, "worker", "");
    let runner = site.start().await;
    let broker = open(&cluster).await;
    for queue in &queues {
        let first = put(&broker, queue).await.unwrap();
        assert_eq!(until_ran(&site, &[first].into(), SOON).await, BTreeSet::new());
    }

    cluster.nodes[victim].signal(Signal::SIGSTOP);
    let frozen = Instant::now();
    let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
    while frozen.elapsed() < FROZEN {
        for (nth, queue) in queues.iter().enumerate().filter(|(nth, _)| *nth != victim) {
            let began = Instant::now();
            let id = put(&broker, queue).await.expect("its server is up");
            let left = until_ran(&site, &[id].into(), SOON).await;
            assert_eq!(left, BTreeSet::new(), "{nth} {queue}\n{}", runner.child.tail());
            let slowest = if frozen.elapsed() < NOTICED {
                &mut before
            } else {
                &mut after
            };
            *slowest = began.elapsed().max(*slowest);
        }
    }
    cluster.nodes[victim].signal(Signal::SIGCONT);
    let back = Instant::now();
    let id = eventually_within(SOON, "the queue is back", async || put(&broker, &queues[victim]).await).await;
    assert_eq!(
        until_ran(&site, &[id].into(), SOON).await,
        BTreeSet::new(),
        "{}",
        runner.child.tail()
    );
    println!(
        "story_cluster: one of three servers frozen for {FROZEN:?}: the others' slowest task took {before:.1?} in the \
         first {NOTICED:?}, then {after:.1?}; the queue was back after {:.1?}",
        back.elapsed()
    );
    assert!(after < Duration::from_secs(3), "{after:?}\n{}", runner.child.tail());
    assert!(runner.stop().await.success());
}

async fn claims_do_not_wait_for_a_server_that_hangs() {
    const LEASE: Duration = Duration::from_secs(4);
    let cluster = Cluster::start(0).await;
    let mut queues: Vec<QueueName> = cluster
        .queues(1)
        .await
        .concat()
        .iter()
        .map(|q| q.parse().unwrap())
        .collect();
    let victim = dispensable(&cluster).await;
    let broker = open(&cluster).await;
    let hangs = queues.remove(victim);
    queues.insert(1, hangs);
    put(&broker, queues[0].as_str()).await.unwrap();
    cluster.nodes[victim].signal(Signal::SIGSTOP);
    let began = Instant::now();
    let claims = broker.claim(&queues, 10, LEASE).await.unwrap();
    let took = began.elapsed();
    cluster.nodes[victim].signal(Signal::SIGCONT);
    assert_eq!(claims.len(), 1, "{claims:?}");
    assert!(took < LEASE * 3 / 4, "its lease is nearly over: {took:?}");
}

async fn a_replica_takes_over() {
    let cluster = Cluster::start(1).await;
    let queues = cluster.queues(1).await.concat();
    let victim = dispensable(&cluster).await;
    let site = site(&cluster, &queues, "worker", "");
    let runner = site.start().await;
    let broker = open(&cluster).await;
    let (mut acked, mut killed, mut failover) = (BTreeSet::new(), None::<Instant>, None);
    let began = Instant::now();
    let mut last = "nothing failed".to_owned();
    while failover.is_none_or(|at: Duration| killed.is_some_and(|k| k.elapsed() < at + Duration::from_secs(2))) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "no replica took over: {last}"
        );
        if killed.is_none() && began.elapsed() > Duration::from_secs(2) {
            cluster.nodes[victim].kill9();
            killed = Some(Instant::now());
        }
        match put(&broker, &queues[victim]).await {
            Ok(id) => {
                acked.insert(id);
                failover = failover.or(killed.map(|at| at.elapsed()));
            }
            Err(error) => {
                last = error;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    // A lease is 5 s here; then come recovery and the delay of a first retry.
    let lost = until_ran(&site, &acked, Duration::from_secs(75)).await;
    let passed = lost.len() * 20 <= acked.len();
    println!(
        "FT id=CLUSTER result={} acked={} lost={} failover_ms={}",
        if passed { "pass" } else { "fail" },
        acked.len(),
        lost.len(),
        failover.unwrap_or_default().as_millis()
    );
    assert!(
        passed,
        "{} of {} are lost\n{}",
        lost.len(),
        acked.len(),
        runner.child.tail()
    );
    // First: a task that is settled during the audit is in one part of it and not in another.
    assert!(runner.stop().await.success());
    let audit = broker.audit().await.unwrap();
    assert_eq!(audit, Vec::<String>::new());
}
