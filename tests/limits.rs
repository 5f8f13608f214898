//! Limits with several processes that die: each function checks itself that the limit holds.
//!
//! Not here: the rules in detail (the contract). Several thousand tasks: set `RUNNER_TEST_LONG=1`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runner_core::task::Task;
use runner_queue::Producer;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};
use tokio::time::Instant;

use crate::kit::{self, RedisDb, Runner, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis):
            a_concurrency_limit_holds_while_processes_die,
            a_concurrency_limit_holds_in_a_file,
            a_semaphore_holds_beside_go_while_processes_die,
            a_rate_holds_across_processes,
            tasks_of_one_key_run_in_order_while_processes_die,
            a_task_beyond_a_limit_that_skips_is_not_run
    ]
}

/// Tasks at once, of each key.
const LIMIT: usize = 3;

/// Takes one of the places, which the kernel frees when the process dies, and reports when there is none.
const COUNTED: &str = "name: counted
retry: 9
concurrency: {limit: 3, key: payload.k}
exec:
  shell: true
  cwd: \"$DIR\"
  command: |
    payload=$(cat)
    k=$(echo \"$payload\" | cut -d '\"' -f 4)
    for n in 1 2 3; do
      exec 9> place.$k.$n
      if flock -n 9; then
        sleep 0.03
        echo $RUNNER_TASK_ID >> done
        exit 0
      fi
    done
    echo $RUNNER_TASK_ID >> violations
";

/// Takes one of the places that it shares with programs in Go.
const SHARED: &str = "name: shared
retry: 9
concurrency: {semaphore: api, limit: 3}
exec:
  shell: true
  cwd: \"$DIR\"
  command: |
    for n in 1 2 3; do
      exec 9> place.$n
      if flock -n 9; then
        sleep 0.03
        echo $RUNNER_TASK_ID >> done
        exit 0
      fi
    done
    echo $RUNNER_TASK_ID >> violations
";

/// The rule by which programs in Go take a place. KEYS: the semaphore. ARGV: places, now, end of the place in s, id.
const GO_ACQUIRES: &str = "
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2] - 1)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
return redis.call('ZADD', KEYS[1], ARGV[3], ARGV[4])";

/// Reports when it does not follow the last one of its key.
const ORDERED: &str = "name: ordered
retry: 9
sequence: payload.k
exec:
  shell: true
  cwd: \"$DIR\"
  command: |
    payload=$(cat)
    k=$(echo \"$payload\" | cut -d '\"' -f 4)
    n=$(echo \"$payload\" | cut -d : -f 3 | tr -d '}')
    exec 9> lock.$k
    flock -n 9 || echo \"$k $n: two at a time\" >> violations
    last=$(cat last.$k 2>/dev/null || echo -1)
    [ $n -eq $last ] || [ $n -eq $((last + 1)) ] || echo \"$k: $n after $last\" >> violations
    echo $n > last.$k
    sleep 0.02
    echo $RUNNER_TASK_ID >> done
";

/// Records when it started.
const PACED: &str = "name: paced
rate_limit: {count: 20, per: 1s, burst: 1}
exec: {shell: true, cwd: \"$DIR\", command: \"date +%s%N >> done\"}
";

/// Runs until the file `go` exists.
const ALONE: &str = "name: alone
concurrency: {limit: 1, on_limit: skip}
exec:
  shell: true
  cwd: \"$DIR\"
  command: \"echo $RUNNER_TASK_ID >> begun; until [ -e go ]; do sleep 0.05; done; echo $RUNNER_TASK_ID >> done\"
";

fn site_of(broker: &str, manifests: &[&str]) -> Site {
    let site = Site::new(&format!(
        "{broker}worker: {{concurrency: 8, lease: 5s, shutdown_timeout: 10s}}\n"
    ));
    for (nth, manifest) in manifests.iter().enumerate() {
        let text = manifest.replace("$DIR", &site.dir.display().to_string());
        site.write(&format!("manifests/{nth}.yaml"), &text);
    }
    site
}

fn broker(db: &RedisDb) -> RedisBroker {
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    RedisBroker::lazy(&settings).expect("a broker")
}

async fn enqueue(broker: &dyn Producer, tasks: impl IntoIterator<Item = Task>) {
    let tasks: Vec<Task> = tasks.into_iter().collect();
    for batch in tasks.chunks(500) {
        for answer in broker.enqueue(batch).await.expect("the broker answers") {
            answer.expect("the task is accepted");
        }
    }
}

fn lines(site: &Site, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn until_done(site: &Site, runners: &[Runner], count: usize, within: Duration) {
    eventually_within(within, &format!("{count} tasks are done"), async || {
        let done: std::collections::HashSet<String> = lines(site, "done").into_iter().collect();
        match done.len() {
            n if n >= count => Ok(()),
            n => Err(format!(
                "{n}\n{}",
                runners.first().map(|r| r.child.tail()).unwrap_or_default()
            )),
        }
    })
    .await;
}

/// Starts processes, kills one whenever another part of the tasks is done, and starts it again, until all are done.
async fn run_and_kill(site: &Site, processes: usize, kills: usize, count: usize) -> Duration {
    let mut runners = Vec::new();
    for _ in 0..processes {
        runners.push(site.start().await);
    }
    let began = Instant::now();
    for kill in 1..=kills {
        until_done(site, &runners, count * kill / (kills + 2), Duration::from_secs(200)).await;
        runners.remove(0).kill9();
        runners.push(site.start().await);
    }
    until_done(site, &runners, count, Duration::from_secs(300)).await;
    let took = began.elapsed();
    for runner in runners {
        assert!(runner.stop().await.success());
    }
    let violations = lines(site, "violations");
    assert!(violations.is_empty(), "{violations:#?}");
    took
}

fn keyed(function: &str, k: usize, n: usize) -> Task {
    let key = char::from(b'a' + u8::try_from(k).expect("a letter"));
    Task::new(format!("fn:{function}")).payload(format!("{{\"k\":\"{key}\",\"n\":{n}}}").into_bytes())
}

fn sized(short: usize, long: usize) -> usize {
    if kit::long() { long } else { short }
}

async fn a_concurrency_limit_holds_while_processes_die() {
    let count = sized(300, 6000);
    let db = kit::redis().fresh_db();
    let site = site_of(&db.yaml(), &[COUNTED]);
    enqueue(&broker(&db), (0..count).map(|n| keyed("counted", n % 2, n))).await;
    let took = run_and_kill(&site, sized(2, 4), sized(2, 8), count).await;
    println!("limits: {count} tasks of 2 keys, {LIMIT} of each at a time, in {took:.1?}; violations=0");
}

async fn a_concurrency_limit_holds_in_a_file() {
    let count = 100;
    let site = site_of("", &[COUNTED]);
    {
        let path = site.dir.join("data/runner.db");
        let broker = EmbeddedBroker::open(path, Arc::new(runner_core::clock::SystemClock)).await;
        let broker = broker.expect("the file");
        enqueue(&broker, (0..count).map(|n| keyed("counted", n % 2, n))).await;
        use runner_queue::Broker as _;
        broker.close().await;
    }
    let took = run_and_kill(&site, 2, 1, count).await;
    println!("limits: {count} tasks of 2 keys in a file, {LIMIT} of each at a time, in {took:.1?}; violations=0");
}

/// Runs as a program in Go does until `ended`; returns how often it had a place.
async fn run_as_go(db: RedisDb, dir: PathBuf, name: String, ended: Arc<AtomicBool>) -> usize {
    let mut link = db.connect().await;
    let (script, mut had) = (redis::Script::new(GO_ACQUIRES), 0);
    while !ended.load(Ordering::Relaxed) {
        let id = format!("{name}-{had}");
        let now = jiff::Timestamp::now().as_second();
        let mut call = script.prepare_invoke();
        call.key("asynq:sema:api").arg(LIMIT).arg(now).arg(now + 60).arg(&id);
        let took: i64 = call.invoke_async(&mut link).await.expect("an answer");
        if took == 1 {
            let places = (1..=LIMIT).map(|n| std::fs::File::create(dir.join(format!("place.{n}"))).expect("a file"));
            let place = places.into_iter().find(|place| place.try_lock().is_ok());
            if place.is_none() {
                std::fs::write(dir.join("violations"), &id).expect("a file");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(place);
            had += 1;
            redis::cmd("ZREM")
                .arg("asynq:sema:api")
                .arg(&id)
                .exec_async(&mut link)
                .await
                .expect("an answer");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    had
}

async fn a_semaphore_holds_beside_go_while_processes_die() {
    let count = sized(150, 3000);
    let db = kit::redis().fresh_db();
    let site = site_of(&db.yaml(), &[SHARED]);
    enqueue(&broker(&db), (0..count).map(|_| Task::new("fn:shared"))).await;
    let ended = Arc::new(AtomicBool::new(false));
    let go = ["go-a", "go-b"].map(|name| {
        let beside = run_as_go(db.clone(), site.dir.clone(), name.to_owned(), Arc::clone(&ended));
        tokio::spawn(beside)
    });
    let took = run_and_kill(&site, sized(2, 4), sized(2, 8), count).await;
    ended.store(true, Ordering::Relaxed);
    let mut had = 0;
    for program in go {
        had += program.await.expect("it ended");
    }
    assert!(had > 0, "the programs in Go had a place now and then");
    let left: i64 = redis::cmd("ZCARD")
        .arg("asynq:sema:api")
        .query_async(&mut db.connect().await)
        .await
        .expect("a count");
    assert_eq!(left, 0, "all places were given back");
    println!("limits: {count} tasks and {had} of Go, {LIMIT} at a time, in {took:.1?}; violations=0");
}

async fn tasks_of_one_key_run_in_order_while_processes_die() {
    let (keys, each) = (sized(6, 20), sized(30, 200));
    let db = kit::redis().fresh_db();
    let site = site_of(&db.yaml(), &[ORDERED]);
    let tasks = (0..keys * each).map(|n| keyed("ordered", n % keys, n / keys));
    enqueue(&broker(&db), tasks).await;
    let took = run_and_kill(&site, sized(2, 4), sized(1, 6), keys * each).await;
    println!("limits: {keys} keys with {each} tasks in order, in {took:.1?}; out of order=0");
}

async fn a_rate_holds_across_processes() {
    const COUNT: usize = 60;
    let db = kit::redis().fresh_db();
    let site = site_of(&db.yaml(), &[PACED]);
    let runners = [site.start().await, site.start().await];
    let began = Instant::now();
    enqueue(&broker(&db), (0..COUNT).map(|_| Task::new("fn:paced"))).await;
    until_done(&site, &runners, COUNT, Duration::from_secs(60)).await;
    let took = began.elapsed();
    // The first one starts at once.
    let ideal = Duration::from_millis(50) * u32::try_from(COUNT - 1).expect("few");
    println!("limits: {COUNT} tasks at 20/s in {took:.2?}, ideal {ideal:.2?}");
    assert!(took + Duration::from_millis(200) > ideal, "too fast: {took:?}");
    assert!(took < ideal * 2 + Duration::from_secs(2), "too slow: {took:?}");
}

async fn a_task_beyond_a_limit_that_skips_is_not_run() {
    let db = kit::redis().fresh_db();
    let site = site_of(&db.yaml(), &[ALONE]);
    let runner = site.start().await;
    let broker = broker(&db);
    enqueue(&broker, [Task::new("fn:alone")]).await;
    eventually_within(Duration::from_secs(30), "it runs", async || {
        if lines(&site, "begun").len() == 1 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    enqueue(&broker, [Task::new("fn:alone")]).await;
    eventually_within(Duration::from_secs(30), "the second one is skipped", async || {
        let runs = site.cli(["runs", "alone", "-c", "config.yaml"]).await;
        let text = format!("{}{}", runs.stdout, runs.stderr);
        if text.contains("skipped: limit concurrency fn:alone") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    site.write("go", "");
    eventually_within(Duration::from_secs(30), "the first one is done", async || {
        if lines(&site, "done").len() == 1 {
            Ok(())
        } else {
            Err(runner.child.tail())
        }
    })
    .await;
    assert_eq!(lines(&site, "begun").len(), 1);
    assert!(runner.stop().await.success());
}
