//! Reads what a command may use and as whom it runs: `limits`, `umask`, `user`.

use std::ops::RangeInclusive;
use std::time::Duration;

use runner_core::function::{ExecLimits, ExecSpec};

use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// What may stand under `limits`.
const FIELDS: [&str; 5] = ["memory", "cpu_time", "open_files", "file_size", "processes"];

/// Below this no program can even be loaded.
pub(super) const MEMORY: RangeInclusive<u64> = 16 * MIB..=1 << 46;
const FILE_SIZE: RangeInclusive<u64> = 0..=1 << 46;
const MIB: u64 = 1024 * 1024;

const CPU_TIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// A program that is loaded has a few files open; the kernel allows about a billion.
const OPEN_FILES: RangeInclusive<u32> = 8..=1_000_000;
const PROCESSES: RangeInclusive<u32> = 1..=4_000_000;

const UNITS: [(&str, u64); 4] = [("K", 1024), ("M", MIB), ("G", 1024 * MIB), ("T", MIB * MIB)];

pub(super) fn read(map: &Fields<'_>, spec: &mut ExecSpec, report: &mut Report<'_>) {
    if let Some(f) = map.get("user", report)
        && let Some(name) = f.text("E307", report)
    {
        let letters = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
        if !name.chars().all(letters) {
            let text = format!("{} must be the name of a user, found {}", f.path, quoted(name));
            report.error("E307", f.node.mark, text);
        }
        spec.user = Some(name.to_owned());
    }
    if let Some(f) = map.get("umask", report) {
        spec.umask = read_umask(f, report).unwrap_or(spec.umask);
    }
    if let Some(f) = map.get("limits", report)
        && let Some(map) = Fields::read(f.node, &f.path, &FIELDS, report)
    {
        spec.limits = read_limits(&map, report);
    }
}

fn read_limits(map: &Fields<'_>, report: &mut Report<'_>) -> ExecLimits {
    let mut limits = ExecLimits::default();
    for (name, bounds, limit) in [
        ("memory", MEMORY, &mut limits.memory),
        ("file_size", FILE_SIZE, &mut limits.file_size),
    ] {
        *limit = map.get(name, report).and_then(|f| read_size(f, &bounds, report));
    }
    for (name, bounds, limit) in [
        ("open_files", OPEN_FILES, &mut limits.open_files),
        ("processes", PROCESSES, &mut limits.processes),
    ] {
        let count = map.get(name, report).and_then(|f| f.whole("E308", bounds, report));
        *limit = count.map(u64::from);
    }
    limits.cpu_time = map
        .get("cpu_time", report)
        .and_then(|f| f.seconds("E308", CPU_TIME, report));
    limits
}

/// A number of bytes with a unit: `512K`, `64M`, `1G`, `64MiB`.
pub(super) fn read_size(field: &Field<'_>, bounds: &RangeInclusive<u64>, report: &mut Report<'_>) -> Option<u64> {
    let bytes = match &field.node.value {
        Value::Text(text) => size(text.trim()),
        Value::Int(0) => Some(0),
        _ => None,
    };
    let Some(bytes) = bytes else {
        return field.mismatch("E308", "a size such as 512K, 64M or 1G", report);
    };
    if !bounds.contains(&bytes) {
        let text = format!(
            "{} must be between {} and 64T bytes",
            field.path,
            shown(*bounds.start())
        );
        report.error("E308", field.node.mark, text);
        return None;
    }
    Some(bytes)
}

fn size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let unit = unit.strip_suffix("iB").or(unit.strip_suffix('B')).unwrap_or(unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn shown(bytes: u64) -> String {
    match bytes / MIB {
        0 => bytes.to_string(),
        mib => format!("{mib}M"),
    }
}

/// `"027"`: three octal digits, as text so that no reader of YAML takes it for another number.
fn read_umask(field: &Field<'_>, report: &mut Report<'_>) -> Option<u32> {
    let mask = match &field.node.value {
        Value::Text(text) => u32::from_str_radix(text, 8).ok(),
        _ => None,
    };
    let mask = mask.filter(|mask| *mask <= 0o777);
    mask.or_else(|| field.mismatch("E307", "octal digits in quotes, such as \"027\"", report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1K", Some(1024)),
            ("64M", Some(64 * MIB)),
            ("64 MiB", Some(64 * MIB)),
            ("2gb", None),
            ("2GB", Some(2048 * MIB)),
            ("2g", Some(2048 * MIB)),
            ("1T", Some(MIB * MIB)),
            ("", None),
            ("5", None),
            ("M", None),
            ("-1M", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
