//! Which broker a text means, and opening it. Not here: settings of `config.yaml`, which `runner` reads.

use std::path::Path;
use std::sync::Arc;

use runner_queue::{Broker, BrokerError};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be read. Never quotes it: it may hold a password.
    #[error("the URL of Redis cannot be used: {0}")]
    Url(String),
    /// There is no file at this path.
    #[error(
        "there is no store at {0}: a runner makes it at its first start, in its data directory (`Client::create` makes an empty one)"
    )]
    NoStore(String),
    /// The program was built without support for this broker.
    #[error("this program has no support for {what}: build `runner-client` with the feature `{feature}`")]
    NotBuilt {
        /// The kind of broker.
        what: &'static str,
        /// The feature of Cargo that is missing.
        feature: &'static str,
    },
    /// The broker does not answer, or refuses.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Opens what `place` names: a URL with `://`, or the path of a file.
pub(crate) async fn open(place: &str) -> Result<Arc<dyn Broker>, ConnectError> {
    if place.contains("://") {
        return redis(place).await;
    }
    if Path::new(place).is_file() {
        return file(Path::new(place)).await;
    }
    match cfg!(feature = "embedded") {
        true => Err(ConnectError::NoStore(place.to_owned())),
        false => file(Path::new(place)).await,
    }
}

#[cfg(feature = "redis")]
async fn redis(url: &str) -> Result<Arc<dyn Broker>, ConnectError> {
    use runner_queue::redis::{RedisBroker, RedisSettings};

    let settings = RedisSettings::from_url(url).map_err(ConnectError::Url)?;
    Ok(Arc::new(RedisBroker::connect(settings).await?))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: &str) -> Result<Arc<dyn Broker>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: "Redis",
        feature: "redis",
    })
}

#[cfg(feature = "embedded")]
pub(crate) async fn file(path: &Path) -> Result<Arc<dyn Broker>, ConnectError> {
    use runner_core::clock::SystemClock;
    use runner_queue::embedded::EmbeddedBroker;

    Ok(Arc::new(EmbeddedBroker::open(path, Arc::new(SystemClock)).await?))
}

#[cfg(not(feature = "embedded"))]
pub(crate) async fn file(_: &Path) -> Result<Arc<dyn Broker>, ConnectError> {
    Err(ConnectError::NotBuilt {
        what: "a store in a file",
        feature: "embedded",
    })
}
