//! Tells the worker to wait for the files of tasks: joins two rooms that do not know each other.

use std::sync::Arc;

use runner_core::trigger::TriggerDefinition;
use runner_queue::TaskRecord;
use runner_sdk::BoxFuture;
use tokio::sync::watch;

use crate::trigger::FilesOfTasks;
use crate::worker::BeforeRun;

/// The files of tasks, for a worker.
pub(super) struct BeforeFiles(FilesOfTasks);

impl BeforeFiles {
    /// By every set of triggers that is in force.
    pub(super) fn new(triggers: watch::Receiver<Arc<Vec<Arc<TriggerDefinition>>>>) -> Self {
        Self(FilesOfTasks::new(triggers))
    }
}

impl BeforeRun for BeforeFiles {
    fn before(&self, task: &TaskRecord) -> Option<BoxFuture<'static, Result<(), String>>> {
        let file = self.0.of(&task.id, |name| task.headers.get(name).map(String::as_str))?;
        Some(Box::pin(file.restore()))
    }
}
