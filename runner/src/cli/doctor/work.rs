//! Whether tasks are run: workers, queues that wait, tasks whose worker is gone, and tasks that failed for good.

use std::time::Duration;

use runner_core::task::{QueueName, TaskState};
use runner_queue::{Broker, BrokerResult, Page, QueueInfo, ServerView};

use super::diagnosis::{Diagnosis, Level, level_of};
use crate::cli::reasons::ReasonPrinter;
use crate::cli::{CommandContext, print};
use crate::diagnose::Reason;
use crate::facts;

/// Queues that are looked at: about a millisecond of the store each.
const QUEUES: usize = 200;

/// A pending task that waits longer is asked why.
const WAITS_LONG: Duration = Duration::from_secs(60);

/// A lease that ended longer ago should have been taken back: recoverers look every five seconds.
const LEASE_OVERDUE: Duration = Duration::from_secs(60);

/// Active tasks of a page, and pages of a queue that are looked at: more than workers hold at once.
const ACTIVE: usize = 500;
const ACTIVE_PAGES: usize = 20;

/// Of those whose lease is over this many are named.
const NAMED: usize = 10;

/// The first tasks of a list.
const FIRST: Page = Page { number: 1, size: 20 };

/// The area.
const QUEUE: &str = "queues";

pub(super) async fn look(context: &CommandContext, broker: &dyn Broker) -> Vec<Diagnosis> {
    match ask(context, broker).await {
        Ok(found) => found,
        Err(error) => {
            let text = format!("it cannot be asked about queues: {}", runner_core::chain::chain(&error));
            vec![Diagnosis::new(Level::Error, QUEUE, text).code(error.code())]
        }
    }
}

async fn ask(context: &CommandContext, broker: &dyn Broker) -> BrokerResult<Vec<Diagnosis>> {
    let names = broker.queue_names().await?;
    let looked_at = &names[..names.len().min(QUEUES)];
    let queues = broker.queues_of(looked_at).await?;
    let servers = broker.servers().await?;
    let mut found = vec![workers(&servers, &queues)];
    let before = found.len();
    for queue in &queues {
        found.extend(waiting(context, broker, queue).await?);
        found.extend(abandoned(broker, queue).await?);
        found.extend(failed(broker, queue).await?);
    }
    if found.len() == before {
        let tasks: u64 = queues.iter().map(QueueInfo::size).sum();
        let text = format!(
            "{}, {}, none waits too long",
            print::counted(queues.len(), "queue"),
            print::task_count(tasks)
        );
        found.push(Diagnosis::new(Level::Ok, QUEUE, text));
    }
    if names.len() > QUEUES {
        let text = format!("only {QUEUES} of {} queues were looked at", names.len());
        found.push(Diagnosis::new(Level::Warning, QUEUE, text));
    }
    Ok(found)
}

fn workers(servers: &[ServerView], queues: &[QueueInfo]) -> Diagnosis {
    if servers.is_empty() {
        let waits = queues
            .iter()
            .any(|queue| queue.counts.get(&TaskState::Pending).is_some_and(|n| *n > 0));
        let level = if waits { Level::Error } else { Level::Warning };
        return Diagnosis::new(level, "workers", "no worker is running")
            .code("W108")
            .hint("start `runner`; the role worker must be on (`roles`)");
    }
    let of = |server: &ServerView| {
        let info = &server.info;
        format!(
            "{}:{} runs {} of {}",
            info.host, info.pid, info.active, info.concurrency
        )
    };
    let all: Vec<String> = servers.iter().map(of).collect();
    Diagnosis::new(Level::Ok, "workers", all.join("; "))
}

/// Why the oldest tasks of a queue wait, if they wait for long.
async fn waiting(context: &CommandContext, broker: &dyn Broker, queue: &QueueInfo) -> BrokerResult<Vec<Diagnosis>> {
    if queue.latency < WAITS_LONG && !queue.paused {
        return Ok(Vec::new());
    }
    let oldest = broker.tasks(&queue.name, TaskState::Pending, FIRST).await?;
    let Some(task) = oldest.tasks.first() else {
        return Ok(Vec::new());
    };
    let reasons = facts::of_task(broker, &queue.name, &task.record.id).await?;
    let reasons = reasons.unwrap_or_default();
    let counted = queue.counts.get(&TaskState::Pending).copied().unwrap_or(0);
    let waits = format!(
        "{} pending in {}, the oldest ({} {}) for {}",
        print::task_count(counted),
        queue.name,
        task.record.kind,
        task.record.id,
        print::took(queue.latency)
    );
    let first = reasons.iter().find(|reason| Reason::is_warning(reason));
    let Some(reason) = first else {
        let hint = "all slots are taken: more workers, or a larger worker.concurrency";
        return Ok(vec![Diagnosis::new(Level::Warning, QUEUE, waits).hint(hint)]);
    };
    let printer = ReasonPrinter {
        now: context.clock.now(),
        zone: &jiff::tz::TimeZone::UTC,
    };
    let text = format!("{waits}: {}", printer.sentence(reason));
    let finding = Diagnosis::new(level_of(reason), QUEUE, text).code(reason.code.as_str());
    Ok(vec![match printer.hint(reason) {
        Some(hint) => finding.hint(hint),
        None => finding,
    }])
}

/// Tasks that are active although their lease ended.
async fn abandoned(broker: &dyn Broker, queue: &QueueInfo) -> BrokerResult<Option<Diagnosis>> {
    if queue.counts.get(&TaskState::Active).is_none_or(|active| *active == 0) {
        return Ok(None);
    }
    let since = broker.now().await?.checked_sub(LEASE_OVERDUE).unwrap_or_default();
    let mut ids: Vec<String> = Vec::new();
    for number in 1..=ACTIVE_PAGES {
        let page = Page { number, size: ACTIVE };
        let active = broker.tasks(&queue.name, TaskState::Active, page).await?.tasks;
        let over = active
            .iter()
            .filter(|task| task.lease_until.is_some_and(|until| until < since));
        ids.extend(over.map(|task| task.record.id.to_string()));
        if active.len() < ACTIVE {
            break;
        }
    }
    if ids.is_empty() {
        return Ok(None);
    }
    let more = match ids.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    ids.truncate(NAMED);
    let named = ids.join(", ");
    let text = format!("active in {} although their lease is over: {named}{more}", queue.name);
    let hint = "their worker is gone; a running worker of this queue takes them back within seconds";
    Ok(Some(Diagnosis::new(Level::Error, "tasks", text).hint(hint)))
}

/// Tasks that failed for good.
async fn failed(broker: &dyn Broker, queue: &QueueInfo) -> BrokerResult<Option<Diagnosis>> {
    let count = queue.counts.get(&TaskState::Archived).copied().unwrap_or(0);
    if count == 0 {
        return Ok(None);
    }
    let newest = broker
        .tasks(&queue.name, TaskState::Archived, Page { number: 1, size: 1 })
        .await?;
    let last = newest.tasks.first().map_or_else(String::new, |task| {
        format!(
            "; the newest is {} {}: {}",
            task.record.kind, task.record.id, task.record.last_error
        )
    });
    let text = format!("{} archived in {}{last}", print::task_count(count), queue.name);
    let hint = format!("`runner ls tasks --queue {} --state archived`", quoted(&queue.name));
    Ok(Some(Diagnosis::new(Level::Warning, "tasks", text).hint(hint)))
}

fn quoted(queue: &QueueName) -> String {
    crate::text::shell::word(queue.as_str())
}
