//! F07: answers to verdicts get lost, and once the broker disappears for a while. No handler runs twice because of that.

use std::collections::HashMap;
use std::time::Duration;

use runner_core::task::Task;

use super::{broker, contradictions, drained, handlers, id, put};
use crate::kit::{self, Fault, Harm, Proxy, Site, eventually_within};

/// One in this many calls is harmed.
const EVERY: u64 = 3;

/// One in this many harmed calls also breaks the connection.
const CUT: u64 = 30;

/// How long the broker is unreachable: shorter than a lease.
const OUTAGE: Duration = Duration::from_millis(1500);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f07_lost_answers_to_verdicts_run_nothing_twice]
}

async fn f07_lost_answers_to_verdicts_run_nothing_twice() {
    let tasks = if kit::long() { 2_000 } else { 600 };
    let db = kit::redis().fresh_db();
    let proxy = Proxy::start(db.port, "local function finish(at)", "ack-", |nth| {
        let harm = match nth / EVERY {
            n if n % CUT == 0 => Harm::Cut,
            n if n % 2 == 0 => Harm::NotSent,
            _ => Harm::AnswerLost,
        };
        (nth % EVERY == 0).then_some(harm)
    })
    .await;
    let site = handlers::at(Site::new(&format!(
        "redis: {{host: \"127.0.0.1:{}\", database: {}}}\nroles: [worker, web]\nworker: {{concurrency: 5, lease: 6s}}\n",
        proxy.port, db.number
    )));
    let workers = [site.start().await, site.start().await];
    let broker = broker(&db);
    let some = (0..tasks).map(|n| Task::new("test:quick").id(id(&format!("ack-{n:05}"))));
    put(&broker, some.collect()).await;
    eventually_within(Duration::from_secs(60), "half of them have run", async || {
        let ended = handlers::events(&site).iter().filter(|e| e.what == "end").count();
        if ended * 2 >= tasks { Ok(()) } else { Err(ended) }
    })
    .await;
    proxy.outage(OUTAGE).await;
    drained(&broker, Duration::from_secs(60)).await;

    let (calls, harmed) = proxy.counts();
    let mut runs: HashMap<String, usize> = HashMap::new();
    for event in handlers::events(&site).into_iter().filter(|e| e.what == "begin") {
        *runs.entry(event.id).or_default() += 1;
    }
    let reruns: usize = runs.values().map(|n| n - 1).sum();
    let wrong = contradictions(&broker).await;
    let mut fault = Fault::new("F07");
    fault
        .figure("tasks", tasks)
        .require("acks_failed", harmed, harmed > 0)
        .figure("acks_sent", calls)
        .figure("outage_ms", OUTAGE.as_millis())
        .require("lost", tasks - runs.len(), runs.len() == tasks)
        .require("reruns", reruns, reruns == 0)
        .figure("ack_delay_max_ms", proxy.longest_wait().as_millis())
        .require("contradictions", wrong.len(), wrong.is_empty());
    for worker in workers {
        assert!(worker.stop().await.success());
    }
    fault.end(|| format!("{wrong:#?}"));
}
