//! The embedded broker for commands and wiring, or what is said in its place by a program that was built without it.

use std::path::Path;
use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::{Broker, BrokerResult};

#[cfg(feature = "embedded")]
pub(super) use runner_queue::embedded::make_file;

/// Opens the store in this file.
#[cfg(feature = "embedded")]
pub(super) async fn open(path: &Path, clock: Arc<dyn Clock>) -> BrokerResult<Arc<dyn Broker>> {
    Ok(Arc::new(
        runner_queue::embedded::EmbeddedBroker::open(path, clock).await?,
    ))
}

/// Rewrites the file without gaps.
#[cfg(feature = "embedded")]
pub(super) async fn compact(path: &Path, clock: Arc<dyn Clock>) -> BrokerResult<()> {
    runner_queue::embedded::EmbeddedBroker::open(path, clock)
        .await?
        .compact()
        .await
}

#[cfg(not(feature = "embedded"))]
const NOT_BUILT: &str =
    "this program was built without the feature `embedded`; name a Redis in the settings (redis.host or redis.url)";

#[cfg(not(feature = "embedded"))]
fn not_built<T>(doing: &'static str) -> BrokerResult<T> {
    let source = NOT_BUILT.into();
    Err(runner_queue::BrokerError::Refused { doing, source })
}

#[cfg(not(feature = "embedded"))]
pub(super) async fn open(_: &Path, _: Arc<dyn Clock>) -> BrokerResult<Arc<dyn Broker>> {
    not_built("open its file")
}

#[cfg(not(feature = "embedded"))]
pub(super) async fn compact(_: &Path, _: Arc<dyn Clock>) -> BrokerResult<()> {
    not_built("rewrite its file")
}

#[cfg(not(feature = "embedded"))]
pub(super) fn make_file(_: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other(NOT_BUILT))
}
