//! Makes JSON lines safe to display: characters that change text direction or steer a terminal become `\\u` escapes.

use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::text::signs;

/// Escapes whole events and passes them to the writer that `W` makes.
pub(super) struct Escaped<W>(pub(super) W);

/// See [`Escaped`].
pub(super) struct Escaping<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        Escaping(self.0.make_writer_for(line))
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(signs::json(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
