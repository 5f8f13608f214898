//! Scenarios of schedulers: entries and events that asynq's tools read.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::schedule::{Overlap, ScheduleId};
use runner_core::task::{QueueName, Task};
use runner_queue::{
    Commit, CommitFire, Committed, Entries as _, EntryView, Holders as _, Registration, Schedules as _,
};

use super::replay::{ID1, ID2, ID3, Replay, id};
use super::store::{Store, ask};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): scheduler_state;]
}

const HISTORY: &str = "asynq:scheduler_history:33333333-3333-4333-8333-333333333333";

fn entries() -> [EntryView; 2] {
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    [
        EntryView {
            id: ScheduleId::from_text(ID3),
            spec: "@every 30s".to_owned(),
            task: Task::new("a").payload("p").queue(QueueName::new("low").unwrap()),
            next: at("2030-01-02T03:04:35Z"),
            last: None,
        },
        EntryView {
            id: ScheduleId::from_text("44444444-4444-4444-8444-444444444444"),
            spec: "0 0 * * *".to_owned(),
            task: Task::new("b").payload(""),
            next: at("2030-01-03T00:00:00Z"),
            last: at("2030-01-02T00:00:00Z"),
        },
    ]
}

async fn scheduler_state() {
    let mut replay = Replay::open("scheduler_state").await;
    let (instance, ttl) = (format!("web-1:4321:{ID2}"), Duration::from_secs(20));
    replay.step("write entries e1,e2");
    replay.broker.publish_entries(&instance, &entries(), ttl).await.unwrap();
    replay.same().await;
    let listed = replay.broker.foreign_entries().await.unwrap();
    let [first, second] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!((first.id.as_str(), first.scheduler.as_str()), (ID3, instance.as_str()));
    assert_eq!(
        (first.spec.as_str(), first.kind.as_str(), first.queue()),
        ("@every 30s", "a", "low")
    );
    assert_eq!((first.next, first.last), (entries()[0].next, None));
    assert_eq!((second.queue(), second.last), ("default", entries()[1].last));
    replay.step("write no entries");
    replay.broker.publish_entries(&instance, &[], ttl).await.unwrap();
    replay.same().await;
    replay.step("record enqueue event");
    fire(&replay, ID1, 0).await;
    // Ours also enqueued the task, which the vector only has as an event.
    let found = Store::of_server(&mut replay.link).await;
    assert_eq!(found.0.get(HISTORY), replay.expected().0.get(HISTORY));
    replay.step("clear entries");
    replay.broker.resign(&instance).await.unwrap();
    let shown: u64 = ask(&mut replay.link, &["ZCARD", "asynq:schedulers"]).await;
    assert_eq!(shown, 0);
    replay.step("clear history");
    let _: () = ask(&mut replay.link, &["FLUSHDB"]).await;
    let result = replay.step("after 1005 events")["result"].clone();
    for n in 0..1005 {
        fire(&replay, &format!("t{n:04}"), n).await;
    }
    let size: u64 = ask(&mut replay.link, &["ZCARD", HISTORY]).await;
    assert_eq!(result["size"], size);
    assert_eq!(replay.broker.audit().await.unwrap(), Vec::<String>::new());
}

/// Fires the schedule `ID3` once, at the current time; `n` distinguishes the occurrences.
async fn fire(replay: &Replay, task: &str, n: i64) {
    let schedule = ScheduleId::from_text(ID3);
    let now = runner_core::clock::Clock::now(&*replay.clock);
    let registration = Registration {
        id: schedule.clone(),
        revision: "1".to_owned(),
    };
    let standing = replay.broker.register(&[registration]).await.unwrap().remove(0);
    let to = Timestamp::from_second(now.as_second() + 1 + n).unwrap();
    let commit = Commit {
        id: schedule,
        from: standing.cursor,
        to,
        fires: vec![CommitFire {
            nominal: to,
            fire_at: now,
            task: Task::new("a").id(id(task)),
            catch_up: false,
        }],
        missed: None,
        overlap: Overlap::Allow,
        unserved: false,
        instance: "web-1:4321".to_owned(),
    };
    let committed = replay.broker.commit(&[commit]).await.unwrap();
    assert!(
        matches!(&committed[..], [Committed::Done(decisions)] if decisions.len() == 1),
        "{committed:?}"
    );
}
