//! Reads `http`: a call.

use runner_core::function::{FunctionKind, HttpBody, HttpSpec};

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// What may stand under it.
pub(super) const FIELDS: &[&str] = &["method", "url", "headers", "body", "success", "retry_on"];

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    read_spec(field, report).map(FunctionKind::Http)
}

fn read_spec(field: &Field<'_>, report: &mut Report<'_>) -> Option<HttpSpec> {
    if let Value::Text(url) = &field.node.value {
        let url = url.trim();
        check_url(field, url, report);
        return Some(HttpSpec::new(url));
    }
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let mut spec = HttpSpec::new("");
    match map.get("url", report) {
        Some(f) => {
            if let Some(url) = f.text("E310", report) {
                spec.url = url.trim().to_owned();
                check_url(f, &spec.url, report);
            }
        }
        None if map.peek("url").is_none() => {
            report.error("E310", map.mark, "http.url is required");
        }
        None => (),
    }
    if let Some(f) = map.get("method", report) {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let words = METHODS.map(|m| (m, m));
        if let Some(method) = f.word("E312", &words, report) {
            method.clone_into(&mut spec.method);
        }
    }
    if let Some(f) = map.get("headers", report) {
        spec.headers = f.text_map("E312", report).unwrap_or_default();
        check_headers(f, &spec, report);
    }
    if let Some(f) = map.peek("body") {
        spec.body = match &f.node.value {
            Value::Text(text) if text == "payload" => HttpBody::Payload,
            Value::Text(text) if text == "none" => HttpBody::None,
            Value::Null => HttpBody::None,
            Value::Text(text) => HttpBody::Text(text.clone()),
            _ => f
                .mismatch("E312", "payload, none or a text", report)
                .unwrap_or_default(),
        };
    }
    if let Some(f) = map.get("success", report) {
        spec.success = read_statuses(f, report);
    }
    if let Some(f) = map.get("retry_on", report) {
        spec.retry_on = read_statuses(f, report);
    }
    Some(spec)
}

fn check_url(field: &Field<'_>, url: &str, report: &mut Report<'_>) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_some_and(|h| h.contains('@')) {
        // Neither the value nor its line is shown: it may hold a password.
        let text = "http.url must not hold a user or a password; use headers";
        report.error("E310", field.node.mark, text);
        report.hide_line(field.node.mark);
        return;
    }
    let wrong = match host {
        None => "must be http:// or https://",
        Some("") => "has no host",
        Some(_) if url.chars().any(|c| c.is_whitespace() || c.is_control()) => "must not hold white space",
        Some(_) => return,
    };
    report.error("E310", field.node.mark, format!("http.url {} {wrong}", quoted(url)));
}

fn check_headers(field: &Field<'_>, spec: &HttpSpec, report: &mut Report<'_>) {
    for (name, value) in &spec.headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let wrong = if name.is_empty() || !name.chars().all(token) {
            "is not a name of a header"
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            "has a control character in its value"
        } else if ["host", "content-length", "transfer-encoding", "connection"].contains(&name.to_lowercase().as_str())
        {
            "cannot be set"
        } else {
            continue;
        };
        let text = format!("{}: {} {wrong}", field.path, quoted(name));
        report.error("E312", field.node.mark, text);
    }
}

/// A list of statuses and ranges: `[200, 500-599]`.
fn read_statuses(field: &Field<'_>, report: &mut Report<'_>) -> Vec<(u16, u16)> {
    let Value::List(items) = &field.node.value else {
        field.mismatch::<()>("E312", "a list such as [200, 500-599]", report);
        return Vec::new();
    };
    let status = |n: &str| n.trim().parse().ok().filter(|s| (100..=599).contains(s));
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let range = match &item.value {
            Value::Int(n) => status(&n.to_string()).map(|s: u16| (s, s)),
            Value::Text(t) => t
                .split_once('-')
                .map_or_else(
                    || Some((status(t)?, status(t)?)),
                    |(a, b)| Some((status(a)?, status(b)?)),
                )
                .filter(|(a, b)| a <= b),
            _ => None,
        };
        match range {
            Some(range) => ranges.push(range),
            None => {
                let text = format!(
                    "{}: expected a status 100-599 or a range, found {}",
                    field.path,
                    item.value.describe()
                );
                report.error("E312", item.mark, text);
            }
        }
    }
    ranges
}
