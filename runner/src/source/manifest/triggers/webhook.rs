//! Reads `webhook`: calls over HTTP that run the function.

use std::time::Duration;

use runner_core::trigger::{
    DEFAULT_REMEMBER, DEFAULT_TOLERANCE, HookBody, HookCredential, HookMethod, MAX_BODY, REQUEST_VALUES, SignatureForm,
    TriggerKind, WebhookTrigger,
};

use super::TriggerContext;
use super::template::{self, EventValues};
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report};

/// The code of what cannot be used.
const CODE: &str = "E145";

/// The code of secrets that are not references.
const SECRET: &str = "E146";

/// What templates can name.
const VALUES: EventValues = EventValues {
    root: "request",
    event: "a request",
    names: &REQUEST_VALUES,
    maps: &["body", "headers", "query"],
};

/// Secrets of one hook: the one in use and the next one, so that a change leaves no gap.
const MAX_SECRETS: usize = 2;

/// The longest wait: proxies give up after a minute, as the server does with an answer on an old connection.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// The longest body that can be set: all bodies that are being read are held in memory.
const LONGEST_BODY: u32 = 4 << 20;

const SECOND: Duration = Duration::from_secs(1);

const FIELDS: &[&str] = &[
    "token",
    "header",
    "hmac",
    "methods",
    "wait",
    "dedupe",
    "remember",
    "body",
    "payload",
    "max_bytes",
];

pub(super) fn read(field: &Field<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> Option<TriggerKind> {
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let credential = read_credential(field, &map, report);
    let methods = map.get("methods", report).and_then(|f| read_methods(f, report));
    let wait = map
        .get("wait", report)
        .and_then(|f| f.seconds(CODE, SECOND..=LONGEST_WAIT, report));
    let dedupe = map.get("dedupe", report).and_then(|f| VALUES.text(f, report));
    let remember = map
        .get("remember", report)
        .and_then(|f| f.seconds(CODE, SECOND..=Duration::from_secs(30 * 86_400), report));
    let format = map
        .get("body", report)
        .and_then(|f| f.word(CODE, &HookBody::WORDS, report));
    let format = format.unwrap_or_default();
    let payload = map
        .get("payload", report)
        .and_then(|f| VALUES.payload(f, context.payload, report));
    if format == HookBody::Bytes && payload.as_ref().is_some_and(|payload| template::names(payload, "body")) {
        let text = format!(
            "{}.payload names request.body, which {}.body: bytes does not read as JSON",
            field.path, field.path
        );
        report.error(CODE, map.mark, text).hint = Some("remove one of the two".to_owned());
    }
    let max_bytes = map
        .get("max_bytes", report)
        .and_then(|f| f.whole(CODE, 1..=LONGEST_BODY, report));
    Some(TriggerKind::Webhook(WebhookTrigger {
        credential: credential?,
        methods: methods.unwrap_or_else(|| vec![HookMethod::Post]),
        wait,
        dedupe,
        remember: remember.unwrap_or(DEFAULT_REMEMBER),
        format,
        payload,
        max_bytes: max_bytes.map_or(MAX_BODY, |n| n as usize),
    }))
}

/// A hook without a credential would let anyone run the function.
fn read_credential(field: &Field<'_>, map: &Fields<'_>, report: &mut Report<'_>) -> Option<HookCredential> {
    match (map.get("token", report), map.get("hmac", report)) {
        (Some(token), None) => {
            let header = map.get("header", report).and_then(|f| read_header(f, report));
            Some(HookCredential::Token {
                header,
                secrets: read_secrets(token, report)?,
            })
        }
        (None, Some(hmac)) => {
            if let Some(header) = map.peek("header") {
                let text = format!(
                    "{} is for token; the form of hmac says which headers are read",
                    header.path
                );
                report.error(CODE, header.key, text);
            }
            read_signature(hmac, report)
        }
        (Some(_), Some(hmac)) => {
            let text = format!("{} has both token and hmac; keep one", field.path);
            report.error(CODE, hmac.key, text);
            None
        }
        (None, None) => {
            let text = format!(
                "{} needs token or hmac, by which callers prove that they may call",
                field.path
            );
            report.error(CODE, map.mark, text).hint = Some("token: \"${env:HOOK_TOKEN}\"".to_owned());
            None
        }
    }
}

fn read_header(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let name = field.text(CODE, report)?;
    let lower = name.to_ascii_lowercase();
    let usable = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && (1..=100).contains(&name.len());
    if !usable || ["cookie", "host"].contains(&lower.as_str()) {
        let text = format!(
            "{} must be the name of a header that callers may choose: letters, digits and \"-\"",
            field.path
        );
        report.error(CODE, field.node.mark, text);
    }
    // The default, where the token follows the word Bearer.
    Some(lower).filter(|lower| lower != "authorization")
}

fn read_signature(field: &Field<'_>, report: &mut Report<'_>) -> Option<HookCredential> {
    let map = Fields::read(field.node, &field.path, &["secret", "form", "tolerance"], report)?;
    let mut required = |name: &str| {
        let found = map.get(name, report);
        if found.is_none() && map.peek(name).is_none() {
            report.error(CODE, map.mark, format!("{}.{name} is required", field.path));
        }
        found.cloned()
    };
    let (secret, form) = (required("secret"), required("form"));
    let form = form.and_then(|f| f.word(CODE, &SignatureForm::WORDS, report));
    let tolerance = map.get("tolerance", report).cloned();
    if let (Some(field), Some(SignatureForm::GitHub)) = (&tolerance, form) {
        let text = format!("{} has no effect: signatures of GitHub contain no time", field.path);
        report.error(CODE, field.key, text);
    }
    let tolerance = tolerance.and_then(|f| f.seconds(CODE, SECOND..=Duration::from_secs(3600), report));
    Some(HookCredential::Signature {
        secrets: secret.and_then(|f| read_secrets(&f, report))?,
        form: form?,
        tolerance: tolerance.unwrap_or(DEFAULT_TOLERANCE),
    })
}

/// One reference, or the one in use and the next one.
fn read_secrets(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let texts = match &field.node.value {
        Value::List(_) => field.texts(SECRET, report)?,
        _ => vec![field.text(SECRET, report)?.to_owned()],
    };
    if texts.is_empty() || texts.len() > MAX_SECRETS {
        let text = format!(
            "{} lists {} secrets; 1 or {MAX_SECRETS} are possible",
            field.path,
            texts.len()
        );
        report.error(SECRET, field.node.mark, text);
        return None;
    }
    if texts.iter().all(|text| is_reference(text)) {
        return Some(texts.iter().map(|text| text.trim().to_owned()).collect());
    }
    // The text itself may be the secret, so it is not repeated.
    let text = format!("{} must be a reference to a secret, and nothing else", field.path);
    report.error(SECRET, field.node.mark, text).hint = Some("\"${env:NAME}\" or \"${file:PATH}\"".to_owned());
    None
}

fn is_reference(text: &str) -> bool {
    let inner = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let named = inner.and_then(|inner| inner.strip_prefix("env:").or_else(|| inner.strip_prefix("file:")));
    named.is_some_and(|name| !name.trim().is_empty() && !name.contains(['{', '}', '$']))
}

fn read_methods(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<HookMethod>> {
    let texts = field.texts(CODE, report)?;
    let mut methods = Vec::with_capacity(texts.len());
    for text in &texts {
        match HookMethod::WORDS.iter().find(|(word, _)| word == text) {
            Some((_, method)) if !methods.contains(method) => methods.push(*method),
            Some(_) => {}
            None => {
                let words: Vec<&str> = HookMethod::WORDS.iter().map(|(word, _)| *word).collect();
                let text = format!("{} may list {}", field.path, words.join(", "));
                report.error(CODE, field.node.mark, text);
                return None;
            }
        }
    }
    if methods.is_empty() {
        report.error(CODE, field.node.mark, format!("{} must not be empty", field.path));
        return None;
    }
    Some(methods)
}
