//! How each trigger and each connection is doing: written by the sources of events, read by pages, commands and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::trigger::{TriggerDefinition, TriggerId};

use crate::messaging::ConnectionFault;

/// What a trigger does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenState {
    /// Its function is disabled.
    Disabled,
    /// It waits for its connection or its first answer.
    Starting,
    /// What it listens to is not there yet, which is no fault: why, and what makes it.
    Waiting(ConnectionFault),
    /// It takes messages.
    Listening,
    /// It holds messages until the broker takes their tasks: the broker's code.
    Holding(&'static str),
    /// It does not listen, and tries again.
    Failing(ConnectionFault),
}

impl ListenState {
    /// A stable word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting",
            Self::Listening => "listening",
            Self::Holding(_) => "holding",
            Self::Failing(_) => "failing",
        }
    }

    /// Why it does not take messages, as far as something outside of this program is the reason.
    #[must_use]
    pub const fn fault(&self) -> Option<&ConnectionFault> {
        match self {
            Self::Waiting(why) | Self::Failing(why) => Some(why),
            Self::Disabled | Self::Starting | Self::Listening | Self::Holding(_) => None,
        }
    }
}

/// Messages of one trigger since the process began.
#[derive(Debug, Default)]
pub struct MessageCounts {
    /// Tasks that were enqueued.
    pub enqueued: AtomicU64,
    /// Messages whose task was enqueued before.
    pub repeated: AtomicU64,
    /// Messages of which no task could be made.
    pub bad: AtomicU64,
    /// Received and not confirmed yet.
    pub unacked: AtomicU64,
    /// Calls without a credential that is accepted.
    pub refused: AtomicU64,
}

impl MessageCounts {
    /// Adds to one of them.
    pub fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// One trigger as it is shown.
#[derive(Debug, Clone)]
pub struct TriggerStatus {
    /// The trigger.
    pub trigger: Arc<TriggerDefinition>,
    /// What it does.
    pub state: ListenState,
    /// Since when.
    pub since: Timestamp,
    /// Its messages.
    pub counts: Arc<MessageCounts>,
    /// The last message of which no task could be made: when, and why.
    pub last_bad: Option<(Timestamp, String)>,
}

/// One connection as it is shown.
#[derive(Debug, Clone)]
pub struct ConnectionStatus {
    /// Its name in the settings.
    pub name: String,
    /// The server; without a password.
    pub server: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Why the server takes nothing from publishers at the moment, if it says so.
    pub blocked: Option<String>,
    /// Why it is not connected.
    pub fault: Option<ConnectionFault>,
    /// Since when.
    pub since: Timestamp,
}

/// All states; see the module documentation.
pub struct Board {
    clock: Arc<dyn Clock>,
    triggers: Mutex<BTreeMap<TriggerId, TriggerStatus>>,
    connections: Mutex<BTreeMap<String, ConnectionStatus>>,
}

impl Board {
    /// Nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            triggers: Mutex::default(),
            connections: Mutex::default(),
        }
    }

    /// All triggers, by id.
    #[must_use]
    pub fn triggers(&self) -> Vec<TriggerStatus> {
        self.lock().values().cloned().collect()
    }

    /// All connections that a trigger uses, by name.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        lock(&self.connections).values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TriggerId, TriggerStatus>> {
        lock(&self.triggers)
    }

    /// Forgets triggers that are not in force any more.
    pub(super) fn retain(&self, triggers: &[Arc<TriggerDefinition>]) {
        self.lock().retain(|id, _| triggers.iter().any(|t| t.id == *id));
    }

    /// Notes what a trigger does; its counts.
    pub(super) fn listens(&self, trigger: &Arc<TriggerDefinition>, state: ListenState) -> Arc<MessageCounts> {
        let now = self.clock.now();
        let mut all = self.lock();
        let status = all.entry(trigger.id.clone()).or_insert_with(|| TriggerStatus {
            trigger: Arc::clone(trigger),
            state: ListenState::Starting,
            since: now,
            counts: Arc::default(),
            last_bad: None,
        });
        status.trigger = Arc::clone(trigger);
        if status.state != state {
            log_change(trigger, &status.state, &state);
            (status.state, status.since) = (state, now);
        }
        Arc::clone(&status.counts)
    }

    /// Notes a message of which no task could be made.
    pub(super) fn bad(&self, trigger: &TriggerDefinition, why: &str) {
        let now = self.clock.now();
        if let Some(status) = self.lock().get_mut(&trigger.id) {
            MessageCounts::add(&status.counts.bad, 1);
            status.last_bad = Some((now, why.to_owned()));
        }
    }

    /// Notes the state of a connection.
    pub(super) fn connection(&self, name: &str, change: impl FnOnce(&mut ConnectionStatus)) {
        let now = self.clock.now();
        let mut all = lock(&self.connections);
        let status = all.entry(name.to_owned()).or_insert_with(|| ConnectionStatus {
            name: name.to_owned(),
            server: String::new(),
            connected: false,
            blocked: None,
            fault: None,
            since: now,
        });
        let before = (
            status.connected,
            status.blocked.is_some(),
            status.fault.as_ref().map(|f| f.code),
        );
        change(status);
        if before
            != (
                status.connected,
                status.blocked.is_some(),
                status.fault.as_ref().map(|f| f.code),
            )
        {
            status.since = now;
        }
    }

    /// Forgets a connection that no trigger uses any more.
    pub(super) fn forget_connection(&self, name: &str) {
        lock(&self.connections).remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each change is one line; a failure is one when its code changes, not at each attempt.
fn log_change(trigger: &TriggerDefinition, before: &ListenState, now: &ListenState) {
    let (id, what) = (trigger.id.as_str(), trigger.describe());
    match (before, now) {
        (ListenState::Failing(old), ListenState::Failing(new)) if old.code == new.code => {}
        (_, ListenState::Failing(fault)) => {
            let (code, error, help) = (fault.code, &fault.why, fault.hint);
            tracing::warn!(trigger = id, code, %error, help, "the trigger does not listen to {what}");
        }
        (_, ListenState::Waiting(why)) => {
            let (code, reason, help) = (why.code, &why.why, why.hint);
            tracing::info!(trigger = id, code, %reason, help, "the trigger waits for {what}");
        }
        (_, ListenState::Listening) => tracing::info!(trigger = id, "the trigger listens to {what}"),
        _ => {}
    }
}
