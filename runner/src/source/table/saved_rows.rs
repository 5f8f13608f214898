//! The rows that were last in force, saved outside of the process: a restart fires them while the database is
//! unreachable.
//!
//! Only the format; neither where it is saved nor how a row is read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use runner_core::schedule::stable_hash;

use super::store::{MAX_ROWS, TableRow};
use crate::source::saved_state::SavedText;
use crate::source::state_store::MAX_KEPT;
use crate::text::{hex, unhex};

/// Rows that were in force, and when they were read.
#[derive(Serialize, Deserialize)]
pub struct SavedRows {
    pub at: Timestamp,
    rows: Vec<SavedRow>,
    /// How many rows did not fit.
    #[serde(default)]
    left_out: usize,
}

#[derive(Serialize, Deserialize)]
struct SavedRow {
    id: String,
    name: Option<String>,
    kind: Option<String>,
    spec: Option<String>,
    payload: Option<String>,
    /// The payload in hexadecimal digits, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    status: Option<String>,
}

impl SavedRows {
    /// The rows as they were read.
    pub fn into_rows(self) -> Vec<TableRow> {
        let row = |row: SavedRow| TableRow {
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

/// As JSON of at most [`MAX_KEPT`] bytes, and a fingerprint of the rows in it.
pub fn body_of(rows: &[&TableRow], at: Timestamp) -> (SavedText, u64) {
    // Space for the rest of the document.
    let mut room = MAX_KEPT - 1024;
    let mut kept = Vec::new();
    for row in rows {
        let text = |cell: &super::store::Cell| cell.clone().ok().flatten();
        let payload = row.payload.clone().ok().flatten().map(String::from_utf8).transpose();
        let (payload, payload_hex) = match payload {
            Ok(text) => (text, None),
            Err(error) => (None, Some(hex(error.as_bytes()))),
        };
        let one = SavedRow {
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
    let bytes = serde_json::to_vec(&SavedRows {
        at,
        rows: kept,
        left_out,
    })
    .unwrap_or_default();
    (SavedText { bytes, left_out }, stable_hash(&[&texts]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(id: usize, payload: &str) -> TableRow {
        TableRow {
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
        let bytes = TableRow {
            payload: Ok(Some(vec![0x81, 0xff])),
            ..row(3, "")
        };
        let some = [row(1, "{\"a\": \"\u{4e2d}\"}"), row(2, ""), bytes];
        let (body, first) = body_of(&some.iter().collect::<Vec<_>>(), Timestamp::UNIX_EPOCH);
        let kept: SavedRows = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!((kept.at, kept.left_out), (Timestamp::UNIX_EPOCH, 0));
        assert_eq!(kept.into_rows(), some);
        let later = Timestamp::from_second(5).unwrap();
        assert_eq!(
            body_of(&some.iter().collect::<Vec<_>>(), later).1,
            first,
            "the time is not part of it"
        );
        let large: Vec<TableRow> = (0..20).map(|id| row(id, &"x".repeat(1 << 20))).collect();
        let (body, _) = body_of(&large.iter().collect::<Vec<_>>(), later);
        let kept: SavedRows = serde_json::from_slice(&body.bytes).unwrap();
        assert!(body.bytes.len() <= MAX_KEPT);
        assert_eq!((kept.rows.len(), kept.left_out, body.left_out), (7, 13, 13));
    }
}
