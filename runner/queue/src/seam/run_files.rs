//! What a run shows while it continues, and the files that it leaves: documents in the store, with a form of their own.
//!
//! Both are kept for a while only. Their forms may gain fields.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use super::{BrokerResult, Documents, TaskInfo};

/// How long a live view is kept after its worker last wrote it: longer than the pause between two.
pub const LIVE_KEPT_FOR: Duration = Duration::from_secs(60);

/// Maximum bytes of the output in a live view: its end.
pub const MAX_LIVE_BYTES: usize = 32 * 1024;

/// How long the files of a run are kept.
pub const ARTIFACTS_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

const LIVE: &str = "live";
const LIST: &str = "artifacts";
const FILE: &str = "artifact";

/// A run in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRun {
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// `host:pid` of its worker.
    pub server: String,
    /// When this was written.
    pub at: Timestamp,
    /// How far it is, from 0 to 1, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<f64>,
    /// The same in words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The end of what it has printed, at most [`MAX_LIVE_BYTES`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactEntry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The files of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArtifactList {
    /// The attempt that left them, counted from 1.
    pub attempt: u32,
    /// The files; the content of each is kept beside the list, under its position.
    pub files: Vec<ArtifactEntry>,
}

fn name_of(queue: &QueueName, id: &TaskId) -> String {
    format!("{queue}/{id}")
}

/// What a document says; one of another form says nothing.
fn parsed<T: for<'de> Deserialize<'de>>(body: Option<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(&body?).ok()
}

/// Plain data, which always has a text.
fn body_of<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

impl LiveRun {
    /// Writes the view of a task's run.
    ///
    /// # Errors
    ///
    /// As [`Documents::keep_document`].
    pub async fn write(&self, store: &dyn Documents, queue: &QueueName, id: &TaskId) -> BrokerResult<()> {
        let body = body_of(self);
        store
            .keep_document(LIVE, &name_of(queue, id), body, LIVE_KEPT_FOR)
            .await
    }

    /// What the run of an active task shows; that of an earlier attempt is out of date, and other tasks have none.
    ///
    /// # Errors
    ///
    /// As [`Documents::document`].
    pub async fn of(store: &dyn Documents, task: &TaskInfo) -> BrokerResult<Option<Self>> {
        if task.state != TaskState::Active {
            return Ok(None);
        }
        let record = &task.record;
        let live: Option<Self> = parsed(store.document(LIVE, &name_of(&record.queue, &record.id)).await?);
        Ok(live.filter(|live| live.attempt == record.retried + 1))
    }

    /// Removes it: the run is over.
    ///
    /// # Errors
    ///
    /// As [`Documents::drop_document`].
    pub async fn remove(store: &dyn Documents, queue: &QueueName, id: &TaskId) -> BrokerResult<()> {
        store.drop_document(LIVE, &name_of(queue, id)).await
    }
}

impl ArtifactList {
    /// Keeps files of a run, in place of those of an earlier attempt. The list is written last, so that it names no file that
    /// is not there.
    ///
    /// # Errors
    ///
    /// As [`Documents::keep_document`].
    pub async fn write(
        store: &dyn Documents,
        (queue, id): (&QueueName, &TaskId),
        attempt: u32,
        files: Vec<(String, Vec<u8>)>,
    ) -> BrokerResult<()> {
        let mut list = Self {
            attempt,
            files: Vec::with_capacity(files.len()),
        };
        for (position, (name, content)) in files.into_iter().enumerate() {
            let bytes = content.len() as u64;
            list.files.push(ArtifactEntry { name, bytes });
            let file = format!("{}/{position}", name_of(queue, id));
            store.keep_document(FILE, &file, content, ARTIFACTS_KEPT_FOR).await?;
        }
        let body = body_of(&list);
        store
            .keep_document(LIST, &name_of(queue, id), body, ARTIFACTS_KEPT_FOR)
            .await
    }

    /// The files of this task's run; an empty list if there are none.
    ///
    /// # Errors
    ///
    /// As [`Documents::document`].
    pub async fn read(store: &dyn Documents, queue: &QueueName, id: &TaskId) -> BrokerResult<Self> {
        Ok(parsed(store.document(LIST, &name_of(queue, id)).await?).unwrap_or_default())
    }

    /// The content of the file at this position.
    ///
    /// # Errors
    ///
    /// As [`Documents::document`].
    pub async fn content(
        store: &dyn Documents,
        queue: &QueueName,
        id: &TaskId,
        position: usize,
    ) -> BrokerResult<Option<Vec<u8>>> {
        let file = format!("{}/{position}", name_of(queue, id));
        store.document(FILE, &file).await
    }
}
