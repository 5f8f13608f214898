//! The protocol between a guard and the process that started it: frames of a kind, a length and a body.
//!
//! Both ends are the same program, so the format may change with any version.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::confine::Confinement;

/// Longest body: the largest task's payload with room to spare. Longer ones are invalid.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A kind and a length.
const HEAD: usize = 5;

/// The command to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spec {
    /// A path, or a name that is searched in the PATH of `env`.
    pub(crate) program: PathBuf,
    /// The name that it is called by.
    pub(crate) name: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: PathBuf,
    /// Named pipes for standard output and error, whose reading ends are open; an empty path: none.
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
    /// What it may use and as whom it runs.
    pub(crate) confinement: Confinement,
    /// Standard input; `None`: closed.
    pub(crate) stdin: Option<Vec<u8>>,
}

/// Orders to a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuardOrder {
    /// Start this command; always the first order.
    Start(Box<Spec>),
    /// Ask everything to end.
    Terminate,
    /// End whatever the command left behind: politely for a moment, then by killing.
    Sweep,
    /// Kill everything.
    Kill,
    /// Unless repeated, ask everything to end after `ask` milliseconds, and kill it `kill` milliseconds later.
    Hold { ask: u64, kill: u64 },
}

/// Reports of a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuardReport {
    /// The command runs.
    Began(i32),
    /// It could not be started; the error number.
    Failed(i32),
    /// The command itself has ended; its status as the system encodes it.
    Ended(i32),
    /// These were still running when the command had ended.
    Left(String),
    /// The lease was not extended in time.
    Overdue,
    /// Nothing is left.
    Gone,
    /// These cannot be killed.
    Stuck(String),
}

impl GuardOrder {
    pub(super) fn frame(&self) -> Vec<u8> {
        match self {
            Self::Start(spec) => frame(b'S', &spec.encode()),
            Self::Terminate => frame(b'T', &[]),
            Self::Sweep => frame(b'W', &[]),
            Self::Kill => frame(b'K', &[]),
            Self::Hold { ask, kill } => {
                let body: Vec<u8> = [ask.to_le_bytes(), kill.to_le_bytes()].concat();
                frame(b'H', &body)
            }
        }
    }

    fn of(kind: u8, body: &[u8]) -> Option<Self> {
        Some(match kind {
            b'S' => Self::Start(Box::new(Spec::decode(body)?)),
            b'T' => Self::Terminate,
            b'W' => Self::Sweep,
            b'K' => Self::Kill,
            b'H' => {
                let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
                Self::Hold {
                    ask: number(0)?,
                    kill: number(8)?,
                }
            }
            _ => return None,
        })
    }
}

impl GuardReport {
    pub(super) fn frame(&self) -> Vec<u8> {
        match self {
            Self::Began(pid) => frame(b'B', &pid.to_le_bytes()),
            Self::Failed(error) => frame(b'F', &error.to_le_bytes()),
            Self::Ended(status) => frame(b'E', &status.to_le_bytes()),
            Self::Left(names) => frame(b'L', names.as_bytes()),
            Self::Overdue => frame(b'O', &[]),
            Self::Gone => frame(b'G', &[]),
            Self::Stuck(names) => frame(b'U', names.as_bytes()),
        }
    }

    fn of(kind: u8, body: &[u8]) -> Option<Self> {
        let number = || Some(i32::from_le_bytes(body.try_into().ok()?));
        let text = || String::from_utf8_lossy(body).into_owned();
        Some(match kind {
            b'B' => Self::Began(number()?),
            b'F' => Self::Failed(number()?),
            b'E' => Self::Ended(number()?),
            b'L' => Self::Left(text()),
            b'O' => Self::Overdue,
            b'G' => Self::Gone,
            b'U' => Self::Stuck(text()),
            _ => return None,
        })
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + body.len());
    out.push(kind);
    put_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // Longer ones are refused earlier: a task has at most a few MiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// Received bytes that are not yet a whole frame.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    pub(super) fn take_in(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn next_order(&mut self) -> io::Result<Option<GuardOrder>> {
        self.next(GuardOrder::of)
    }

    pub(super) fn next_report(&mut self) -> io::Result<Option<GuardReport>> {
        self.next(GuardReport::of)
    }

    fn next<T>(&mut self, decode: impl Fn(u8, &[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.0.split_at_checked(HEAD) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_BODY {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let decoded = decode(head[0], body).ok_or(io::ErrorKind::InvalidData)?;
        self.0.drain(..HEAD + length);
        Ok(Some(decoded))
    }
}

impl Spec {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| {
            put_length(&mut out, bytes.len());
            out.extend_from_slice(bytes);
        };
        put(self.program.as_os_str().as_bytes());
        put(self.name.as_bytes());
        for path in [&self.cwd, &self.stdout, &self.stderr] {
            put(path.as_os_str().as_bytes());
        }
        put(self.confinement.to_text().as_bytes());
        put(&u32::try_from(self.arguments.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.arguments.iter().for_each(|a| put(a.as_bytes()));
        put(&u32::try_from(self.env.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, value) in &self.env {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        if let Some(stdin) = &self.stdin {
            put(stdin);
        }
        out
    }

    fn decode(mut body: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let program = PathBuf::from(OsStr::from_bytes(take(&mut body)?));
        let name = text(take(&mut body)?);
        let path = |body: &mut &[u8]| Some(PathBuf::from(OsStr::from_bytes(take(body)?)));
        let (cwd, stdout, stderr) = (path(&mut body)?, path(&mut body)?, path(&mut body)?);
        let confinement = Confinement::from_text(std::str::from_utf8(take(&mut body)?).ok()?)?;
        let count = |body: &mut &[u8]| Some(u32::from_le_bytes(take(body)?.try_into().ok()?));
        let mut arguments = Vec::new();
        for _ in 0..count(&mut body)? {
            arguments.push(text(take(&mut body)?));
        }
        let mut env = Vec::new();
        for _ in 0..count(&mut body)? {
            env.push((text(take(&mut body)?), text(take(&mut body)?)));
        }
        let stdin = if body.is_empty() {
            None
        } else {
            Some(take(&mut body)?.to_vec())
        };
        Some(Self {
            program,
            name,
            arguments,
            env,
            cwd,
            stdout,
            stderr,
            confinement,
            stdin,
        })
    }
}

fn take<'b>(body: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = body.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (bytes, rest) = rest.split_at_checked(length)?;
    *body = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::confine::Limit;
    use super::*;

    #[test]
    fn frames_survive_in_pieces() {
        let spec = Spec {
            program: "/bin/a b".into(),
            name: OsString::from_vec(vec![0xff, b'x']),
            arguments: vec!["".into(), "1".into()],
            env: vec![("A".into(), "b=c\n".into())],
            cwd: "/".into(),
            stdout: "/a/out".into(),
            stderr: "/a/err".into(),
            confinement: Confinement {
                limits: vec![(Limit::Memory, 1 << 40)],
                ..Confinement::default()
            },
            stdin: Some(vec![0; 70_000]),
        };
        let none = Spec::default();
        let empty = Spec {
            stdin: Some(Vec::new()),
            ..Spec::default()
        };
        let orders = [
            GuardOrder::Start(Box::new(spec)),
            GuardOrder::Start(Box::new(none)),
            GuardOrder::Start(Box::new(empty)),
            GuardOrder::Hold { ask: 7, kill: 1 << 40 },
            GuardOrder::Kill,
            GuardOrder::Sweep,
            GuardOrder::Terminate,
        ];
        let bytes: Vec<u8> = orders.iter().flat_map(GuardOrder::frame).collect();
        let (mut inbox, mut received) = (Inbox::default(), Vec::new());
        for piece in bytes.chunks(1000) {
            inbox.take_in(piece);
            while let Some(order) = inbox.next_order().unwrap() {
                received.push(order);
            }
        }
        assert_eq!(received, orders);
        let reports = [
            GuardReport::Began(1),
            GuardReport::Failed(-2),
            GuardReport::Ended(256),
            GuardReport::Left("a".into()),
            GuardReport::Overdue,
            GuardReport::Gone,
            GuardReport::Stuck("b".into()),
        ];
        for report in reports {
            inbox.take_in(&report.frame());
            assert_eq!(inbox.next_report().unwrap(), Some(report));
        }
        inbox.take_in(b"?\0\0\0\0");
        assert!(inbox.next_order().is_err());
    }
}
