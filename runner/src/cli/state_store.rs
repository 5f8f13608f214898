//! Keeps in the broker what the sources last had in force, sealed with the key of this installation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::Documents;

use super::seal::Seal;
use crate::config::{BrokerSettings, SealingKey, Settings, sealing_key};
use crate::source::{StateStore, StateStoreError};

/// How long texts are kept after the last write: longer than an outage can go unnoticed.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// The same in Redis with a key that was made at this start: where files do not outlive a process, each start has
/// another key, and leaves texts that no other start can read.
const KEPT_BY_NEW_KEY: Duration = Duration::from_secs(86_400);

/// Implements the store of the sources' state with a broker.
pub(super) struct BrokerStateStore {
    broker: Arc<dyn Documents>,
    seal: Seal,
    kept: Duration,
    writes: bool,
}

impl BrokerStateStore {
    /// For a running program, with its key; `None` without a key.
    pub(super) fn of_run(
        broker: Arc<dyn Documents>,
        settings: &Settings,
        key: Option<SealingKey>,
    ) -> Option<Arc<dyn StateStore>> {
        let key = key?;
        let shared = matches!(settings.broker, BrokerSettings::Redis(_));
        let kept = if key.new && shared { KEPT_BY_NEW_KEY } else { KEPT };
        let seal = Seal::new(&key.key)?;
        Some(Arc::new(Self {
            broker,
            seal,
            kept,
            writes: true,
        }))
    }

    /// For a command that only reads; `None` if there is no key, or it may not be read.
    pub(super) fn of_look(broker: Arc<dyn Documents>, settings: &Settings) -> Option<Arc<dyn StateStore>> {
        let key = sealing_key(settings, false).ok()??;
        let seal = Seal::new(&key.key)?;
        Some(Arc::new(Self {
            broker,
            seal,
            kept: KEPT,
            writes: false,
        }))
    }
}

/// The key of a program that serves no dashboard. It works without one, too.
pub(super) fn key_without_web(settings: &Settings) -> Option<SealingKey> {
    let found = sealing_key(settings, true);
    let found = found.inspect_err(|error| {
        tracing::warn!(
            target: "runner",
            code = "no_sealing_key",
            reason = runner_core::chain::chain(error),
            "what is in force is not kept for a restart; set server.key, or make data.dir writable"
        );
    });
    found.ok().flatten()
}

#[async_trait]
impl StateStore for BrokerStateStore {
    async fn put(&self, kind: &'static str, name: &str, body: Vec<u8>) -> Result<(), String> {
        let Some(sealed) = self.seal.close(kind, name, body) else {
            return Err("the system gives no random bytes".to_owned());
        };
        let name = self.seal.name(kind, name);
        let kept = self.broker.keep_document(kind, &name, sealed, self.kept).await;
        kept.map_err(|error| runner_core::chain::chain(&error))
    }

    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Vec<u8>>, StateStoreError> {
        let found = self.broker.document(kind, &self.seal.name(kind, name)).await;
        let found = found.map_err(|error| StateStoreError::Away(runner_core::chain::chain(&error)))?;
        let open = |sealed: Vec<u8>| {
            let opened = self.seal.open(kind, name, &sealed);
            opened.ok_or_else(|| {
                StateStoreError::Spoiled("it was not sealed with the key of this installation".to_owned())
            })
        };
        found.map(open).transpose()
    }

    fn writes(&self) -> bool {
        self.writes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Environment;
    use runner_core::clock::SystemClock;
    use runner_queue::embedded::EmbeddedBroker;

    async fn broker(dir: &std::path::Path) -> Arc<dyn Documents> {
        let clock = Arc::new(SystemClock);
        Arc::new(EmbeddedBroker::open(&dir.join("t.db"), clock).await.unwrap())
    }

    fn settings(dir: &std::path::Path, key: &str) -> Settings {
        let text = format!("data: {{dir: {dir:?}}}\nserver: {{key: {key:?}}}");
        Settings::parse("c", &text, &Environment::default()).unwrap()
    }

    #[tokio::test]
    async fn instances_with_one_key_share_and_a_text_put_there_by_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path()).await;
        let (one, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let keep = |key: &str| BrokerStateStore::of_look(broker.clone(), &settings(dir.path(), key)).unwrap();
        let run = settings(dir.path(), one);
        let run = BrokerStateStore::of_run(broker.clone(), &run, sealing_key(&run, true).unwrap()).unwrap();
        run.put("rows", "x", b"text".to_vec()).await.unwrap();
        assert_eq!(keep(one).get("rows", "x").await, Ok(Some(b"text".to_vec())));
        assert_eq!(keep(one).get("rows", "y").await, Ok(None));
        assert_eq!(keep(other).get("rows", "x").await, Ok(None));
        let documents = broker.documents("rows").await.unwrap();
        let (name, _) = &documents[0];
        broker
            .keep_document("rows", name, br#"{"files": []}"#.to_vec(), KEPT)
            .await
            .unwrap();
        let refused = keep(one).get("rows", "x").await;
        assert!(matches!(refused, Err(StateStoreError::Spoiled(_))), "{refused:?}");
    }
}
