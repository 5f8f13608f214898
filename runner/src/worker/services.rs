//! What handlers may ask of this worker: to enqueue further tasks, into the broker that theirs came from.

use std::fmt;
use std::sync::Arc;

use runner_core::chain::chain;
use runner_core::task::Task;
use runner_queue::{Broker, Refusal};
use runner_sdk::{BoxFuture, EnqueueAnswers, NotEnqueued, Services};

/// The broker, for handlers.
pub(super) struct BrokerServices(pub Arc<dyn Broker>);

impl fmt::Debug for BrokerServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokerServices").field(&self.0.describe()).finish()
    }
}

impl Services for BrokerServices {
    fn enqueue(&self, tasks: Vec<Task>) -> BoxFuture<'_, EnqueueAnswers> {
        Box::pin(async move {
            let answers = self.0.enqueue(&tasks).await;
            let answers = answers.map_err(|error| NotEnqueued::Unavailable(chain(&error)))?;
            Ok(answers
                .into_iter()
                .map(|answer| answer.map(|enqueued| enqueued.id).map_err(refused))
                .collect())
        })
    }
}

fn refused(refusal: Refusal) -> NotEnqueued {
    match refusal {
        Refusal::Duplicate | Refusal::IdTaken | Refusal::Received => NotEnqueued::Duplicate,
        Refusal::Invalid(why) => NotEnqueued::Invalid(why),
    }
}
