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
use crate::messaging::ConnectionFault;
use crate::trigger::settings::SecretReader;
use crate::trigger::{EventSource, ListenState, MessageCounts};

/// How soon a changed secret is in force, and a file that was missing is found.
const REREAD: Duration = Duration::from_secs(10);

/// How soon a secret that cannot be read is tried once more: its file may be just being written.
const ONCE_MORE: Duration = Duration::from_millis(100);

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
        if !is_same(&hooks, &triggers, &secrets) {
            let table = table(&hooks, triggers.into_iter().zip(secrets));
            hooks.table.send_replace(Some(Arc::new(table)));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = hooks.changed.notified() => {}
            _ = read.tick() => {}
        }
    }
}

/// The secrets of a hook that can be read, and why another one cannot.
#[derive(Debug, Clone, Default)]
struct Secrets {
    read: Vec<String>,
    fault: Option<String>,
}

/// Whether the table has these hooks with these secrets already. Making it again would reset what is noted of each.
fn is_same(hooks: &Hooks, triggers: &[Arc<TriggerDefinition>], secrets: &[Secrets]) -> bool {
    let table = hooks.table.borrow();
    let Some(table) = table.as_ref() else { return false };
    let known: Vec<&Arc<Hook>> = table.by_function.values().flatten().collect();
    let served = hooks.served.load(Ordering::Relaxed);
    table.served == served
        && known.len() == triggers.len()
        && triggers.iter().zip(secrets).all(|(trigger, secrets)| {
            let mut same = known.iter().filter(|hook| Arc::ptr_eq(&hook.trigger, trigger));
            same.any(|hook| hook.secrets == secrets.read && hook.fault == secrets.fault)
        })
}

async fn secrets(hooks: &Hooks, triggers: &[Arc<TriggerDefinition>]) -> Vec<Secrets> {
    let reader = hooks.secrets.clone();
    let references = triggers.iter().map(|trigger| {
        let spec = spec(trigger);
        spec.map(|spec| spec.credential.secrets().to_vec()).unwrap_or_default()
    });
    let references: Vec<Vec<String>> = references.collect();
    let count = references.len();
    // Files may be on a slow disk.
    let all = tokio::task::spawn_blocking(move || references.iter().map(|all| read_all(&reader, all)).collect());
    let failed = || Secrets {
        read: Vec::new(),
        fault: Some("they could not be read".to_owned()),
    };
    all.await.unwrap_or_else(|_| vec![failed(); count])
}

#[allow(clippy::disallowed_methods)] // a named wait on a thread that may block
fn read_all(reader: &SecretReader, references: &[String]) -> Secrets {
    let mut secrets = Secrets::default();
    for reference in references {
        let read = read_one(reader, reference).or_else(|_| {
            std::thread::sleep(ONCE_MORE);
            read_one(reader, reference)
        });
        match read {
            Ok(secret) => secrets.read.push(secret),
            Err(why) => secrets.fault = secrets.fault.or(Some(why)),
        }
    }
    secrets
}

/// White space around a secret is that of an editor or a shell.
fn read_one(reader: &SecretReader, reference: &str) -> Result<String, String> {
    let secret = reader.read(reference)?;
    let secret = secret.trim();
    match secret.len() < SHORTEST {
        true => Err(format!("{reference} is shorter than {SHORTEST} bytes")),
        false => Ok(secret.to_owned()),
    }
}

fn table(hooks: &Hooks, triggers: impl Iterator<Item = (Arc<TriggerDefinition>, Secrets)>) -> HookTable {
    let mut table = HookTable {
        served: hooks.served.load(Ordering::Relaxed),
        ..HookTable::default()
    };
    for (trigger, secrets) in triggers {
        table.longest_body = table.longest_body.max(spec(&trigger).map_or(0, |spec| spec.max_bytes));
        let state = match secrets.fault.clone() {
            None => ListenState::Listening,
            Some(why) => ListenState::Failing(unread(why)),
        };
        let counts = match table.served {
            true => hooks.board.listens(&trigger, state),
            false => Arc::<MessageCounts>::default(),
        };
        let hook = Hook {
            secrets: secrets.read,
            fault: secrets.fault,
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

fn unread(why: String) -> ConnectionFault {
    ConnectionFault {
        code: "hook_secret",
        why,
        hint: "calls with this secret get 401; a file is read again every 10 seconds, a variable at the next start",
    }
}
