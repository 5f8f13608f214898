//! Traces of Go servers: tasks that they hold, leases that they wrote, an untrimmed archive.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_core::schedule::{Overlap, ScheduleId};
use runner_core::task::{Task, TaskId, TaskState, Unique};
use runner_queue::redis::RedisBroker;
use runner_queue::{
    ArchiveBounds, Broker as _, Claim, Claims as _, Commit, CommitFire, Committed, InspectQueues as _,
    InspectTasks as _, Registration, Schedules as _, Settled, Upkeep as _, Verdict,
};

use super::{LEASE, ask, claim, end, is_sound, open, put, queue, state_of};
use crate::kit::{self, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_task_that_go_holds_is_recovered,
            a_lease_that_go_wrote_has_its_time_for_clocks_that_differ,
            a_late_verdict_is_refused_even_when_go_has_the_task,
            a_late_verdict_does_not_end_a_new_task_of_the_same_id,
            claims_that_go_took_over_are_dropped,
            an_old_archive_is_trimmed_in_parts,
            schedule_headers_dropped_by_go_are_restored,
            a_task_that_takes_another_time_keeps_its_headers;
    ]
}

/// Takes a task as a Go server does: without a run in the hash.
async fn take_as_go(link: &mut MultiplexedConnection, id: &str, lease: &str) {
    let _: i64 = ask(link, &["LREM", "asynq:{default}:pending", "1", id]).await;
    let _: i64 = ask(link, &["LPUSH", "asynq:{default}:active", id]).await;
    let _: i64 = ask(link, &["ZADD", "asynq:{default}:lease", lease, id]).await;
    let key = format!("asynq:{{default}}:t:{id}");
    let _: i64 = ask(link, &["HSET", &key, "state", "active"]).await;
    let _: i64 = ask(link, &["HDEL", &key, "pending_since"]).await;
}

async fn a_task_that_go_holds_is_recovered() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    take_as_go(&mut link, "a", "1000").await;
    take_as_go(&mut link, "b", "99999999999").await;
    let found = broker
        .recover(&[queue()], Duration::from_secs(30), 10, 0)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), found[0].state), ("a", TaskState::Retry));
    let info = broker
        .task(&queue(), &TaskId::new("a").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (info.record.retried, info.record.last_error.as_str()),
        (1, "asynq: task lease expired")
    );
    is_sound(&broker).await;
}

async fn a_lease_that_go_wrote_has_its_time_for_clocks_that_differ() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    let now = broker.now().await.unwrap().as_second();
    take_as_go(&mut link, "a", &(now - 20).to_string()).await;
    claim(&broker, 1).await;
    let lease = (now - 20).to_string();
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", &lease, "b"]).await;
    let grace = Duration::from_secs(5);
    let found = broker.recover(&[queue()], grace, 10, 3).await.unwrap();
    let found: Vec<&str> = found.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(
        found,
        ["b"],
        "our claim is over, that of Go may be a matter of its clock"
    );
    let _: i64 = ask(
        &mut link,
        &["ZADD", "asynq:{default}:lease", &(now - 31).to_string(), "a"],
    )
    .await;
    assert_eq!(broker.recover(&[queue()], grace, 10, 3).await.unwrap().len(), 1);
    is_sound(&broker).await;
}

/// A worker that handed a task back has no claim any more, although Go workers leave no run of their own.
async fn a_late_verdict_is_refused_even_when_go_has_the_task() {
    let (broker, mut link, _db) = open().await;
    let far = "99999999999";
    for (id, by_go) in [("a", false), ("b", true)] {
        put(&broker, &[id]).await;
        let late = claim(&broker, 1).await.remove(0);
        if by_go {
            // A Go server recovers it: the run stays in the hash.
            let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", id]).await;
            let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", id]).await;
            let key = format!("asynq:{{default}}:t:{id}");
            let _: i64 = ask(&mut link, &["HSET", &key, "state", "retry"]).await;
        } else {
            let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", "1", id]).await;
            broker.recover(&[queue()], Duration::ZERO, 10, 3).await.unwrap();
        }
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:retry", "1", id]).await;
        broker.forward(&[queue()], 10).await.unwrap();
        take_as_go(&mut link, id, far).await;
        assert_eq!(end(&broker, &late, Verdict::Done).await, Settled::Stale, "{id}");
        assert_eq!(broker.extend(&[late], LEASE).await.unwrap(), [None], "{id}");
        assert_eq!(state_of(&mut link, id).await, "active");
    }
    // The same for a verdict whose answer was lost: its repetition is stale.
    put(&broker, &["c"]).await;
    let our_claim = claim(&broker, 1).await.remove(0);
    assert_eq!(end(&broker, &our_claim, Verdict::HandBack).await, Settled::Accepted);
    take_as_go(&mut link, "c", far).await;
    assert_eq!(end(&broker, &our_claim, Verdict::HandBack).await, Settled::Stale);
    is_sound(&broker).await;
}

/// Recovered, archived, deleted, enqueued again and claimed, all by Go programs: unnoticed by our worker.
async fn a_late_verdict_does_not_end_a_new_task_of_the_same_id() {
    let (broker, mut link, _db) = open().await;
    for extended in [false, true] {
        put(&broker, &["a"]).await;
        let second = Duration::from_secs(1);
        let late = broker.claim(&[queue()], 1, second).await.unwrap().remove(0);
        if extended {
            assert_ne!(
                broker.extend(std::slice::from_ref(&late), second).await.unwrap(),
                [None]
            );
        }
        let key = "asynq:{default}:t:a";
        let message: Vec<u8> = ask(&mut link, &["HGET", key, "msg"]).await;
        let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", "a"]).await;
        let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", "a"]).await;
        let _: i64 = ask(&mut link, &["DEL", key]).await;
        let mut again = redis::cmd("HSET");
        again.arg(key).arg("msg").arg(message).arg("state").arg("pending");
        let _: i64 = again.query_async(&mut link).await.unwrap();
        let _: i64 = ask(&mut link, &["LPUSH", "asynq:{default}:pending", "a"]).await;
        take_as_go(&mut link, "a", "99999999999").await;
        eventually_within(Duration::from_secs(5), "the lease is over", async || {
            let now = broker.now().await.unwrap();
            if now > late.lease_until() { Ok(()) } else { Err(now) }
        })
        .await;
        assert_eq!(broker.extend(std::slice::from_ref(&late), LEASE).await.unwrap(), [None]);
        assert_eq!(end(&broker, &late, Verdict::Done).await, Settled::Stale);
        assert_eq!(state_of(&mut link, "a").await, "active");
        let _: i64 = ask(
            &mut link,
            &["DEL", key, "asynq:{default}:active", "asynq:{default}:lease"],
        )
        .await;
    }
}

async fn claims_that_go_took_over_are_dropped() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    let claims = claim(&broker, 2).await;
    // A Go server recovered it, and a Go worker has ended it.
    let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", "a"]).await;
    let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", "a"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a"]).await;
    let held = async |link: &mut MultiplexedConnection| -> Vec<String> {
        let mut ids: Vec<String> = ask(link, &["HKEYS", "runner:{default}:claims"]).await;
        ids.retain(|id| !id.is_empty());
        ids.sort();
        ids
    };
    assert_eq!(held(&mut link).await, ["a", "b"]);
    broker.repair(&[queue()], 100).await.unwrap();
    assert_eq!(held(&mut link).await, ["b"]);
    let their_claim = claims.iter().find(|claim| claim.task().id.as_str() == "b").unwrap();
    assert_eq!(end(&broker, their_claim, Verdict::Done).await, Settled::Accepted);
    is_sound(&broker).await;
}

async fn an_old_archive_is_trimmed_in_parts() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    // More than fits into one call of a script, all older than the archive keeps.
    let mut pipe = redis::pipe();
    for n in 0..12_000 {
        pipe.cmd("ZADD")
            .arg("asynq:{default}:archived")
            .arg(1000 + n)
            .arg(n)
            .ignore();
        let key = format!("asynq:{{default}}:t:{n}");
        pipe.cmd("HSET")
            .arg(key)
            .arg(&["msg", "", "state", "archived"])
            .ignore();
    }
    let () = pipe.query_async(&mut link).await.unwrap();
    let claims = claim(&broker, 1).await;
    let error = "x".to_owned();
    assert_eq!(
        end(&broker, &claims[0], Verdict::Archive { error }).await,
        Settled::Accepted
    );
    let pass = broker.sweep(&[queue()], 5000, ArchiveBounds::default()).await.unwrap();
    // Including those that the archiving itself deleted, unreported until now.
    assert_eq!((pass.trimmed, pass.more), (5000 + 1000, true));
    let pass = broker
        .sweep(&[queue()], 50_000, ArchiveBounds::default())
        .await
        .unwrap();
    assert_eq!((pass.trimmed, pass.more), (6000, false));
    let info = &broker.queues().await.unwrap()[0];
    assert_eq!(info.counts[&TaskState::Archived], 1);
    is_sound(&broker).await;
}

/// A message as asynq before 0.26 writes it back, without field 15.
fn without_headers(message: &[u8]) -> Vec<u8> {
    let varint = |at: usize| {
        let length = message[at..].iter().position(|byte| *byte < 128).unwrap() + 1;
        let groups = message[at..at + length].iter().rev();
        (
            groups.fold(0, |sum, byte| sum << 7 | usize::from(byte & 127)),
            at + length,
        )
    };
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < message.len() {
        let (tag, after) = varint(at);
        let (value, mut end) = varint(after);
        if tag % 8 == 2 {
            end += value;
        }
        if tag / 8 != 15 {
            kept.extend(&message[at..end]);
        }
        at = end;
    }
    kept
}

async fn strip(link: &mut MultiplexedConnection, id: &str) {
    let key = format!("asynq:{{default}}:t:{id}");
    let message: Vec<u8> = redis::cmd("HGET").arg(&key).arg("msg").query_async(link).await.unwrap();
    let stripped = without_headers(&message);
    assert_ne!(stripped, message);
    let mut set = redis::cmd("HSET");
    let _: i64 = set.arg(&key).arg("msg").arg(stripped).query_async(link).await.unwrap();
}

/// Ends the claim with a retry, as Go would write it, and claims the task again.
async fn try_again(broker: &RedisBroker, link: &mut MultiplexedConnection, claimed: &Claim) -> Claim {
    let again = Verdict::Retry {
        after: Duration::ZERO,
        error: "no".to_owned(),
        counts: true,
    };
    assert_eq!(end(broker, claimed, again).await, Settled::Accepted);
    strip(link, claimed.task().id.as_str()).await;
    let forwarded = async || {
        let moved = broker
            .forward(&[queue()], 10)
            .await
            .map_err(|error| error.to_string())?
            .moved;
        if moved == 1 {
            Ok(())
        } else {
            Err("not due yet".to_owned())
        }
    };
    eventually_within(Duration::from_secs(10), "the retry is due", forwarded).await;
    claim(broker, 1).await.remove(0)
}

async fn schedule_headers_dropped_by_go_are_restored() {
    let (broker, mut link, _db) = open().await;
    let schedule = ScheduleId::manifest("show", "default");
    let registration = Registration {
        id: schedule.clone(),
        revision: "1".to_owned(),
    };
    let from = broker.register(&[registration]).await.unwrap()[0].cursor;
    let id = "m:show:default@20261128T211410Z";
    let headers_sent = [
        ("runner-schedule-id", "m:show:default"),
        ("runner-scheduled-at", "2026-11-28T21:14:10Z"),
        ("runner-fire-kind", "schedule"),
        ("runner-interval-start", "2026-11-28T21:14:00Z"),
        ("runner-catch-up", "true"),
        ("runner-missed", "2"),
        ("trace", "of the manifest"),
    ];
    let task = Task::new("fn:show").id(TaskId::new(id).unwrap());
    let task = headers_sent
        .iter()
        .fold(task, |task, (key, value)| task.header(*key, *value));
    let commit = Commit {
        id: schedule,
        from,
        to: from + Duration::from_secs(1),
        fires: vec![CommitFire {
            nominal: from,
            fire_at: from,
            task,
            catch_up: true,
        }],
        missed: None,
        overlap: Overlap::Allow,
        unserved: false,
        instance: "host:1".to_owned(),
    };
    assert!(matches!(
        broker.commit(&[commit]).await.unwrap()[..],
        [Committed::Done(_)]
    ));
    let first = claim(&broker, 1).await.remove(0);
    let headers = first.task().headers.clone();
    assert_eq!(headers.len(), headers_sent.len());

    let second = try_again(&broker, &mut link, &first).await;
    assert_eq!(second.task().headers, headers);
    // A page shows them too, while the message lacks them.
    let shown = broker.task(&queue(), &TaskId::new(id).unwrap()).await.unwrap().unwrap();
    assert_eq!(shown.record.headers, headers);

    // For a task that was fired before headers were stored, the id still has the essentials.
    let key = format!("asynq:{{default}}:t:{id}");
    let _: i64 = ask(&mut link, &["HDEL", &key, "headers"]).await;
    let third = try_again(&broker, &mut link, &second).await;
    let kept: Vec<(&str, &str)> = third
        .task()
        .headers
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    let mut expected = headers_sent[..3].to_vec();
    expected.sort_unstable();
    assert_eq!(kept, expected);
}

/// Also those that are kept beside its message; one that is replaced has those of the new task.
async fn a_task_that_takes_another_time_keeps_its_headers() {
    let (broker, mut link, _db) = open().await;
    let schedule = ScheduleId::manifest("show", "default");
    let registration = Registration {
        id: schedule.clone(),
        revision: "1".to_owned(),
    };
    let mut from = broker.register(&[registration]).await.unwrap()[0].cursor;
    let lock = || Unique::new(Duration::from_secs(60)).key("one");
    let steps = [
        ("1", lock(), "1"),
        ("2", lock().reschedule(), "1"),
        ("3", lock().replace(), "3"),
    ];
    for (number, unique, kept) in steps {
        // The occurrences are due: a commit may be 50 ms ahead of the server's clock.
        let to = from + Duration::from_millis(1);
        let task = Task::new("fn:show").id(TaskId::new(format!("m:show:default@{number}")).unwrap());
        let task = task
            .header("runner-schedule-id", "m:show:default")
            .header("trace", number);
        let commit = Commit {
            id: schedule.clone(),
            from,
            to,
            fires: vec![CommitFire {
                nominal: from,
                fire_at: from,
                task: task.unique(unique),
                catch_up: false,
            }],
            missed: None,
            overlap: Overlap::Allow,
            unserved: false,
            instance: "host:1".to_owned(),
        };
        let done = broker.commit(&[commit]).await.unwrap();
        assert!(matches!(done[..], [Committed::Done(_)]), "{done:?}");
        let key = "asynq:{default}:t:m:show:default@1";
        let headers: String = ask(&mut link, &["HGET", key, "headers"]).await;
        // The last of the pairs.
        assert!(
            headers.contains("trace") && headers.ends_with(kept),
            "{number}: {headers:?}"
        );
        from = to;
    }
    is_sound(&broker).await;
}
