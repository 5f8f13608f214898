//! Gives a task that is run again its file back: it left for `failed` or `done` when the task ended. Blocks.
//!
//! There it is known again by its name, size and time, which the task carries. Not here: when that is asked (`again`).

use super::*;

/// A file as it was when it was taken, in a header of its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger::file) struct KnownFile {
    size: u64,
    /// Seconds since 1970.
    modified: i64,
    /// Its name as it is written while it is in work.
    written: OsString,
}

impl KnownFile {
    pub(in crate::trigger::file) fn of(file: &TakenFile) -> Self {
        Self {
            size: file.size,
            modified: file.modified,
            written: file.path.file_name().unwrap_or_default().to_owned(),
        }
    }

    /// The value of the header.
    pub(in crate::trigger::file) fn header(&self) -> String {
        format!("{} {} {}", self.size, self.modified, self.written.to_string_lossy())
    }

    /// `None`: nothing that this program writes.
    pub(in crate::trigger::file) fn parse(header: &str) -> Option<Self> {
        let (size, rest) = header.split_once(' ')?;
        let (modified, written) = rest.split_once(' ')?;
        let leads_away = matches!(written, "" | "." | "..") || written.contains(['/', '\0']);
        (!leads_away).then_some(Self {
            size: size.parse().ok()?,
            modified: modified.parse().ok()?,
            written: written.into(),
        })
    }

    fn is(&self, stat: &FileStat) -> bool {
        (size(stat), stat.st_mtime) == (self.size, self.modified)
    }

    /// Its own name.
    fn name(&self, token: &str) -> Option<OsString> {
        match token.starts_with('o') {
            true => names::original(&self.written),
            false => Some(self.written.clone()),
        }
    }
}

impl Folder {
    /// Takes the file of a token out of `failed` or `done` again, if it is there and not in its place. An error says why the task
    /// must not run: something of its name is there, and it is not known whether that is its file.
    pub(in crate::trigger::file) fn restore(&self, token: &str, known: &KnownFile) -> Result<(), String> {
        let Some(name) = known.name(token) else { return Ok(()) };
        if matches!(self.place(token), Ok(Place::File(_))) {
            return Ok(());
        }
        let back = |found: &Path, why: &dyn std::fmt::Display| {
            format!(
                "its file is not in work, and {} {why}; if that is its file, move it to {}, which starts a new task",
                found.display(),
                self.path.display()
            )
        };
        let endings = [token.get(1..9), Some(token)].into_iter().flatten();
        let mut candidates: Vec<OsString> = endings.map(|ending| names::with_ending(&name, ending)).collect();
        candidates.push(name);
        let mut other = None;
        for target in [&self.failed, &self.done] {
            let Target::Move(path, directory) = target else {
                continue;
            };
            for found in &candidates {
                let Ok(stat) = moves::stat(directory, found) else {
                    continue;
                };
                let place = path.join(found);
                if moves::kind(&stat) == SFlag::S_IFREG && known.is(&stat) {
                    return self
                        .return_to_work(token, (directory, found), &known.written)
                        .map_err(|why| back(&place, &format!("cannot be taken again: {why}")));
                }
                other.get_or_insert(place);
            }
        }
        other.map_or(Ok(()), |found| Err(back(&found, &"is of another size or time")))
    }

    fn return_to_work(&self, token: &str, from: (&OwnedFd, &OsStr), written: &OsStr) -> io::Result<()> {
        let place = own::make_private(&self.work, OsStr::new(token), self.owner)?;
        let moved = moves::without_loss(from, (&place, written));
        if moved.is_err() {
            // Stays if there is something in it.
            self.forget(token);
        }
        moved?;
        Ok(fsync(&place)?)
    }
}
