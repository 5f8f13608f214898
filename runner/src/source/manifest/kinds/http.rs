//! Reads `http`: a call.

use std::path::PathBuf;

use runner_core::function::{FunctionKind, HttpBody, HttpResult, HttpSpec, HttpTls, MAX_REDIRECTS};

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// What may stand under it.
pub(super) const FIELDS: &[&str] = &[
    "method",
    "url",
    "headers",
    "body",
    "success",
    "retry_on",
    "redirects",
    "sign",
    "result",
    "tls",
    "async",
];

/// Those that stand nowhere else in a manifest.
pub(super) const OWN: &[&str] = &[
    "method",
    "url",
    "headers",
    "body",
    "retry_on",
    "redirects",
    "sign",
    "tls",
    "async",
];

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
    read_options(&map, &mut spec, report);
    Some(spec)
}

fn read_options(map: &Fields<'_>, spec: &mut HttpSpec, report: &mut Report<'_>) {
    if let Some(f) = map.get("redirects", report) {
        spec.redirects = f.whole("E312", 0..=MAX_REDIRECTS, report).unwrap_or_default();
    }
    if let Some(f) = map.get("sign", report)
        && let Some(map) = Fields::read(f.node, &f.path, &["secret"], report)
    {
        spec.sign_secret = read_sign_secret(&map, report);
    }
    if let Some(f) = map.get("result", report) {
        let words = [
            ("body", HttpResult::Body),
            ("response", HttpResult::Response),
            ("none", HttpResult::None),
        ];
        spec.result = f.word("E312", &words, report).unwrap_or_default();
    }
    if let Some(f) = map.get("async", report) {
        spec.reports_end = f.flag("E312", report).unwrap_or_default();
    }
    if let Some(f) = map.get("tls", report) {
        spec.tls = read_tls(f, report);
    }
}

/// The secret is a reference, so that it does not stand in the manifest, which pages and commands show.
fn read_sign_secret(map: &Fields<'_>, report: &mut Report<'_>) -> Option<String> {
    let Some(f) = map.get("secret", report) else {
        if map.peek("secret").is_none() {
            report.error("E313", map.mark, "http.sign.secret is required");
        }
        return None;
    };
    let secret = f.text("E313", report)?;
    let inner = secret.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let named = inner.and_then(|inner| inner.strip_prefix("env:").or(inner.strip_prefix("file:")));
    if !named.is_some_and(|name| !name.is_empty() && !name.contains(['$', '{', '}'])) {
        let message = "http.sign.secret must be ${env:NAME} or ${file:PATH} and nothing else";
        report.error("E313", f.node.mark, message);
        report.hide_line(f.node.mark);
        return None;
    }
    Some(secret.trim().to_owned())
}

fn read_tls(field: &Field<'_>, report: &mut Report<'_>) -> HttpTls {
    let mut tls = HttpTls::default();
    let names = ["ca_file", "cert_file", "key_file"];
    let Some(map) = Fields::read(field.node, &field.path, &names, report) else {
        return tls;
    };
    let files = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file];
    for (name, file) in names.into_iter().zip(files) {
        let Some(f) = map.get(name, report) else { continue };
        let Some(path) = f.text("E313", report) else { continue };
        if !path.starts_with('/') {
            let text = format!("{} must be an absolute path, found {}", f.path, quoted(path));
            report.error("E313", f.node.mark, text);
        }
        *file = Some(PathBuf::from(path));
    }
    if tls.key_file.is_some() && tls.cert_file.is_none() {
        let text = format!("{}.key_file has no effect without cert_file", field.path);
        report.error("E313", map.mark, text);
    }
    tls
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
