//! The payload of a manifest: a YAML value written as compact JSON, keys in the order of the file.

use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Report, quoted};

/// The largest payload, in bytes of JSON; a task is not the place for files.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A payload as JSON text; the members of an object are kept separately so that two can be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestPayload {
    /// Keys and JSON values.
    Object(Vec<(String, String)>),
    /// Any other JSON value.
    Other(String),
}

impl ManifestPayload {
    /// Reads the value at `path`; reports what JSON cannot hold.
    pub fn read(node: &Node, path: &str, report: &mut Report<'_>) -> Option<Self> {
        let before = report.errors();
        let payload = if let Value::Map(_) = &node.value {
            Self::Object(members(node, path, report))
        } else {
            let mut out = String::new();
            write(node, path, report, &mut out);
            Self::Other(out)
        };
        if report.errors() > before {
            return None;
        }
        let size = payload.to_json().len();
        if size > MAX_PAYLOAD_BYTES {
            let text = format!("{path} is {size} bytes of JSON; at most {MAX_PAYLOAD_BYTES} are allowed");
            report.error("E152", node.mark, text);
            return None;
        }
        Some(payload)
    }

    /// This object, its members replaced by those of `over`; `None` unless both are objects.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Option<Self> {
        let (Self::Object(base), Self::Object(over)) = (self, over) else {
            return None;
        };
        let mut all = base.clone();
        for (key, value) in over {
            match all.iter_mut().find(|(k, _)| k == key) {
                Some((_, old)) => old.clone_from(value),
                None => all.push((key.clone(), value.clone())),
            }
        }
        Some(Self::Object(all))
    }

    /// Compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Other(json) => json.clone(),
            Self::Object(members) => {
                let members: Vec<String> = members.iter().map(|(k, v)| format!("{}:{v}", json_text(k))).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }
}

fn members(node: &Node, path: &str, report: &mut Report<'_>) -> Vec<(String, String)> {
    let Value::Map(map) = &node.value else {
        return Vec::new();
    };
    let mut all: Vec<(String, String)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        let Value::Text(name) = &key.value else {
            let text = format!(
                "a key of {path} must be a string to be written as JSON, found {}",
                key.value.describe()
            );
            report.error("E151", key.mark, text).hint = Some("put it in quotes".to_owned());
            continue;
        };
        if all.iter().any(|(k, _)| k == name) {
            let text = format!("duplicate key {} in {path}", quoted(name));
            report.error("E103", key.mark, text);
            continue;
        }
        let mut out = String::new();
        write(value, &format!("{path}.{name}"), report, &mut out);
        all.push((name.clone(), out));
    }
    all
}

fn write(node: &Node, path: &str, report: &mut Report<'_>, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(f) if lost_digits(*f, node.mark) => {
            let text = format!("{path} is a whole number of more than 64 bits, which would not keep all its digits");
            report.error("E151", node.mark, text).hint = Some("put it in quotes".to_owned());
        }
        Value::Float(f) => match serde_json::to_string(f) {
            Ok(text) if f.is_finite() => out.push_str(&text),
            _ => {
                let text = format!("{path} cannot be written as JSON");
                report.error("E151", node.mark, text);
            }
        },
        Value::Text(text) => out.push_str(&json_text(text)),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, &format!("{path}[{index}]"), report, out);
            }
            out.push(']');
        }
        Value::Map(_) => {
            let members = members(node, path, report);
            out.push_str(&ManifestPayload::Object(members).to_json());
        }
    }
}

/// Whether a float was written as a whole number: the YAML library makes floats of those that need
/// more than 64 bits. A number with an exponent is shorter than its digits, one with a fraction is longer.
fn lost_digits(number: f64, mark: Mark) -> bool {
    /// Every whole number below it fits into 64 bits.
    const SMALLEST: f64 = 9.2e18;
    // Rounding may add a digit, and a plus sign is written but not printed.
    number.abs() >= SMALLEST && format!("{number:.0}").len().abs_diff(mark.len) <= 1
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
