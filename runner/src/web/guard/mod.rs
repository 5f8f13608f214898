//! What stands before every page: host names, headers, sessions, form tokens, limits of wrong passwords.
//!
//! Nothing here knows tasks or schedules.

pub mod admit;
pub mod attempts;
pub mod cookies;
pub mod headers;
pub mod host;
pub mod refusals;
pub mod session;
pub mod sign;
