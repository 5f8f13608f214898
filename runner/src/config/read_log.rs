//! Reads `log`, whose keys are those of the Go service.

use tracing::level_filters::LevelFilter;

use super::section::Section;
use crate::log::{DAY, FileSettings, Format, LogSettings, MEGABYTE};

/// The largest bound on all log files, in megabytes: 100 TiB.
const TOTAL_MOST: u64 = 104_857_600;

/// Names of levels for the logs of runs, which may have none.
const RUN_LEVELS: [(&str, LevelFilter); 6] = [
    ("trace", LevelFilter::TRACE),
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warn", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
];

/// Names of levels; the last three are the Go service's and are above every level that this program writes.
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

const FORMATS: [(&str, Format); 2] = [("console", Format::Console), ("json", Format::Json)];

/// Reads the section.
pub fn read(root: &Section<'_>) -> LogSettings {
    let section = root.section("log");
    let default = LogSettings::default();
    let settings = LogSettings {
        level: section.choice("level", &LEVELS).unwrap_or(default.level),
        runs: section.choice("runs", &RUN_LEVELS).unwrap_or(default.runs),
        format: section.choice("format", &FORMATS).unwrap_or(default.format),
        console: section.flag("console").unwrap_or(default.console),
        file: file(&section),
    };
    section.finish();
    settings
}

fn file(section: &Section<'_>) -> Option<FileSettings> {
    let path = section.path("path").map(|found| found.value);
    let path = path.filter(|path| !path.to_string_lossy().trim().is_empty() && path.as_os_str() != "/dev/null");
    let default = FileSettings::at(path.clone().unwrap_or_default());
    let size = section.number("maxSize", 1..=102_400);
    let megabytes = size.unwrap_or(default.max_bytes / MEGABYTE);
    let total = section.number("maxTotal", megabytes..=TOTAL_MOST);
    let settings = FileSettings {
        max_bytes: megabytes * MEGABYTE,
        max_total: total.map_or(default.max_total.max(megabytes * MEGABYTE), |total| total * MEGABYTE),
        keep: section
            .number("days", 1..=3650_u32)
            .map_or(default.keep, |days| DAY * days),
        compress: section.flag("compress").unwrap_or(default.compress),
        ..default
    };
    path.map(|_| settings)
}
