//! Before a task of a file runs: its file must be in its place, which it is not if an operator runs a task again that has ended.
//!
//! Asked by workers, which find the directory by the manifests that they have, never by what a task says. Not here: how a file is
//! found again (`folder::restore`).

use std::sync::Arc;

use runner_core::task::TaskId;
use runner_core::trigger::{FILE_HEADER, FileTrigger, TRIGGER_HEADER, TriggerDefinition, TriggerId};
use tokio::sync::watch;

use super::folder::{Folder, KnownFile};
use super::{names, spec};

/// The files of tasks that are about to run.
pub struct FilesOfTasks {
    triggers: watch::Receiver<Arc<Vec<Arc<TriggerDefinition>>>>,
}

/// The file that a task was started for.
pub struct FileOfTask {
    spec: FileTrigger,
    id: TriggerId,
    token: String,
    known: KnownFile,
}

impl FilesOfTasks {
    /// By every set of triggers that is in force.
    #[must_use]
    pub fn new(triggers: watch::Receiver<Arc<Vec<Arc<TriggerDefinition>>>>) -> Self {
        Self { triggers }
    }

    /// The file of the task with this id and these headers. `None`: it has none.
    #[must_use]
    pub fn of<'a>(&self, id: &TaskId, header: impl Fn(&str) -> Option<&'a str>) -> Option<FileOfTask> {
        let known = KnownFile::parse(header(FILE_HEADER)?)?;
        let trigger = header(TRIGGER_HEADER)?;
        let token = id.as_str().strip_prefix(trigger)?.strip_prefix("@file-")?;
        if !names::is_token(token) {
            return None;
        }
        let all = Arc::clone(&self.triggers.borrow());
        let trigger = all.iter().find(|one| one.id.as_str() == trigger)?;
        Some(FileOfTask {
            spec: spec(trigger)?.clone(),
            id: trigger.id.clone(),
            token: token.to_owned(),
            known,
        })
    }
}

impl FileOfTask {
    /// Sees to it that the file is in its place, if it is in `failed` or `done`. A file that is in none of them was taken away by the function
    /// itself, which must know what it does when it runs once more.
    ///
    /// # Errors
    ///
    /// Why the task must not run, and what to do.
    pub async fn restore(self) -> Result<(), String> {
        let look = move || {
            // A directory that cannot be used here is the handler's to report: it may not need the file.
            match Folder::open(&self.spec, &self.id) {
                Ok(folder) => folder.restore(&self.token, &self.known),
                Err(_) => Ok(()),
            }
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Ok(()))
    }
}
