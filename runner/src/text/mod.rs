//! What people wrote: YAML as a tree that knows its places, the fields of its maps, reports of what is wrong with
//! them, likely words, texts with places for values, and how foreign text is shown.
//!
//! Knows texts only, no key of a manifest, a row or a setting, and reads no file.

pub mod checks;
mod excerpt;
mod fields;
mod fill;
mod hex;
mod mark;
mod report;
pub mod signs;
mod words;
pub mod yaml;

pub use excerpt::{excerpt, excerpt_of_line};
pub use fields::{Field, Fields};
pub use fill::fill;
pub use hex::{hex, unhex};
pub use mark::line_of;
pub use report::Report;
pub use words::{nearest, one_of, quoted};
