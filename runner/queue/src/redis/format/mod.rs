//! The content of Redis: names of keys, asynq's messages, and the scripts that change both. Opens no connection.

pub(in crate::redis) mod convert;
pub(in crate::redis) mod keys;
pub(in crate::redis) mod reply;
pub(in crate::redis) mod scripts;
pub(in crate::redis) mod wire;
