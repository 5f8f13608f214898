//! The log of one run: a bounded text of lines, which the worker stores with the attempt.
//!
//! The beginning shows what was attempted, the end how it failed; so when there is too much, the middle is dropped. Not the
//! log of the process: that is `tracing`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Maximum bytes of one run's log: 256 KiB from its beginning and 768 KiB from its end.
pub const RUN_LOG_MAX_BYTES: usize = 1024 * 1024;

/// Maximum bytes of one line; the rest is cut, so that one line cannot push out all others.
pub const RUN_LOG_LINE_BYTES: usize = 64 * 1024;

const HEAD_BYTES: usize = RUN_LOG_MAX_BYTES / 4;

/// Room for the line that counts the dropped bytes, within the whole bound.
const NOTE_BYTES: usize = 80;
const TAIL_BYTES: usize = RUN_LOG_MAX_BYTES - HEAD_BYTES - NOTE_BYTES;

/// The bounded log of one run. Keeps the first quarter and the last three quarters of [`RUN_LOG_MAX_BYTES`].
#[derive(Debug)]
pub struct RunLog {
    start: Instant,
    /// Milliseconds from the start to the last sign of life.
    alive_at: AtomicU64,
    text: Mutex<Text>,
}

#[derive(Debug, Default)]
struct Text {
    head: String,
    /// Set by the first line that did not fit, so that no later, shorter line appears before it.
    head_full: bool,
    tail: VecDeque<String>,
    tail_bytes: usize,
    lost_lines: u64,
    lost_bytes: u64,
    /// Lines that were ever added.
    lines: u64,
}

impl Default for RunLog {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            alive_at: AtomicU64::new(0),
            text: Mutex::default(),
        }
    }
}

impl RunLog {
    /// Adds a text, line by line, each with the time since the start and its stream (`out`, `err`, `log`), or
    /// its level.
    pub fn push(&self, stream: &str, text: &str) {
        self.heartbeat();
        let seconds = self.start.elapsed().as_secs_f64();
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let (line, cut) = cut(line);
            let entry = if cut == 0 {
                format!("+{seconds:.3}s {stream}: {line}\n")
            } else {
                format!("+{seconds:.3}s {stream}: {line} [{cut} bytes cut]\n")
            };
            self.lock().add(entry);
        }
    }

    /// Says that the run makes progress, as each line does.
    pub fn heartbeat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.alive_at.store(millis, Ordering::Relaxed);
    }

    /// The time since the last line or heartbeat, or since the start if there was none.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let alive_at = Duration::from_millis(self.alive_at.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(alive_at)
    }

    /// Takes the whole text and empties the log; `None` if no line was written.
    #[must_use]
    pub fn take(&self) -> Option<String> {
        std::mem::take(&mut *self.lock()).whole()
    }

    /// The whole text so far; `None` if no line was written.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.lock().whole()
    }

    /// Bytes of the text so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = self.lock();
        text.head.len() + text.tail_bytes
    }

    /// How many lines were written so far: it changes whenever the text does.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lock().lines
    }

    /// The last whole lines, at most this many bytes, while the run continues; `None` if there is none.
    #[must_use]
    pub fn last_lines(&self, most: usize) -> Option<String> {
        let text = self.lock();
        let (mut left, mut first) = (most, text.tail.len());
        while first > 0 && text.tail[first - 1].len() <= left {
            first -= 1;
            left -= text.tail[first].len();
        }
        if let Some(last) = text.tail.back().filter(|last| last.len() > most) {
            return Some(last[last.ceil_char_boundary(last.len() - most)..].to_owned());
        }
        let mut all = String::new();
        if first == 0 && text.lost_lines == 0 {
            let from = text.head.len().saturating_sub(left);
            let from = match from {
                0 => 0,
                _ => text.head.ceil_char_boundary(from),
            };
            let begins = match from {
                0 => 0,
                _ => text.head[from..]
                    .find('\n')
                    .map_or(text.head.len(), |end| from + end + 1),
            };
            all.push_str(&text.head[begins..]);
        }
        all.extend(text.tail.range(first..).map(String::as_str));
        (!all.is_empty()).then_some(all)
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Text {
    fn whole(&self) -> Option<String> {
        let mut all = String::with_capacity(self.head.len() + self.tail_bytes + NOTE_BYTES);
        all.push_str(&self.head);
        if self.lost_lines > 0 {
            let (lines, bytes) = (self.lost_lines, self.lost_bytes);
            all.push_str(&format!("[{lines} lines, {bytes} bytes left out]\n"));
        }
        all.extend(self.tail.iter().map(String::as_str));
        (!all.is_empty()).then_some(all)
    }

    fn add(&mut self, entry: String) {
        self.lines += 1;
        if !self.head_full && self.head.len() + entry.len() <= HEAD_BYTES {
            self.head.push_str(&entry);
            return;
        }
        self.head_full = true;
        self.tail_bytes += entry.len();
        self.tail.push_back(entry);
        while self.tail_bytes > TAIL_BYTES {
            let Some(old) = self.tail.pop_front() else {
                return;
            };
            self.tail_bytes -= old.len();
            self.lost_lines += 1;
            self.lost_bytes += old.len() as u64;
        }
    }
}

/// The part of a line that fits, and the number of bytes cut.
fn cut(line: &str) -> (&str, usize) {
    if line.len() <= RUN_LOG_LINE_BYTES {
        return (line, 0);
    }
    let start = &line[..line.floor_char_boundary(RUN_LOG_LINE_BYTES)];
    (start, line.len() - start.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn beginning_and_end_survive_and_the_bound_holds() {
        let log = RunLog::default();
        for n in 0..100_000 {
            log.push("out", &format!("line {n}"));
        }
        let text = log.take().unwrap();
        assert!(text.len() <= RUN_LOG_MAX_BYTES, "{}", text.len());
        assert!(text.len() > RUN_LOG_MAX_BYTES * 9 / 10, "{}", text.len());
        assert!(text.lines().next().unwrap().ends_with("out: line 0"));
        assert!(text.lines().last().unwrap().ends_with("out: line 99999"));
        assert!(text.contains("bytes left out]"));
        assert_eq!(log.take(), None);
    }

    #[test]
    fn the_last_lines_are_shown_while_the_run_continues() {
        let log = RunLog::default();
        assert_eq!((log.last_lines(100), log.lines()), (None, 0));
        log.push("out", "first");
        log.push("out", "second é");
        assert_eq!(log.lines(), 2);
        assert_eq!(log.last_lines(1000).unwrap().lines().count(), 2);
        let last = log.last_lines(30).unwrap();
        assert!(last.ends_with("out: second é\n") && last.lines().count() == 1, "{last}");
        for n in 0..100_000 {
            log.push("out", &format!("line {n}"));
        }
        let last = log.last_lines(1000).unwrap();
        assert!(
            last.len() <= 1000 && last.len() > 900 && last.ends_with("line 99999\n"),
            "{last}"
        );
        assert!(last.starts_with('+'));
        assert!(log.take().is_some_and(|text| text.contains("out: first")));
    }

    #[test]
    fn lines_are_preserved_even_empty_ones() {
        let log = RunLog::default();
        log.push("out", "a\r\n\nb\n");
        let text = log.take().unwrap();
        let lines: Vec<_> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(lines, ["out: a", "out: ", "out: b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_and_heartbeats_are_signs_of_life() {
        let (log, second) = (RunLog::default(), Duration::from_secs(1));
        tokio::time::advance(second * 3).await;
        assert_eq!(log.silence(), second * 3);
        log.heartbeat();
        assert_eq!(log.silence(), Duration::ZERO);
        tokio::time::advance(second * 2).await;
        log.push("out", "line");
        tokio::time::advance(second).await;
        assert_eq!(log.silence(), second);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let log = RunLog::default();
        log.push("err", &"é".repeat(RUN_LOG_LINE_BYTES));
        let text = log.take().unwrap();
        assert!(text.trim_end().ends_with("bytes cut]"));
        assert!(text.len() < RUN_LOG_LINE_BYTES + 100);
    }
}
