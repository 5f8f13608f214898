//! The loop of one watched directory: takes files that have settled, starts their tasks, lets files leave whose tasks have
//! ended. A turn looks at everything again, so it does not matter which process did what before it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use runner_core::task::{TaskId, TaskState};
use runner_core::template::Values;
use runner_core::trigger::{FILE_HEADER, FileTrigger, TriggerDefinition};
use runner_queue::{BrokerError, BrokerResult, Delivery, Enqueued, Refusal};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::folder::{FileState, Folder, InWork, KnownFile, Leave, TakeError, TakenFile};
use super::reported::{OnceReported, Where};
use super::spec;
use crate::background::BackgroundLoop;
use crate::messaging::ConnectionFault;
use crate::trigger::identity::made;
use crate::trigger::{Board, Intake, ListenState, MessageCounts};

/// How often the directory is read, whatever the system reports.
const RESCAN: Duration = Duration::from_secs(5);

/// How soon there is a further look while files are in work or have not settled.
const SOON: Duration = Duration::from_secs(1);

/// How long a task is kept at least after its success: it says where its file goes, also after a long outage.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long a task's id is refused; longer than any task is known.
const REMEMBER: Duration = Duration::from_secs(30 * 24 * 3600);

/// After this time an empty place belongs to a process that died.
const ABANDONED: Duration = Duration::from_secs(60);

/// Directories in work beside the files that may be there at once: those of files that cannot leave. Nothing is taken when there
/// are more.
const MAX_STUCK: usize = 5000;

/// One watched directory.
pub(super) struct FileLoop {
    trigger: Arc<TriggerDefinition>,
    intake: Intake,
    board: Arc<Board>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    /// Files that were seen, and since when they have been in this state.
    settling: BTreeMap<OsString, (FileState, Instant)>,
    reported: OnceReported,
    /// Places without a file, and since when they have been seen so.
    empty: BTreeMap<String, Instant>,
    /// Of the directory that is watched now.
    watcher: Option<(PathBuf, RecommendedWatcher)>,
}

#[async_trait]
impl BackgroundLoop for FileLoop {
    fn name(&self) -> &'static str {
        "watched directory"
    }

    fn every(&self) -> Duration {
        RESCAN
    }

    async fn turn(&mut self) -> Option<Duration> {
        let trigger = Arc::clone(&self.trigger);
        let spec = spec(&trigger)?;
        match self.pass(spec).await {
            Ok(in_work) => {
                let counts = self.board.listens(&trigger, ListenState::Listening);
                counts.unacked.store(in_work as u64, Ordering::Relaxed);
                (in_work > 0 || !self.settling.is_empty()).then_some(SOON)
            }
            Err(PassError::Fault(fault)) => {
                self.settling.clear();
                self.board.listens(&trigger, ListenState::Failing(fault));
                None
            }
            Err(PassError::Broker(error)) => {
                self.intake.failed("look after the tasks of files", &error);
                self.board.listens(&trigger, ListenState::Holding(error.code()));
                Some(SOON)
            }
            Err(PassError::Stopped) => None,
        }
    }
}

/// Why a turn ended early.
enum PassError {
    Fault(ConnectionFault),
    Broker(BrokerError),
    Stopped,
}

impl From<std::io::Error> for PassError {
    fn from(error: std::io::Error) -> Self {
        Self::Fault(ConnectionFault {
            code: "file_io",
            why: error.to_string(),
            hint: "the user of the runner must be able to read and write the directories of the trigger",
        })
    }
}

impl From<BrokerError> for PassError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// Work with files, away from the threads of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PassError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PassError::from(std::io::Error::other(error)))
}

impl FileLoop {
    pub(super) fn new(
        trigger: Arc<TriggerDefinition>,
        intake: Intake,
        board: Arc<Board>,
        (wake, stop): (Arc<Notify>, CancellationToken),
    ) -> Self {
        board.listens(&trigger, ListenState::Starting);
        Self {
            reported: OnceReported::new(&trigger, &board),
            trigger,
            intake,
            board,
            wake,
            stop,
            settling: BTreeMap::new(),
            empty: BTreeMap::new(),
            watcher: None,
        }
    }

    /// Returns how many files are in work.
    async fn pass(&mut self, spec: &FileTrigger) -> Result<usize, PassError> {
        let (of, id) = (spec.clone(), self.trigger.id.clone());
        let folder = blocking(move || Folder::open(&of, &id))
            .await?
            .map_err(PassError::Fault)?;
        self.watch(&folder);
        let known = folder.clone();
        let taken = blocking(move || known.taken()).await??;
        let crowded = self.reported.in_work(&taken, MAX_STUCK);
        self.forget_empty(&folder, &taken);
        let mut in_work = self.look_after(&folder, taken.files).await?;
        let known = folder.clone();
        let seen = blocking(move || known.look()).await??;
        self.reported.waiting(&seen);
        let ready = self.settled(spec, seen.files);
        let room = spec.in_flight.saturating_sub(in_work);
        if room == 0 || crowded || ready.is_empty() || self.stop.is_cancelled() {
            return Ok(in_work);
        }
        let new = self.take(&folder, ready, room).await?;
        in_work += self.start(&folder, new).await?;
        Ok(in_work)
    }

    /// Takes files until `room` are taken. One that cannot be moved leaves its place to the next.
    async fn take(
        &mut self,
        folder: &Folder,
        ready: Vec<(OsString, FileState)>,
        room: usize,
    ) -> Result<Vec<TakenFile>, PassError> {
        let folder = folder.clone();
        let take = move || {
            let (mut all, mut refused, mut fault) = (Vec::new(), Vec::new(), None);
            for (name, state) in ready {
                if all.len() == room {
                    break;
                }
                match folder.take(&name, state) {
                    Ok(taken) => all.extend(taken),
                    Err(TakeError::This(why)) => refused.push((name, why)),
                    Err(TakeError::All(why)) => {
                        fault = Some(why);
                        break;
                    }
                }
            }
            (all, refused, fault)
        };
        let (new, refused, fault) = blocking(take).await?;
        for file in &new {
            self.settling.remove(&file.name);
        }
        for (name, why) in refused {
            self.reported.tell(Where::Waiting, &name, &name, &why);
        }
        match fault {
            // Those that were taken have a place, and are started by the next turn.
            Some(why) => Err(why.into()),
            None => Ok(new),
        }
    }

    /// Removes places that have been empty for long: their process died before it took its file.
    fn forget_empty(&mut self, folder: &Folder, taken: &InWork) {
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.empty);
        for token in &taken.empty {
            let since = known.remove(token).unwrap_or(now);
            if now.duration_since(since) >= ABANDONED {
                folder.forget(token);
            } else {
                self.empty.insert(token.clone(), since);
            }
        }
    }

    /// Wakes the loop when the system reports a change. Without that the next look finds it.
    fn watch(&mut self, folder: &Folder) {
        if self.watcher.as_ref().is_some_and(|(dir, _)| dir == folder.dir()) {
            return;
        }
        let wake = Arc::clone(&self.wake);
        let heard = move |event: notify::Result<Event>| {
            let whole = |kind: EventKind| {
                matches!(
                    kind,
                    EventKind::Create(_)
                        | EventKind::Modify(ModifyKind::Name(_))
                        | EventKind::Access(AccessKind::Close(AccessMode::Write))
                )
            };
            if event.is_ok_and(|event| whole(event.kind)) {
                wake.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(heard).and_then(|mut watcher| {
            watcher.watch(folder.dir(), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        self.watcher = watcher.ok().map(|watcher| (folder.dir().to_owned(), watcher));
    }

    /// Those of the files that have been the same for long enough; remembers the others.
    fn settled(&mut self, spec: &FileTrigger, seen: Vec<(OsString, FileState)>) -> Vec<(OsString, FileState)> {
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.settling);
        let mut ready = Vec::new();
        for (name, state) in seen {
            let since = known.remove(&name).filter(|(before, _)| *before == state);
            let since = since.map_or(now, |(_, since)| since);
            if now.duration_since(since) >= spec.stable {
                ready.push((name.clone(), state));
            }
            self.settling.insert(name, (state, since));
        }
        ready
    }

    /// Lets those leave whose tasks have ended, and starts those that have none. Returns how many stay.
    async fn look_after(&mut self, folder: &Folder, taken: Vec<TakenFile>) -> Result<usize, PassError> {
        let (mut in_work, mut new) = (0, Vec::new());
        for file in taken {
            match self.state(&self.id_of(&file)?).await? {
                None => new.push(file),
                Some(TaskState::Completed) => self.leave(folder, file, Leave::Done).await?,
                Some(TaskState::Archived) => self.leave(folder, file, Leave::Failed).await?,
                Some(_) => in_work += 1,
            }
        }
        Ok(in_work + self.start(folder, new).await?)
    }

    /// In its queue, or in the one that it had before the manifest changed.
    async fn state(&self, id: &TaskId) -> BrokerResult<Option<TaskState>> {
        let broker = self.intake.broker();
        if let Some(task) = broker.glance(&self.trigger.task.queue, id).await? {
            return Ok(Some(task.state));
        }
        for queue in broker.find(id).await? {
            if let Some(task) = broker.glance(&queue, id).await? {
                return Ok(Some(task.state));
            }
        }
        Ok(None)
    }

    fn id_of(&self, file: &TakenFile) -> Result<TaskId, PassError> {
        let id = TaskId::new(format!("{}@file-{}", self.trigger.id, file.token));
        id.map_err(|why| PassError::from(std::io::Error::other(why)))
    }

    /// Starts the tasks of these files. Returns how many are in work now.
    async fn start(&mut self, folder: &Folder, files: Vec<TakenFile>) -> Result<usize, PassError> {
        let (mut good, mut deliveries) = (Vec::new(), Vec::new());
        for file in files {
            match self.delivery(&file) {
                Ok(task) => {
                    deliveries.push(task);
                    good.push(file);
                }
                Err(why) => {
                    self.reported.tell_of(&file, &why);
                    self.leave(folder, file, Leave::Failed).await?;
                }
            }
        }
        if deliveries.is_empty() {
            return Ok(0);
        }
        let waiting = |error: &BrokerError| {
            self.board.listens(&self.trigger, ListenState::Holding(error.code()));
        };
        let answers = self.intake.accept(&deliveries, &self.stop, waiting).await;
        let answers = answers.ok_or(PassError::Stopped)?;
        let mut in_work = 0;
        for (file, answer) in good.into_iter().zip(answers) {
            in_work += self.answered(folder, file, answer).await?;
        }
        Ok(in_work)
    }

    /// What the broker's answer means for a file. Returns whether it is in work, as a number.
    async fn answered(
        &mut self,
        folder: &Folder,
        file: TakenFile,
        answer: Result<Enqueued, Refusal>,
    ) -> Result<usize, PassError> {
        let counts = self.board.listens(&self.trigger, ListenState::Listening);
        match answer {
            Ok(_) => {
                MessageCounts::add(&counts.enqueued, 1);
                Ok(1)
            }
            // Another instance was faster.
            Err(Refusal::IdTaken | Refusal::Duplicate) => Ok(1),
            Err(Refusal::Received) => {
                // It was enqueued and is gone: its record says how it ended, or an operator has deleted it.
                let id = self.id_of(&file)?;
                if self.state(&id).await?.is_some() {
                    // Another instance has enqueued it since this one looked.
                    return Ok(1);
                }
                let record = self.intake.broker().run(&self.trigger.task.queue, &id).await?;
                let how = match record {
                    Some(record) if record.outcome == runner_core::task::AttemptOutcome::Success => Leave::Done,
                    _ => Leave::Failed,
                };
                if how == Leave::Failed {
                    self.reported.tell_of(&file, "its task is gone without a success");
                }
                self.leave(folder, file, how).await?;
                Ok(0)
            }
            Err(Refusal::Invalid(why)) => {
                self.reported.tell_of(&file, &why.to_string());
                self.leave(folder, file, Leave::Failed).await?;
                Ok(0)
            }
        }
    }

    /// Lets a file leave. One that cannot be moved stays, does not count as in work any more, and is tried again.
    async fn leave(&mut self, folder: &Folder, file: TakenFile, how: Leave) -> Result<(), PassError> {
        let folder = folder.clone();
        let (file, left) = blocking(move || {
            let left = folder.leave(&file, how);
            (file, left)
        })
        .await?;
        if let Err(why) = left {
            self.reported
                .tell(Where::Leaving, OsStr::new(&file.token), &file.name, &why);
        }
        Ok(())
    }

    /// Where it was before it was taken, for people.
    fn found_at(&self, file: &TakenFile) -> String {
        let dir = spec(&self.trigger).map(|spec| spec.dir.clone()).unwrap_or_default();
        dir.join(&file.name).to_string_lossy().into_owned()
    }

    /// The task of a file; else why there is none.
    fn delivery(&self, file: &TakenFile) -> Result<Delivery, String> {
        let found = self.found_at(file);
        let mut task = self
            .trigger
            .task
            .clone()
            .started_by(self.trigger.kind.key(), &found)
            .header(FILE_HEADER, KnownFile::of(file).header());
        let template = spec(&self.trigger).and_then(|spec| spec.payload.as_ref());
        let payload = match template {
            Some(template) => template.value(file).map_err(|why| format!("payload: {why}"))?,
            None => over(task.payload.as_ref(), file),
        };
        task.payload = Some(made(&payload)?);
        if let Some(fault) = self.trigger.payload_fault(task.payload.as_deref()) {
            return Err(fault.to_string());
        }
        task.retention = task.retention.max(KEPT);
        let id = format!("{}@file-{}", self.trigger.id, file.token);
        task.id = Some(TaskId::new(id).map_err(|why| why.to_string())?);
        Ok(Delivery {
            task,
            remember: REMEMBER,
        })
    }
}

/// Path, name and size, laid over the payload of the function if that is an object.
fn over(base: Option<&Bytes>, file: &TakenFile) -> Value {
    let base = base.and_then(|base| serde_json::from_slice(base).ok());
    let mut all = match base {
        Some(Value::Object(all)) => all,
        _ => serde_json::Map::new(),
    };
    for name in ["path", "name", "size"] {
        all.insert(name.to_owned(), of_file(file, name).unwrap_or_default());
    }
    Value::Object(all)
}

fn of_file(file: &TakenFile, name: &str) -> Option<Value> {
    match name {
        "path" => Some(json!(file.path.to_string_lossy())),
        // Without odd bytes: the path is what commands use.
        "name" => Some(json!(file.name.to_string_lossy())),
        "size" => Some(json!(file.size)),
        "modified" => Some(json!(file.modified)),
        _ => None,
    }
}

impl Values for TakenFile {
    fn value(&self, path: &[String]) -> Option<Value> {
        match path {
            [root, name] if root == "file" => of_file(self, name),
            _ => None,
        }
    }
}
