//! Work that continues elsewhere: a run waits for a report of its end, which arrives with a token at
//! `POST /queue/api/tasks/ID/complete`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{Outcome, Services};

/// How often the store is asked for the report.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A report that is awaited. Dropping it does not forget the token, which expires by itself.
#[derive(Debug)]
pub struct Callback {
    token: String,
    services: Arc<dyn Services>,
}

impl Callback {
    pub(crate) fn new(token: String, services: Arc<dyn Services>) -> Self {
        Self { token, services }
    }

    /// What the report must carry. A secret: who has it can end the run.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Waits for the report, as long as the attempt may take: select on [`Ctx::cancelled`](crate::Ctx::cancelled) beside it.
    /// While the store cannot be asked, it is asked again.
    pub async fn reported(&self) -> Outcome {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Ok(Some(outcome)) = self.services.reported(&self.token).await {
                return outcome;
            }
        }
    }

    /// Stops waiting: no report counts any more, except one that has arrived already, which is returned.
    pub async fn close(self) -> Option<Outcome> {
        // If the store cannot be asked, the token expires by itself.
        self.services.close_report(&self.token).await.ok().flatten()
    }
}
