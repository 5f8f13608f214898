//! Writes the message: fills its texts, checks its addresses, and gives it an id that is the same for every attempt.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Mailboxes, Message, MultiPart, SinglePart};
use lettre::{Address, message::MessageBuilder};
use runner_core::function::{CheckFinding, FunctionTemplate, MailSpec, TemplateScope};
use runner_core::schedule::stable_hash;
use runner_sdk::{Ctx, TaskError};

use super::MailSettings;
use crate::scope;

/// Recipients of one message: what most servers accept at once.
const MAX_RECIPIENTS: usize = 50;

/// The longest subject in bytes, as long as a line may be.
const MAX_SUBJECT_BYTES: usize = 998;

/// The longest part of a `Message-ID` that is taken from the task's id.
const MAX_ID_BYTES: usize = 200;

/// A message as it is sent.
pub(super) struct Letter {
    pub(super) from: Address,
    pub(super) recipients: Vec<Address>,
    pub(super) id: String,
    pub(super) bytes: Vec<u8>,
}

/// What is wrong with a message whatever it is filled with.
pub(crate) fn find_fault(spec: &MailSpec) -> Option<CheckFinding> {
    let refuse = |code, message| {
        Some(CheckFinding {
            refused: true,
            code,
            message,
            hint: None,
        })
    };
    for (field, list) in fields_of_recipients(spec) {
        for text in list.iter().filter_map(FunctionTemplate::fixed) {
            if let Err(why) = addresses(text) {
                return refuse("E320", format!("mail.{field}: {why}"));
            }
        }
    }
    if let Some(Err(why)) = spec.reply_to.as_ref().and_then(FunctionTemplate::fixed).map(addresses) {
        return refuse("E320", format!("mail.reply_to: {why}"));
    }
    for file in &spec.attachments {
        if ContentType::parse(&file.media_type).is_err() {
            return refuse(
                "E321",
                format!("mail.attachments: {:?} is no media type", file.media_type),
            );
        }
    }
    None
}

fn fields_of_recipients(spec: &MailSpec) -> [(&'static str, &[FunctionTemplate]); 3] {
    [("to", &spec.to), ("cc", &spec.cc), ("bcc", &spec.bcc)]
}

/// One or more addresses, with or without names: `Ann <ann@example.com>, bob@example.com`.
fn addresses(text: &str) -> Result<Mailboxes, String> {
    one_line(text)?;
    text.parse::<Mailboxes>()
        .map_err(|_| format!("{text:?} is no address such as ann@example.com"))
}

/// Whatever goes into the head of a message may not end its line.
fn one_line(text: &str) -> Result<(), String> {
    match text.contains(|c: char| c.is_control() && c != '\t') {
        true => Err("it holds a line break or another control character".to_owned()),
        false => Ok(()),
    }
}

/// Writes the message of a task.
///
/// # Errors
///
/// What cannot be filled, is no address or is too much is skipped: it stays so at every attempt.
pub(super) fn write(spec: &MailSpec, function: &str, settings: &MailSettings, cx: &Ctx) -> Result<Letter, TaskError> {
    let scope = scope::of(cx, function);
    compose(spec, settings, &scope, &id(cx, &settings.from)).map_err(TaskError::skip)
}

fn compose(spec: &MailSpec, settings: &MailSettings, scope: &TemplateScope, id: &str) -> Result<Letter, String> {
    let fill = |field: &str, template: &FunctionTemplate| {
        template.fill(scope).map_err(|fault| format!("mail.{field}: {fault}"))
    };
    let from = settings.from.parse::<Address>();
    let from = from.map_err(|e| format!("misconfigured: mail.fromAddr {:?}: {e}", settings.from))?;
    let name = (!settings.from_name.is_empty()).then(|| settings.from_name.clone());
    let mut head = Message::builder()
        .from(Mailbox::new(name, from.clone()))
        .message_id(Some(id.to_owned()))
        .raw_header(automatic());
    let mut recipients: Vec<Address> = Vec::new();
    for (field, list) in fields_of_recipients(spec) {
        for template in list {
            let filled = fill(field, template)?;
            for mailbox in addresses(&filled).map_err(|why| format!("mail.{field}: {why}"))? {
                if !recipients.contains(&mailbox.email) {
                    recipients.push(mailbox.email.clone());
                }
                head = add(head, field, mailbox);
            }
        }
    }
    if recipients.is_empty() {
        return Err("mail.to is empty after it was filled".to_owned());
    }
    if recipients.len() > MAX_RECIPIENTS {
        let count = recipients.len();
        return Err(format!(
            "the message has {count} recipients; at most {MAX_RECIPIENTS} are allowed"
        ));
    }
    if let Some(template) = &spec.reply_to {
        let filled = fill("reply_to", template)?;
        for mailbox in addresses(&filled).map_err(|why| format!("mail.reply_to: {why}"))? {
            head = head.reply_to(mailbox);
        }
    }
    let subject = fill("subject", &spec.subject)?;
    one_line(&subject).map_err(|why| format!("mail.subject: {why}"))?;
    if subject.len() > MAX_SUBJECT_BYTES {
        return Err(format!("mail.subject is longer than {MAX_SUBJECT_BYTES} bytes"));
    }
    let message = body(head.subject(subject), spec, scope)?;
    Ok(Letter {
        from,
        recipients,
        id: id.to_owned(),
        bytes: message.formatted(),
    })
}

/// So that no program replies to it.
fn automatic() -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    HeaderValue::new(name, "auto-generated".to_owned())
}

fn add(head: MessageBuilder, field: &str, mailbox: Mailbox) -> MessageBuilder {
    match field {
        "to" => head.to(mailbox),
        "cc" => head.cc(mailbox),
        // Written into the envelope only: the library drops this header.
        _ => head.bcc(mailbox),
    }
}

fn body(head: MessageBuilder, spec: &MailSpec, scope: &TemplateScope) -> Result<Message, String> {
    let fault = |field: &str, fault: &dyn std::fmt::Display| format!("mail.{field}: {fault}");
    let filled = |field: &str, template: &FunctionTemplate| template.fill(scope).map_err(|e| fault(field, &e));
    let text = spec.text.as_ref().map(|t| filled("text", t)).transpose()?;
    let html = spec.html.as_ref().map(|t| t.fill_with(scope, escaped));
    let html = html.transpose().map_err(|e| fault("html", &e))?;
    let mut files = Vec::new();
    for file in &spec.attachments {
        let name = filled("attachments", &file.name)?;
        one_line(&name).map_err(|e| fault("attachments", &e))?;
        let media_type = ContentType::parse(&file.media_type).map_err(|e| fault("attachments", &e))?;
        files.push(Attachment::new(name).body(filled("attachments", &file.content)?, media_type));
    }
    let message = match (text, html, files.is_empty()) {
        (Some(text), Some(html), true) => head.multipart(MultiPart::alternative_plain_html(text, html)),
        (text, html, false) => {
            let mixed = MultiPart::mixed();
            let mixed = match (text, html) {
                (Some(text), Some(html)) => mixed.multipart(MultiPart::alternative_plain_html(text, html)),
                (text, Some(html)) if text.is_none() => mixed.singlepart(SinglePart::html(html)),
                (text, _) => mixed.singlepart(SinglePart::plain(text.unwrap_or_default())),
            };
            head.multipart(files.into_iter().fold(mixed, MultiPart::singlepart))
        }
        (None, Some(html), true) => head.singlepart(SinglePart::html(html)),
        (text, None, true) => head.singlepart(SinglePart::plain(text.unwrap_or_default())),
    };
    message.map_err(|e| format!("the message cannot be written: {e}"))
}

/// A value between tags or quotes of HTML.
fn escaped(text: String) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// `<task.queue@domain of the sender>`; characters that no id may hold are written as `=` and their code.
fn id(cx: &Ctx, from: &str) -> String {
    let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let (task, queue) = (cx.id().as_str(), cx.queue().as_str());
    let mut local = format!("{}.{}", plain(task), plain(queue));
    if local.len() > MAX_ID_BYTES {
        local.truncate(MAX_ID_BYTES);
        local = format!("{local}.{:016x}", stable_hash(&[task, queue]));
    }
    format!("<{local}@{domain}>")
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => plain.push(char::from(byte)),
            other => plain.push_str(&format!("={other:02X}")),
        }
    }
    plain
}
