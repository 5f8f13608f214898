//! What can be set about logging. Data only; a value of these is valid.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// Bytes.
pub const MEGABYTE: u64 = 1024 * 1024;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where log lines go and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// One form for all outputs.
    pub format: Format,
    /// Whether lines go to standard output.
    pub console: bool,
    /// The file they go to as well.
    pub file: Option<FileSettings>,
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: `time LEVEL target text key=value`.
    Console,
    /// One JSON object a line.
    Json,
}

/// A log file and what becomes of its rotated predecessors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The live file; rotated ones lie beside it.
    pub path: PathBuf,
    /// Bytes after which the file is rotated.
    pub max_bytes: u64,
    /// Bytes that the live and all rotated files may have together; at least `max_bytes`. The oldest go first.
    pub max_total: u64,
    /// How long rotated files are kept.
    pub keep: Duration,
    /// Whether rotated files are compressed.
    pub compress: bool,
}

impl FileSettings {
    /// The file at this path with the defaults.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            max_bytes: 50 * MEGABYTE,
            // Fits beside anything else on a small disk.
            max_total: 2048 * MEGABYTE,
            keep: 14 * DAY,
            compress: true,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LevelFilter::INFO,
            format: Format::Console,
            console: true,
            file: None,
        }
    }
}
