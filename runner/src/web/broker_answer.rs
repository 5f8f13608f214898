//! One question to the broker for all probes that come at the same time. What a probe makes of the answer is in
//! `probe`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runner_queue::BrokerResult;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long the broker may take to answer, and how long a probe waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer of the broker is valid: however many clients ask at once, the broker is asked ten times a second.
const VALID_FOR: Duration = Duration::from_millis(100);

/// What the broker answered when it was asked for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BrokerAnswer {
    Given,
    Failed { code: &'static str, why: String },
    Late,
}

/// One question to the broker; `None` until it is answered.
type Question = watch::Receiver<Option<(Instant, BrokerAnswer)>>;

/// The last question to the broker, shared by all requests that need an answer at the same time. Hence `/readyz` needs
/// no limit on concurrent requests, which clients could use up for each other.
#[derive(Default)]
pub(super) struct BrokerAnswerCache(Mutex<Option<Question>>);

impl BrokerAnswerCache {
    /// The answer to the last question while it is valid or awaited, else to a new one: `call`.
    pub(super) async fn get<T>(&self, call: impl Future<Output = BrokerResult<T>> + Send + 'static) -> BrokerAnswer {
        let mut question = self.question(call);
        match timeout(PATIENCE, question.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.as_ref().map_or(BrokerAnswer::Late, |(_, answer)| answer.clone()),
            Ok(Err(_)) | Err(_) => BrokerAnswer::Late,
        }
    }

    fn question<T>(&self, call: impl Future<Output = BrokerResult<T>> + Send + 'static) -> Question {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = last.as_ref().filter(|question| is_usable(question)) {
            return question.clone();
        }
        let (answer, question) = watch::channel(None);
        // In a task of its own: a client that gives up must not end the question for the others.
        tokio::spawn(async move {
            let found = answer_of(call).await;
            answer.send_replace(Some((Instant::now(), found)));
        });
        *last = Some(question.clone());
        question
    }
}

/// Whether the broker is still being asked, or answered a moment ago.
fn is_usable(question: &Question) -> bool {
    // An error: the task that asks is gone.
    let asking = question.has_changed().is_ok();
    let answered = question.borrow();
    answered.as_ref().map_or(asking, |(at, _)| at.elapsed() < VALID_FOR)
}

async fn answer_of<T>(call: impl Future<Output = BrokerResult<T>>) -> BrokerAnswer {
    match timeout(PATIENCE, call).await {
        Ok(Ok(_)) => BrokerAnswer::Given,
        Ok(Err(error)) => BrokerAnswer::Failed {
            code: error.code(),
            why: runner_core::chain::chain(&error).to_string(),
        },
        Err(_) => BrokerAnswer::Late,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn answered(at: Instant, answer: BrokerAnswer) -> BrokerAnswerCache {
        let (_answer, question) = watch::channel(Some((at, answer)));
        BrokerAnswerCache(Mutex::new(Some(question)))
    }

    #[tokio::test]
    async fn an_answer_is_shared_until_it_is_old() {
        // A clock that does not reach this instant during the test.
        let later = Instant::now() + Duration::from_secs(3600);
        let cache = answered(later, BrokerAnswer::Late);
        assert_eq!(
            cache.get(ready(Ok(()))).await,
            BrokerAnswer::Late,
            "the broker is not asked"
        );

        let earlier = Instant::now().checked_sub(VALID_FOR).unwrap();
        let cache = answered(earlier, BrokerAnswer::Late);
        assert_eq!(cache.get(ready(Ok(()))).await, BrokerAnswer::Given);
    }

    #[tokio::test]
    async fn a_client_that_gives_up_does_not_end_the_question() {
        let cache = BrokerAnswerCache::default();
        let (give, given) = oneshot::channel::<()>();
        let call = async move {
            given.await.unwrap();
            Ok(())
        };
        assert_eq!(cache.get(call).now_or_never(), None);
        give.send(()).unwrap();
        let own = pending::<BrokerResult<()>>();
        assert_eq!(
            cache.get(own).await,
            BrokerAnswer::Given,
            "the first question is still asked"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_waits_for_a_bounded_time() {
        let cache = BrokerAnswerCache::default();
        let began = Instant::now();
        assert_eq!(cache.get(pending::<BrokerResult<()>>()).await, BrokerAnswer::Late);
        assert!(began.elapsed() < PATIENCE * 2);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_asked_again() {
        let (gone, question) = watch::channel(None);
        drop(gone);
        let cache = BrokerAnswerCache(Mutex::new(Some(question)));
        assert_eq!(cache.get(ready(Ok(()))).await, BrokerAnswer::Given);
    }
}
