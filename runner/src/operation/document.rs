//! An operation as it is stored, and the few documents that say what is to be done with it.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::TaskState;
use runner_queue::{Action, Broker, BrokerResult};
use serde::{Deserialize, Serialize};

use super::filter::TaskChoice;

/// The kind of documents with operations, and for how long one is kept after its last change.
pub(super) const KIND: &str = "operations";
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The kind of documents that name operations that have not ended.
pub(super) const OPEN: &str = "operations-open";

/// The kind of documents that ask for the end of an operation.
pub(super) const CANCELS: &str = "operations-cancel";

/// Bytes of a note and of an error that are kept.
pub const MAX_NOTE: usize = 300;

/// After this time without a sign of the process that carries it out, another one continues.
pub(super) const SILENT: Duration = Duration::from_secs(15);

/// What is done to the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationVerb {
    /// They become pending.
    Run,
    /// They are archived.
    Archive,
    /// They are deleted.
    Delete,
    /// The workers that run them are asked to end the attempt.
    Cancel,
}

impl OperationVerb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Archive, Self::Delete, Self::Cancel];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Archive => "archive",
            Self::Delete => "delete",
            Self::Cancel => "cancel",
        }
    }

    /// The verb of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// The action on tasks that are not running.
    #[must_use]
    pub fn action(self) -> Option<Action> {
        match self {
            Self::Run => Some(Action::Run),
            Self::Archive => Some(Action::Archive),
            Self::Delete => Some(Action::Delete),
            Self::Cancel => None,
        }
    }

    /// Whether it makes sense for tasks in this state.
    #[must_use]
    pub fn suits(self, state: TaskState) -> bool {
        match self.action() {
            Some(action) => action.check(state).is_ok(),
            None => state == TaskState::Active,
        }
    }

    /// The name in the audit list.
    #[must_use]
    pub fn audited(self) -> &'static str {
        match self {
            Self::Run => "tasks.run",
            Self::Archive => "tasks.archive",
            Self::Delete => "tasks.delete",
            Self::Cancel => "tasks.cancel",
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationEnd {
    /// All that matched were acted on.
    Done,
    /// Someone cancelled it.
    Cancelled,
    /// It could not go on; `error` says why.
    Failed,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Random.
    pub id: String,
    /// What is done.
    pub verb: OperationVerb,
    /// To which tasks.
    pub choice: TaskChoice,
    /// How many tasks were shown before it began; of those that were searched only a part may match.
    pub counted: u64,
    /// Whether that many match, or at most that many.
    pub exact: bool,
    /// Who asked for it.
    pub by: String,
    /// From which address.
    #[serde(default)]
    pub from: Option<String>,
    /// Why.
    #[serde(default)]
    pub note: Option<String>,
    /// When it was asked for.
    pub at: Timestamp,
    /// Tasks that were looked at.
    pub looked: u64,
    /// Tasks that were acted on.
    pub done: u64,
    /// Tasks that matched when they were read and did not any more when their turn came.
    pub skipped: u64,
    /// Calls that failed and were made again.
    pub failed: u64,
    /// The last failure.
    #[serde(default)]
    pub error: Option<String>,
    /// The instance that carries it out, and its last sign of life.
    #[serde(default)]
    pub instance: Option<String>,
    /// See `instance`.
    #[serde(default)]
    pub seen: Option<Timestamp>,
    /// When the first part was taken.
    #[serde(default)]
    pub began: Option<Timestamp>,
    /// When it ended, and how.
    #[serde(default)]
    pub ended: Option<(Timestamp, OperationEnd)>,
    /// Who cancelled it.
    #[serde(default)]
    pub cancelled_by: Option<String>,
}

impl Operation {
    /// A new one.
    #[must_use]
    pub fn new(
        verb: OperationVerb,
        choice: TaskChoice,
        (counted, exact): (u64, bool),
        by: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            verb,
            choice,
            counted,
            exact,
            by: by.to_owned(),
            from: None,
            note: None,
            at,
            looked: 0,
            done: 0,
            skipped: 0,
            failed: 0,
            error: None,
            instance: None,
            seen: None,
            began: None,
            ended: None,
            cancelled_by: None,
        }
    }

    /// The same with a reason, of which one line of [`MAX_NOTE`] bytes is kept.
    #[must_use]
    pub fn because(mut self, note: Option<&str>) -> Self {
        let line = note.and_then(|note| note.trim().lines().next()).unwrap_or_default();
        let line = &line[..line.floor_char_boundary(MAX_NOTE)];
        self.note = (!line.is_empty()).then(|| line.to_owned());
        self
    }

    /// Whether the instance that had it gave no sign of life for a while, or none has it yet.
    #[must_use]
    pub fn is_orphaned(&self, now: Timestamp) -> bool {
        let silent = |seen: Timestamp| now.duration_since(seen).unsigned_abs() > SILENT;
        self.ended.is_none() && self.seen.is_none_or(silent)
    }

    /// Tasks a second since it began.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> f64 {
        let Some(began) = self.began else { return 0.0 };
        let end = self.ended.map_or(now, |(at, _)| at);
        let took = end.duration_since(began).as_secs_f64().max(0.001);
        #[allow(clippy::cast_precision_loss)] // a rate
        let done = self.done as f64;
        done / took
    }

    /// What it is about, in one line for the audit list.
    #[must_use]
    pub fn target(&self) -> String {
        let choice = &self.choice;
        let mut text = match &choice.queue {
            Some(queue) => format!("{queue}, {}", choice.state),
            None => format!("all queues, {}", choice.state),
        };
        for (name, value) in [("type", &choice.kind), ("text", &choice.text), ("error", &choice.error)] {
            if !value.is_empty() {
                text += &format!(", {name} {value}");
            }
        }
        for (name, at) in [("from", choice.from), ("to", choice.to)] {
            if let Some(at) = at {
                text += &format!(", {name} {at:.0}");
            }
        }
        text
    }

    /// Stores it.
    pub(super) async fn write(&self, broker: &dyn Broker) -> BrokerResult<()> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        broker.keep_document(KIND, &self.id, body, KEPT).await
    }
}

/// Stores a new operation; an instance begins within a second.
///
/// # Errors
///
/// Those of the broker.
pub async fn create(broker: &dyn Broker, operation: &Operation) -> BrokerResult<()> {
    operation.write(broker).await?;
    broker.keep_document(OPEN, &operation.id, Vec::new(), KEPT).await
}

/// The operation of this id.
///
/// # Errors
///
/// Those of the broker.
pub async fn find(broker: &dyn Broker, id: &str) -> BrokerResult<Option<Operation>> {
    Ok(match stored(broker, id).await? {
        StoredOperation::Read(operation) => Some(*operation),
        StoredOperation::Absent | StoredOperation::Unreadable => None,
    })
}

/// What is stored under an id.
#[derive(Debug)]
pub(super) enum StoredOperation {
    Absent,
    /// Something that this version does not understand.
    Unreadable,
    Read(Box<Operation>),
}

/// The operation of an id, and whether there is one that cannot be read.
///
/// # Errors
///
/// Those of the broker.
pub(super) async fn stored(broker: &dyn Broker, id: &str) -> BrokerResult<StoredOperation> {
    if uuid::Uuid::parse_str(id).is_err() {
        return Ok(StoredOperation::Absent);
    }
    Ok(match broker.document(KIND, id).await? {
        None => StoredOperation::Absent,
        Some(body) => match serde_json::from_slice(&body) {
            Ok(operation) => StoredOperation::Read(Box::new(operation)),
            Err(_) => StoredOperation::Unreadable,
        },
    })
}

/// The operations that changed last, newest first, at most 64.
///
/// # Errors
///
/// Those of the broker.
pub async fn list(broker: &dyn Broker) -> BrokerResult<Vec<Operation>> {
    let all = broker.documents(KIND).await?;
    let mut all: Vec<Operation> = all
        .iter()
        .filter_map(|(_, body)| serde_json::from_slice(body).ok())
        .collect();
    all.sort_by_key(|operation| std::cmp::Reverse(operation.at));
    Ok(all)
}

/// Asks for the end of an operation: the instance that carries it out sees it within half a second.
///
/// # Errors
///
/// Those of the broker.
pub async fn cancel(broker: &dyn Broker, id: &str, by: &str) -> BrokerResult<()> {
    let by = by.as_bytes().to_vec();
    broker.keep_document(CANCELS, id, by, KEPT).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::task_search::TaskFilter;

    #[test]
    fn an_operation_says_what_it_is_about_and_when_it_is_orphaned() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let filter = TaskFilter {
            kind: "mail:".to_owned(),
            to: Some(at(60)),
            ..TaskFilter::default()
        };
        let choice = TaskChoice::new(TaskState::Archived, &filter, at(100));
        let mut operation =
            Operation::new(OperationVerb::Run, choice, (5, true), "ann", at(100)).because(Some(" a\nb "));
        assert_eq!(
            operation.target(),
            "all queues, archived, type mail:, to 1970-01-01T00:01:00Z"
        );
        assert_eq!(operation.note.as_deref(), Some("a"));
        assert!(operation.is_orphaned(at(100)), "no instance has it");
        operation.seen = Some(at(100));
        assert!(!operation.is_orphaned(at(110)) && operation.is_orphaned(at(116)));
        (operation.began, operation.done) = (Some(at(100)), 50);
        operation.ended = Some((at(105), OperationEnd::Done));
        assert!((operation.rate(at(200)) - 10.0).abs() < 0.01 && !operation.is_orphaned(at(200)));
        let text = serde_json::to_string(&operation).unwrap();
        assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), operation);
    }

    #[test]
    fn verbs_suit_the_states_of_the_table() {
        use OperationVerb::{Archive, Cancel, Delete, Run};
        let suits = |state| OperationVerb::ALL.map(|verb: OperationVerb| verb.suits(state));
        assert_eq!([Run, Archive, Delete, Cancel], OperationVerb::ALL);
        assert_eq!(suits(TaskState::Active), [false, false, false, true]);
        assert_eq!(suits(TaskState::Archived), [true, false, true, false]);
        assert_eq!(suits(TaskState::Pending), [false, true, true, false]);
        assert_eq!(OperationVerb::of("run"), Some(Run));
        assert_eq!(OperationVerb::of("eat"), None);
    }
}
