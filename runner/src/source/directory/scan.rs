//! One look at the manifest directory: which files count, and what is in them. Knows nothing of YAML.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::text::yaml::MAX_BYTES;

/// The deepest directory below the manifest directory; also ends loops.
const MAX_DEPTH: usize = 8;

/// The most files that are read; at a page of memory each a bound nobody meets by hand.
const MAX_FILES: usize = 10_000;

/// A fingerprint of a file's content.
pub type Hash = [u8; 32];

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of the content, or of the reason why there is none.
    pub hash: Hash,
    /// The text, or code and reason.
    pub content: Result<String, (&'static str, String)>,
}

/// Files by their path below the directory.
pub type Snapshot = BTreeMap<String, Found>;

/// Reads every manifest below `dir`.
///
/// # Errors
///
/// Why the directory cannot be read as a whole. A file that cannot be read is an entry of its own.
pub fn scan(dir: &Path) -> Result<Snapshot, String> {
    let root = fs::canonicalize(dir).map_err(|e| explain(dir, &e))?;
    let mut snapshot = Snapshot::new();
    walk(&root, &root, 0, &mut snapshot)?;
    Ok(snapshot)
}

/// Reads one file by its path, as `scan` would.
#[must_use]
pub fn read_one(path: &Path) -> Option<Found> {
    read(path, None)
}

fn explain(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        io::ErrorKind::NotADirectory => format!("{} is not a directory", path.display()),
        io::ErrorKind::PermissionDenied => format!("{}: permission denied", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

fn walk(root: &Path, dir: &Path, depth: usize, snapshot: &mut Snapshot) -> Result<(), String> {
    let listing = fs::read_dir(dir).map_err(|e| explain(dir, &e))?;
    for entry in listing {
        // A listing that breaks off must not look like files that were deleted.
        let entry = entry.map_err(|e| explain(dir, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_dir {
            if depth < MAX_DEPTH {
                walk(root, &path, depth + 1, snapshot)?;
            }
        } else if is_manifest(&name)
            && let Some(found) = read(&path, Some(root))
        {
            if snapshot.len() == MAX_FILES {
                return Err(format!("{} holds more than {MAX_FILES} manifests", root.display()));
            }
            let below = path.strip_prefix(root).unwrap_or(&path);
            snapshot.insert(below.to_string_lossy().into_owned(), found);
        }
    }
    Ok(())
}

/// `*.yaml` and `*.yml`, but nothing that editors leave lying about.
#[must_use]
pub fn is_manifest(name: &str) -> bool {
    let temporary = name.starts_with(['.', '#']) || name.ends_with(['~', '#']);
    !temporary && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// `None` if the file is gone.
fn read(path: &Path, root: Option<&Path>) -> Option<Found> {
    match read_text(path, root) {
        Ok(text) => Some(Found {
            hash: Sha256::digest(&text).into(),
            content: Ok(text),
        }),
        Err(Unreadable::Gone) => None,
        Err(Unreadable::Because(code, reason)) => Some(Found {
            hash: Sha256::digest(&reason).into(),
            content: Err((code, reason)),
        }),
    }
}

enum Unreadable {
    Gone,
    Because(&'static str, String),
}

fn read_text(path: &Path, root: Option<&Path>) -> Result<String, Unreadable> {
    let because = |reason: String| Unreadable::Because("E106", reason);
    let failed = |error: io::Error| because(describe(&error));
    let target = resolve(path)?;
    if root.is_some_and(|root| !target.starts_with(root)) {
        return Err(because("the link leads outside the manifest directory".to_owned()));
    }
    let meta = fs::metadata(&target).map_err(failed)?;
    if !meta.is_file() {
        // Never opened: a pipe would block for ever.
        return Err(because("not a regular file".to_owned()));
    }
    let too_large = |size: u64| {
        let text = format!("the file is {size} bytes; at most {MAX_BYTES} are read");
        Unreadable::Because("E104", text)
    };
    if meta.len() > MAX_BYTES as u64 {
        return Err(too_large(meta.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(&target).map_err(failed)?;
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    decode(bytes).map_err(|reason| Unreadable::Because("E105", reason))
}

fn resolve(path: &Path) -> Result<PathBuf, Unreadable> {
    fs::canonicalize(path).map_err(|error| {
        let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        match error.kind() {
            io::ErrorKind::NotFound if is_link => {
                Unreadable::Because("E106", "the link's target is missing".to_owned())
            }
            io::ErrorKind::NotFound => Unreadable::Gone,
            _ => Unreadable::Because("E106", describe(&error)),
        }
    })
}

fn describe(error: &io::Error) -> String {
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
        return Err(format!("the file holds a NUL byte at offset {at}; it is no text"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the file is not UTF-8 from byte {at} on; save it as UTF-8")
    })
}
