//! The manifest files in force, saved outside of the process for a restart while a file is broken.
//!
//! Only the format; not where it is saved nor how a file is read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::version::VersionInForce;
use crate::source::saved_state::SavedText;
use crate::source::state_store::MAX_KEPT;

/// The saved files.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedFiles {
    /// When they were saved.
    pub at: Timestamp,
    /// In the order of their paths.
    pub files: Vec<SavedFile>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedFile {
    /// Relative to the directory, as shown to people.
    pub path: String,
    /// When this version came into force, as RFC 3339.
    pub since: String,
    /// The text as read; parsed again under the settings of the next start.
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

    /// Equal as long as the same texts are in force.
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

    /// As JSON of at most [`MAX_KEPT`] bytes; files that do not fit are left out.
    #[must_use]
    pub fn body(&self, at: Timestamp) -> SavedText {
        // The part around the files.
        let mut room = MAX_KEPT - 1024;
        let mut saved = Vec::new();
        for (path, good) in &self.files {
            let file = SavedFile {
                path: (*path).to_owned(),
                since: good.since.clone(),
                text: good.text.clone(),
            };
            // A comma separates two files.
            let size = serde_json::to_string(&file).map_or(usize::MAX, |text| text.len() + 1);
            if size <= room {
                room -= size;
                saved.push(file);
            }
        }
        let left_out = self.files.len() - saved.len();
        let bytes = serde_json::to_vec(&SavedFiles { at, files: saved }).unwrap_or_default();
        SavedText { bytes, left_out }
    }
}
