//! Where log lines go: form, outputs, rotation. Decides nothing about what is logged.

mod chain;
mod settings;

pub use chain::chain;
pub use settings::{FileSettings, Format, LogSettings};
