//! Where schedules come from: the manifest directory, the table, code. I/O that yields definitions and problems.
//!
//! This room fires nothing, and an error in a source never stops the program: what cannot be
//! read keeps its last known version, and is reported.

mod after;
mod calls;
mod catalog;
mod code;
mod directory;
mod function_check;
mod manifest;
mod merged_log;
mod saved_state;
mod settings;
mod shared;
mod state_store;
mod status;
mod table;
mod types;
mod warnings;

#[cfg(test)]
mod tests;

pub use calls::{BAD_PAYLOAD, drop_triggered, not_served as by_hand_not_served};
pub use catalog::{Catalog, Loaded};
pub use code::{Code, Schedule};
pub use directory::{ALL_FILES_GONE, Checked, check_paths};
pub use function_check::FunctionCheck;
pub use manifest::{NO_SEMAPHORE, ScheduleContext};
pub use settings::{
    DEFAULT_MASS_DELETE, DatabaseLogin, DatabaseServer, ManifestSettings, SourceSettings, TableSettings,
};
pub use shared::{Taken, Triggers};
pub use state_store::{StateStore, StateStoreError};
pub use status::{LAST_GOOD, Rejected, SourceState, SourceStatus};
pub use table::{
    CheckedFields, EditError, EditableRow, RowEdit, RowEditor, RowField, RowFields, TableError, WriteError, migrate,
};
pub use types::TypeOptions;
