//! What people wrote: YAML as a tree that knows its places, the line of a fault with carets, likely words, texts
//! with places for values, and how foreign text is shown.
//!
//! Knows texts only, nothing of manifests, rows or settings, and reads no file.

mod excerpt;
mod fill;
mod hex;
pub mod signs;
mod words;
pub mod yaml;

pub use excerpt::{excerpt, excerpt_of_line, line_of};
pub use fill::fill;
pub use hex::{hex, unhex};
pub use words::{nearest, one_of, quoted};
