//! A log file of bounded size: when full it is renamed and a new one started; old files are compressed and deleted.
//!
//! Renaming needs no space, so rotation works on a full disk, and a crash neither loses nor repeats a line. Another
//! program (logrotate) may rename or remove the file: the roller notices and creates a new file under the configured
//! name. A rotated file never replaces another. Not here: which lines are written and who counts lost ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use runner_core::clock::Clock;

use super::FileSettings;

/// How often old files are cleaned up even if nothing was rotated.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// How often the path is compared with the open file: at most one `stat` a second, and only while lines are written.
const IDENTITY_CHECK: Duration = Duration::from_secs(1);

/// Requests that the path be compared with the open file before the next line. Clones share the request.
#[derive(Clone, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Makes the request.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take_request(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// The timestamp in the name of a rotated file: UTC, sorts by age, contains no character that shells interpret.
const STAMP: &str = "%Y%m%dT%H%M%S%.3fZ";

/// The live file and its rotated predecessors.
pub struct Roller {
    settings: FileSettings,
    clock: Arc<dyn Clock>,
    file: File,
    size: u64,
    /// Size at which to try again after a failed rotation, so that it is retried every tenth of the limit.
    try_again_at: u64,
    reopen_requested: Reopen,
    checked_at: Timestamp,
    cleaned_at: Timestamp,
    cleaner: Option<JoinHandle<()>>,
}

impl Roller {
    /// Opens or creates the file and its directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made or the file cannot be appended to.
    pub fn open(settings: FileSettings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (file, size) = open_live(&settings.path)?;
        let mut roller = Self {
            try_again_at: settings.max_bytes,
            reopen_requested: Reopen::default(),
            checked_at: clock.now(),
            cleaned_at: clock.now(),
            settings,
            clock,
            file,
            size,
            cleaner: None,
        };
        roller.clean();
        Ok(roller)
    }

    /// Requests a check of the path before the next line.
    pub fn reopen_handle(&self) -> Reopen {
        self.reopen_requested.clone()
    }

    /// Opens the path again. If that fails the old file stays in use, so its lines are not lost.
    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open_live(&self.settings.path)?;
        self.try_again_at = self.settings.max_bytes;
        Ok(())
    }

    /// Whether the path still leads to the open file.
    fn is_in_place(&self) -> bool {
        let identity = |m: fs::Metadata| (m.dev(), m.ino());
        match (self.file.metadata(), fs::metadata(&self.settings.path)) {
            (Ok(open), Ok(named)) => identity(open) == identity(named),
            (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }

    fn rotate(&mut self) {
        let stamp = self.clock.now().strftime(STAMP).to_string();
        let rotated = rotated_path(&self.settings.path, &stamp);
        match rename_new(&self.settings.path, &rotated).and_then(|()| self.reopen()) {
            Ok(()) => self.clean(),
            Err(_) => self.try_again_at = self.size + self.settings.max_bytes / 10 + 1,
        }
    }

    /// Compresses and deletes on a separate thread, one run at a time; writing never waits for it.
    fn clean(&mut self) {
        self.cleaned_at = self.clock.now();
        if self.cleaner.as_ref().is_some_and(|c| !c.is_finished()) {
            return;
        }
        let (settings, now) = (self.settings.clone(), self.cleaned_at);
        self.cleaner = std::thread::Builder::new()
            .name("log-cleaner".to_owned())
            .spawn(move || clean(&settings, now))
            .ok();
    }

    fn since(&self, then: Timestamp) -> Duration {
        self.clock.now().duration_since(then).unsigned_abs()
    }

    /// Frees space on a full disk by deleting the oldest rotated file. Returns whether there was one.
    fn drop_oldest(&self) -> bool {
        let oldest = rotated(&self.settings.path).into_iter().min_by_key(|(_, stamp)| *stamp);
        oldest.is_some_and(|(path, _)| fs::remove_file(path).is_ok())
    }
}

impl Write for Roller {
    /// One call is one line; a line is never split between two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.reopen_requested.take_request() || self.since(self.checked_at) >= IDENTITY_CHECK {
            self.checked_at = self.clock.now();
            if !self.is_in_place() {
                // If it cannot be created now, the next check tries again.
                let _ = self.reopen();
            }
        }
        let full = self.size + line.len() as u64 > self.try_again_at;
        if full && self.size > 0 {
            self.rotate();
        } else if self.since(self.cleaned_at) >= HOUSEKEEPING {
            self.clean();
        }
        match write_whole(&mut self.file, line) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.drop_oldest() => {
                write_whole(&mut self.file, line)?;
            }
            written => written?,
        }
        self.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Roller {
    fn drop(&mut self) {
        if let Some(cleaner) = self.cleaner.take() {
            // A panic of the cleaner has been printed already.
            let _ = cleaner.join();
        }
    }
}

fn open_live(path: &Path) -> io::Result<(File, u64)> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Writes the whole line or nothing: a partial write on a full disk is cut off, so the next line starts cleanly.
fn write_whole(file: &mut File, line: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < line.len() {
        match file.write(&line[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => {
                if written > 0 {
                    // A device has no length: the partial line stays.
                    let _ = file
                        .metadata()
                        .and_then(|m| file.set_len(m.len().saturating_sub(written as u64)));
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// `scheduler.log` and a stamp → `scheduler-STAMP.log`.
fn rotated_path(live: &Path, stamp: &str) -> PathBuf {
    let (stem, extension) = names(live);
    live.with_file_name(format!("{stem}-{stamp}{extension}"))
}

fn names(live: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let extension = text(live.extension()).map_or_else(String::new, |e| format!(".{e}"));
    (text(live.file_stem()).unwrap_or_default(), extension)
}

/// Renames without replacing: a file rotated in the same millisecond is preserved.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Deletes files older than the settings allow, compresses the rest, then deletes the oldest beyond the total size.
fn clean(settings: &FileSettings, now: Timestamp) {
    let mut remaining = Vec::new();
    for (path, stamp) in rotated(&settings.path) {
        let age = Duration::try_from(now.duration_since(stamp)).unwrap_or_default();
        if age > settings.keep {
            // If it cannot be removed now, the next run tries again.
            let _ = fs::remove_file(&path);
            continue;
        }
        let plain = path.extension().is_none_or(|e| e != "gz");
        // The plain file stays readable if compression fails, and the next run tries again.
        let path = match settings.compress && plain {
            true => compress(&path).unwrap_or(path),
            false => path,
        };
        remaining.push((stamp, path));
    }
    trim(remaining, settings.max_total.saturating_sub(settings.max_bytes));
}

/// Deletes the oldest files until the rest have at most `room` bytes.
fn trim(mut files: Vec<(Timestamp, PathBuf)>, room: u64) {
    files.sort_unstable();
    let mut total = 0_u64;
    for (_, path) in files.iter().rev() {
        total = total.saturating_add(fs::metadata(path).map_or(0, |m| m.len()));
        if total > room {
            let _ = fs::remove_file(path);
        }
    }
}

/// The rotated files with their timestamps.
fn rotated(live: &Path) -> Vec<(PathBuf, Timestamp)> {
    let (stem, extension) = names(live);
    let dir = live.parent().filter(|d| !d.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(dir.unwrap_or(Path::new("."))) else {
        return Vec::new();
    };
    let stamp_of = |name: &str| {
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let stamp = name.strip_prefix(&stem)?.strip_prefix('-')?;
        let stamp = stamp.strip_suffix(&extension)?;
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", stamp)
            .and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC))
            .ok()
            .map(|z| z.timestamp())
    };
    entries
        .flatten()
        .filter_map(|e| Some((e.path(), stamp_of(e.file_name().to_str()?)?)))
        .collect()
}

/// Compresses the file and returns the new path. A failure leaves nothing behind: on a full disk a partial copy would
/// take the last space.
fn compress(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let (target, partial) = (PathBuf::from(&name), path.with_extension("part"));
    let copied = File::create(&partial).and_then(|file| {
        let mut gz = GzEncoder::new(file, Compression::default());
        io::copy(&mut File::open(path)?, &mut gz)?;
        gz.finish()?.sync_all()
    });
    if let Err(error) = copied.and_then(|()| fs::rename(&partial, &target)) {
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    fs::remove_file(path)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runner_core::clock::ManualClock;
    use std::io::Read;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> Arc<ManualClock> {
        Arc::new(ManualClock::at("2026-11-22T02:00:00Z".parse().unwrap()))
    }

    fn settings(dir: &Path, compress: bool) -> FileSettings {
        FileSettings {
            path: dir.join("deep/er/s.log"),
            max_bytes: 100,
            max_total: 10_000,
            keep: 7 * DAY,
            compress,
        }
    }

    fn names_in(settings: &FileSettings) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(settings.path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_rotated_and_compressed_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), true));
        let mut roller = Roller::open(settings.clone(), clock.clone()).unwrap();
        for n in 0..12 {
            clock.advance(Duration::from_secs(1));
            roller
                .write_all(format!("line {n:02} {}\n", "x".repeat(20)).as_bytes())
                .unwrap();
        }
        drop(roller);
        drop(Roller::open(settings.clone(), clock.clone()).unwrap());
        let mut all = String::new();
        for name in names_in(&settings) {
            let path = settings.path.with_file_name(&name);
            let file = File::open(&path).unwrap();
            if name == "s.log" {
                assert!(file.metadata().unwrap().len() <= 100);
                (&file).read_to_string(&mut all).unwrap();
            } else {
                assert!(name.ends_with(".log.gz"), "{name}");
                flate2::read::GzDecoder::new(file).read_to_string(&mut all).unwrap();
            }
        }
        for n in 0..12 {
            assert_eq!(all.matches(&format!("line {n:02}")).count(), 1, "{all}");
        }
    }

    #[test]
    fn old_files_are_deleted_and_unrelated_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), false));
        let mut roller = Roller::open(settings.clone(), clock.clone()).unwrap();
        let stranger = settings.path.with_file_name("s-notes.log");
        fs::write(&stranger, "mine").unwrap();
        roller.write_all(&[b'a'; 90]).unwrap();
        roller.write_all(&[b'b'; 90]).unwrap();
        assert!(names_in(&settings).iter().any(|n| n.starts_with("s-2026")));
        clock.advance(8 * DAY);
        roller.cleaner.take().unwrap().join().unwrap();
        roller.write_all(b"c").unwrap();
        drop(roller);
        assert_eq!(names_in(&settings), ["s-notes.log", "s.log"]);
    }

    #[test]
    fn an_existing_file_counts_towards_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), false));
        fs::create_dir_all(settings.path.parent().unwrap()).unwrap();
        fs::write(&settings.path, [b'a'; 95]).unwrap();
        let mut roller = Roller::open(settings.clone(), clock).unwrap();
        roller.write_all(b"0123456789").unwrap();
        assert_eq!(fs::read(&settings.path).unwrap(), b"0123456789");
    }

    #[test]
    fn all_files_together_stay_within_the_total() {
        let dir = tempfile::tempdir().unwrap();
        let clock = start();
        let mut settings = settings(dir.path(), false);
        settings.max_total = 350;
        let mut roller = Roller::open(settings.clone(), clock.clone()).unwrap();
        for n in 0..20_u8 {
            clock.advance(Duration::from_secs(1));
            roller.write_all(&[b'a' + n; 90]).unwrap();
            roller.cleaner.take().map(JoinHandle::join);
        }
        drop(roller);
        let sizes = names_in(&settings).len() as u64 * 90;
        assert_eq!(sizes, 270, "two rotated files and the live one");
        assert_eq!(
            fs::read(&settings.path).unwrap(),
            [b'a' + 19; 90],
            "the newest lines stay"
        );
    }

    #[test]
    fn a_renamed_or_removed_file_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), false));
        let mut roller = Roller::open(settings.clone(), clock.clone()).unwrap();
        roller.write_all(b"first\n").unwrap();
        let moved = settings.path.with_extension("1");
        fs::rename(&settings.path, &moved).unwrap();
        clock.advance(IDENTITY_CHECK);
        roller.write_all(b"second\n").unwrap();
        fs::remove_dir_all(settings.path.parent().unwrap()).unwrap();
        clock.advance(IDENTITY_CHECK);
        roller.write_all(b"third\n").unwrap();
        assert_eq!(fs::read(&settings.path).unwrap(), b"third\n");
        fs::rename(&settings.path, &moved).unwrap();
        roller.reopen_handle().request();
        roller.write_all(b"at once\n").unwrap();
        assert_eq!(fs::read(&settings.path).unwrap(), b"at once\n");
    }

    #[test]
    fn a_rotated_file_of_the_same_instant_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), false));
        let mut roller = Roller::open(settings.clone(), clock).unwrap();
        for byte in [b'a', b'b', b'c'] {
            roller.write_all(&[byte; 90]).unwrap();
        }
        drop(roller);
        let rotated = rotated(&settings.path);
        assert_eq!(rotated.len(), 1);
        assert_eq!(fs::read(&rotated[0].0).unwrap(), [b'a'; 90]);
        assert_eq!(fs::read(&settings.path).unwrap(), [[b'b'; 90], [b'c'; 90]].concat());
    }

    /// A full disk without a disk: the live file is a device that takes nothing.
    #[test]
    fn a_full_disk_costs_lines_and_old_files_but_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), false));
        fs::create_dir_all(settings.path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", &settings.path).unwrap();
        let old = rotated_path(&settings.path, "20261121T020000.000Z");
        fs::write(&old, "old").unwrap();
        let mut roller = Roller::open(settings, clock).unwrap();
        let error = roller.write_all(b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!old.exists(), "the oldest file gives way");
    }
}
