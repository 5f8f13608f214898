//! Operations: one action on all tasks that match, in the background, part by part, with progress, cancel and a report.
//!
//! An operation is a document in the broker, so that it outlives the browser that asked for it and the process that carries it
//! out. Not here: pages, and what one may do.

mod document;
mod filter;
mod service;
mod work;

pub use document::{MAX_NOTE, Operation, OperationEnd, OperationVerb, cancel, create, find, list};
pub use filter::TaskChoice;
pub use service::{OperationParts, Operations, watch};
pub use work::{MAX_CHUNK, OperationWork, ProgressReport};
