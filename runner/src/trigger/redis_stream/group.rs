//! The group of a trigger, and the note of it in the broker: whether it was there, and up to where its entries are acknowledged.

use std::time::Duration;

use runner_core::trigger::StreamStart;
use runner_queue::redis::{GroupStart, StreamReader};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::listening::{StreamReading, StreamTriggerTask};
use super::{FIRST_PAUSE, fault};
use crate::messaging::ConnectionFault;

/// The documents that say which groups were there: one that is gone is not made again.
const GROUPS: &str = "stream-groups";

/// For how long that is known after a trigger last began to read.
const GROUP_KNOWN: Duration = Duration::from_secs(366 * 86_400);

/// For how long it is known that the trigger waits for its stream; it says so again at each attempt.
const AWAITED: Duration = Duration::from_secs(86_400);

/// What the broker knows of a group.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupNote {
    /// There was no stream when the trigger came: all its entries are new ones. Else the group was there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    awaited: bool,
    /// Up to which id every entry was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
}

impl StreamTriggerTask {
    /// Sees to it that the group is there; what is noted of it, `None`: `stop` came first. One that was there before is not made
    /// again: it would begin somewhere else, and the entries in between would be lost or come twice.
    pub(super) async fn have_group(
        &self,
        reader: &mut StreamReader,
        stop: &CancellationToken,
    ) -> Result<Option<GroupNote>, ConnectionFault> {
        let (stream, group) = (self.spec.stream.as_str(), self.group.as_str());
        let there = match reader.has_group().await {
            Ok(there) => there,
            Err(error) if error.is_without_group() => false,
            Err(error) => return Err(fault::of(&error)),
        };
        let Some(known) = self.known(stop).await else {
            return Ok(None);
        };
        if there {
            let note = known.filter(|note| !note.awaited).unwrap_or_default();
            return Ok(self.keep_note(&note, GROUP_KNOWN, stop).await.then_some(note));
        }
        if let Some(note) = known.as_ref().filter(|note| !note.awaited) {
            return Err(fault::group_gone(stream, group, note.until.as_deref()));
        }
        let start = GroupStart {
            // What was added to a stream that was not there is new, also what came before the group.
            first: self.spec.from == StreamStart::First || known.is_some(),
            make_stream: self.spec.create,
        };
        match reader.make_group(start).await {
            Ok(()) => {}
            Err(error) if error.is_without_group() => {
                let awaited = GroupNote {
                    awaited: true,
                    until: None,
                };
                return match self.keep_note(&awaited, AWAITED, stop).await {
                    true => Err(fault::no_stream(stream)),
                    false => Ok(None),
                };
            }
            Err(error) => return Err(fault::of(&error)),
        }
        tracing::info!(trigger = self.trigger.id.as_str(), group, "made the group of a stream");
        let note = GroupNote::default();
        Ok(self.keep_note(&note, GROUP_KNOWN, stop).await.then_some(note))
    }

    /// What is noted of the group; `None`: `stop` came first.
    async fn known(&self, stop: &CancellationToken) -> Option<Option<GroupNote>> {
        loop {
            match self.shared.intake.broker().document(GROUPS, &self.note_name).await {
                // A note of another version says at least that the group was there.
                Ok(known) => return Some(known.map(|body| serde_json::from_slice(&body).unwrap_or_default())),
                Err(error) => self.holding("look which groups of streams were there", &error),
            }
            if timeout(FIRST_PAUSE, stop.cancelled()).await.is_ok() {
                return None;
            }
        }
    }

    /// Keeps a note of the group; false: `stop` came first.
    async fn keep_note(&self, note: &GroupNote, valid: Duration, stop: &CancellationToken) -> bool {
        let body = serde_json::to_vec(note).unwrap_or_default();
        loop {
            let broker = self.shared.intake.broker();
            match broker.keep_document(GROUPS, &self.note_name, body.clone(), valid).await {
                Ok(()) => return true,
                Err(error) => self.holding("note that a group of a stream is there", &error),
            }
            if timeout(FIRST_PAUSE, stop.cancelled()).await.is_ok() {
                return false;
            }
        }
    }

    /// Notes up to where entries are acknowledged, if that has changed. Without it a group that is gone is a little harder to
    /// make again, so no failure ends the reading.
    pub(super) async fn note_progress(&self, reading: &mut StreamReading) {
        reading.noted = Instant::now();
        let until = match reading.reader.settled().await {
            Ok(until) if until.is_some() && until != reading.until => until,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(trigger = self.trigger.id.as_str(), %error, "not known up to where a group is acknowledged");
                return;
            }
        };
        let note = GroupNote { awaited: false, until };
        let body = serde_json::to_vec(&note).unwrap_or_default();
        let broker = self.shared.intake.broker();
        match broker.keep_document(GROUPS, &self.note_name, body, GROUP_KNOWN).await {
            Ok(()) => reading.until = note.until,
            Err(error) => self.shared.intake.failed("note the progress of a group", &error),
        }
    }
}
