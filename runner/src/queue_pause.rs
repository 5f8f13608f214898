//! What is known of the pause of a queue besides that it is paused: who, since when, why, until when; and the loop that ends it.
//!
//! That a queue is paused is the broker's own mark, which programs in Go set and read as well; the rest is a document beside it. A
//! queue that is paused without a document was paused by such a program. Not here: who may pause a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::QueueName;
use runner_queue::{AuditEntry, Broker, BrokerResult, DocumentName, MAX_DOCUMENTS, Pause, QueueInfo};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// The kind of the documents; their names are those of the queues.
const KIND: &str = "queue-pauses";

/// For how long the document of a pause without an end is kept.
const KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// For how long one is kept after the end of its pause: an end that no instance saw in time is still found then.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest pause with an end; beyond it the document would count as one without.
pub const LONGEST_QUEUE_PAUSE: Duration = Duration::from_secs(366 * 24 * 3600);

/// How often ends of pauses are looked for: one command, and one more for each pause that may be over.
const EVERY: Duration = Duration::from_secs(2);

/// A document is left alone for this long, although its queue is not paused: it is written before the pause.
const YOUNG: Duration = Duration::from_secs(30);

/// Pauses that are looked at in one turn.
const MOST: usize = MAX_DOCUMENTS;

/// Pauses a queue, with who, why and until when. Returns whether it was running; if not, the pause has these from now on. Of a queue that was
/// running, what is known of an earlier pause, which another program ended, does not count.
///
/// # Errors
///
/// Those of the broker.
pub async fn hold(broker: &dyn Broker, queue: &QueueName, pause: Pause) -> BrokerResult<bool> {
    let now = broker.now().await?;
    let before = match is_paused(broker, queue).await? {
        true => of(broker, queue).await?,
        false => None,
    };
    let pause = match before.filter(|before| !before.is_over(now)) {
        Some(before) => pause.after(&before),
        None => Pause { at: Some(now), ..pause },
    };
    let kept = match pause.until {
        Some(until) => Duration::try_from(until.duration_since(now)).unwrap_or_default() + KEPT_AFTER_END,
        None => KEPT,
    };
    let body = serde_json::to_vec(&pause).unwrap_or_default();
    // First, so that a pause which is seen has its end.
    broker.keep_document(KIND, queue.as_str(), body, kept).await?;
    broker.pause_queue(queue).await
}

/// Resumes a queue. Returns whether it was paused.
///
/// # Errors
///
/// Those of the broker.
pub async fn release(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<bool> {
    let before = broker.document(KIND, queue.as_str()).await?;
    let was_paused = broker.resume_queue(queue).await?;
    // Another one is of a pause that began meanwhile, and may have its end.
    if broker.document(KIND, queue.as_str()).await? == before {
        broker.drop_document(KIND, queue.as_str()).await?;
    }
    Ok(was_paused)
}

async fn is_paused(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<bool> {
    let found = broker.queues_of(std::slice::from_ref(queue)).await?;
    Ok(found.first().is_some_and(|info| info.paused))
}

/// What is known of the pause of a queue.
///
/// # Errors
///
/// Those of the broker.
pub async fn of(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<Option<Pause>> {
    let body = broker.document(KIND, queue.as_str()).await?;
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

/// The same of several queues, of which the first 64 are looked at.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_many(broker: &dyn Broker, queues: &[QueueName]) -> BrokerResult<BTreeMap<QueueName, Pause>> {
    let names: Vec<String> = queues.iter().take(MOST).map(ToString::to_string).collect();
    let found = broker.documents_named(KIND, &names).await?;
    let read =
        |(name, body): (String, Vec<u8>)| Some((QueueName::new(name).ok()?, serde_json::from_slice(&body).ok()?));
    Ok(found.into_iter().filter_map(read).collect())
}

/// The same of those that are paused.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_paused(broker: &dyn Broker, queues: &[QueueInfo]) -> BrokerResult<BTreeMap<QueueName, Pause>> {
    let paused = queues.iter().filter(|queue| queue.paused);
    let paused: Vec<QueueName> = paused.map(|queue| queue.name.clone()).collect();
    let mut found = BTreeMap::new();
    for some in paused.chunks(MOST) {
        found.extend(of_many(broker, some).await?);
    }
    Ok(found)
}

struct EndOfPauses {
    broker: Arc<dyn Broker>,
    audit: AuditLog,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
}

impl EndOfPauses {
    async fn look(&self) -> BrokerResult<()> {
        let names = self.broker.document_names(KIND, self.clock.now()).await?;
        self.forget(&names).await?;
        self.end(names).await
    }

    /// Drops what is known of pauses that another program ended: its end would end a later pause of that program.
    async fn forget(&self, names: &[DocumentName]) -> BrokerResult<()> {
        let broker = &*self.broker;
        let queues = names.iter().filter_map(|name| QueueName::new(name.name.as_str()).ok());
        let queues: Vec<QueueName> = queues.take(MOST).collect();
        if queues.is_empty() {
            return Ok(());
        }
        let known = broker.queues_of(&queues).await?;
        let paused: BTreeSet<QueueName> = known
            .into_iter()
            .filter(|info| info.paused)
            .map(|info| info.name)
            .collect();
        for queue in queues.iter().filter(|queue| !paused.contains(*queue)) {
            let now = broker.now().await?;
            let is_young = |pause: Pause| pause.at.is_some_and(|at| now.duration_since(at).unsigned_abs() < YOUNG);
            if !of(broker, queue).await?.is_some_and(is_young) {
                broker.drop_document(KIND, queue.as_str()).await?;
            }
        }
        Ok(())
    }

    async fn end(&self, names: Vec<DocumentName>) -> BrokerResult<()> {
        let broker = &*self.broker;
        let now = self.clock.now();
        // The end of a pause is before that of its document; one without an end has none for more than a year.
        let over = |expires: Timestamp| expires.duration_since(now).unsigned_abs() <= KEPT_AFTER_END;
        let due = names.into_iter().filter(|name| over(name.expires)).take(MOST);
        for name in due {
            let Ok(queue) = QueueName::new(name.name) else { continue };
            // As it is now: someone may have given it another end.
            let Some(pause) = of(broker, &queue).await? else {
                continue;
            };
            if !pause.is_over(broker.now().await?) {
                continue;
            }
            if release(broker, &queue).await? {
                tracing::info!(queue = %queue, "the pause of a queue is over");
                self.audit.put(AuditEntry {
                    at: now,
                    by: pause.by.clone(),
                    action: "queue.resume".to_owned(),
                    target: queue.to_string(),
                    note: pause.note.clone(),
                    before: Some(format!("paused, {pause}")),
                    after: Some("running: the pause is over".to_owned()),
                    outcome: "done".to_owned(),
                    ..AuditEntry::default()
                });
            }
        }
        Ok(())
    }
}

#[async_trait]
impl BackgroundLoop for EndOfPauses {
    fn name(&self) -> &'static str {
        "ends of pauses"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        if let Err(error) = self.look().await {
            self.health.failed("end pauses of queues", &error);
        }
        None
    }
}

/// Ends pauses until the stop.
pub fn watch(
    broker: Arc<dyn Broker>,
    (audit, health): (AuditLog, Arc<Health>),
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let ends = EndOfPauses {
        broker,
        audit,
        health,
        clock,
    };
    tokio::spawn(async move { background::run(ends, &Notify::new(), &stop).await });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runner_core::clock::ManualClock;
    use runner_core::task::Task;
    use runner_queue::embedded::EmbeddedBroker;
    use runner_queue::{Actions as _, AuditList as _, InspectQueues as _, Producer as _};

    struct Scene {
        broker: Arc<EmbeddedBroker>,
        clock: Arc<ManualClock>,
        audit: AuditLog,
        ends: EndOfPauses,
        queue: QueueName,
        _dir: tempfile::TempDir,
    }

    impl Scene {
        /// With one task in one queue.
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at("2026-11-22T06:39:12Z".parse().unwrap()));
            let opened = EmbeddedBroker::open(&dir.path().join("a.db"), clock.clone()).await;
            let broker = Arc::new(opened.unwrap());
            let audit = AuditLog::new(Arc::default());
            let ends = EndOfPauses {
                broker: broker.clone(),
                audit: audit.clone(),
                health: Arc::new(Health::new(clock.clone(), Arc::default())),
                clock: clock.clone(),
            };
            let queue = QueueName::new("mail").unwrap();
            broker.enqueue(&[Task::new("t").queue(queue.clone())]).await.unwrap();
            Self {
                broker,
                clock,
                audit,
                ends,
                queue,
                _dir: dir,
            }
        }

        async fn paused(&self) -> bool {
            let found = self.broker.queues_of(std::slice::from_ref(&self.queue)).await;
            found.unwrap()[0].paused
        }
    }

    #[tokio::test]
    async fn a_pause_ends_by_itself_unless_it_got_another_end() {
        let scene = Scene::new().await;
        let (broker, clock, ends, queue) = (&scene.broker, &scene.clock, &scene.ends, scene.queue.clone());
        let start = clock.now();
        let paused = async || scene.paused().await;
        let until = |seconds: i64| Timestamp::from_second(start.as_second() + seconds).ok();
        let of_ann = |seconds| Pause {
            until: until(seconds),
            ..Pause::by("ann").because(Some("stock-taking"))
        };
        assert!(hold(&**broker, &queue, of_ann(60)).await.unwrap());
        clock.advance(Duration::from_secs(30));
        // Another end; since when and why stay.
        let of_bob = Pause {
            until: until(120),
            ..Pause::by("bob")
        };
        assert!(!hold(&**broker, &queue, of_bob).await.unwrap());
        let known = of(&**broker, &queue).await.unwrap().unwrap();
        assert_eq!(
            (known.at, known.note.as_deref(), known.by.as_str()),
            (Some(start), Some("stock-taking"), "bob")
        );
        clock.advance(Duration::from_secs(60));
        ends.look().await.unwrap();
        assert!(paused().await, "its first end does not count any more");
        clock.advance(Duration::from_secs(31));
        ends.look().await.unwrap();
        assert!(!paused().await);
        scene.audit.write(&**broker).await.unwrap();
        let entry = &broker.audit_entries(None, 1).await.unwrap().entries[0].1;
        assert_eq!((entry.action.as_str(), entry.by.as_str()), ("queue.resume", "bob"));
        // One without an end is never ended, and a person's resume forgets it.
        hold(&**broker, &queue, Pause::by("ann")).await.unwrap();
        clock.advance(Duration::from_secs(30 * 24 * 3600));
        ends.look().await.unwrap();
        assert!(paused().await);
        assert!(release(&**broker, &queue).await.unwrap());
        assert_eq!(
            of_many(&**broker, std::slice::from_ref(&queue)).await.unwrap(),
            BTreeMap::new()
        );
    }

    #[tokio::test]
    async fn a_pause_of_another_program_has_no_end() {
        let scene = Scene::new().await;
        let (broker, clock, ends, queue) = (&scene.broker, &scene.clock, &scene.ends, scene.queue.clone());
        let paused = async || scene.paused().await;
        // It resumes the queue, and pauses it again: the end of the first pause does not count for the second.
        let at = |seconds: u64| clock.now().checked_add(Duration::from_secs(seconds)).ok();
        let with_end = Pause {
            until: at(600),
            ..Pause::by("ann")
        };
        hold(&**broker, &queue, with_end.clone()).await.unwrap();
        broker.resume_queue(&queue).await.unwrap();
        ends.look().await.unwrap();
        assert!(
            of(&**broker, &queue).await.unwrap().is_some(),
            "it may be of a pause that begins now"
        );
        clock.advance(Duration::from_secs(31));
        ends.look().await.unwrap();
        assert_eq!(of(&**broker, &queue).await.unwrap(), None);
        broker.pause_queue(&queue).await.unwrap();
        clock.advance(Duration::from_secs(600));
        ends.look().await.unwrap();
        assert!(paused().await);
        // A new pause begins now, whatever is known of one that was ended.
        broker.resume_queue(&queue).await.unwrap();
        hold(&**broker, &queue, with_end).await.unwrap();
        broker.resume_queue(&queue).await.unwrap();
        clock.advance(Duration::from_secs(5));
        hold(&**broker, &queue, Pause::by("bob")).await.unwrap();
        let known = of(&**broker, &queue).await.unwrap().unwrap();
        assert_eq!(
            (known.by.as_str(), known.at, known.until),
            ("bob", Some(clock.now()), None)
        );
    }
}
