//! What a run shows while it continues, and the files that it left, as pages of its task show them.

use runner_core::task::{QueueName, TaskId};
use runner_queue::{ArtifactList, BrokerResult, LiveRun, TaskInfo};
use serde::Serialize;

use super::app_state::AppState;
use super::format::{self, IN_A_LIST, InstantText, Locale};
use super::payload::PayloadText;
use super::urls;

/// A run in progress.
#[derive(Debug, Serialize)]
pub struct LiveView {
    /// From 0 to 100, if the run said so.
    percent: Option<String>,
    note: String,
    at: InstantText,
    output: Option<PayloadText>,
}

impl LiveView {
    /// What the run of this task shows, ready to print.
    ///
    /// # Errors
    ///
    /// As [`LiveRun::of`].
    pub async fn of(app: &AppState, locale: &Locale, task: &TaskInfo) -> BrokerResult<Option<Self>> {
        let live = LiveRun::of(&*app.broker, task).await?;
        Ok(live.map(|live| Self::new(locale, &live)))
    }

    fn new(locale: &Locale, live: &LiveRun) -> Self {
        let percent = |done: f64| format!("{:.0}", done.clamp(0.0, 1.0) * 100.0);
        Self {
            percent: live.done.map(percent),
            note: format::cut(&live.note, IN_A_LIST),
            at: locale.moment(live.at),
            output: (!live.output.is_empty()).then(|| PayloadText::log(&live.output)),
        }
    }
}

/// A file that can be downloaded.
#[derive(Debug, Serialize)]
pub struct FileRow {
    name: String,
    bytes: u64,
    url: String,
}

/// The files of a task's run.
///
/// # Errors
///
/// As [`ArtifactList::read`].
pub async fn files(app: &AppState, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<FileRow>> {
    let list = ArtifactList::read(&*app.broker, queue, id).await?;
    let task = urls::task(queue.as_str(), id.as_str());
    let files = list.files.iter().enumerate();
    Ok(files
        .map(|(position, file)| FileRow {
            name: format::cut(&file.name, IN_A_LIST),
            bytes: file.bytes,
            url: format!("{task}/artifacts/{position}"),
        })
        .collect())
}
