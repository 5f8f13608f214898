//! Taking the server's answers apart. Lenient: what is missing reads as nothing.

use redis::Value;

/// The elements of a list; empty for anything else.
pub(in crate::redis) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => Vec::new(),
    }
}

/// A string of bytes, or a number as text.
pub(in crate::redis) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        Value::Double(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// Text; `None` also for bytes that are not UTF-8.
pub(in crate::redis) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|b| String::from_utf8(b).ok())
}

/// Text for people and for what is compared with our own; what is not UTF-8 becomes a sign that says so.
pub(in crate::redis) fn shown(value: Value) -> Option<String> {
    bytes(value).map(|b| String::from_utf8_lossy(&b).into_owned())
}

/// A whole number; fractions are dropped.
pub(in crate::redis) fn number(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Nil => None,
        other => {
            let text = text(other)?;
            // Scores come as floating point, counters as integers beyond its precision.
            text.parse().ok().or_else(|| {
                #[allow(clippy::cast_possible_truncation)] // saturates, which is what is wanted
                text.parse::<f64>()
                    .ok()
                    .filter(|f| !f.is_nan())
                    .map(|f| f.floor() as i64)
            })
        }
    }
}

/// A count; nothing and negative numbers read as zero.
pub(in crate::redis) fn count(value: Value) -> u64 {
    number(value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// A whole number of seconds since the epoch.
pub(in crate::redis) fn seconds(value: Value) -> Option<jiff::Timestamp> {
    number(value).and_then(|s| jiff::Timestamp::from_second(s).ok())
}

/// Seconds and nanoseconds as the scripts give the present.
pub(in crate::redis) fn instant(seconds: Value, nanos: Value) -> Option<jiff::Timestamp> {
    let nanos = i32::try_from(number(nanos)?).ok()?;
    jiff::Timestamp::new(number(seconds)?, nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_and_counters_read_as_whole_numbers() {
        let of = |text: &str| number(Value::BulkString(text.into()));
        assert_eq!(of("9223372036854775807"), Some(i64::MAX));
        assert_eq!(of("1893553445.7"), Some(1_893_553_445));
        assert_eq!(of("-inf"), Some(i64::MIN));
        assert_eq!(of("nan"), None);
        assert_eq!(of("x"), None);
    }
}
