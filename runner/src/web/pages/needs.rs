//! What needs a person, for the first page: one line for each of it, the worst first, each with the one thing to do.
//!
//! Collects what others have found out. Not here: problems of definitions, triggers and the broker, of which the page lists
//! errors beside these.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::schedule::{Plan, ScheduleId};
use runner_core::task::TaskState;
use runner_queue::{Decision, DecisionKind, QueueInfo, ServerView, UnclaimedTypes};
use serde::Serialize;

use super::failures::{FailedTasks, FailingSchedule, Failures};
use crate::diagnose::is_served;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::urls;
use crate::worker::LastSign;

/// Lines of one kind: more of them have one cause.
const EACH: usize = 5;
/// How long the page speaks of a lost worker; that of servers does so for a day.
const LOST_LATELY: Duration = Duration::from_secs(3600);
/// The latency at which a queue needs attention.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// What is wrong. The order is that of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum NeedKind {
    /// Tasks wait in a queue that no server takes from.
    Unserved,
    /// No worker handles a type.
    Unclaimed,
    /// A schedule keeps failing.
    Failing,
    /// A worker fell silent.
    Lost,
    /// Tasks failed for good.
    Failed,
    /// Occurrences were missed.
    Missed,
    /// Tasks wait for long although there is a server.
    Late,
    /// A queue is paused, and tasks wait.
    Paused,
}

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct NeedLine {
    kind: NeedKind,
    bad: bool,
    about: String,
    url: String,
    n: u64,
    span: String,
    /// Since when, or when last.
    at: Option<InstantText>,
    /// An error, or the name of a queue.
    what: String,
    /// Where the form of its action goes; the others are links.
    act: Option<String>,
    /// Where its link goes.
    see: String,
}

impl NeedLine {
    fn new(kind: NeedKind, about: &str, url: String, n: u64) -> Self {
        Self {
            kind,
            bad: kind < NeedKind::Missed,
            about: format::cut(about, IN_A_LIST),
            see: url.clone(),
            url,
            n,
            span: String::new(),
            at: None,
            what: String::new(),
            act: None,
        }
    }
}

/// What lines are made from.
pub(super) struct NeedFacts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) queues: &'a [QueueInfo],
    pub(super) servers: &'a [ServerView],
    pub(super) lost: &'a [LastSign],
    pub(super) failures: &'a Failures,
    pub(super) unclaimed: &'a UnclaimedTypes,
    pub(super) recent: &'a [Decision],
}

/// The lines, and how many further ones there are.
#[derive(Debug, Default, Serialize)]
pub(super) struct NeedList {
    lines: Vec<NeedLine>,
    more: usize,
}

impl NeedList {
    pub(super) fn new(locale: &Locale, facts: &NeedFacts<'_>) -> Self {
        let mut lines: Vec<NeedLine> = facts
            .queues
            .iter()
            .filter_map(|q| of_queue(locale, q, facts.servers))
            .collect();
        // A queue without a server needs one line, whatever types are in it.
        let unserved = |queue: &str| {
            lines
                .iter()
                .any(|line| line.kind == NeedKind::Unserved && line.about == queue)
        };
        let types = unclaimed(locale, facts.unclaimed).filter(|line| !unserved(&line.what));
        let types: Vec<NeedLine> = types.collect();
        // That says why such a queue is slow.
        let explained = |line: &NeedLine| types.iter().any(|one| one.what == line.about);
        lines.retain(|line| line.kind != NeedKind::Late || !explained(line));
        lines.extend(types);
        lines.extend(facts.failures.schedules.iter().map(|one| failing(locale, one)));
        let recent = facts.lost.iter().filter(|sign| is_recent(locale, sign));
        lines.extend(recent.map(|sign| lost(locale, sign)));
        lines.extend(facts.failures.tasks.iter().map(|one| failed(locale, one)));
        lines.extend(missed(locale, facts.plan, facts.recent));
        // Within a kind those that concern most tasks.
        lines.sort_by_key(|line| (line.kind, std::cmp::Reverse(line.n)));
        let all = lines.len() + facts.failures.further();
        let mut of_kind: BTreeMap<NeedKind, usize> = BTreeMap::new();
        lines.retain(|line| {
            let n = of_kind.entry(line.kind).or_default();
            *n += 1;
            *n <= EACH
        });
        Self {
            more: all - lines.len(),
            lines,
        }
    }

    /// How many there are in all.
    pub(super) fn count(&self) -> usize {
        self.lines.len() + self.more
    }
}

/// The line of a queue, which has one at most.
fn of_queue(locale: &Locale, queue: &QueueInfo, servers: &[ServerView]) -> Option<NeedLine> {
    use TaskState::{Pending, Retry, Scheduled};
    let count = |state| queue.counts.get(&state).copied().unwrap_or_default();
    let (name, pending) = (queue.name.as_str(), count(Pending));
    let waiting = pending + count(Scheduled) + count(Retry);
    let kind = match () {
        () if queue.paused && pending > 0 => NeedKind::Paused,
        () if waiting > 0 && !is_served(servers, name) => NeedKind::Unserved,
        () if !queue.paused && queue.latency >= LATE => NeedKind::Late,
        () => return None,
    };
    let n = if kind == NeedKind::Unserved { waiting } else { pending };
    let state = if pending > 0 { Pending } else { Scheduled };
    Some(NeedLine {
        span: locale.span(Duration::from_secs(queue.latency.as_secs())),
        act: (kind == NeedKind::Paused).then(|| format!("{}/resume", urls::queue(name))),
        see: urls::tasks(name, state.as_str()),
        ..NeedLine::new(kind, name, urls::queue(name), n)
    })
}

fn unclaimed(locale: &Locale, found: &UnclaimedTypes) -> impl Iterator<Item = NeedLine> {
    found.types.iter().map(|one| {
        let waits = one.oldest.duration_until(locale.now).unsigned_abs();
        let tasks = urls::tasks(one.queue.as_str(), TaskState::Pending.as_str());
        NeedLine {
            span: locale.span(waits),
            what: one.queue.to_string(),
            ..NeedLine::new(NeedKind::Unclaimed, &one.kind, tasks, one.count)
        }
    })
}

fn failing(locale: &Locale, one: &FailingSchedule) -> NeedLine {
    let n = u64::try_from(one.in_a_row).unwrap_or(u64::MAX);
    NeedLine {
        at: one.last.map(|at| locale.moment(at)),
        ..NeedLine::new(NeedKind::Failing, &one.name, urls::schedule(one.id.as_str()), n)
    }
}

fn is_recent(locale: &Locale, sign: &LastSign) -> bool {
    locale.now.duration_since(sign.at).unsigned_abs() < LOST_LATELY
}

fn lost(locale: &Locale, sign: &LastSign) -> NeedLine {
    let name = format!("{}:{}", sign.host, sign.pid);
    let list = format!("{}/servers#lost", urls::root());
    NeedLine {
        at: Some(locale.moment(sign.at)),
        ..NeedLine::new(NeedKind::Lost, &name, list, u64::from(sign.active))
    }
}

fn failed(locale: &Locale, tasks: &FailedTasks) -> NeedLine {
    NeedLine {
        at: Some(locale.moment(tasks.last)),
        what: format::cut(&tasks.error, IN_A_LIST),
        ..NeedLine::new(NeedKind::Failed, &tasks.kind, tasks.url.clone(), tasks.n)
    }
}

/// Occurrences that were missed, by schedule.
fn missed(locale: &Locale, plan: &Plan, decisions: &[Decision]) -> Vec<NeedLine> {
    let mut by_schedule: BTreeMap<&ScheduleId, (u64, &Decision)> = BTreeMap::new();
    // The newest is the first.
    for decision in decisions.iter().filter(|d| d.kind == DecisionKind::Missed) {
        let (n, _) = by_schedule.entry(&decision.schedule).or_insert((0, decision));
        *n += u64::from(decision.count.max(1));
    }
    let line = |(id, (n, last)): (&ScheduleId, (u64, &Decision))| {
        let schedule = plan.schedules.get(id);
        let name = schedule.map(|d| d.name.as_str()).filter(|name| !name.is_empty());
        NeedLine {
            at: Some(locale.moment(last.nominal)),
            see: urls::decisions(Some("lost"), None),
            ..NeedLine::new(
                NeedKind::Missed,
                name.unwrap_or(id.as_str()),
                urls::schedule(id.as_str()),
                n,
            )
        }
    };
    by_schedule.into_iter().map(line).collect()
}
