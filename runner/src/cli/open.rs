//! Opens the configured broker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use runner_core::clock::Clock;
use runner_queue::redis::RedisBroker;
use runner_queue::{Broker, BrokerError, Presence};
use tempfile::TempDir;

use super::exit::{BadStore, Unavailable};
use super::{file_store, hint, print, store_users};
use crate::config::{BrokerSettings, Settings};
use crate::health;

/// How long a command waits for the first answer of a broker; a person is watching.
const ANSWER: Duration = Duration::from_secs(10);

/// Opens the broker. Redis need not answer yet: what is opened connects when it is used.
///
/// # Errors
///
/// When the file of the embedded broker cannot be used, or the address of Redis is invalid.
pub async fn open_broker(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Broker>> {
    match &settings.broker {
        BrokerSettings::Embedded { path } => embedded(path, clock).await,
        BrokerSettings::Redis(redis) => {
            let broker = RedisBroker::lazy(redis).map_err(|error| {
                let hint = hint::hint(redis, settings.redis_in_url, &error);
                BadStore(format!("redis ({hint}): {}", runner_core::chain::chain(&error)))
            })?;
            Ok(Arc::new(broker))
        }
    }
}

/// The store in this file.
pub(super) async fn embedded(path: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Broker>> {
    let broker = file_store::open(path, clock).await;
    broker.map_err(|error| {
        let named = format!("cannot use {} ({})", path.display(), hint_of_file(&error));
        anyhow::Error::new(error).context(named)
    })
}

/// What to check when the store of the embedded broker cannot be used.
const WRITABLE: &str = "is the directory writable? data.dir says where it is";

/// The same, by cause.
fn hint_of_file(error: &BrokerError) -> String {
    match health::help(error.code()) {
        Some(help) => format!("{}: {help}", error.code()),
        None => WRITABLE.to_owned(),
    }
}

/// What to check when a broker answers with an error, or not at all.
pub(super) fn hint(settings: &Settings, error: Option<&BrokerError>) -> String {
    match (&settings.broker, error) {
        (BrokerSettings::Embedded { .. }, Some(error)) => hint_of_file(error),
        (BrokerSettings::Embedded { .. }, None) => WRITABLE.to_owned(),
        (BrokerSettings::Redis(redis), Some(error)) => hint::hint(redis, settings.redis_in_url, error),
        (BrokerSettings::Redis(redis), None) => hint::is_it_running(redis, settings.redis_in_url),
    }
}

/// Like [`reach`], for a command that only reads: where there is no store, it reads an empty one that is deleted
/// afterwards.
///
/// # Errors
///
/// When the broker does not answer, or no temporary store can be created.
pub async fn look(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<(Arc<dyn Broker>, Option<TempDir>)> {
    let missing = match &settings.broker {
        BrokerSettings::Embedded { path } => {
            Some(path).filter(|path| !path.exists() && store_users::other_file(path).is_none())
        }
        BrokerSettings::Redis(_) => None,
    };
    let Some(path) = missing else {
        return Ok((reach(settings, clock).await?, None));
    };
    print::note(&format!("note: {}", no_store(settings, path)));
    let empty = TempDir::new().context("no directory for an empty store")?;
    let broker = embedded(&empty.path().join("runner.db"), clock).await?;
    Ok((broker, Some(empty)))
}

/// Says that there is no store where the settings expect it, and whether there is a settings file: in a wrong directory
/// a command looks in the wrong place.
pub(super) fn no_store(settings: &Settings, path: &Path) -> String {
    let (place, defaults) = (full(path), of_defaults(settings));
    format!("no runner has run here yet; there is no store at {place}{defaults}")
}

fn full(path: &Path) -> String {
    let place = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    place.display().to_string()
}

fn of_defaults(settings: &Settings) -> &'static str {
    match settings.origin {
        Some(_) => "",
        None => "; no configuration file was found (-c FILE names one)",
    }
}

/// A note if there is no settings file and no worker runs on the default store: probably another store was
/// meant, and tasks would wait in this one.
async fn doubt_store(settings: &Settings, broker: &dyn Presence) {
    let BrokerSettings::Embedded { path } = &settings.broker else {
        return;
    };
    if settings.origin.is_none() && broker.servers().await.is_ok_and(|servers| servers.is_empty()) {
        print::note(&format!(
            "note: no worker runs on the store {}{}",
            full(path),
            of_defaults(settings)
        ));
    }
}

/// Opens the broker for one command: it must answer now.
///
/// # Errors
///
/// When it does not.
pub async fn reach(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Broker>> {
    if let BrokerSettings::Embedded { path } = &settings.broker
        && let Some(pid) = store_users::other_file(path)
    {
        let why = format!(
            "broker_replaced: {} was removed or replaced while process {pid} has it open, and that process would not run \
             what is put there now; put the file back, or end the process first",
            path.display()
        );
        return Err(anyhow::Error::new(Unavailable).context(why));
    }
    let made = match &settings.broker {
        BrokerSettings::Embedded { path } if !path.exists() => Some(path),
        _ => None,
    };
    let broker = open_broker(settings, clock).await?;
    if let Some(path) = made {
        let (place, defaults) = (full(path), of_defaults(settings));
        print::note(&format!(
            "note: no runner has run here yet; a new store was made: {place}{defaults}"
        ));
    }
    let named = |error: Option<&BrokerError>| format!("cannot use {} ({})", broker.describe(), hint(settings, error));
    match tokio::time::timeout(ANSWER, broker.now()).await {
        Ok(Ok(_)) => {
            if made.is_none() {
                doubt_store(settings, &*broker).await;
            }
            Ok(broker)
        }
        Ok(Err(error)) => {
            let named = named(Some(&error));
            Err(anyhow::Error::new(error).context(named))
        }
        Err(_) => {
            let late = anyhow::Error::new(Unavailable).context(format!("no answer within {} s", ANSWER.as_secs()));
            Err(late.context(named(None)))
        }
    }
}
