//! Runs the statements of a function in one transaction, over a connection that the settings name.
//!
//! Statements are text of a manifest. Values of a payload are bound as parameters and never become part of one.

mod settings;

#[cfg(feature = "sql")]
mod failure;
#[cfg(feature = "sql")]
mod mysql;
#[cfg(feature = "sql")]
mod postgres;
#[cfg(feature = "sql")]
mod postgres_types;
#[cfg(feature = "sql")]
mod rows;
#[cfg(feature = "sql")]
mod session;
#[cfg(feature = "sql")]
mod sqlite;
#[cfg(feature = "sql")]
mod statement;
#[cfg(feature = "sql")]
mod transaction;

pub use settings::{SqlConnection, SqlConnections};

#[cfg(feature = "sql")]
pub(crate) use transaction::run;

use runner_core::function::SqlSpec;

/// Programs without the feature `sql` leave such tasks to others.
#[cfg(not(feature = "sql"))]
pub(crate) async fn run(
    _: &SqlSpec,
    function: &str,
    _: &SqlConnections,
    _: &runner_sdk::Ctx,
) -> Result<runner_sdk::Outcome, runner_sdk::TaskError> {
    Err(runner_sdk::TaskError::retry(format!(
        "function `{function}` runs SQL, which this program is built without"
    )))
}

/// Whether this worker has the connection of a function.
pub(crate) fn runs(spec: &SqlSpec, connections: &SqlConnections) -> bool {
    cfg!(feature = "sql") && connections.contains_key(&spec.connection)
}
