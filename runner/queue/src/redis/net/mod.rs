//! Connections to Redis: sockets, TLS, login, Sentinel and Cluster. Knows neither tasks nor schedules.

pub(in crate::redis) mod cluster;
pub(in crate::redis) mod confirm;
pub(in crate::redis) mod conn;
pub(in crate::redis) mod dial;
pub(in crate::redis) mod fault;
pub(in crate::redis) mod link;
pub(in crate::redis) mod load_scripts;
pub(in crate::redis) mod login;
pub(in crate::redis) mod node;
pub(in crate::redis) mod reconnect;
pub(in crate::redis) mod sentinel;
pub(in crate::redis) mod settings;
pub(in crate::redis) mod slots;
pub(in crate::redis) mod url;
