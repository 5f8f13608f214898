//! The table of hooks: made again when manifests change, with secrets that are read every few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::trigger::TriggerDefinition;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Hook, HookTable, Hooks, spec};
use crate::trigger::{EventSource, ListenState, MessageCounts, TriggerFault};

/// How soon a changed secret is in force, and a file that was missing is found.
const REREAD: Duration = Duration::from_secs(10);

/// The shortest secret in bytes: shorter ones can be guessed.
const SHORTEST: usize = 16;

/// Keeps the table of hooks.
pub(crate) struct WebhookSource {
    wanted: watch::Sender<Vec<Arc<TriggerDefinition>>>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl WebhookSource {
    /// Of the hooks of this process.
    pub(crate) fn new(hooks: Arc<Hooks>) -> Self {
        // The first set is the first one that is adopted, not the empty one.
        let (wanted, receiver) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep(hooks, receiver, stop.clone()));
        Self {
            wanted,
            stop,
            task: Some(task),
        }
    }
}

#[async_trait]
impl EventSource for WebhookSource {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        spec(trigger).is_some()
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        self.wanted.send_replace(triggers);
    }

    async fn end(&mut self) {
        // The table stays: calls under way end by themselves.
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

async fn keep(hooks: Arc<Hooks>, mut wanted: watch::Receiver<Vec<Arc<TriggerDefinition>>>, stop: CancellationToken) {
    let mut read = tokio::time::interval(REREAD);
    read.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once.
    read.tick().await;
    if wanted.changed().await.is_err() {
        return;
    }
    loop {
        let triggers = wanted.borrow_and_update().clone();
        let secrets = secrets(&hooks, &triggers).await;
        if matches!(wanted.has_changed(), Ok(true)) {
            // Hooks that are gone must not be noted again.
            continue;
        }
        let table = table(&hooks, triggers.into_iter().zip(secrets));
        hooks.table.send_replace(Some(Arc::new(table)));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = hooks.changed.notified() => {}
            _ = read.tick() => {}
        }
    }
}

/// The secrets of a hook, or why they cannot be read.
type Secrets = Result<Vec<String>, String>;

async fn secrets(hooks: &Hooks, triggers: &[Arc<TriggerDefinition>]) -> Vec<Secrets> {
    let reader = hooks.secrets.clone();
    let references = triggers.iter().map(|trigger| {
        let spec = spec(trigger);
        spec.map(|spec| spec.credential.secrets().to_vec()).unwrap_or_default()
    });
    let references: Vec<Vec<String>> = references.collect();
    let count = references.len();
    let read = move |reference: &String| {
        let secret = reader.read(reference)?;
        match secret.len() < SHORTEST {
            true => Err(format!("{reference} is shorter than {SHORTEST} bytes")),
            false => Ok(secret),
        }
    };
    // Files may be on a slow disk.
    let all =
        tokio::task::spawn_blocking(move || references.iter().map(|all| all.iter().map(&read).collect()).collect());
    let failed = || vec![Err("they could not be read".to_owned()); count];
    all.await.unwrap_or_else(|_| failed())
}

fn table(hooks: &Hooks, triggers: impl Iterator<Item = (Arc<TriggerDefinition>, Secrets)>) -> HookTable {
    let mut table = HookTable::default();
    for (trigger, secrets) in triggers {
        table.longest_body = table.longest_body.max(spec(&trigger).map_or(0, |spec| spec.max_bytes));
        let (secrets, state) = match secrets {
            Ok(secrets) => (secrets, ListenState::Listening),
            Err(why) => (Vec::new(), ListenState::Failing(unread(why))),
        };
        let counts = match hooks.served.load(Ordering::Relaxed) {
            true => hooks.board.listens(&trigger, state),
            false => Arc::<MessageCounts>::default(),
        };
        let hook = Hook {
            secrets,
            counts,
            holding: AtomicBool::new(false),
            trigger: Arc::clone(&trigger),
        };
        table
            .by_function
            .entry(trigger.function.clone())
            .or_default()
            .push(Arc::new(hook));
    }
    table
}

fn unread(why: String) -> TriggerFault {
    TriggerFault {
        code: "hook_secret",
        why,
        hint: "calls get 401 until it can be read; it is tried again every 10 seconds",
    }
}
