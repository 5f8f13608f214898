//! The value of the column `status`: on, off, or neither. It may be a number, a bit, a boolean or a word.

use super::store::Cell;

/// Whether a status is on or off; `None` if it is neither.
#[must_use]
pub fn switch(status: &str) -> Option<bool> {
    let status = status.trim_matches(|c: char| c.is_ascii_whitespace());
    match status.to_ascii_lowercase().as_str() {
        // The second is the text of a single bit.
        "true" | "t" | "\u{1}" => Some(true),
        "false" | "f" | "\0" => Some(false),
        number => match number.parse::<f64>() {
            Ok(1.0) => Some(true),
            Ok(0.0) => Some(false),
            _ => None,
        },
    }
}

/// Whether the row is on: only if its status says so.
#[must_use]
pub fn is_on(status: &Cell) -> bool {
    let text = status.as_ref().ok().and_then(Option::as_deref);
    text.and_then(switch).unwrap_or(false)
}
