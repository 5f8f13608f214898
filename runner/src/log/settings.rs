//! Settings of logging. Data only; every value of these types is valid.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// The default size of a log file, in bytes.
pub const MEGABYTE: u64 = 1024 * 1024;

/// One day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where log lines go and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// The least important level of the lines of handlers that is kept with their runs.
    pub runs: LevelFilter,
    /// One form for all outputs.
    pub format: Format,
    /// Whether lines go to standard output.
    pub console: bool,
    /// The file that lines also go to.
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

/// A log file and its rotated predecessors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The live file; rotated ones are in the same directory.
    pub path: PathBuf,
    /// Size in bytes at which the file is rotated.
    pub max_bytes: u64,
    /// Total size in bytes of the live and all rotated files; at least `max_bytes`. The oldest are deleted first.
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
            // Small enough for a small disk with other data on it.
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
            runs: LevelFilter::INFO,
            format: Format::Console,
            console: true,
            file: None,
        }
    }
}
