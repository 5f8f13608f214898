//! A log file of bounded size: full, it is put aside; old ones are compressed and, later, deleted.
//!
//! The live file keeps its identity (it is copied and cut, not renamed), so that `tail -f` goes on. A crash
//! between copy and cut repeats lines, never loses any.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use runner_core::clock::Clock;

use super::FileSettings;

/// How often old files are looked for even if nothing was put aside.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// The time in the name of a file that was put aside: UTC, sorts by age, free of characters that shells mind.
const STAMP: &str = "%Y%m%dT%H%M%S%.3fZ";

/// The live file and its past.
pub struct Roller {
    settings: FileSettings,
    clock: Arc<dyn Clock>,
    file: File,
    size: u64,
    /// After a failed rotation: the size at which to try again, so that a full disk costs one try a tenth.
    try_again_at: u64,
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
        if let Some(dir) = settings.path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&settings.path)?;
        let size = file.metadata()?.len();
        let mut roller = Self {
            try_again_at: settings.max_bytes,
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

    fn put_aside(&mut self) {
        let stamp = self.clock.now().strftime(STAMP).to_string();
        let aside = beside(&self.settings.path, &stamp);
        // Without the copy nothing may be cut: the lines stay where they are, and the file grows.
        let moved = copy(&self.settings.path, &aside).and_then(|()| self.file.set_len(0));
        match moved {
            Ok(()) => {
                self.size = 0;
                self.try_again_at = self.settings.max_bytes;
                self.clean();
            }
            Err(_) => self.try_again_at = self.size + self.settings.max_bytes / 10 + 1,
        }
    }

    /// Compresses and deletes in a thread of its own; one at a time, and never waited for while writing.
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

    fn since_cleaned(&self) -> Duration {
        self.clock
            .now()
            .duration_since(self.cleaned_at)
            .try_into()
            .unwrap_or_default()
    }
}

impl Write for Roller {
    /// One call is one line; a line is never torn between two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let full = self.size + line.len() as u64 > self.try_again_at;
        if full && self.size > 0 {
            self.put_aside();
        } else if self.since_cleaned() >= HOUSEKEEPING {
            self.clean();
        }
        self.file.write_all(line)?;
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
            // A panic of the cleaner has been printed; there is nobody left to tell.
            let _ = cleaner.join();
        }
    }
}

/// `scheduler.log` and a stamp → `scheduler-STAMP.log`.
fn beside(live: &Path, stamp: &str) -> PathBuf {
    let (stem, extension) = names(live);
    live.with_file_name(format!("{stem}-{stamp}{extension}"))
}

fn names(live: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let extension = text(live.extension()).map_or_else(String::new, |e| format!(".{e}"));
    (text(live.file_stem()).unwrap_or_default(), extension)
}

/// Copies into a new file; one of that name, put aside in the same millisecond, is never overwritten.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut new = File::create_new(to)?;
    let copied = File::open(from).and_then(|mut old| io::copy(&mut old, &mut new));
    copied.map(|_| ()).inspect_err(|_| {
        // Half a copy is worth nothing; if it cannot be removed either, cleaning deletes it when it is old.
        let _ = fs::remove_file(to);
    })
}

/// Deletes what is older than the settings allow, and compresses what is not compressed yet.
fn clean(settings: &FileSettings, now: Timestamp) {
    for (path, stamp) in aside(&settings.path) {
        let age = Duration::try_from(now.duration_since(stamp)).unwrap_or_default();
        if age > settings.keep {
            // Somebody else may have deleted it, or it stays until the next time.
            let _ = fs::remove_file(&path);
        } else if settings.compress && path.extension().is_none_or(|e| e != "gz") {
            // The plain file stays readable if this fails, and the next time tries again.
            let _ = compress(&path);
        }
    }
}

/// The files that were put aside, and when.
fn aside(live: &Path) -> Vec<(PathBuf, Timestamp)> {
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

fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let (target, partial) = (PathBuf::from(&name), path.with_extension("part"));
    let mut gz = GzEncoder::new(File::create(&partial)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut gz)?;
    gz.finish()?.sync_all()?;
    fs::rename(&partial, &target)?;
    fs::remove_file(path)
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
    fn a_full_file_is_put_aside_and_compressed_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, settings) = (start(), settings(dir.path(), true));
        let mut roller = Roller::open(settings.clone(), clock.clone()).unwrap();
        let watched = File::open(&settings.path).unwrap();
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
                use std::os::unix::fs::MetadataExt;
                assert_eq!(file.metadata().unwrap().ino(), watched.metadata().unwrap().ino());
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
    fn what_is_too_old_is_deleted_and_strangers_are_left_alone() {
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
}
