//! The scheduler over the embedded store, by a clock that the test moves: what a turn decides, counts and logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::sync::Mutex;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::clock::ManualClock;
use runner_core::cron::DstRule;
use runner_core::schedule::{CatchUp, CatchUpPolicy, Definition, Origin, Overlap, ScheduleId, Source, Timing};
use runner_core::task::Task;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{Decision, DecisionKind, Schedules};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// 2030-01-02 03:04:05 UTC.
const START: i64 = 1_893_553_445;

struct Scene {
    broker: Arc<EmbeddedBroker>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    plan: watch::Sender<Arc<Plan>>,
    lines: Lines,
    _logged: tracing::subscriber::DefaultGuard,
    _dir: tempfile::TempDir,
}

/// What was logged, for tests on one thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(word));
        lines.map(ToOwned::to_owned).collect()
    }
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()));
        let broker = EmbeddedBroker::open(&dir.path().join("q.db"), clock.clone()).await;
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .finish();
        Self {
            broker: Arc::new(broker.unwrap()),
            clock,
            metrics: Arc::default(),
            plan: watch::Sender::new(Arc::new(Plan::default())),
            lines,
            _logged: tracing::subscriber::set_default(subscriber),
            _dir: dir,
        }
    }

    fn scheduler(&self) -> Scheduler {
        Scheduler::new(
            self.broker.clone(),
            self.plan.subscribe(),
            self.clock.clone(),
            self.metrics.clone(),
            Arc::new(Health::new(self.clock.clone(), self.metrics.clone())),
            "here:1:a".to_owned(),
        )
    }

    fn publish(&self, definitions: &[Definition]) {
        let schedules = definitions.iter().map(|d| (d.id.clone(), d.clone())).collect();
        self.plan.send_replace(Arc::new(Plan {
            schedules,
            ..Plan::default()
        }));
    }

    /// Lets so much time pass and looks once, with leadership and doubts renewed.
    async fn after(&self, scheduler: &mut Scheduler, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        look(scheduler).await;
    }

    /// Decisions on record, the oldest first.
    async fn decisions(&self) -> Vec<Decision> {
        let mut all = self.broker.decisions(None, 1000).await.unwrap();
        all.reverse();
        all
    }
}

async fn look(scheduler: &mut Scheduler) {
    scheduler.renew_at = None;
    scheduler.housekeep_at = None;
    scheduler.look().await.unwrap();
}

fn every_second(policy: CatchUpPolicy) -> Definition {
    Definition {
        id: ScheduleId::code("beat"),
        name: "beat".to_owned(),
        description: String::new(),
        origin: Origin {
            source: Source::Code,
            place: "code".to_owned(),
        },
        enabled: true,
        timing: Timing::parse("beat", "* * * * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap(),
        overlap: Overlap::Allow,
        catch_up: CatchUp {
            policy,
            ..CatchUp::default()
        },
        jitter: Duration::ZERO,
        task: Task::new("beat"),
    }
}

#[tokio::test]
async fn what_is_missed_is_logged_and_counted_with_its_occurrences() {
    let scene = Scene::new().await;
    scene.publish(&[every_second(CatchUpPolicy::None)]);
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    scene.after(&mut scheduler, 40).await;
    let missed: Vec<_> = scene.decisions().await;
    let missed: Vec<_> = missed.iter().filter(|d| d.kind == DecisionKind::Missed).collect();
    assert_eq!(missed.iter().map(|d| d.count).sum::<u32>(), 24, "{missed:?}");
    let metrics = scene.metrics.render();
    assert!(
        metrics.contains(r#"runner_fires_total{decision="missed"} 24"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"runner_fires_total{decision="fired"} 16"#),
        "{metrics}"
    );
    let lines = scene.lines.with("missed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("count=24"), "{lines:?}");
}
