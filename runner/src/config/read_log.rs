//! Reads `log`, with the words and the defaults of the Go service.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::section::Section;
use crate::log::{FileSettings, Format, LogSettings};

const MEGABYTE: u64 = 1024 * 1024;
/// Megabytes that all log files may have together by default: 2 GiB fit beside anything else on a small disk.
const TOTAL: u64 = 2048;
/// The largest bound on all log files, in megabytes: 100 TiB.
const TOTAL_MOST: u64 = 104_857_600;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Level words; the last three exist in the Go service and are above everything that we write.
const LEVELS: [(&str, LevelFilter); 9] = [
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warn", LevelFilter::WARN),
    ("warning", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("dpanic", LevelFilter::ERROR),
    ("panic", LevelFilter::ERROR),
    ("fatal", LevelFilter::ERROR),
];

/// Reads the section.
pub fn read(root: &Section<'_>) -> LogSettings {
    let section = root.section("log");
    let level = section.choice("level", &LEVELS).unwrap_or(LevelFilter::INFO);
    let formats = [("console", Format::Console), ("json", Format::Json)];
    let format = section.choice("format", &formats).unwrap_or(Format::Console);
    let console = section.flag("console").unwrap_or(true);
    let days = section.number("days", 1..=3650).unwrap_or(14);
    let megabytes = section.number("maxSize", 1..=102_400).unwrap_or(50);
    let total = section
        .number("maxTotal", megabytes..=TOTAL_MOST)
        .unwrap_or(TOTAL.max(megabytes));
    let compress = section.flag("compress").unwrap_or(true);
    let path = section
        .path("path")
        .map(|f| f.value)
        .filter(|p| !p.to_string_lossy().trim().is_empty() && p.as_os_str() != "/dev/null");
    section.finish();
    LogSettings {
        level,
        format,
        console,
        file: path.map(|path| FileSettings {
            path,
            max_bytes: megabytes * MEGABYTE,
            max_total: total * MEGABYTE,
            keep: DAY * u32::try_from(days).unwrap_or(u32::MAX),
            compress,
        }),
    }
}
