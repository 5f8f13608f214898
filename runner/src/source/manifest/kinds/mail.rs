//! Reads `mail`: a message. Which addresses are valid is judged by those who send it.

use runner_core::function::{FunctionKind, MailAttachment, MailSpec};

use super::template;
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report};

/// What may stand under it.
pub(super) const FIELDS: &[&str] = &["to", "cc", "bcc", "reply_to", "subject", "text", "html", "attachments"];

const ATTACHMENT_FIELDS: [&str; 3] = ["name", "type", "content"];

/// The media type of an attachment that names none.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Files of one message; they are texts of the payload, not archives.
const MAX_ATTACHMENTS: usize = 20;

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let mut spec = MailSpec::default();
    for (name, list) in [("to", &mut spec.to), ("cc", &mut spec.cc), ("bcc", &mut spec.bcc)] {
        if let Some(f) = map.get(name, report) {
            *list = template::read_list(f, "E320", report).unwrap_or_default();
        }
    }
    if ["to", "cc", "bcc"].iter().all(|name| map.peek(name).is_none()) {
        report.error(
            "E320",
            map.mark,
            "mail.to is required: an address or a list of addresses",
        );
    }
    match map.get("subject", report) {
        Some(f) => spec.subject = template::read(f, "E321", report).unwrap_or_default(),
        None if map.peek("subject").is_none() => {
            report.error("E321", map.mark, "mail.subject is required");
        }
        None => (),
    }
    for (name, text) in [
        ("reply_to", &mut spec.reply_to),
        ("text", &mut spec.text),
        ("html", &mut spec.html),
    ] {
        if let Some(f) = map.get(name, report) {
            *text = template::read(f, "E321", report);
        }
    }
    if map.peek("text").is_none() && map.peek("html").is_none() {
        report.error("E321", map.mark, "mail.text or mail.html is required");
    }
    if let Some(f) = map.get("attachments", report) {
        spec.attachments = read_attachments(f, report);
    }
    Some(FunctionKind::Mail(Box::new(spec)))
}

fn read_attachments(field: &Field<'_>, report: &mut Report<'_>) -> Vec<MailAttachment> {
    let Value::List(items) = &field.node.value else {
        field.mismatch::<()>("E321", "a list of {name: …, content: …}", report);
        return Vec::new();
    };
    if items.len() > MAX_ATTACHMENTS {
        let text = format!(
            "{} has {} items; at most {MAX_ATTACHMENTS} are allowed",
            field.path,
            items.len()
        );
        report.error("E321", field.node.mark, text);
    }
    let mut attachments = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}[{index}]", field.path);
        let Some(map) = Fields::read(item, &path, &ATTACHMENT_FIELDS, report) else {
            continue;
        };
        for name in ["name", "content"].iter().filter(|name| map.peek(name).is_none()) {
            report.error("E321", map.mark, format!("{path}.{name} is required"));
        }
        let mut text = |name| map.get(name, report).and_then(|f| template::read(f, "E321", report));
        let (name, content) = (text("name"), text("content"));
        let media_type = map.get("type", report).and_then(|f| f.text("E321", report));
        if let (Some(name), Some(content)) = (name, content) {
            attachments.push(MailAttachment {
                name,
                media_type: media_type.unwrap_or(PLAIN_TEXT).to_owned(),
                content,
            });
        }
    }
    attachments
}
