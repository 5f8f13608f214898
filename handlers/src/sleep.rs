//! `sleep`: waits, and stops when asked to. For trying out time limits, cancelling and shutdown.

use std::time::Duration;

use runner_core::duration;
use runner_sdk::{Ctx, Payload, TaskError};
use serde::Deserialize;

use crate::stopped::stopped;

/// The longest sleep: longer than any sensible time limit, shorter than a typing error.
const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The length: `1.5`, `"1m30s"`, `{"seconds": 1.5}` or `{"duration": "1m30s"}`.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected seconds, a duration such as \"1m30s\", or {\"seconds\": 1.5}"
)]
pub(crate) enum SleepTime {
    Seconds(f64),
    Text(String),
    #[serde(rename_all = "snake_case")]
    BySeconds {
        seconds: f64,
    },
    ByText {
        duration: String,
    },
}

impl SleepTime {
    fn length(&self) -> Result<Duration, TaskError> {
        let length = match self {
            Self::Seconds(s) | Self::BySeconds { seconds: s } => {
                Duration::try_from_secs_f64(*s).map_err(|e| TaskError::skip(format!("{s} s: {e}")))?
            }
            Self::Text(text) | Self::ByText { duration: text } => {
                duration::parse(text.trim()).map_err(TaskError::skip)?
            }
        };
        if length > MAX {
            return Err(TaskError::skip("a sleep may last 7d at most"));
        }
        Ok(length)
    }
}

/// Sleeps, unless stopped first.
#[allow(clippy::disallowed_methods)] // waiting is what it is for
pub(crate) async fn sleep(Payload(nap): Payload<SleepTime>, cx: Ctx) -> Result<(), TaskError> {
    tokio::select! {
        reason = cx.cancelled() => Err(stopped(reason, &cx)),
        () = tokio::time::sleep(nap.length()?) => Ok(()),
    }
}
