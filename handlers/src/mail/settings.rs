//! The server that takes messages, as the settings name it. Its user and password are asked for at each connection.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How the connection to a mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte, as on port 465.
    Implicit,
    /// Plain at first, then TLS by `STARTTLS`; a server that does not offer it is refused.
    StartTls,
    /// None, for a server on this machine only.
    None,
}

/// The server that takes messages, and who sends them.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: MailTls,
    /// Whom to trust; `None`: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// User and password; `None`: the server asks for neither.
    pub login: Option<MailLogin>,
    /// The sender's address.
    pub from: String,
    /// The sender's name; may be empty.
    pub from_name: String,
}

type Read = dyn Fn() -> Result<(String, String), String> + Send + Sync;

/// User and password, read from where they are kept for each connection, so that a new password needs no restart.
#[derive(Clone)]
pub struct MailLogin(#[cfg_attr(not(feature = "mail"), allow(dead_code))] Arc<Read>);

impl MailLogin {
    /// The login that `read` returns: user and password, or a sentence that names what cannot be read and no content.
    pub fn read_from(read: impl Fn() -> Result<(String, String), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Off the threads of the runtime: the file of a password may lie on a slow disk.
    #[cfg(feature = "mail")]
    pub(super) async fn read(&self) -> Result<(String, String), String> {
        let read = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || read());
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl fmt::Debug for MailLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
