//! Keeps one connection and starts the consumers of its triggers; makes all of it again after an error.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{Connection, Event};
use runner_core::trigger::{TriggerDefinition, TriggerId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::consumer::Consuming;
use super::{ANSWER, FIRST_PAUSE, LONGEST_PAUSE, RabbitMqSettings, Shared};
use crate::background::panic_text;
use crate::messaging::ConnectionFault;
use crate::messaging::amqp::{self, fault};
use crate::trigger::ListenState;

/// How often the state of the connection is looked at, beside its own reports.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that held this long is not followed by a longer pause.
const HELD: Duration = Duration::from_secs(30);

/// One connection.
pub(super) struct Supervised {
    /// Its name in the settings.
    pub(super) name: String,
    pub(super) settings: RabbitMqSettings,
    pub(super) shared: Shared,
}

/// A consumer that was started; it stops when this is dropped.
struct Started {
    trigger: Arc<TriggerDefinition>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

type Wanted = watch::Receiver<Vec<Arc<TriggerDefinition>>>;

impl Supervised {
    /// Runs until `stop`; begins again after a panic.
    pub(super) async fn run(self, mut wanted: Wanted, stop: CancellationToken) {
        loop {
            let supervised = AssertUnwindSafe(self.supervise(&mut wanted, &stop))
                .catch_unwind()
                .await;
            let Err(panic) = supervised else { return };
            self.broke(&wanted, &fault::panicked(&panic_text(panic.as_ref())));
            if timeout(FIRST_PAUSE, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    async fn supervise(&self, wanted: &mut Wanted, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        // Why it does not listen is shown until it does, also during the next attempt, which may take long.
        let mut failing = false;
        loop {
            if wanted.borrow_and_update().is_empty() {
                self.shared.board.forget_connection(&self.name);
                failing = false;
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = wanted.changed() => if changed.is_err() { return },
                }
                continue;
            }
            if !failing {
                self.note_all(wanted, &ListenState::Starting);
            }
            let made = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                made = self.connect() => made,
            };
            let fault = match made {
                Ok(connection) => {
                    let began = Instant::now();
                    let fault = self.serve(connection, wanted, stop).await;
                    if began.elapsed() >= HELD {
                        pause = FIRST_PAUSE;
                    }
                    fault
                }
                Err(fault) => Some(fault),
            };
            // Without a fault it was closed because it is not needed, or for good.
            failing = fault.is_some();
            let Some(fault) = fault else { continue };
            self.broke(wanted, &fault);
            // Another set of triggers does not make the server answer sooner.
            if timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<Connection, ConnectionFault> {
        let client = format!("runner {}", self.shared.instance);
        let named = |server| {
            self.shared
                .board
                .connection(&self.name, |status| status.server = server)
        };
        amqp::connect(&self.settings, &client, named).await
    }

    /// Until the connection breaks (why), or is closed since no trigger needs it or `stop` came.
    async fn serve(
        &self,
        connection: Connection,
        wanted: &mut Wanted,
        stop: &CancellationToken,
    ) -> Option<ConnectionFault> {
        let connection = Arc::new(connection);
        self.shared.board.connection(&self.name, |status| {
            (status.connected, status.fault, status.blocked) = (true, None, None);
        });
        tracing::info!(connection = self.name, "connected to RabbitMQ");
        let mut events = Box::pin(connection.events_listener());
        let mut consumers = BTreeMap::new();
        let mut look = tokio::time::interval(LOOK);
        self.reconcile(&connection, &mut consumers, wanted).await;
        let fault = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                changed = wanted.changed() => {
                    if changed.is_err() || wanted.borrow().is_empty() {
                        break None;
                    }
                    self.reconcile(&connection, &mut consumers, wanted).await;
                }
                event = events.next() => match event {
                    // Errors of one channel are reported too; the other triggers keep theirs.
                    Some(Event::Error(error)) if !connection.status().connected() => break Some(fault::of_use(&error)),
                    Some(Event::ConnectionBlocked(why)) => self.blocked(Some(why)),
                    Some(Event::ConnectionUnblocked) => self.blocked(None),
                    Some(_) => {}
                    None => break Some(fault::lost()),
                },
                _ = look.tick() => if !connection.status().connected() {
                    break Some(fault::lost());
                },
            }
        };
        end_all(std::mem::take(&mut consumers)).await;
        self.shared
            .board
            .connection(&self.name, |status| status.connected = false);
        if fault.is_none() {
            drop(timeout(ANSWER, connection.close(200, "no trigger needs it".into())).await);
        }
        fault
    }

    /// Stops the consumers of triggers that are gone or changed, then starts those that are missing.
    async fn reconcile(
        &self,
        connection: &Arc<Connection>,
        consumers: &mut BTreeMap<TriggerId, Started>,
        wanted: &mut Wanted,
    ) {
        let wanted = wanted.borrow_and_update().clone();
        let stays = |started: &Started| wanted.iter().any(|trigger| trigger.does_the_same(&started.trigger));
        let over: Vec<TriggerId> = consumers
            .iter()
            .filter(|(_, c)| !stays(c))
            .map(|(id, _)| id.clone())
            .collect();
        let over = over.iter().filter_map(|id| consumers.remove_entry(id)).collect();
        end_all(over).await;
        for trigger in wanted {
            if consumers.contains_key(&trigger.id) {
                continue;
            }
            let stop = CancellationToken::new();
            let consuming = Consuming {
                trigger: Arc::clone(&trigger),
                connection: Arc::clone(connection),
                shared: self.shared.clone(),
            };
            let task = tokio::spawn(consuming.run(stop.clone()));
            let stop = stop.drop_guard();
            consumers.insert(trigger.id.clone(), Started { trigger, stop, task });
        }
    }

    fn note_all(&self, wanted: &Wanted, state: &ListenState) {
        for trigger in wanted.borrow().iter() {
            self.shared.board.listens(trigger, state.clone());
        }
    }

    fn broke(&self, wanted: &Wanted, fault: &ConnectionFault) {
        self.shared.board.connection(&self.name, |status| {
            if status.fault.as_ref().map(|known| known.code) != Some(fault.code) {
                let (code, error, help) = (fault.code, &fault.why, fault.hint);
                tracing::warn!(connection = self.name, code, %error, help, "no connection to RabbitMQ");
            }
            (status.connected, status.blocked, status.fault) = (false, None, Some(fault.clone()));
        });
        self.note_all(wanted, &ListenState::Failing(fault.clone()));
    }

    fn blocked(&self, why: Option<String>) {
        match &why {
            Some(error) => tracing::warn!(
                connection = self.name,
                code = "amqp_blocked",
                %error,
                help = "free memory or disk of the server, or raise its limits",
                "RabbitMQ takes no messages from publishers; triggers go on"
            ),
            None => tracing::info!(connection = self.name, "RabbitMQ takes messages from publishers again"),
        }
        self.shared.board.connection(&self.name, |status| status.blocked = why);
    }
}

/// Stops consumers and waits for them: a batch that is being enqueued is finished and acknowledged.
async fn end_all(consumers: BTreeMap<TriggerId, Started>) {
    let stopped = consumers.into_values().map(|started| {
        drop(started.stop);
        started.task
    });
    // All of them before the first one is waited for.
    let tasks: Vec<JoinHandle<()>> = stopped.collect();
    for task in tasks {
        let abort = task.abort_handle();
        if timeout(ANSWER, task).await.is_err() {
            abort.abort();
        }
    }
}
