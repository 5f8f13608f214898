//! What a source saves outside of the process for its next start: read once, written after changes.
//!
//! Knows neither where it is saved nor its content.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::state_store::{StateStore, StateStoreError};

/// How long saving or reading may take: only the next look at the source waits for it.
const LIMIT: Duration = Duration::from_secs(2);

/// How often an unchanged text is saved again; the store forgets it after days.
const AGAIN: Duration = Duration::from_secs(3600);

/// The saved state of one source.
pub struct SavedState {
    keep: Option<Arc<dyn StateStore>>,
    kind: &'static str,
    /// Identifies the source across restarts.
    name: String,
    /// Whether the store has answered what was saved. Until then nothing is written, as it would replace an unknown
    /// text.
    known: bool,
    last: Option<(u64, Instant)>,
    refused: bool,
    cut: bool,
}

/// A text to be saved.
pub struct SavedText {
    /// At most [`super::keep::MAX_KEPT`] bytes.
    pub bytes: Vec<u8>,
    /// How many files or rows did not fit.
    pub left_out: usize,
}

impl SavedState {
    /// For the source `name`; without `keep` nothing is saved.
    pub fn new(keep: Option<Arc<dyn StateStore>>, kind: &'static str, name: &str) -> Self {
        Self {
            known: keep.is_none(),
            keep,
            kind,
            name: name.to_owned(),
            last: None,
            refused: false,
            cut: false,
        }
    }

    /// The text that an earlier run saved, if there is one; asks until there was an answer, and then never again.
    pub async fn recall<T: DeserializeOwned>(&mut self) -> Option<T> {
        let keep = self.keep.clone().filter(|_| !self.known)?;
        let kind = self.kind;
        let answer = match timeout(LIMIT, keep.get(kind, &self.name)).await {
            Ok(answer) => answer,
            Err(_) => Err(StateStoreError::Away(format!("no answer within {} s", LIMIT.as_secs()))),
        };
        let body = match answer {
            Ok(body) => body,
            Err(StateStoreError::Away(reason)) => {
                tracing::warn!(
                    code = "kept_unknown",
                    kind,
                    reason,
                    "what was in force before the start cannot be read; it is tried again"
                );
                return None;
            }
            Err(StateStoreError::Spoiled(reason)) => {
                tracing::warn!(
                    code = "kept_spoiled",
                    kind,
                    reason,
                    "what was in force before the start is not restored"
                );
                None
            }
        };
        self.known = true;
        let parsed = serde_json::from_slice(&body?);
        parsed
            .inspect_err(|reason| tracing::warn!(code = "kept_spoiled", kind, %reason, "what was in force before the start is not restored"))
            .ok()
    }

    /// Whether a text with this fingerprint must be saved: it differs from the last one, or that was saved long ago.
    #[must_use]
    pub fn wants(&self, fingerprint: u64) -> bool {
        let writes = self.keep.as_ref().is_some_and(|keep| keep.writes());
        let same = |(last, when): &(u64, Instant)| *last == fingerprint && when.elapsed() < AGAIN;
        writes && self.known && !self.last.as_ref().is_some_and(same)
    }

    /// Saves a text. After a failure it is tried again at the next look.
    pub async fn save(&mut self, fingerprint: u64, body: SavedText) {
        let Some(keep) = self.keep.clone().filter(|_| self.wants(fingerprint)) else {
            return;
        };
        let kind = self.kind;
        let left_out = body.left_out;
        if !std::mem::replace(&mut self.cut, left_out > 0) && left_out > 0 {
            tracing::warn!(
                code = "kept_in_part",
                kind,
                left_out,
                "not all of what is in force can be saved for a restart: it is too large"
            );
        }
        let failure = match timeout(LIMIT, keep.put(kind, &self.name, body.bytes)).await {
            Ok(Ok(())) => {
                (self.last, self.refused) = (Some((fingerprint, Instant::now())), false);
                return;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                code = "not_kept",
                kind,
                reason = failure,
                "what is in force cannot be saved for a restart; it is tried again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    /// Answers with the given text, and counts what it saves.
    #[derive(Default)]
    struct TestStore {
        answer: Mutex<Option<Result<Option<Vec<u8>>, StateStoreError>>>,
        kept: Mutex<Vec<Vec<u8>>>,
    }

    #[async_trait::async_trait]
    impl StateStore for TestStore {
        async fn put(&self, _: &'static str, _: &str, body: Vec<u8>) -> Result<(), String> {
            self.kept.lock().unwrap().push(body);
            Ok(())
        }

        async fn get(&self, _: &'static str, _: &str) -> Result<Option<Vec<u8>>, StateStoreError> {
            self.answer.lock().unwrap().clone().unwrap()
        }
    }

    fn memory(answer: Result<Option<Vec<u8>>, StateStoreError>) -> (Arc<TestStore>, SavedState) {
        let shelf = Arc::new(TestStore::default());
        *shelf.answer.lock().unwrap() = Some(answer);
        (Arc::clone(&shelf), SavedState::new(Some(shelf), "rows", "x"))
    }

    fn body(text: &str) -> SavedText {
        SavedText {
            bytes: text.into(),
            left_out: 0,
        }
    }

    #[tokio::test]
    async fn nothing_is_written_before_it_is_known_what_was_kept() {
        let (shelf, mut memory) = memory(Err(StateStoreError::Away("down".to_owned())));
        assert_eq!(memory.recall::<u8>().await, None);
        memory.save(1, body("1")).await;
        assert!(shelf.kept.lock().unwrap().is_empty());
        *shelf.answer.lock().unwrap() = Some(Ok(Some(b"7".to_vec())));
        assert_eq!(memory.recall::<u8>().await, Some(7));
        assert_eq!(memory.recall::<u8>().await, None, "it is asked once");
        memory.save(1, body("1")).await;
        memory.save(1, body("1")).await;
        memory.save(2, body("2")).await;
        assert_eq!(*shelf.kept.lock().unwrap(), [b"1", b"2"]);
        assert!(!memory.wants(2) && memory.wants(3));
    }

    #[tokio::test]
    async fn what_cannot_be_trusted_is_as_if_nothing_were_kept() {
        for answer in [
            Err(StateStoreError::Spoiled("seal".to_owned())),
            Ok(Some(b"{".to_vec())),
        ] {
            let (shelf, mut memory) = memory(answer);
            assert_eq!(memory.recall::<u8>().await, None);
            memory.save(1, body("1")).await;
            assert_eq!(shelf.kept.lock().unwrap().len(), 1);
        }
    }
}
