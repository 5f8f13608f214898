//! Reads what live instances announce about their schedules. `peers` writes it.

use std::collections::HashMap;

use runner_queue::{BrokerResult, Documents};
use serde::{Deserialize, Serialize};

use super::versions::{PeerSet, ScheduleSet, VersionTimes};

/// Kinds of documents: statements by instance, sets by digest, and version times by instance.
pub(super) const INSTANCES: &str = "instances";
pub(super) const SETS: &str = "sets";
pub(super) const SINCE: &str = "since";

/// What an instance announces about itself.
#[derive(Serialize, Deserialize)]
pub(super) struct PeerStatement {
    pub(super) set: String,
    /// Changes with every new set, so that readers know when to read the version times again.
    pub(super) since: u64,
}

/// What the reading instance announces itself: that is not read again.
#[derive(Debug)]
pub(super) struct OwnDocuments<'a> {
    /// `host:pid:random`.
    pub(super) instance: &'a str,
    /// Of its set.
    pub(super) digest: &'a str,
    pub(super) set: &'a ScheduleSet,
}

/// Remembers what it has read: sets by digest and version times by instance and number. Replaced with each look, so it
/// holds only what live instances have.
#[derive(Debug, Default)]
pub(super) struct PeerReader {
    sets: HashMap<String, ScheduleSet>,
    sinces: HashMap<String, VersionTimes>,
}

impl PeerReader {
    /// All live instances except the reading one.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub(super) async fn read(&mut self, broker: &dyn Documents, own: &OwnDocuments<'_>) -> BrokerResult<Vec<PeerSet>> {
        let statements = broker.documents(INSTANCES).await?;
        let (mut sets, mut sinces, mut peers) = (HashMap::new(), HashMap::new(), Vec::new());
        for (name, body) in statements {
            // A document of a newer version that this one cannot read: no comparison, no problem.
            let Ok(statement) = serde_json::from_slice::<PeerStatement>(&body) else {
                continue;
            };
            if name == own.instance {
                continue;
            }
            let known = sets.get(&statement.set).or_else(|| self.sets.get(&statement.set));
            let known = known.or_else(|| (statement.set == own.digest).then_some(own.set));
            let set = match known {
                Some(set) => set.clone(),
                // The set expired between the two reads: its instance is about to store it again.
                None => match of_document(broker.document(SETS, &statement.set).await?) {
                    Some(set) => set,
                    None => continue,
                },
            };
            let key = format!("{name} {}", statement.since);
            let since = match self.sinces.remove(&key) {
                Some(since) => since,
                None => of_document(broker.document(SINCE, &name).await?).unwrap_or_default(),
            };
            peers.push(PeerSet {
                name: shown(&name),
                set: set.clone(),
                since: since.clone(),
            });
            sets.insert(statement.set, set);
            sinces.insert(key, since);
        }
        (self.sets, self.sinces) = (sets, sinces);
        Ok(peers)
    }
}

fn of_document<T: serde::de::DeserializeOwned>(body: Option<Vec<u8>>) -> Option<T> {
    serde_json::from_slice(&body?).ok()
}

/// `host:pid` of `host:pid:random`.
fn shown(instance: &str) -> String {
    instance.rsplit_once(':').map_or(instance, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use jiff::Timestamp;
    use runner_core::schedule::ScheduleId;
    use runner_queue::DocumentName;

    use super::*;

    /// Documents in memory, and which of them were read one by one.
    #[derive(Default)]
    struct Memory {
        documents: BTreeMap<(&'static str, String), Vec<u8>>,
        read: Mutex<Vec<String>>,
    }

    impl Memory {
        fn keep(&mut self, kind: &'static str, name: &str, body: &str) {
            self.documents.insert((kind, name.to_owned()), body.as_bytes().to_vec());
        }

        /// An instance that announces this set.
        fn announce(&mut self, instance: &str, set: &str) {
            self.keep(INSTANCES, instance, &format!(r#"{{"set":"{set}","since":1}}"#));
            self.keep(SINCE, instance, r#"{"m:job:default":5}"#);
        }

        fn take_read(&self) -> Vec<String> {
            std::mem::take(&mut self.read.lock().unwrap())
        }
    }

    #[async_trait]
    impl Documents for Memory {
        async fn keep_document(&self, _: &'static str, _: &str, _: Vec<u8>, _: Duration) -> BrokerResult<()> {
            Ok(())
        }

        async fn renew_document(&self, _: &'static str, _: &str, _: Duration) -> BrokerResult<bool> {
            Ok(false)
        }

        async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>> {
            self.read.lock().unwrap().push(format!("{kind} {name}"));
            Ok(self.documents.get(&(kind, name.to_owned())).cloned())
        }

        async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>> {
            let of_kind = self.documents.iter().filter(|((other, _), _)| *other == kind);
            Ok(of_kind.map(|((_, name), body)| (name.clone(), body.clone())).collect())
        }

        async fn document_names(&self, _: &'static str, _: Timestamp) -> BrokerResult<Vec<DocumentName>> {
            Ok(Vec::new())
        }

        async fn documents_named(&self, _: &'static str, _: &[String]) -> BrokerResult<Vec<(String, Vec<u8>)>> {
            Ok(Vec::new())
        }

        async fn drop_document(&self, _: &'static str, _: &str) -> BrokerResult<()> {
            Ok(())
        }
    }

    const SET: &str = r#"{"m:job:default":{"v":1,"p":"a.yaml:1","s":"@daily (UTC)","k":"t","d":0,"o":0}}"#;

    #[tokio::test]
    async fn what_cannot_be_compared_is_left_out_and_what_is_known_is_not_read_again() {
        let mut store = Memory::default();
        store.announce("a:1:x", "one");
        store.announce("b:2:y", "one");
        store.announce("own:3:z", "two");
        store.announce("gone:4:w", "expired");
        store.keep(INSTANCES, "newer:5:v", "{}");
        store.keep(SETS, "one", SET);
        let own_set = ScheduleSet::new();
        let own = OwnDocuments {
            instance: "own:3:z",
            digest: "two",
            set: &own_set,
        };
        let mut reader = PeerReader::default();
        let peers = reader.read(&store, &own).await.unwrap();
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["a:1", "b:2"]);
        let job = ScheduleId::manifest("job", "default");
        assert!(
            peers
                .iter()
                .all(|peer| peer.set.contains_key(&job) && peer.since[&job] == 5)
        );
        let read = store.take_read();
        assert_eq!(read.iter().filter(|name| *name == "sets one").count(), 1, "{read:?}");
        // The set of an instance that has the same one as the reader is not read at all.
        store.announce("c:6:u", "two");
        let peers = reader.read(&store, &own).await.unwrap();
        assert_eq!(peers.iter().map(|peer| peer.set.len()).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(store.take_read(), ["since c:6:u", "sets expired"]);
    }
}
