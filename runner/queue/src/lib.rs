//! Where tasks wait: the seam between the program and its store, and the two stores.
//!
//! [`Broker`] is the seam. It speaks only in the words of `runner-core`: no Redis or SQL type appears
//! in a signature of it, and the wire types of each broker never leave it. Every broker passes the same
//! contract suite (feature `contract`).

// Parts of it serve the stores alone, of which a client that brings its own broker has none.
#[cfg_attr(not(any(feature = "redis", feature = "embedded")), allow(dead_code, unused_imports))]
mod seam;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod tls;

pub use seam::*;
