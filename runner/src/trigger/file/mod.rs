//! Triggers that watch directories: one loop for each (`file_loop`).
//!
//! A file is taken by a rename, so each is taken once, however many instances watch (`folder`); its task is named after that,
//! so each starts one task. What the system reports only wakes the loop earlier: every turn looks at the directories again.

mod again;
mod file_loop;
mod folder;
mod moves;
mod names;
mod own;
mod reported;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use runner_core::trigger::{FileTrigger, TriggerDefinition, TriggerId, TriggerKind};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::again::FilesOfTasks;
use self::file_loop::FileLoop;
use super::{Board, EventSource, Intake, TriggerParts};
use crate::background;

/// All watched directories.
pub(super) struct FileSource {
    intake: Intake,
    board: Arc<Board>,
    watched: BTreeMap<TriggerId, Watched>,
}

/// One trigger that is watched for.
struct Watched {
    trigger: Arc<TriggerDefinition>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl FileSource {
    pub(super) fn new(parts: &TriggerParts, intake: &Intake) -> Self {
        Self {
            intake: intake.clone(),
            board: Arc::clone(&parts.board),
            watched: BTreeMap::new(),
        }
    }

    /// Watches once `before`, the loop of an older version of the trigger, has ended.
    fn watch(&mut self, trigger: Arc<TriggerDefinition>, before: Option<Watched>) {
        let stop = CancellationToken::new();
        let wake = Arc::new(Notify::new());
        let (intake, board) = (self.intake.clone(), Arc::clone(&self.board));
        let role = FileLoop::new(Arc::clone(&trigger), intake, board, (Arc::clone(&wake), stop.clone()));
        let ending = stop.clone();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // That it panicked is logged where it did.
                drop(before.task.await);
            }
            background::run(role, &wake, &ending).await;
        });
        let id = trigger.id.clone();
        self.watched.insert(id, Watched { trigger, stop, task });
    }
}

#[async_trait]
impl EventSource for FileSource {
    fn takes(&self, trigger: &TriggerDefinition) -> bool {
        spec(trigger).is_some()
    }

    fn adopt(&mut self, triggers: Vec<Arc<TriggerDefinition>>) {
        let gone = |id: &TriggerId| triggers.iter().all(|trigger| trigger.id != *id);
        self.watched.retain(|id, watched| {
            let ends = gone(id);
            if ends {
                watched.stop.cancel();
            }
            !ends
        });
        for trigger in triggers {
            match self.watched.remove(&trigger.id) {
                Some(same) if same.trigger.does_the_same(&trigger) => {
                    self.watched.insert(trigger.id.clone(), same);
                }
                before => {
                    if let Some(before) = &before {
                        before.stop.cancel();
                    }
                    self.watch(trigger, before);
                }
            }
        }
    }

    async fn end(&mut self) {
        for watched in self.watched.values() {
            watched.stop.cancel();
        }
        for watched in std::mem::take(&mut self.watched).into_values() {
            drop(watched.task.await);
        }
    }
}

/// What a trigger of this kind says.
fn spec(trigger: &TriggerDefinition) -> Option<&FileTrigger> {
    match &trigger.kind {
        TriggerKind::File(spec) => Some(spec),
        TriggerKind::RabbitMq(_)
        | TriggerKind::RedisStream(_)
        | TriggerKind::Webhook(_)
        | TriggerKind::After(_)
        | TriggerKind::Start => None,
    }
}
