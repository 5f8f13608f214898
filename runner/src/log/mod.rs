//! Where log lines go: console and file, rotated by size and age.

mod chain;

pub use chain::chain;
