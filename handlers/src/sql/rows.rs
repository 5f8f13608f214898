//! Rows of a query as JSON, up to a number and a size.

use serde_json::Value;

/// Bytes of rows that are kept; the limit of a result leaves room for names and punctuation.
const MAX_BYTES: usize = 900 * 1024;

/// What a query yielded.
#[derive(Debug, Default)]
pub(super) struct ResultRows {
    pub(super) columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    bytes: usize,
    /// How many rows arrived, kept or not.
    pub(super) count: u64,
    /// Whether not all of them are kept.
    pub(super) cut: bool,
}

impl ResultRows {
    /// Adds a row while there is room.
    pub(super) fn push(&mut self, row: Vec<Value>, max_rows: u32) {
        self.count += 1;
        self.bytes += row.iter().map(|value| value.to_string().len() + 1).sum::<usize>();
        if self.cut || self.count > u64::from(max_rows) || self.bytes > MAX_BYTES {
            self.cut = true;
            return;
        }
        self.rows.push(row);
    }

    pub(super) fn into_json(self) -> Value {
        let mut json = serde_json::json!({"columns": self.columns, "rows": self.rows});
        if self.cut
            && let Some(map) = json.as_object_mut()
        {
            map.insert("truncated".to_owned(), true.into());
        }
        json
    }
}

/// Bytes as text if they are UTF-8, else as `\x` and hexadecimal digits.
pub(super) fn bytes_to_json(bytes: &[u8]) -> Value {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", digits.collect::<String>()).into()
}

/// A number of a column; JSON has no infinite one.
pub(super) fn float_to_json(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}
