//! What a run leaves beside its result: how far it is, and files.

use bytes::Bytes;

/// Maximum number of files that one run may leave.
pub const MAX_ARTIFACTS: usize = 16;

/// Maximum bytes of all of them together: they are kept in the store of the tasks, which is no place for archives.
pub const MAX_ARTIFACT_BYTES: usize = 4 * 1024 * 1024;

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub done: f64,
    /// In a few words; may be empty.
    pub note: String,
}

/// A file that a run leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// A plain file name.
    pub name: String,
    /// Its content.
    pub content: Bytes,
}

/// Both, of one run.
#[derive(Debug, Default)]
pub(crate) struct SideResults {
    pub(crate) progress: Option<Progress>,
    pub(crate) artifacts: Vec<Artifact>,
}

impl SideResults {
    /// Whether there was room.
    pub(crate) fn add(&mut self, artifact: Artifact) -> bool {
        let bytes: usize = self.artifacts.iter().map(|a| a.content.len()).sum();
        let fits = self.artifacts.len() < MAX_ARTIFACTS && bytes + artifact.content.len() <= MAX_ARTIFACT_BYTES;
        if fits {
            self.artifacts.push(artifact);
        }
        fits
    }
}
