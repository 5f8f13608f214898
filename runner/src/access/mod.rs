//! Who may open the dashboard, under which names and through which proxies: settings, and what their values mean.
//!
//! Apart from `web`, because settings are read, with all their errors, by programs that are built without pages.

pub(crate) mod public_url;
mod segment;
mod settings;
pub(crate) mod sign;
mod tokens;
pub(crate) mod trusted_proxies;

pub use public_url::PublicUrl;
pub use segment::{HEX_SEGMENT, encoded, segment};
pub use settings::{Auth, User, UserList, UserRole, WebSettings};
pub use tokens::{ApiToken, DIGEST_PREFIX, SHORTEST_TOKEN, TokenList, TokenRight, TokenScope, digest_of};
pub use trusted_proxies::TrustedProxies;
