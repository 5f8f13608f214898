//! Channels as the settings define them: where a notification goes, and with which secrets. What is sent is in `send`.
//!
//! The settings are trusted, so a channel may be at any address, unlike a function of a manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use runner_core::function::{FunctionTemplate, MailSpec};

use super::ChannelTemplate;
use crate::mail;

type Read = dyn Fn() -> Result<String, String> + Send + Sync;

/// A text of a channel, such as its address or a token; read where it is kept each time, and never shown.
#[derive(Clone)]
pub struct ChannelText(Arc<Read>);

impl ChannelText {
    /// The text that `read` returns, or a sentence that names what cannot be read and no content. It may block.
    pub fn read_from(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The text now, read off the threads of the runtime.
    pub(super) async fn read(&self) -> Result<String, String> {
        let read = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || read()).await;
        read.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl fmt::Debug for ChannelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a channel is reached.
#[derive(Debug, Clone)]
pub enum Channel {
    /// A call with the notification as JSON.
    Webhook {
        /// Its address.
        url: ChannelText,
        /// What calls are signed with.
        secret: Option<ChannelText>,
    },
    /// A message by the mail server of the settings.
    Mail(Box<MailSpec>),
    /// A call in the language of a service.
    Service {
        /// Its call.
        template: Arc<ChannelTemplate>,
        /// The keys that the channel states.
        values: BTreeMap<String, ChannelText>,
    },
}

impl Channel {
    /// Whether it opens an incident and closes it when it is over.
    pub(super) fn has_incidents(&self) -> bool {
        matches!(self, Self::Service { template, .. } if template.has_incidents())
    }

    /// A message to these addresses.
    ///
    /// # Errors
    ///
    /// The one that is no address.
    pub fn mail(to: &[String]) -> Result<Self, String> {
        let template = |text: &str| FunctionTemplate::parse(text).map_err(|fault| fault.to_string());
        let spec = MailSpec {
            to: to.iter().map(|text| template(text)).collect::<Result<_, _>>()?,
            subject: template("[runner] {{ payload.title }}")?,
            text: Some(template("{{ payload.text }}")?),
            ..MailSpec::default()
        };
        match mail::find_fault(&spec) {
            Some(fault) => Err(fault.message),
            None => Ok(Self::Mail(Box::new(spec))),
        }
    }
}

/// Notifications of one channel in a minute unless it states another number: more than people read, and what services allow.
pub const DEFAULT_PER_MINUTE: u32 = 20;

/// A channel, and how much it takes.
#[derive(Debug, Clone)]
pub struct LimitedChannel {
    /// How it is reached.
    pub channel: Channel,
    /// Notifications in a minute, of each process; more are combined into one.
    pub per_minute: u32,
}

/// All channels of the settings, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<BTreeMap<String, LimitedChannel>>);

impl Channels {
    /// These channels.
    #[must_use]
    pub fn new(channels: BTreeMap<String, LimitedChannel>) -> Self {
        Self(Arc::new(channels))
    }

    /// The channel of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LimitedChannel> {
        self.0.get(name)
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
