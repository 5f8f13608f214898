//! Whether this machine has room: free space where the program writes, and open files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::diagnosis::{Diagnosis, Level};
use crate::config::{BrokerSettings, Settings};

/// Less free space is a warning: a busy store or log takes this in an hour.
const LITTLE: u64 = 1 << 30;

/// Less than this stops writes soon.
const NEARLY_NONE: u64 = 100 << 20;

/// Open files that a worker with a busy dashboard needs.
const FILES_NEEDED: u64 = 1024;

pub(super) fn look(settings: &Settings) -> Vec<Diagnosis> {
    let mut places: Vec<PathBuf> = vec![std::env::temp_dir()];
    if let BrokerSettings::Embedded { path } = &settings.broker {
        places.push(path.clone());
    }
    places.extend(settings.log.file.as_ref().map(|file| file.path.clone()));
    let mut found: Vec<Diagnosis> = Vec::new();
    let mut devices = Vec::new();
    for place in places {
        let there = existing(&place);
        let device = fs::metadata(&there).map(|there| there.dev()).ok();
        if !devices.contains(&device) {
            devices.push(device);
            found.push(disk(&there));
        }
    }
    found.extend(files());
    found
}

/// The path, or the first directory above it that exists.
fn existing(place: &Path) -> PathBuf {
    let above = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
    let existing = above.ancestors().find(|place| place.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

/// Free space at a path that exists.
fn disk(there: &Path) -> Diagnosis {
    match statvfs(there) {
        Ok(disk) => free(there, disk.blocks_available().saturating_mul(disk.fragment_size())),
        Err(error) => Diagnosis::new(Level::Warning, "disk", format!("{}: {error}", there.display())),
    }
}

fn free(there: &Path, bytes: u64) -> Diagnosis {
    let text = format!("{} MiB free at {}", bytes >> 20, there.display());
    let level = match bytes {
        bytes if bytes < NEARLY_NONE => Level::Error,
        bytes if bytes < LITTLE => Level::Warning,
        _ => return Diagnosis::new(Level::Ok, "disk", text),
    };
    Diagnosis::new(level, "disk", text).hint("free some space: without it tasks and log lines are refused")
}

fn files() -> Option<Diagnosis> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= FILES_NEEDED {
        return None;
    }
    let text = format!("this process may open {soft} files; {FILES_NEEDED} are needed under load");
    let finding = Diagnosis::new(Level::Warning, "machine", text);
    Some(finding.hint("ulimit -n, or LimitNOFILE of the service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_a_warning_and_none_an_error() {
        let levels = [50 << 20, 500 << 20, 5 << 30].map(|bytes| free(Path::new("/"), bytes).level);
        assert_eq!(levels, [Level::Error, Level::Warning, Level::Ok]);
        assert_eq!(existing(Path::new("/does/not/exist")), Path::new("/"));
    }
}
