//! Where log lines go: form, outputs, rotation. Decides nothing about what is logged.

mod init;
mod levels;
mod line;
mod roller;
mod run_lines;
mod settings;
mod signs;
mod span_export;
mod span_fields;

pub use init::{LogControl, LogError, LogGuard, LostLines, ONLY_FILE, init};
pub use levels::LogLevels;
pub use roller::Reopen;
pub use run_lines::{RunLogLayer, task_span};
pub use settings::{DAY, FileSettings, Format, LogSettings, MEGABYTE};
pub use span_export::SpanExportLayer;
