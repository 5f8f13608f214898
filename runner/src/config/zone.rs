//! The time zone that this machine is set to: the variable `TZ`, else `/etc/localtime`, else UTC.
//!
//! It reads what glibc reads, and reports what it cannot read: schedules in another zone than their author meant
//! run at the wrong hour. It does not know `server.timezone`, which takes precedence.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::tz::TimeZone;
use runner_core::cron::{UnknownZone, find_zone};

/// Where the machine's zone is kept: a link into the zone database, or a copy of one of its files.
pub const LOCALTIME: &str = "/etc/localtime";

/// Bytes; the largest file of the zone database has less than 4 KiB.
const MAX_FILE: u64 = 256 * 1024;

/// The directory of the zone database, wherever it is mounted.
const DATABASE: &str = "zoneinfo/";

/// A zone, and the name it is shown by.
pub type NamedZone = (String, TimeZone);

/// Why a zone cannot be used, and what was probably meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable {
    /// In one sentence.
    pub why: String,
    /// A name that exists, if one is near.
    pub meant: Option<String>,
}

/// The zone of a value of `TZ`: a POSIX rule, a name of the zone database, or a file in its format.
///
/// # Errors
///
/// If it is none of them.
pub fn of_variable(value: &str) -> Result<NamedZone, Unusable> {
    let text = value.strip_prefix(':').unwrap_or(value);
    if text.is_empty() {
        return Ok(("UTC".to_owned(), TimeZone::UTC));
    }
    if let Ok(zone) = TimeZone::posix(text) {
        return Ok((text.to_owned(), zone));
    }
    let name = after_database(text);
    if let Some(named) = by_name(name) {
        return Ok(named);
    }
    if text.starts_with('/') {
        let zone = of_file(Path::new(text)).map_err(|why| Unusable { why, meant: None })?;
        return Ok((text.to_owned(), zone));
    }
    let unknown = find_zone(name).err();
    Err(Unusable {
        why: format!("{name:?} is neither a name of the zone database nor a POSIX rule"),
        meant: unknown.and_then(|UnknownZone { suggestion, .. }| suggestion),
    })
}

/// The zone of the file at `path`, usually [`LOCALTIME`]. A machine without it runs on UTC.
///
/// # Errors
///
/// If the file exists and cannot be used.
pub fn of_machine(path: &Path) -> Result<NamedZone, Unusable> {
    let target = std::fs::read_link(path).ok();
    let target = target.as_deref().and_then(Path::to_str);
    if let Some(named) = target
        .filter(|t| t.contains(DATABASE))
        .map(after_database)
        .and_then(by_name)
    {
        return Ok(named);
    }
    if target.is_none() && !path.exists() {
        return Ok(("UTC".to_owned(), TimeZone::UTC));
    }
    let zone = of_file(path).map_err(|why| Unusable { why, meant: None })?;
    // A copy has no name; Go calls it so, too.
    Ok(("Local".to_owned(), zone))
}

fn after_database(text: &str) -> &str {
    text.rfind(DATABASE).map_or(text, |at| &text[at + DATABASE.len()..])
}

fn by_name(name: &str) -> Option<NamedZone> {
    let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
    Some((zone.iana_name().unwrap_or(name).to_owned(), zone))
}

fn of_file(path: &Path) -> Result<TimeZone, String> {
    let shown = path.display();
    let mut data = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut data));
    read.map_err(|error| format!("cannot read {shown}: {error}"))?;
    TimeZone::tzif(&path.to_string_lossy(), &data).map_err(|_| format!("{shown} is not a file of the zone database"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::Timestamp;

    /// The name, and the offset from UTC in hours in winter and in summer.
    fn hours((name, zone): NamedZone) -> (String, i32, i32) {
        let at = |text: &str| zone.to_offset(text.parse::<Timestamp>().unwrap()).seconds() / 3600;
        (name, at("2026-01-15T12:00:00Z"), at("2026-07-15T12:00:00Z"))
    }

    #[test]
    fn every_form_of_tz_is_honoured() {
        for (value, name, winter, summer) in [
            ("CST-8", "CST-8", 8, 8),
            ("<+08>-8", "<+08>-8", 8, 8),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "CET-1CEST,M3.5.0,M10.5.0/3", 1, 2),
            ("Asia/Shanghai", "Asia/Shanghai", 8, 8),
            (":Europe/Berlin", "Europe/Berlin", 1, 2),
            ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo", 9, 9),
            ("UTC", "UTC", 0, 0),
            ("UTC0", "UTC0", 0, 0),
            ("", "UTC", 0, 0),
            ("EST5EDT", "EST5EDT", -5, -4),
        ] {
            let read = of_variable(value).map(hours);
            assert_eq!(read, Ok((name.to_owned(), winter, summer)), "{value}");
        }
    }

    #[test]
    fn what_names_no_zone_is_refused_with_the_nearest_name() {
        let meant = |value| of_variable(value).map(|(name, _)| name).map_err(|bad| bad.meant);
        assert_eq!(meant("Asia/Shangai"), Err(Some("Asia/Shanghai".to_owned())));
        assert_eq!(meant("Beijing"), Err(Some("Asia/Shanghai".to_owned())));
        for bad in ["CST", "/does/not/exist", "/etc/passwd", "nonsense", "+8", "Etc/Unknown"] {
            assert!(of_variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_of_the_machine_may_be_a_link_a_copy_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("localtime");
        assert_eq!(of_machine(&file).map(hours), Ok(("UTC".to_owned(), 0, 0)));
        std::os::unix::fs::symlink("/no/such/zoneinfo/Asia/Shanghai", &file).unwrap();
        assert_eq!(of_machine(&file).map(hours), Ok(("Asia/Shanghai".to_owned(), 8, 8)));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/no/such/file", &file).unwrap();
        assert!(of_machine(&file).unwrap_err().why.contains("cannot read"));
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "text").unwrap();
        assert!(
            of_machine(&file)
                .unwrap_err()
                .why
                .contains("not a file of the zone database")
        );
        // The shortest valid file: version 2, no transitions, a rule at its end.
        let mut data = Vec::new();
        for part in 0..2 {
            data.extend(b"TZif2");
            data.extend([0; 15]);
            data.extend([0_u32, 0, 0, 0, 1, 4].iter().flat_map(|n| n.to_be_bytes()));
            data.extend(28_800_i32.to_be_bytes());
            data.extend([0, 0]);
            data.extend(b"CST\0");
            if part == 1 {
                data.extend(b"\nCST-8\n");
            }
        }
        std::fs::write(&file, data).unwrap();
        assert_eq!(of_machine(&file).map(hours), Ok(("Local".to_owned(), 8, 8)));
    }
}
