//! The databases that functions may reach, by name. Their addresses are asked for at each connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// All of them, by the name that manifests use.
pub type SqlConnections = BTreeMap<String, SqlConnection>;

type Read = dyn Fn() -> Result<String, String> + Send + Sync;

/// The URL of a database: `mysql://`, `mariadb://`, `postgres://` or `sqlite:`. It may hold a password, so it is read from
/// where it is kept for each connection and never shown.
#[derive(Clone)]
pub struct SqlConnection(#[cfg_attr(not(feature = "sql"), allow(dead_code))] Arc<Read>);

impl SqlConnection {
    /// The database at the URL that `read` returns, or a sentence that names what cannot be read and no content.
    pub fn read_from(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Off the threads of the runtime: the file of a password may lie on a slow disk.
    #[cfg(feature = "sql")]
    pub(super) async fn url(&self) -> Result<String, String> {
        let read = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || read());
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl fmt::Debug for SqlConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
