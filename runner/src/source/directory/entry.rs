//! One entry of the manifest directory: whether its name is that of a manifest, and its content. Knows neither YAML nor
//! the other entries.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::text::yaml::MAX_BYTES;

/// A fingerprint of a file's content.
pub type Hash = [u8; 32];

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Of the content, or of the reason why it is missing.
    pub hash: Hash,
    /// The text, or code and reason.
    pub content: Result<String, (&'static str, String)>,
}

impl FileContent {
    /// A text.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self {
            hash: Sha256::digest(&text).into(),
            content: Ok(text),
        }
    }

    /// An unusable file with the reason.
    #[must_use]
    pub fn unusable(code: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            hash: Sha256::digest(&reason).into(),
            content: Err((code, reason)),
        }
    }
}

/// A name for display. Two names never look the same: bytes that are not UTF-8 appear as `\xff`, and a backslash twice.
#[must_use]
pub fn shown(name: &OsStr) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Whether an entry is ignored whatever it is: hidden, or an editor's leftover.
#[must_use]
pub fn is_passed_over(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with(['~', '#'])
}

/// `*.yaml` and `*.yml`, in any case, except editors' leftovers.
#[must_use]
pub fn is_manifest(name: &str) -> bool {
    !is_passed_over(name) && has_suffix(name, &[".yaml", ".yml"])
}

/// Whether an ignored file looks like a manifest: with a wrong suffix, by mistake or from an editor. `a.yaml.bak` and
/// `a.yaml.disabled` are ignored on purpose.
#[must_use]
pub fn looks_like_manifest(name: &str) -> bool {
    const MISTAKEN: [&str; 7] = [".json", ".yaml.txt", ".yml.txt", ".ymal", ".yalm", ".yamll", ".yam"];
    !is_passed_over(name) && !is_manifest(name) && has_suffix(name, &MISTAKEN)
}

fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| {
        let at = name.len().checked_sub(suffix.len());
        at.and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    })
}

/// Reads a file that is not a link; `None` if it is gone.
#[must_use]
pub fn read(path: &Path) -> Option<FileContent> {
    match text_of(path) {
        Ok(text) => Some(FileContent::text(text)),
        Err(Unread::Gone) => None,
        Err(Unread::Because(code, reason)) => Some(FileContent::unusable(code, reason)),
    }
}

enum Unread {
    Gone,
    Because(&'static str, String),
}

fn text_of(path: &Path) -> Result<String, Unread> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Gone,
        _ => Unread::Because("E106", describe(&error)),
    };
    let irregular = || Unread::Because("E106", "not a regular file".to_owned());
    // Opening a device may have side effects, so check the type before.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(irregular());
    }
    // The file may have become a pipe since; without this flag opening would block.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(irregular());
    }
    let bytes = bytes_of(file, meta.len()).map_err(failed)?;
    let bytes = bytes.map_err(|size| {
        let text = format!("the file is {size} bytes; at most {MAX_BYTES} are read");
        Unread::Because("E104", text)
    })?;
    decode(bytes).map_err(|reason| Unread::Because("E105", reason))
}

/// The bytes, or their number if there are too many.
fn bytes_of(file: File, size: u64) -> io::Result<Result<Vec<u8>, u64>> {
    if size > MAX_BYTES as u64 {
        return Ok(Err(size));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(match bytes.len() {
        size if size > MAX_BYTES => Err(size as u64),
        _ => Ok(bytes),
    })
}

/// An error of the system, in words.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ if error.raw_os_error() == Some(nix::libc::ELOOP) => "too many links".to_owned(),
        _ => error.to_string(),
    }
}

fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("the file is UTF-16; save it as UTF-8".to_owned());
    }
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return Err(format!("the file holds a NUL byte at offset {at}; it is not text"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the file is not UTF-8 from byte {at} on; save it as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinguished_and_suffixes_match_in_any_case() {
        for name in ["a.yaml", "a.yml", "A.YAML", "UPPER.YML", "a.Yaml"] {
            assert!(is_manifest(name) && !looks_like_manifest(name), "{name}");
        }
        for name in ["a.json", "a.yaml.txt", "a.YML.TXT", "a.ymal"] {
            assert!(!is_manifest(name) && looks_like_manifest(name), "{name}");
        }
        for name in [
            "a.yaml.bak",
            "a.yaml.disabled",
            ".a.yaml",
            "#a.yaml#",
            "a.yaml~",
            ".a.json",
            "notes.txt",
            "yaml",
            "",
        ] {
            assert!(!is_manifest(name) && !looks_like_manifest(name), "{name}");
        }
    }

    #[test]
    fn two_names_that_are_not_utf_8_stay_two() {
        let names: [&[u8]; 4] = [b"a\xff.yaml", b"a\xfe.yaml", b"a\\xff.yaml", "\u{4e2d}.yaml".as_bytes()];
        let all = names.map(|name| shown(OsStr::from_bytes(name)));
        assert_eq!(all, ["a\\xff.yaml", "a\\xfe.yaml", "a\\\\xff.yaml", "\u{4e2d}.yaml"]);
    }
}
