//! `runner ls tasks`: tasks of one queue or of all, in the order of their lists, on request of one type only.
//!
//! The lists of several queues are merged here, page by page; a broker lists one queue and one state at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use clap::Args;
use jiff::tz::TimeZone;
use runner_core::task::{QueueName, QueuePattern, TaskState};
use runner_queue::{Broker, Page, RawTask, TaskInfo, TaskPage};

use super::exit::Usage;
use super::queue::known;
use super::{CommandContext, print};
use crate::objects::TaskListItem;

/// Queues that the broker is asked about in one call.
const CHUNK: usize = 500;

/// Tasks that are read ahead from all queues together: with their payloads a few megabytes.
const AHEAD: usize = 2_000;

/// Tasks of one state that are searched for those of one type.
const LOOKED_AT: usize = 100_000;

/// List tasks of one queue, or of all
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner ls tasks --state archived\n  \
    runner ls tasks --type 'mail:*' --state retry\n  \
    runner ls tasks --queue low --state retry --size 100 --json | jq -r '.[].last_error'\n  \
    runner ls tasks --group digest:ada\n\n\
    Archived and completed tasks are listed newest first; the others in the order of their turn: pending ones as they\n\
    will be claimed, scheduled ones and retries by their time, active ones by when they were claimed.")]
pub(super) struct Tasks {
    /// Only tasks in this queue [default: all queues]
    #[arg(long)]
    queue: Option<String>,
    /// Only tasks in this state [default: a page of each]
    #[arg(long)]
    state: Option<TaskState>,
    /// Only tasks of this type; * matches any characters
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only tasks that wait in this group
    #[arg(long, conflicts_with = "state")]
    group: Option<String>,
    /// Page number, from 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    page: u32,
    /// Tasks on a page
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1000))]
    size: u16,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
}

/// What a list shows.
#[derive(Default)]
struct Found {
    tasks: Vec<TaskInfo>,
    unreadable: Vec<(QueueName, RawTask)>,
}

impl Found {
    fn add(&mut self, queue: &QueueName, item: Item) {
        match item {
            Item::Task(task) => self.tasks.push(*task),
            Item::Raw(raw) => self.unreadable.push((queue.clone(), raw)),
        }
    }
}

impl Tasks {
    pub(super) async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let queue = self.queue.as_deref().map(QueueName::new).transpose();
        let queue = queue.map_err(|e| Usage(e.to_string()))?;
        let broker = context.looked_at().await?;
        let broker = broker.as_ref();
        if let Some(queue) = &queue {
            known(broker, queue).await?;
        }
        let mut found = Found::default();
        let states = match (&self.group, self.state) {
            (Some(_), _) => vec![TaskState::Aggregating],
            (None, Some(state)) => vec![state],
            (None, None) => TaskState::ALL.to_vec(),
        };
        let lists = lists(broker, queue, &states).await?;
        for (state, queues) in states.into_iter().zip(lists) {
            self.list(broker, state, queues, &mut found).await?;
        }
        self.show(&found, &context.settings()?.source.zone)
    }

    /// Adds the page of one state.
    async fn list(
        &self,
        broker: &dyn Broker,
        state: TaskState,
        queues: Vec<QueueName>,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let (number, size) = (self.page as usize, usize::from(self.size));
        let of = Of {
            broker,
            state,
            group: self.group.as_deref(),
        };
        if let ([queue], None) = (&queues[..], &self.kind) {
            for item in items(of.page(queue, Page { number, size }).await?) {
                found.add(queue, item);
            }
            return Ok(());
        }
        let ahead = AHEAD / queues.len().max(1);
        // There may be few of one type: then whole lists are read.
        let portion = if self.kind.is_some() { 1000 } else { size };
        let mut merged = Merged::of(of, queues, portion.min(ahead).max(1));
        let (mut skip, mut looked) = ((number - 1).saturating_mul(size), 0);
        let mut room = size;
        while room > 0 {
            if self.kind.is_some() && looked == LOOKED_AT {
                print::note(&format!(
                    "only the first {LOOKED_AT} tasks that are {state} were looked at; name a queue to look at others"
                ));
                break;
            }
            let Some((queue, item)) = merged.next().await? else {
                break;
            };
            looked += 1;
            if !self.wants(&item) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            room -= 1;
            found.add(&queue, item);
        }
        Ok(())
    }

    fn wants(&self, item: &Item) -> bool {
        let Some(kind) = &self.kind else { return true };
        match item {
            Item::Task(task) => is_of(kind, &task.record.kind),
            // Its type cannot be read.
            Item::Raw(_) => false,
        }
    }

    fn show(&self, found: &Found, zone: &TimeZone) -> anyhow::Result<()> {
        let Found { tasks, unreadable } = found;
        if self.json {
            let readable = tasks.iter().map(|task| TaskListItem::of(task, zone));
            let unreadable = unreadable
                .iter()
                .map(|(queue, raw)| TaskListItem::unreadable(queue, raw));
            return Ok(print::json(&readable.chain(unreadable).collect::<Vec<_>>())?);
        }
        let readable = tasks.iter().map(|task| row(task, zone));
        let rows: Vec<Vec<String>> = readable
            .chain(unreadable.iter().map(|(queue, raw)| raw_row(queue, raw)))
            .collect();
        let heading = ["ID", "TYPE", "QUEUE", "STATE", "RETRIED", "WHEN", "NOTE"];
        Ok(print::text(&print::table(&heading, &rows))?)
    }
}

fn is_of(pattern: &str, kind: &str) -> bool {
    QueuePattern::new(pattern).map_or(pattern == kind, |pattern| pattern.matches(kind))
}

/// For each state the queues that have tasks in it, by name; a queue that was named has any.
async fn lists(
    broker: &dyn Broker,
    queue: Option<QueueName>,
    states: &[TaskState],
) -> anyhow::Result<Vec<Vec<QueueName>>> {
    if let Some(queue) = queue {
        return Ok(vec![vec![queue]; states.len()]);
    }
    let mut lists = vec![Vec::new(); states.len()];
    for chunk in broker.queue_names().await?.chunks(CHUNK) {
        for info in broker.queues_of(chunk).await? {
            for (state, list) in states.iter().zip(&mut lists) {
                if info.counts.get(state).is_some_and(|count| *count > 0) {
                    list.push(info.name.clone());
                }
            }
        }
    }
    Ok(lists)
}

/// What is on a list.
enum Item {
    Task(Box<TaskInfo>),
    Raw(RawTask),
}

fn items(page: TaskPage) -> impl Iterator<Item = Item> {
    let tasks = page.tasks.into_iter().map(|task| Item::Task(Box::new(task)));
    tasks.chain(page.unreadable.into_iter().map(Item::Raw))
}

/// Which lists are read.
#[derive(Clone, Copy)]
struct Of<'b> {
    broker: &'b dyn Broker,
    state: TaskState,
    group: Option<&'b str>,
}

impl Of<'_> {
    async fn page(&self, queue: &QueueName, page: Page) -> anyhow::Result<TaskPage> {
        Ok(match self.group {
            Some(group) => self.broker.group_tasks(queue, group, page).await?,
            None => self.broker.tasks(queue, self.state, page).await?,
        })
    }
}

/// The lists of several queues as one, each read a portion at a time.
struct Merged<'b> {
    of: Of<'b>,
    portion: usize,
    feeds: Vec<Feed>,
    /// The first task of each feed: its place and the number of the feed.
    heads: BinaryHeap<Reverse<(i128, usize)>>,
    begun: bool,
}

struct Feed {
    queue: QueueName,
    pages: usize,
    ahead: VecDeque<Item>,
}

impl<'b> Merged<'b> {
    fn of(of: Of<'b>, queues: Vec<QueueName>, portion: usize) -> Self {
        let feed = |queue| Feed {
            queue,
            pages: 0,
            ahead: VecDeque::new(),
        };
        Self {
            of,
            portion,
            feeds: queues.into_iter().map(feed).collect(),
            heads: BinaryHeap::new(),
            begun: false,
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<(QueueName, Item)>> {
        if !self.begun {
            self.begun = true;
            for nth in 0..self.feeds.len() {
                self.feed(nth).await?;
            }
        }
        let Some(Reverse((_, nth))) = self.heads.pop() else {
            return Ok(None);
        };
        let feed = &mut self.feeds[nth];
        let taken = feed.ahead.pop_front().map(|item| (feed.queue.clone(), item));
        self.feed(nth).await?;
        Ok(taken)
    }

    /// Makes the first task of a feed known, if there is one.
    async fn feed(&mut self, nth: usize) -> anyhow::Result<()> {
        let feed = &mut self.feeds[nth];
        if feed.ahead.is_empty() {
            let page = Page {
                number: feed.pages + 1,
                size: self.portion,
            };
            feed.pages += 1;
            feed.ahead.extend(items(self.of.page(&feed.queue, page).await?));
        }
        if let Some(first) = feed.ahead.front() {
            self.heads.push(Reverse((place(first), nth)));
        }
        Ok(())
    }
}

/// The place of a task among those of other queues, in ascending order. Tasks without a time come first.
fn place(item: &Item) -> i128 {
    let Item::Task(task) = item else { return i128::MIN };
    let over = task.record.completed_at.filter(|_| task.state == TaskState::Completed);
    let over = over.or(task.filed_at).map(|at| -at.as_nanosecond());
    let coming = task.next_run.or(task.pending_since).or(task.lease_until);
    over.or(coming.map(|at| at.as_nanosecond())).unwrap_or(i128::MIN)
}

fn row(task: &TaskInfo, zone: &jiff::tz::TimeZone) -> Vec<String> {
    let record = &task.record;
    let when = task
        .next_run
        .or(task.pending_since)
        .or(task.lease_until)
        .or(task.filed_at);
    let note = task.waiting_for.clone().unwrap_or_else(|| record.last_error.clone());
    vec![
        record.id.to_string(),
        record.kind.clone(),
        record.queue.to_string(),
        task.state.to_string(),
        format!("{}/{}", record.retried, record.max_retry),
        when.map_or_else(String::new, |at| print::instant(at, zone)),
        note,
    ]
}

/// A task that cannot be read; `runner task show` prints its bytes.
fn raw_row(queue: &QueueName, raw: &RawTask) -> Vec<String> {
    let id = String::from_utf8_lossy(&raw.id).into_owned();
    let state = raw.state.map_or_else(String::new, |state| state.to_string());
    let note = match &raw.why {
        Some(why) => format!("cannot be read: {why}"),
        None => format!("not read: {} bytes", raw.bytes),
    };
    vec![
        id,
        String::new(),
        queue.to_string(),
        state,
        String::new(),
        String::new(),
        note,
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use clap::FromArgMatches as _;
    use jiff::Timestamp;
    use runner_core::clock::ManualClock;
    use runner_core::task::{Task, TaskId};
    use runner_queue::embedded::EmbeddedBroker;
    use runner_queue::{Action, Actions as _, Producer as _};

    use super::*;

    /// Tasks 0 to 8 in three queues in turn, a second apart; every fourth one is of another type.
    async fn three_queues(path: &std::path::Path) -> (EmbeddedBroker, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
        let broker = EmbeddedBroker::open(path, clock.clone()).await.unwrap();
        for n in 0..9 {
            let kind = if n % 4 == 0 { "mail:fourth" } else { "other" };
            let task = Task::new(kind).id(TaskId::new(format!("{n}")).unwrap());
            let queue = QueueName::new(["b", "a", "c"][n % 3]).unwrap();
            broker.enqueue(&[task.queue(queue)]).await.unwrap().remove(0).unwrap();
            clock.advance(Duration::from_secs(1));
        }
        (broker, clock)
    }

    /// The ids of the tasks that these arguments list.
    async fn ids(broker: &EmbeddedBroker, state: TaskState, arguments: &[&str]) -> String {
        let command = Tasks::augment_args(clap::Command::new("tasks")).no_binary_name(true);
        let tasks = Tasks::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        let queue = tasks.queue.as_deref().map(|name| QueueName::new(name).unwrap());
        let queues = lists(broker, queue, &[state]).await.unwrap().remove(0);
        let mut found = Found::default();
        tasks.list(broker, state, queues, &mut found).await.unwrap();
        found.tasks.iter().map(|task| task.record.id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_lists_of_all_queues_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let (broker, _) = three_queues(&dir.path().join("q.db")).await;
        let pending = async |arguments: &[&str]| ids(&broker, TaskState::Pending, arguments).await;
        assert_eq!(pending(&[]).await, "012345678");
        assert_eq!(pending(&["--size", "4"]).await, "0123");
        assert_eq!(pending(&["--size", "4", "--page", "2"]).await, "4567");
        assert_eq!(pending(&["--size", "4", "--page", "3"]).await, "8");
        assert_eq!(pending(&["--size", "4", "--page", "4"]).await, "");
        assert_eq!(pending(&["--queue", "a", "--size", "2", "--page", "2"]).await, "7");
        assert_eq!(pending(&["--type", "mail:*"]).await, "048");
        assert_eq!(pending(&["--type", "mail:*", "--size", "2", "--page", "2"]).await, "8");
        assert_eq!(pending(&["--type", "other", "--queue", "b"]).await, "36");
        assert_eq!(pending(&["--type", "mail"]).await, "");
    }

    #[tokio::test]
    async fn what_is_over_is_listed_newest_first_over_all_queues() {
        let dir = tempfile::tempdir().unwrap();
        let (broker, clock) = three_queues(&dir.path().join("q.db")).await;
        for n in 0..9 {
            let queue = QueueName::new(["b", "a", "c"][n % 3]).unwrap();
            let id = TaskId::new(format!("{n}")).unwrap();
            broker.act(&queue, &id, Action::Archive).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        let archived = async |arguments: &[&str]| ids(&broker, TaskState::Archived, arguments).await;
        assert_eq!(archived(&["--size", "5"]).await, "87654");
        assert_eq!(archived(&["--size", "5", "--page", "2"]).await, "3210");
        assert_eq!(archived(&["--type", "mail:fourth"]).await, "840");
    }
}
