//! The kind `mail` as data: a message to people. The server that takes it is a setting, never part of a function.

use super::FunctionTemplate;

/// A message. Its texts are filled when the function runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailSpec {
    /// Recipients; a text may hold several addresses, separated by commas.
    pub to: Vec<FunctionTemplate>,
    /// Recipients of copies.
    pub cc: Vec<FunctionTemplate>,
    /// Recipients of copies whom the others do not see.
    pub bcc: Vec<FunctionTemplate>,
    /// Where replies go, if not to the sender.
    pub reply_to: Option<FunctionTemplate>,
    /// The subject.
    pub subject: FunctionTemplate,
    /// The body as plain text.
    pub text: Option<FunctionTemplate>,
    /// The body as HTML, in which values are escaped.
    pub html: Option<FunctionTemplate>,
    /// Files made of text.
    pub attachments: Vec<MailAttachment>,
}

/// A file that a message carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAttachment {
    /// Its name.
    pub name: FunctionTemplate,
    /// Its media type, such as `text/csv`.
    pub media_type: String,
    /// Its content.
    pub content: FunctionTemplate,
}

impl MailSpec {
    /// Whether a field of the payload is part of the message.
    #[must_use]
    pub fn uses_payload(&self) -> bool {
        let attached = self.attachments.iter().flat_map(|a| [&a.name, &a.content]);
        let lists = [&self.to, &self.cc, &self.bcc].into_iter().flatten();
        let single = [&self.reply_to, &self.text, &self.html].into_iter().flatten();
        let mut all = lists.chain(single).chain([&self.subject]).chain(attached);
        all.any(FunctionTemplate::uses_payload)
    }
}
