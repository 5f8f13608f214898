//! The rows that were last in force, kept outside of the process: what a restart fires while the database is away.
//!
//! Knows neither where they are kept nor how a row is read.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use runner_core::schedule::stable_hash;

use super::store::{MAX_ROWS, Row};
use crate::source::keep::{Keep, MAX_KEPT};
use crate::text::{hex, unhex};

/// How long keeping or reading may take: nothing waits for it but the next look at the table.
const LIMIT: Duration = Duration::from_secs(2);

/// How often rows that stay the same are kept again; what keeps them forgets them after days.
const AGAIN: Duration = Duration::from_secs(3600);

/// The rows of one table in the store that instances share.
pub struct Memory {
    keep: Option<Arc<dyn Keep>>,
    name: String,
    last: Option<(u64, Instant)>,
    refused: bool,
}

/// Rows that were in force, and since when it is known that they were.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    pub at: Timestamp,
    rows: Vec<KeptRow>,
    /// How many rows had no place.
    #[serde(default)]
    left_out: usize,
}

#[derive(Serialize, Deserialize)]
struct KeptRow {
    id: String,
    name: Option<String>,
    kind: Option<String>,
    spec: Option<String>,
    payload: Option<String>,
    /// The payload in hexadecimal digits, if it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    status: Option<String>,
}

impl Kept {
    /// The rows as they were read.
    pub fn into_rows(self) -> Vec<Row> {
        let row = |row: KeptRow| Row {
            id: row.id,
            name: Ok(row.name),
            kind: Ok(row.kind),
            spec: Ok(row.spec),
            payload: Ok(match row.payload_hex {
                Some(digits) => unhex(&digits),
                None => row.payload.map(String::into_bytes),
            }),
            status: Ok(row.status),
            fault: None,
        };
        self.rows.into_iter().take(MAX_ROWS).map(row).collect()
    }
}

impl Memory {
    /// For the table at `place`; without `keep` nothing is kept.
    pub fn new(keep: Option<Arc<dyn Keep>>, place: &str) -> Self {
        Self {
            keep,
            name: format!("{:016x}", stable_hash(&[place])),
            last: None,
            refused: false,
        }
    }

    /// Keeps these rows, if they are others than last time or that was long ago.
    pub async fn keep(&mut self, rows: Vec<&Row>, at: Timestamp) {
        let Some(keep) = self.keep.clone().filter(|keep| keep.writes()) else {
            return;
        };
        let (body, fingerprint) = body_of(&rows, at);
        let now = Instant::now();
        let same = |(last, when): &(u64, Instant)| *last == fingerprint && now.duration_since(*when) < AGAIN;
        if self.last.as_ref().is_some_and(same) {
            return;
        }
        let kept = tokio::time::timeout(LIMIT, keep.put(&self.name, body)).await;
        let failure = match kept {
            Ok(Ok(())) => {
                (self.last, self.refused) = (Some((fingerprint, now)), false);
                return;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
        };
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                code = "rows_not_kept",
                reason = failure,
                "the rows in force cannot be kept for a restart while the database is away; it is tried again"
            );
        }
    }

    /// The rows that were kept, if there are any.
    pub async fn recall(&self) -> Option<Kept> {
        let keep = self.keep.clone()?;
        let body = tokio::time::timeout(LIMIT, keep.get(&self.name)).await.ok()?;
        let body = body.inspect_err(|reason| tracing::warn!(reason, "the rows of the last run cannot be read"));
        let kept = serde_json::from_slice(&body.ok()??);
        kept.inspect_err(|reason| tracing::warn!(%reason, "the rows of the last run are damaged"))
            .ok()
    }
}

/// As JSON of at most [`MAX_KEPT`] bytes, and a fingerprint of the rows in it.
fn body_of(rows: &[&Row], at: Timestamp) -> (Vec<u8>, u64) {
    // Room for the rest of the document.
    let mut room = MAX_KEPT - 1024;
    let mut kept = Vec::new();
    for row in rows {
        let text = |cell: &super::store::Cell| cell.clone().ok().flatten();
        let payload = row.payload.clone().ok().flatten().map(String::from_utf8).transpose();
        let (payload, payload_hex) = match payload {
            Ok(text) => (text, None),
            Err(error) => (None, Some(hex(error.as_bytes()))),
        };
        let one = KeptRow {
            id: row.id.clone(),
            name: text(&row.name),
            kind: text(&row.kind),
            spec: text(&row.spec),
            payload,
            payload_hex,
            status: text(&row.status),
        };
        let size = serde_json::to_string(&one).map_or(usize::MAX, |text| text.len() + 1);
        if size > room {
            break;
        }
        room -= size;
        kept.push(one);
    }
    let left_out = rows.len() - kept.len();
    let texts = serde_json::to_string(&kept).unwrap_or_default();
    let body = serde_json::to_vec(&Kept {
        at,
        rows: kept,
        left_out,
    })
    .unwrap_or_default();
    (body, stable_hash(&[&texts]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(id: usize, payload: &str) -> Row {
        Row {
            id: id.to_string(),
            name: Ok(None),
            kind: Ok(Some("t".to_owned())),
            spec: Ok(Some("@daily".to_owned())),
            payload: Ok(Some(payload.as_bytes().to_owned())),
            status: Ok(Some("1".to_owned())),
            fault: None,
        }
    }

    #[test]
    fn rows_come_back_as_they_were_and_are_bounded() {
        let bytes = Row {
            payload: Ok(Some(vec![0x81, 0xff])),
            ..row(3, "")
        };
        let some = [row(1, "{\"a\": \"\u{4e2d}\"}"), row(2, ""), bytes];
        let (body, first) = body_of(&some.iter().collect::<Vec<_>>(), Timestamp::UNIX_EPOCH);
        let kept: Kept = serde_json::from_slice(&body).unwrap();
        assert_eq!((kept.at, kept.left_out), (Timestamp::UNIX_EPOCH, 0));
        assert_eq!(kept.into_rows(), some);
        let later = Timestamp::from_second(5).unwrap();
        assert_eq!(
            body_of(&some.iter().collect::<Vec<_>>(), later).1,
            first,
            "the time is no part of it"
        );
        let large: Vec<Row> = (0..20).map(|id| row(id, &"x".repeat(1 << 20))).collect();
        let (body, _) = body_of(&large.iter().collect::<Vec<_>>(), later);
        let kept: Kept = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= MAX_KEPT);
        assert_eq!((kept.rows.len(), kept.left_out), (7, 13));
    }
}
