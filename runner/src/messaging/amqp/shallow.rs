//! Bounds how deep the headers of received messages are nested.
//!
//! The client library reads nested tables by recursion, so a message with some thousand levels, which any publisher can send
//! in one frame, would end the process with a stack overflow. Deeper tables are made byte arrays in the stream, which have
//! the same layout: one byte of the frame changes, and no length.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Levels that stay; templates see as many.
const MAX_LEVELS: usize = 16;

/// Bytes before the payload of a frame: type, channel, length of the payload. One more byte ends it.
const HEAD: usize = 7;

/// The type of a frame with the properties of a message.
const PROPERTIES: u8 = 2;

/// The largest payload of a frame that is held; servers send 128 KiB at most unless they are set otherwise.
const MAX_HELD: usize = 16 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 32 * 1024;

/// What the next received byte belongs to.
#[derive(Debug)]
enum Place {
    /// The head of a frame, as far as it was received.
    Head(Vec<u8>),
    /// A frame that is passed on: bytes that are missing.
    Passing(usize),
    /// Properties, as far as they were received; the length of the whole frame.
    Holding(Vec<u8>, usize),
    /// Something that is no frame.
    Foreign,
}

/// Finds frames in what is received, and edits those with properties.
#[derive(Debug)]
struct Frames {
    place: Place,
    /// What may be read.
    ready: Vec<u8>,
}

impl Frames {
    fn new() -> Self {
        Self {
            place: Place::Head(Vec::with_capacity(HEAD)),
            ready: Vec::new(),
        }
    }

    /// Takes what was received.
    fn feed(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let taken = match &mut self.place {
                Place::Head(head) => {
                    let taken = received.len().min(HEAD - head.len());
                    head.extend_from_slice(&received[..taken]);
                    taken
                }
                Place::Passing(left) => {
                    let taken = received.len().min(*left);
                    self.ready.extend_from_slice(&received[..taken]);
                    *left -= taken;
                    taken
                }
                Place::Holding(frame, whole) => {
                    let taken = received.len().min(*whole - frame.len());
                    frame.extend_from_slice(&received[..taken]);
                    taken
                }
                Place::Foreign => {
                    self.ready.extend_from_slice(received);
                    received.len()
                }
            };
            received = &received[taken..];
            self.step();
        }
    }

    /// Continues if a part of a frame is complete.
    fn step(&mut self) {
        match &mut self.place {
            Place::Head(head) if head.len() == HEAD => {
                let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
                let head = std::mem::take(head);
                self.place = match head[0] {
                    PROPERTIES if length <= MAX_HELD => {
                        let whole = HEAD + length + 1;
                        Place::Holding(head, whole)
                    }
                    1..=8 => {
                        self.ready.extend_from_slice(&head);
                        Place::Passing(length.saturating_add(1))
                    }
                    _ => {
                        self.ready.extend_from_slice(&head);
                        Place::Foreign
                    }
                };
            }
            Place::Passing(0) => self.place = Place::Head(Vec::with_capacity(HEAD)),
            Place::Holding(frame, whole) if frame.len() == *whole => {
                let mut frame = std::mem::take(frame);
                let end = frame.len() - 1;
                flatten(&mut frame[HEAD..end]);
                self.ready.append(&mut frame);
                self.place = Place::Head(Vec::with_capacity(HEAD));
            }
            _ => {}
        }
    }
}

/// Makes byte arrays of tables and lists that are nested too deep. What is not well formed is left to the library.
fn flatten(properties: &mut [u8]) {
    // Class, weight and size of the body; then flags, of which the first three stand for content type, encoding, headers.
    let Some(flags) = number(properties, 12, 2) else { return };
    let mut at = 14;
    let mut more = flags;
    while more & 1 == 1 {
        let Some(next) = number(properties, at, 2) else { return };
        (more, at) = (next, at + 2);
    }
    for flag in [15, 14] {
        if (flags >> flag) & 1 == 1 {
            let Some(length) = number(properties, at, 1) else {
                return;
            };
            at += 1 + length;
        }
    }
    if (flags >> 13) & 1 == 1 {
        flatten_table(properties, at);
    }
}

/// The levels that are open: where each ends, and whether its values have names.
fn flatten_table(bytes: &mut [u8], start: usize) {
    let Some(length) = number(bytes, start, 4) else { return };
    let mut at = start + 4;
    let mut levels = vec![(at + length, true)];
    while let Some((end, named)) = levels.last().copied() {
        if at >= end {
            levels.pop();
            continue;
        }
        if named {
            let Some(length) = number(bytes, at, 1) else { return };
            at += 1 + length;
        }
        let Some(kind) = bytes.get(at).copied() else { return };
        let value = at + 1;
        at = match kind {
            b'V' => value,
            b't' | b'b' | b'B' => value + 1,
            b's' | b'U' | b'u' => value + 2,
            b'I' | b'i' | b'f' => value + 4,
            b'D' => value + 5,
            b'L' | b'l' | b'd' | b'T' => value + 8,
            b'S' | b'x' | b'A' | b'F' => {
                let Some(length) = number(bytes, value, 4) else { return };
                let inner = value + 4;
                let nests = matches!(kind, b'A' | b'F');
                if nests && levels.len() < MAX_LEVELS {
                    levels.push((inner + length, kind == b'F'));
                    inner
                } else {
                    if nests {
                        bytes[at] = b'x';
                    }
                    inner + length
                }
            }
            _ => return,
        };
    }
}

/// A number of `size` bytes, if there are as many.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
}

/// A stream from a server whose messages have shallow headers.
pub(super) struct ShallowStream<S> {
    inner: S,
    frames: Frames,
    /// What of `frames.ready` was read.
    read: usize,
    chunk: Vec<u8>,
}

impl<S> ShallowStream<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            frames: Frames::new(),
            read: 0,
            chunk: vec![0; CHUNK],
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ShallowStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let ready = &this.frames.ready[this.read..];
            if !ready.is_empty() {
                let taken = ready.len().min(out.remaining());
                out.put_slice(&ready[..taken]);
                this.read += taken;
                if this.read == this.frames.ready.len() {
                    this.frames.ready.clear();
                    this.read = 0;
                }
                return Poll::Ready(Ok(()));
            }
            let mut chunk = ReadBuf::new(&mut this.chunk);
            match Pin::new(&mut this.inner).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.frames.feed(chunk.filled()),
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ShallowStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that is nested `levels` deep, the innermost of which is empty.
    fn nested(levels: usize) -> Vec<u8> {
        let mut table = vec![0, 0, 0, 0];
        for _ in 1..levels {
            let mut inner = vec![1, b'a', b'F'];
            inner.append(&mut table);
            table = u32::try_from(inner.len()).unwrap_or_default().to_be_bytes().to_vec();
            table.append(&mut inner);
        }
        table
    }

    /// A frame with these headers, behind a content type.
    fn frame(headers: &[u8]) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0b1010_0000, 0, 3, b'a', b'/', b'b'];
        payload.extend_from_slice(headers);
        let mut frame = vec![PROPERTIES, 0, 1];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or_default().to_be_bytes());
        frame.append(&mut payload);
        frame.push(0xce);
        frame
    }

    fn passed(received: &[u8], portion: usize) -> Vec<u8> {
        let mut frames = Frames::new();
        for part in received.chunks(portion) {
            frames.feed(part);
        }
        frames.ready
    }

    #[test]
    fn what_is_shallow_passes_unchanged_however_it_is_cut() {
        let mut all = vec![1, 0, 0, 0, 0, 0, 2, 9, 9, 0xce];
        all.extend(frame(&nested(MAX_LEVELS)));
        all.extend([3, 0, 1, 0, 0, 0, 1, b'x', 0xce, 8, 0, 0, 0, 0, 0, 0, 0xce]);
        for portion in [1, 2, 7, 64, all.len()] {
            assert_eq!(passed(&all, portion), all, "{portion}");
        }
        let foreign = b"AMQP\x00\x00\x09\x01 and more";
        assert_eq!(passed(foreign, 3), foreign);
    }

    #[test]
    fn deeper_levels_become_bytes_of_the_same_length() {
        let deep = frame(&nested(15_000));
        let edited = passed(&deep, 4096);
        assert_eq!(edited.len(), deep.len());
        let changed: Vec<usize> = (0..deep.len()).filter(|n| deep[*n] != edited[*n]).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert_eq!((deep[changed[0]], edited[changed[0]]), (b'F', b'x'));
    }

    #[test]
    fn what_is_not_well_formed_ends_the_look() {
        for headers in [
            &[0, 0, 0, 9, 1, b'a', b'F', 0xff, 0xff, 0xff, 0xff][..],
            &[0xff],
            &[0, 0, 0, 9, 200],
        ] {
            let odd = frame(headers);
            assert_eq!(passed(&odd, 5), odd);
        }
    }
}
