//! Documents: one key each, and an index of each kind, by the end of their time, in the same slot of a cluster.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Value;

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::ops::partial::or_nothing;
use crate::{BrokerResult, DocumentName, Documents, MAX_DOCUMENT_NAMES, MAX_DOCUMENTS};

const KEEP: &str = "keep a document";
const READ: &str = "read documents";

impl RedisBroker {
    async fn write_document(&self, kind: &str, name: &str, body: Option<Vec<u8>>, ttl: Duration) -> BrokerResult<bool> {
        let mut trip = self.conn.trip(KEEP).await?;
        trip.script(
            Script::KeepDocument,
            &[keys::documents(kind), keys::document(kind, name)],
        )
        .arg(name)
        .arg(ttl.as_secs().max(1));
        if let Some(body) = body {
            trip.arg(&body[..]);
        }
        Ok(reply::number(trip.one().await?) == Some(1))
    }
}

#[async_trait]
impl Documents for RedisBroker {
    async fn keep_document(&self, kind: &'static str, name: &str, body: Vec<u8>, ttl: Duration) -> BrokerResult<()> {
        self.write_document(kind, name, Some(body), ttl).await.map(drop)
    }

    async fn renew_document(&self, kind: &'static str, name: &str, ttl: Duration) -> BrokerResult<bool> {
        self.write_document(kind, name, None, ttl).await
    }

    async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>> {
        let mut trip = self.conn.trip(READ).await?;
        trip.command("GET").arg(keys::document(kind, name));
        Ok(reply::bytes(or_nothing(trip.one().await)?))
    }

    async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>> {
        let mut trip = self.conn.trip(READ).await?;
        trip.command("ZREVRANGE")
            .arg(keys::documents(kind))
            .arg(0)
            .arg(MAX_DOCUMENTS - 1);
        // The index is bounded and sorted by expiry; the documents themselves are read in one further trip.
        let names: Vec<String> = reply::list(or_nothing(trip.one().await)?)
            .into_iter()
            .filter_map(reply::text)
            .collect();
        self.documents_named(kind, &names).await
    }

    async fn document_names(&self, kind: &'static str, after: Timestamp) -> BrokerResult<Vec<DocumentName>> {
        let mut trip = self.conn.trip(READ).await?;
        trip.command("ZREVRANGEBYSCORE")
            .arg(keys::documents(kind))
            .arg("+inf")
            .arg(format!("({}", after.as_second()))
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(0)
            .arg(MAX_DOCUMENT_NAMES);
        let mut answer = reply::list(or_nothing(trip.one().await)?).into_iter();
        let mut found = Vec::new();
        while let (Some(name), Some(score)) = (answer.next(), answer.next()) {
            let both = reply::text(name).zip(reply::seconds(score));
            found.extend(both.map(|(name, expires)| DocumentName { name, expires }));
        }
        Ok(found)
    }

    async fn documents_named(&self, kind: &'static str, names: &[String]) -> BrokerResult<Vec<(String, Vec<u8>)>> {
        let names = &names[..names.len().min(MAX_DOCUMENTS)];
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut trip = self.conn.trip(READ).await?;
        for name in names {
            trip.command("GET").arg(keys::document(kind, name));
        }
        // A document that cannot be read does not hide the others.
        let answers: BrokerResult<Vec<Value>> = trip.each().await?.into_iter().map(or_nothing).collect();
        let bodies = answers?.into_iter().map(reply::bytes);
        let found = names.iter().zip(bodies);
        Ok(found.filter_map(|(name, body)| Some((name.clone(), body?))).collect())
    }

    async fn drop_document(&self, kind: &'static str, name: &str) -> BrokerResult<()> {
        let mut trip = self.conn.trip("drop a document").await?;
        // An index entry without a document is left out by readers, so the order does not matter.
        trip.command("DEL").arg(keys::document(kind, name));
        trip.command("ZREM").arg(keys::documents(kind)).arg(name);
        for answer in trip.each().await? {
            or_nothing(answer)?;
        }
        Ok(())
    }
}
