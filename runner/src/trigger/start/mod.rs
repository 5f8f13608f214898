//! Runs functions with `on_start` when the service starts: when an instance comes up and no other one is there that has seen to
//! it. Instances that join, rolling restarts and edits start nothing.
//!
//! Instances tell each other by documents what they have seen to. Two that come up at the same moment enqueue the same id, which
//! is accepted once: it has the number of the start, which is counted in a document that is read before the others are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::TaskId;
use runner_core::trigger::{TriggerDefinition, TriggerId, TriggerKind};
use runner_queue::{Broker, BrokerError, BrokerResult, Delivery};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Board, EventSource, Intake, ListenState, MessageCounts, TriggerParts};
use crate::background::{self, BackgroundLoop};

/// The kind of the documents in which an instance says what it has seen to.
const SEEN_TO: &str = "starts";

/// The kind of the documents that count the starts of each function.
const NUMBERS: &str = "start-numbers";

/// How often an instance says so.
const EVERY: Duration = Duration::from_secs(5);

/// For how long that holds: two rounds may fail.
const VALID: Duration = Duration::from_secs(20);

/// How long starts are counted after the last one.
const COUNTED: Duration = Duration::from_secs(300 * 86_400);

/// How long the id of a start is refused: longer than instances come up beside each other.
const REMEMBER: Duration = Duration::from_secs(86_400);

/// How soon there is a further look while the broker does not answer.
const SOON: Duration = Duration::from_secs(1);

/// How long taking back what was said may take at the end.
const FORGET: Duration = Duration::from_secs(1);

/// One function, and whether this start of it has been seen to.
struct Awaited {
    trigger: Arc<TriggerDefinition>,
    seen_to: bool,
}

type All = Arc<Mutex<BTreeMap<TriggerId, Awaited>>>;

/// All functions with `on_start`.
pub(super) struct StartSource {
    all: All,
    board: Arc<Board>,
    /// Whether a set of triggers was adopted before: what appears later is an edit.
    began: bool,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl StartSource {
    pub(super) fn new(parts: &TriggerParts, intake: &Intake) -> Self {
        let (all, wake, stop) = (All::default(), Arc::new(Notify::new()), CancellationToken::new());
        let role = StartLoop {
            all: all.clone(),
            intake: intake.clone(),
            board: parts.board.clone(),
            instance: parts.instance.clone(),
            stop: stop.clone(),
            said: false,
        };
        let (waking, ending) = (wake.clone(), stop.clone());
        let (broker, name) = (parts.broker.clone(), parts.instance.clone());
        let task = tokio::spawn(async move {
            background::run(role, &waking, &ending).await;
            // So that the next process begins a start at once; a broker that is away forgets it by itself.
            drop(tokio::time::timeout(FORGET, broker.drop_document(SEEN_TO, &name)).await);
        });
        Self {
            all,
            board: parts.board.clone(),
            began: false,
            wake,
            stop,
            task: Some(task),
        }
    }
}

#[async_trait]
impl EventSource for StartSource {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        matches!(trigger.kind, TriggerKind::Start)
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        let mut all = lock(&self.all);
        all.retain(|id, _| triggers.iter().any(|trigger| trigger.id == *id));
        for trigger in triggers {
            let known = all.get(&trigger.id).map(|before| before.seen_to);
            let seen_to = known.unwrap_or(self.began);
            let state = match seen_to {
                true => ListenState::Listening,
                false => ListenState::Starting,
            };
            self.board.listens(&trigger, state);
            all.insert(trigger.id.clone(), Awaited { trigger, seen_to });
        }
        self.began = true;
        self.wake.notify_one();
    }

    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // That it panicked is logged where it did.
            drop(task.await);
        }
    }
}

struct StartLoop {
    all: All,
    intake: Intake,
    board: Arc<Board>,
    instance: String,
    stop: CancellationToken,
    /// Whether the broker may have a document of this instance.
    said: bool,
}

#[async_trait]
impl BackgroundLoop for StartLoop {
    fn name(&self) -> &'static str {
        "starts of the service"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.look().await {
            Ok(()) => None,
            Err(error) => {
                self.intake.failed("see to functions that run on start", &error);
                Some(SOON)
            }
        }
    }
}

impl StartLoop {
    async fn look(&mut self) -> BrokerResult<()> {
        let waiting: Vec<_> = {
            let all = lock(&self.all);
            let new = all.values().filter(|one| !one.seen_to);
            new.map(|one| one.trigger.clone()).collect()
        };
        for trigger in waiting {
            if !self.see_to(&trigger).await? {
                return Ok(());
            }
        }
        self.say().await
    }

    /// Whether to go on: not after a stop.
    async fn see_to(&mut self, trigger: &Arc<TriggerDefinition>) -> BrokerResult<bool> {
        let broker = self.intake.broker();
        // The number before the others: an instance raises it only after it has said what it saw to.
        let number = number_of(broker, &trigger.id).await?;
        let others = seen_to_by_others(broker, &self.instance).await?;
        if others.iter().any(|id| id == trigger.id.as_str()) {
            self.seen_to(trigger, false);
            return Ok(true);
        }
        if let Some(fault) = trigger.payload_fault(trigger.task.payload.as_deref()) {
            self.seen_to(trigger, false);
            self.board.bad(trigger, &fault.to_string());
            return Ok(true);
        }
        let next = number.saturating_add(1);
        let mut task = trigger.task.clone();
        let id = format!("{}@{next}", trigger.id);
        task.id = TaskId::new(id).ok();
        let delivery = Delivery {
            task,
            remember: REMEMBER,
        };
        let holding = |error: &BrokerError| {
            self.board.listens(trigger, ListenState::Holding(error.code()));
        };
        let Some(answers) = self.intake.accept(&[delivery], &self.stop, holding).await else {
            return Ok(false);
        };
        let accepted = answers.iter().any(Result::is_ok);
        self.seen_to(trigger, accepted);
        if accepted {
            tracing::info!(
                trigger = trigger.id.as_str(),
                "enqueued the function that runs on start"
            );
        }
        self.say().await?;
        let name = trigger.id.as_str();
        let text = next.to_string().into_bytes();
        self.intake.broker().keep_document(NUMBERS, name, text, COUNTED).await?;
        Ok(true)
    }

    fn seen_to(&self, trigger: &Arc<TriggerDefinition>, enqueued: bool) {
        if let Some(one) = lock(&self.all).get_mut(&trigger.id) {
            one.seen_to = true;
        }
        let counts = self.board.listens(trigger, ListenState::Listening);
        MessageCounts::add(&counts.enqueued, usize::from(enqueued));
    }

    /// Tells the others what this instance has seen to. An instance that has stopped says nothing more.
    async fn say(&mut self) -> BrokerResult<()> {
        let ids: Vec<String> = {
            let all = lock(&self.all);
            all.iter()
                .filter(|(_, one)| one.seen_to)
                .map(|(id, _)| id.to_string())
                .collect()
        };
        if ids.is_empty() && !self.said {
            return Ok(());
        }
        self.said = true;
        let body = serde_json::to_vec(&ids).unwrap_or_default();
        self.intake
            .broker()
            .keep_document(SEEN_TO, &self.instance, body, VALID)
            .await
    }
}

/// How many starts of a function there were.
async fn number_of(broker: &dyn Broker, id: &TriggerId) -> BrokerResult<u64> {
    let text = broker.document(NUMBERS, id.as_str()).await?;
    let number = text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    Ok(number.unwrap_or_default())
}

/// What other instances have seen to that are there.
async fn seen_to_by_others(broker: &dyn Broker, own: &str) -> BrokerResult<Vec<String>> {
    let said = broker.documents(SEEN_TO).await?;
    let others = said
        .into_iter()
        .filter(|(name, _)| name != own && !has_died_here(name, own));
    let ids = others.filter_map(|(_, body)| serde_json::from_slice::<Vec<String>>(&body).ok());
    Ok(ids.flatten().collect())
}

/// Whether an instance, `host:pid`, was a process of this host that is gone: its document outlives a kill.
fn has_died_here(name: &str, own: &str) -> bool {
    let host = |name: &str| {
        name.rsplit_once(':')
            .map(|(host, pid)| (host.to_owned(), pid.to_owned()))
    };
    let (Some((there, pid)), Some((here, _))) = (host(name), host(own)) else {
        return false;
    };
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    there == here && is_number && !Path::new("/proc").join(pid).exists()
}

fn lock(all: &All) -> MutexGuard<'_, BTreeMap<TriggerId, Awaited>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_host_that_is_gone_does_not_count() {
        let own = format!("here:{}", std::process::id());
        // Above the highest process id of Linux.
        assert!(has_died_here("here:4999999", &own));
        assert!(
            !has_died_here("there:4999999", &own),
            "nothing is known of processes elsewhere"
        );
        assert!(!has_died_here("here:1", &own));
        for odd in ["here", "here:", "here:../1", ""] {
            assert!(!has_died_here(odd, &own), "{odd}");
        }
    }
}
