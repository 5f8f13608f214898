//! The binary forms of PostgreSQL's common types, from and to JSON. No I/O.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::rows::{bytes_to_json, float_to_json};

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const CHAR: u32 = 18;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const XML: u32 = 142;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const VOID: u32 = 2278;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;

/// Digits of a numeric are in groups of four.
const GROUP: usize = 4;

/// Its instants count from here.
fn epoch() -> DateTime {
    Date::constant(2000, 1, 1).to_datetime(Time::midnight())
}

/// A value as this type; `name` is that of the type, for messages.
pub(super) fn to_binary(value: &Value, oid: u32, name: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{value} is no {name}");
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let trimmed = text.trim();
    Ok(match oid {
        BOOL => match trimmed {
            "true" | "t" | "1" => vec![1],
            "false" | "f" | "0" => vec![0],
            _ => return Err(wrong()),
        },
        INT2 => trimmed.parse::<i16>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        INT4 => trimmed.parse::<i32>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        INT8 => trimmed.parse::<i64>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        OID => trimmed.parse::<u32>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        FLOAT4 => trimmed.parse::<f32>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        FLOAT8 => trimmed.parse::<f64>().map_err(|_| wrong())?.to_be_bytes().to_vec(),
        NUMERIC => numeric_to_binary(trimmed).ok_or_else(wrong)?,
        TIMESTAMPTZ | TIMESTAMP => {
            let at = civil(trimmed).ok_or_else(wrong)?;
            micros(at.duration_since(epoch()))
                .ok_or_else(wrong)?
                .to_be_bytes()
                .to_vec()
        }
        DATE => {
            let at = civil(trimmed).ok_or_else(wrong)?.date();
            let days = at.duration_since(epoch().date()).as_hours() / 24;
            i32::try_from(days).map_err(|_| wrong())?.to_be_bytes().to_vec()
        }
        UUID => {
            let digits: String = trimmed.chars().filter(|c| *c != '-').collect();
            let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
            number.ok_or_else(wrong)?.to_be_bytes().to_vec()
        }
        JSON | JSONB => {
            // A JSON text is the document; any other value is one itself.
            let mut bytes = if oid == JSONB { vec![1] } else { Vec::new() };
            bytes.extend_from_slice(text.as_bytes());
            bytes
        }
        BYTEA | TEXT | VARCHAR | BPCHAR | NAME | CHAR | UNKNOWN | XML => text.into_bytes(),
        _ => {
            let hint = format!("the type {name} cannot be a parameter; write $1::text::{name} in the statement");
            return Err(hint);
        }
    })
}

/// A time without offset is in UTC.
fn civil(text: &str) -> Option<DateTime> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.to_zoned(TimeZone::UTC).datetime());
    }
    text.parse::<DateTime>().ok()
}

fn micros(span: SignedDuration) -> Option<i64> {
    i64::try_from(span.as_micros()).ok()
}

/// A value of this type as JSON; `None` for types that have no plain form.
pub(super) fn from_binary(bytes: &[u8], oid: u32) -> Option<Value> {
    Some(match oid {
        BOOL => (bytes != [0]).into(),
        INT2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        INT4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        INT8 => i64::from_be_bytes(bytes.try_into().ok()?).into(),
        OID => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        FLOAT4 => float_to_json(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        FLOAT8 => float_to_json(f64::from_be_bytes(bytes.try_into().ok()?)),
        NUMERIC => numeric_from_binary(bytes)?.into(),
        TIMESTAMP | TIMESTAMPTZ => {
            let zone = if oid == TIMESTAMPTZ { "Z" } else { "" };
            let count = i64::from_be_bytes(bytes.try_into().ok()?);
            // The ends of the range are "infinity" and "-infinity".
            match epoch().checked_add(SignedDuration::from_micros(count)) {
                Ok(at) => format!("{at}{zone}").into(),
                Err(_) if count > 0 => "infinity".into(),
                Err(_) => "-infinity".into(),
            }
        }
        DATE => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            match epoch()
                .date()
                .checked_add(SignedDuration::from_hours(i64::from(days) * 24))
            {
                Ok(at) => at.to_string().into(),
                Err(_) if days > 0 => "infinity".into(),
                Err(_) => "-infinity".into(),
            }
        }
        TIME => {
            let count = i64::from_be_bytes(bytes.try_into().ok()?);
            let at = Time::midnight().checked_add(SignedDuration::from_micros(count)).ok()?;
            at.to_string().into()
        }
        UUID => {
            let digits = format!("{:032x}", u128::from_be_bytes(bytes.try_into().ok()?));
            let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| digits.get(from..to));
            let parts: Option<Vec<&str>> = parts.into_iter().collect();
            parts?.join("-").into()
        }
        JSON => serde_json::from_slice(bytes).ok()?,
        JSONB => serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()?,
        VOID => Value::Null,
        BYTEA | TEXT | VARCHAR | BPCHAR | NAME | CHAR | UNKNOWN | XML => bytes_to_json(bytes),
        _ => return None,
    })
}

/// Number of groups, weight of the first, sign, digits after the point, then the groups: base 10,000.
fn numeric_to_binary(text: &str) -> Option<Vec<u8>> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, after) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && after.is_empty()) || !all_digits(whole) || !all_digits(after) {
        return None;
    }
    let digits = whole.len().div_ceil(GROUP) * GROUP;
    let mut padded = format!("{whole:0>digits$}{after}");
    while padded.len() % GROUP != 0 {
        padded.push('0');
    }
    let groups = padded.as_bytes().chunks(GROUP);
    let groups: Option<Vec<i16>> = groups.map(|g| std::str::from_utf8(g).ok()?.parse().ok()).collect();
    let groups = groups?;
    let weight = i16::try_from(digits / GROUP).ok()? - 1;
    let sign: u16 = if negative { 0x4000 } else { 0 };
    let mut bytes = Vec::with_capacity(8 + groups.len() * 2);
    bytes.extend(i16::try_from(groups.len()).ok()?.to_be_bytes());
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend(i16::try_from(after.len()).ok()?.to_be_bytes());
    for group in groups {
        bytes.extend(group.to_be_bytes());
    }
    Some(bytes)
}

/// As text, with every digit.
fn numeric_from_binary(bytes: &[u8]) -> Option<String> {
    let (head, groups) = bytes.split_at_checked(8)?;
    let word = |at: usize| Some(i16::from_be_bytes([*head.get(at)?, *head.get(at + 1)?]));
    let weight = i32::from(word(2)?);
    let scale = usize::try_from(word(6)?).ok()?;
    let sign = match word(4)?.cast_unsigned() {
        0 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let groups = groups.chunks_exact(2).map(|g| i16::from_be_bytes([g[0], g[1]]));
    let groups: Vec<i16> = groups.collect();
    let group = |position: i32| {
        let index = usize::try_from(weight - position).ok();
        index.and_then(|index| groups.get(index)).copied().unwrap_or_default()
    };
    let mut whole: String = (0..=weight)
        .rev()
        .map(|position| format!("{:04}", group(position)))
        .collect();
    whole = whole.trim_start_matches('0').to_owned();
    if whole.is_empty() {
        whole.push('0');
    }
    let behind = i32::try_from(scale.div_ceil(GROUP)).ok()?;
    let mut after: String = (1..=behind)
        .map(|position| format!("{:04}", group(-position)))
        .collect();
    after.truncate(scale);
    match after.is_empty() {
        true => Some(format!("{sign}{whole}")),
        false => Some(format!("{sign}{whole}.{after}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_survive_the_way_there_and_back() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (oid, given, back) in [
            (BOOL, "true", "true"),
            (INT2, "-7", "-7"),
            (INT4, "\"12\"", "12"),
            (INT8, "9007199254740993", "9007199254740993"),
            (FLOAT8, "1.5", "1.5"),
            (TEXT, "\"ä; DROP\"", "\"ä; DROP\""),
            (TEXT, "5", "\"5\""),
            (NUMERIC, "12.50", "\"12.5\""),
            (NUMERIC, "\"-10001.000200\"", "\"-10001.000200\""),
            (NUMERIC, "\"0.0001\"", "\"0.0001\""),
            (NUMERIC, "\"0\"", "\"0\""),
            (NUMERIC, "\"12345678901234567890.5\"", "\"12345678901234567890.5\""),
            (TIMESTAMPTZ, "\"2030-01-01T01:30:00+01:00\"", "\"2030-01-01T00:30:00Z\""),
            (TIMESTAMP, "\"1999-12-31 23:59:59.5\"", "\"1999-12-31T23:59:59.5\""),
            (DATE, "\"1999-12-31\"", "\"1999-12-31\""),
            (DATE, "\"2030-01-01T00:00:00Z\"", "\"2030-01-01\""),
            (
                UUID,
                "\"00112233-4455-6677-8899-aabbccddeeff\"",
                "\"00112233-4455-6677-8899-aabbccddeeff\"",
            ),
            (JSONB, "{\"a\":[1]}", "{\"a\":[1]}"),
        ] {
            let bytes = to_binary(&json(given), oid, "type").unwrap();
            assert_eq!(from_binary(&bytes, oid), Some(json(back)), "{oid} {given}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        for (oid, given) in [
            (INT4, "\"1; DROP TABLE x\""),
            (INT4, "99999999999"),
            (BOOL, "\"maybe\""),
            (TIMESTAMPTZ, "\"tomorrow\""),
            (UUID, "\"1\""),
            (NUMERIC, "\"1e5\""),
            (NUMERIC, "\"\""),
            (869, "\"10.0.0.1\""),
        ] {
            let value = serde_json::from_str(given).unwrap();
            assert!(to_binary(&value, oid, "type").is_err(), "{oid} {given}");
        }
        assert_eq!(from_binary(&[1, 2], INT4), None);
        assert_eq!(from_binary(&[0; 7], NUMERIC), None);
    }
}
