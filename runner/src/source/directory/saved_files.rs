//! The manifest files that are in force, kept outside of the process: what a restart needs when a file is broken by then.
//!
//! Only what is written; neither where it is kept nor how a file is read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::VersionInForce;
use crate::source::saved_state::SavedText;
use crate::source::state_store::MAX_KEPT;

/// Files that were in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedFiles {
    /// When that was so.
    pub at: Timestamp,
    /// In the order of the paths.
    pub files: Vec<SavedFile>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedFile {
    /// Below the directory, as people are shown it.
    pub path: String,
    /// Since when this version was in force, as RFC 3339.
    pub since: String,
    /// As it was read; it is read again, under the settings of then.
    pub text: String,
}

/// The files in force, by path.
pub struct FilesToSave<'f> {
    files: Vec<(&'f str, &'f VersionInForce)>,
}

impl<'f> FilesToSave<'f> {
    /// These, in the order of the paths.
    pub fn of(files: impl Iterator<Item = (&'f str, &'f VersionInForce)>) -> Self {
        Self { files: files.collect() }
    }

    /// The same as long as the same texts are in force.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Sha256::new();
        for (path, good) in &self.files {
            digest.update(path.as_bytes());
            digest.update([0]);
            digest.update(good.hash());
        }
        let first = digest.finalize().first_chunk::<8>().copied();
        first.map(u64::from_be_bytes).unwrap_or_default()
    }

    /// As JSON of at most [`MAX_KEPT`] bytes; files that have no room are left out.
    #[must_use]
    pub fn body(&self, at: Timestamp) -> SavedText {
        // What stands around the files.
        let mut room = MAX_KEPT - 1024;
        let mut kept = Vec::new();
        for (path, good) in &self.files {
            let file = SavedFile {
                path: (*path).to_owned(),
                since: good.since.clone(),
                text: good.text.clone(),
            };
            // A comma stands between two.
            let size = serde_json::to_string(&file).map_or(usize::MAX, |text| text.len() + 1);
            if size <= room {
                room -= size;
                kept.push(file);
            }
        }
        let left_out = self.files.len() - kept.len();
        let bytes = serde_json::to_vec(&SavedFiles { at, files: kept }).unwrap_or_default();
        SavedText { bytes, left_out }
    }
}
