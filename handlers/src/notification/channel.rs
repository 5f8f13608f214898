//! Channels as the settings define them: where a notification goes, and with which secrets. What is sent is in `send`.
//!
//! The settings are trusted, so a channel may be at any address, unlike a function of a manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

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
}

/// All channels of the settings, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<BTreeMap<String, Channel>>);

impl Channels {
    /// These channels.
    #[must_use]
    pub fn new(channels: BTreeMap<String, Channel>) -> Self {
        Self(Arc::new(channels))
    }

    /// The channel of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Channel> {
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
