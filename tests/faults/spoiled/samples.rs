//! What calls are given, where it takes more than a line.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{RunCounts, RunSeries, Task};
use runner_queue::{
    Broker, BrokerResult, CountedBy, NewWorkflow, ServerInfo, ServerStatus, WorkflowPlan, WorkflowStep, Working,
};

use crate::faults::{id, queue};

/// A workflow of two steps.
pub fn workflow(name: &str) -> NewWorkflow {
    let step = || (WorkflowStep::of(&Task::new("a"), None), Bytes::from("1"));
    NewWorkflow {
        id: name.to_owned(),
        plan: WorkflowPlan {
            name: "import".to_owned(),
            stages: vec![2],
            ..WorkflowPlan::default()
        },
        steps: vec![step(), step()],
    }
}

/// A server.
pub fn server() -> ServerInfo {
    ServerInfo {
        host: "host".to_owned(),
        pid: 1,
        id: "bad".to_owned(),
        concurrency: 1,
        queues: [("default".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at: Timestamp::UNIX_EPOCH,
        active: 1,
        handlers: vec!["x".to_owned()],
    }
}

/// A task in work.
pub fn working() -> Working {
    Working {
        id: id("bad"),
        kind: "x".to_owned(),
        queue: queue(),
        started_at: Timestamp::UNIX_EPOCH,
        deadline: Timestamp::UNIX_EPOCH,
    }
}

/// Runs of a queue, as a worker adds them.
pub fn run_counts() -> Vec<(RunSeries, RunCounts)> {
    let counts = RunCounts {
        done: 3,
        failed: 1,
        ..RunCounts::default()
    };
    [RunSeries::All, RunSeries::Queue("default".to_owned())]
        .map(|series| (series, counts.clone()))
        .into()
}

/// Adds some of them and reads them by minute and by hour.
pub async fn read_run_counts(broker: &dyn Broker, now: Timestamp) -> BrokerResult<()> {
    broker.add_run_counts(&run_counts(), Duration::ZERO).await?;
    for by in [CountedBy::Minute, CountedBy::Hour] {
        let range = (Timestamp::UNIX_EPOCH, now);
        broker.run_counts(&[RunSeries::All], by, range).await?;
    }
    Ok(())
}
