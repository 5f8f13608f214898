//! Guards in front of every page: host names, headers, sessions, form tokens, limits for wrong passwords.
//!
//! Knows neither tasks nor schedules.

pub mod admit;
pub mod attempts;
pub mod cookies;
pub mod headers;
pub mod host;
pub mod logouts;
pub mod refusals;
pub mod session;
