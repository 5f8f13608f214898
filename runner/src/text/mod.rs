//! Texts that users write: YAML as a tree with positions, the fields of its maps, reports of problems with
//! them, spelling suggestions, templates of messages, and safe display of foreign text.
//!
//! Knows no key of a manifest, a row or a setting, and reads no file.

pub mod checks;
mod excerpt;
mod fields;
mod fill;
mod hex;
mod mark;
mod report;
pub mod shell;
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
