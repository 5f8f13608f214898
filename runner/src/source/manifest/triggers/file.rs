//! Reads `file`: a directory whose files run the function.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_core::trigger::{DEFAULT_IN_FLIGHT, DEFAULT_STABLE, FILE_VALUES, FileEnd, FileTrigger, TriggerKind};

use super::TriggerContext;
use super::template::EventValues;
use crate::text::{Field, Fields, Report, quoted};

/// The code of what cannot be used.
const CODE: &str = "E149";

/// What templates can name.
const VALUES: EventValues = EventValues {
    root: "file",
    event: "a file",
    names: &FILE_VALUES,
    maps: &[],
};

/// The most files in work: each is looked after every second.
const MAX_IN_FLIGHT: u32 = 1000;

const FIELDS: &[&str] = &["dir", "pattern", "stable", "done", "failed", "max_in_flight", "payload"];

pub(super) fn read(field: &Field<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> Option<TriggerKind> {
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let dir = match map.get("dir", report) {
        Some(f) => read_dir(f, report),
        None => {
            if map.peek("dir").is_none() {
                let text = format!("{}.dir is required: the directory in which files appear", field.path);
                report.error(CODE, map.mark, text);
            }
            None
        }
    };
    let pattern = map.get("pattern", report).and_then(|f| read_pattern(f, report));
    let stable = map
        .get("stable", report)
        .and_then(|f| f.seconds(CODE, Duration::from_secs(1)..=Duration::from_secs(3600), report));
    let own = dir.clone().unwrap_or_default();
    let done = read_end(&map, "done", &own, report);
    let failed = read_end(&map, "failed", &own, report);
    let in_flight = map
        .get("max_in_flight", report)
        .and_then(|f| f.whole(CODE, 1..=MAX_IN_FLIGHT, report));
    let payload = map
        .get("payload", report)
        .and_then(|f| VALUES.payload(f, context.payload, report));
    Some(TriggerKind::File(FileTrigger {
        dir: dir?,
        pattern: pattern.unwrap_or_else(|| "*".to_owned()),
        stable: stable.unwrap_or(DEFAULT_STABLE),
        done,
        failed,
        in_flight: in_flight.map_or(DEFAULT_IN_FLIGHT, |n| n as usize),
        payload,
    }))
}

/// Absolute, so that it does not depend on where the program was started, and a command finds the file.
fn read_dir(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(CODE, report)?;
    let path = Path::new(text);
    if path.is_absolute() && !text.contains('\0') {
        return Some(path.to_owned());
    }
    let message = format!("{} {} must be an absolute path", field.path, quoted(text));
    report.error(CODE, field.node.mark, message);
    None
}

fn read_pattern(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(CODE, report)?;
    if text.len() <= 255 && !text.contains('/') {
        return Some(text.to_owned());
    }
    let message = format!(
        "{} {} is compared with names in one directory: at most 255 bytes, no \"/\"",
        field.path,
        quoted(text)
    );
    report.error(CODE, field.node.mark, message);
    None
}

/// A directory or `delete`; a directory of the key's name inside of the watched one where nothing is said.
fn read_end(map: &Fields<'_>, key: &str, dir: &Path, report: &mut Report<'_>) -> FileEnd {
    let default = FileEnd::Move(dir.join(key));
    let Some(field) = map.get(key, report) else {
        return default;
    };
    if field.text(CODE, report) == Some("delete") {
        return FileEnd::Delete;
    }
    let Some(other) = read_dir(field, report) else {
        return default;
    };
    if other == *dir {
        let message = format!(
            "{} is the watched directory itself: each file would start a task again",
            field.path
        );
        report.error(CODE, field.node.mark, message);
    }
    FileEnd::Move(other)
}
