//! The payload of a command: from an argument, a file or standard input. It must be JSON unless --raw allows any bytes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use runner_core::task::{MAX_PAYLOAD, check_json};

use super::exit::BadData;

/// The name of standard input in errors.
const STDIN: &str = "standard input";

/// Where the payload comes from.
#[derive(Debug, Args)]
pub(super) struct PayloadArgs {
    /// The payload: JSON, or - to read it from standard input
    #[arg(long, value_name = "JSON|-", group = "given", allow_negative_numbers = true)]
    payload: Option<OsString>,
    /// Read the payload from a file, or with - from standard input
    #[arg(long, value_name = "FILE|-", group = "given")]
    payload_file: Option<PathBuf>,
    /// Take the payload byte for byte. Without it the payload must be JSON, and line breaks at the end of
    /// a file are left out
    #[arg(long, requires = "given")]
    raw: bool,
}

impl PayloadArgs {
    /// No payload.
    pub(super) fn none() -> Self {
        Self {
            payload: None,
            payload_file: None,
            raw: false,
        }
    }

    /// Whether there is one.
    pub(super) fn is_given(&self) -> bool {
        self.payload.is_some() || self.payload_file.is_some()
    }

    /// The payload, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is longer than brokers accept, or is not JSON although it must be.
    pub(super) fn read(self) -> anyhow::Result<Option<Bytes>> {
        let stdin = || read(STDIN, Ok(io::stdin().lock()));
        let (place, mut bytes) = match (self.payload, self.payload_file) {
            (None, None) => return Ok(None),
            (Some(text), _) if text != "-" => ("--payload".to_owned(), text.into_encoded_bytes()),
            (None, Some(file)) if file.as_os_str() != "-" => {
                let place = file.display().to_string();
                let bytes = read(&place, File::open(&file))?;
                (place, bytes)
            }
            _ => (STDIN.to_owned(), stdin()?),
        };
        if !self.raw {
            while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                bytes.pop();
            }
            check_json(&bytes).map_err(|error| {
                BadData(format!(
                    "{place}: the payload is not JSON: {error}; --raw takes any bytes as they are"
                ))
            })?;
        }
        Ok(Some(bytes.into()))
    }
}

fn read(place: &str, source: io::Result<impl Read>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_PAYLOAD as u64;
    let read = source.and_then(|source| source.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|error| BadData(format!("{place}: the payload cannot be read: {error}")))?;
    if bytes.len() > MAX_PAYLOAD {
        return Err(BadData(format!("{place}: the payload is longer than {MAX_PAYLOAD} bytes")).into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn given(payload: Option<&[u8]>, file: Option<PathBuf>, raw: bool) -> Result<Option<Bytes>, String> {
        let given = PayloadArgs {
            payload: payload.map(|bytes| OsString::from_vec(bytes.to_vec())),
            payload_file: file,
            raw,
        };
        given.read().map_err(|error| error.to_string())
    }

    #[test]
    fn any_bytes_are_taken_if_they_are_asked_for_and_json_otherwise() {
        assert_eq!(given(None, None, false), Ok(None));
        assert_eq!(given(Some(b"{\"a\": 1}"), None, false), Ok(Some("{\"a\": 1}".into())));
        for bytes in [&b"hello world"[..], b"\x81\xa1a\x01", b"", b"\"\xff\""] {
            let expected = Bytes::copy_from_slice(bytes);
            assert_eq!(given(Some(bytes), None, true), Ok(Some(expected)), "{bytes:?}");
            let error = given(Some(bytes), None, false).unwrap_err();
            let named = error.starts_with("--payload: the payload is not JSON: ") && error.contains("line 1 column ");
            assert!(named && error.contains("--raw"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_whole_and_its_name_is_in_errors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("payload");
        std::fs::write(&file, b"[1,\n2]\r\n\n").unwrap();
        assert_eq!(given(None, Some(file.clone()), false), Ok(Some("[1,\n2]".into())));
        assert_eq!(given(None, Some(file.clone()), true), Ok(Some("[1,\n2]\r\n\n".into())));
        let large = format!("\"{}\"", "x".repeat(5_000_000));
        std::fs::write(&file, &large).unwrap();
        assert_eq!(given(None, Some(file.clone()), false), Ok(Some(large.into())));
        std::fs::write(&file, b"{}\n{}").unwrap();
        let error = given(None, Some(file.clone()), false).unwrap_err();
        let place = format!(
            "{}: the payload is not JSON: trailing characters at line 2 column 1;",
            file.display()
        );
        assert!(error.starts_with(&place), "{error}");
        for unreadable in [dir.path().join("nothing"), dir.path().to_owned()] {
            let error = given(None, Some(unreadable), true).unwrap_err();
            assert!(error.contains("cannot be read"), "{error}");
        }
        assert!(read("x", Ok(io::repeat(b'1').take(10))).is_ok());
    }
}
