//! Reads the output of a command, line by line, within limits; and the files that it leaves.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use runner_sdk::{Ctx, RUN_LOG_LINE_BYTES, RunLog};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::MAX_RESULT_BYTES;
use crate::secret::Secrets;

/// Bytes read at a time: what a Linux pipe returns at once, a quarter of its capacity.
const CHUNK_BYTES: usize = 16 * 1024;

/// Maximum bytes of the last line that become part of an error text.
const LAST_LINE_BYTES: usize = 500;

/// The state of a stream besides its lines in the log.
#[derive(Default)]
pub(crate) struct Tail {
    captures: bool,
    /// The bytes, if they are the result: at most one more than a result may have.
    pub(crate) captured: Vec<u8>,
    /// The last line that is not blank.
    pub(crate) last_line: Option<String>,
}

impl Tail {
    pub(crate) fn new(captures: bool) -> Self {
        Self {
            captures,
            ..Self::default()
        }
    }

    fn capture(&mut self, chunk: &[u8]) {
        if self.captures {
            let room = (MAX_RESULT_BYTES + 1).saturating_sub(self.captured.len());
            self.captured.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    }
}

/// Reads a stream to its end into the log. A failing stream counts as ended.
pub(crate) async fn read(
    stream: Option<impl AsyncRead + Unpin>,
    tag: &str,
    tail: &mut Tail,
    secrets: &Secrets,
    log: &RunLog,
) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lines = Lines::new(secrets);
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        tail.capture(&chunk[..n]);
        lines.take(&chunk[..n], |line| {
            log.push(tag, line);
            remember(tail, line);
        });
    }
    lines.end(|line| {
        log.push(tag, line);
        remember(tail, line);
    });
}

fn remember(tail: &mut Tail, line: &str) {
    let line = line.trim();
    if !line.is_empty() {
        let end = line.floor_char_boundary(LAST_LINE_BYTES);
        tail.last_line = Some(line[..end].to_owned());
    }
}

/// Splits a stream into lines and buffers no more than is shown.
struct Lines<'a> {
    secrets: &'a Secrets,
    line: Vec<u8>,
    cut: usize,
    /// Longer than the shown part by the longest secret, so that a secret at the edge is found whole.
    most: usize,
}

impl<'a> Lines<'a> {
    fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            line: Vec::new(),
            cut: 0,
            most: RUN_LOG_LINE_BYTES + secrets.longest(),
        }
    }

    fn take(&mut self, chunk: &[u8], mut each: impl FnMut(&str)) {
        for piece in chunk.split_inclusive(|b| *b == b'\n') {
            let (text, whole) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = self.most.saturating_sub(self.line.len()).min(text.len());
            self.line.extend_from_slice(&text[..room]);
            self.cut += text.len() - room;
            if whole {
                self.flush(&mut each);
            }
        }
    }

    fn end(mut self, mut each: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.flush(&mut each);
        }
    }

    fn flush(&mut self, each: &mut impl FnMut(&str)) {
        let shown = self.secrets.redact(&self.line);
        let mut text = String::from_utf8_lossy(&shown).into_owned();
        if self.cut > 0 {
            let end = text.floor_char_boundary(RUN_LOG_LINE_BYTES - 40);
            let cut = self.cut + text.len() - end;
            text.truncate(end);
            text.push_str(&format!(" [{cut} bytes cut]"));
        }
        each(&text);
        self.line.clear();
        self.cut = 0;
    }
}

/// A file that the command may have left: at most one byte more than `most`. `None` if it is missing or not a plain file: a
/// pipe in its place would never end. An unreadable one is reported in the log.
pub(super) fn read_file(path: &Path, most: usize, cx: &Ctx) -> Option<Vec<u8>> {
    match read_plain(path, most) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            cx.log()
                .push("log", &format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}

/// As [`read_file`]. The command may run and change the file meanwhile, so it is opened once, no link is followed, and what
/// was opened is looked at.
pub(super) fn read_plain(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let careful = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let file = match options.read(true).custom_flags(careful.bits()).open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => return Ok(None),
        opened => opened?,
    };
    // A second name may be that of a file which the command itself cannot read.
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() > 1 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_redacted_and_made_valid_utf8() {
        let (secrets, log) = (Secrets::default(), RunLog::default());
        let mut tail = Tail::new(true);
        let mut stream = b"one\nbad \xff\n".to_vec();
        stream.extend(std::iter::repeat_n(b'x', RUN_LOG_LINE_BYTES * 2));
        stream.extend(b"\nlast\n\n");
        read(Some(&stream[..]), "out", &mut tail, &secrets, &log).await;
        let text = log.take().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[1].ends_with("bad \u{fffd}"));
        assert!(lines[2].ends_with("bytes cut]") && lines[2].len() < RUN_LOG_LINE_BYTES + 30);
        assert_eq!(tail.last_line.as_deref(), Some("last"));
        assert_eq!(tail.captured, stream);
    }
}
