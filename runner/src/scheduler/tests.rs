//! The scheduler on the embedded broker with a manual clock: what a turn decides, counts and logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fleet;

use std::io;
use std::sync::Mutex;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::clock::ManualClock;
use runner_core::cron::DstRule;
use runner_core::schedule::{CatchUpPolicy, Definition, Origin, Overlap, Problem, ScheduleId, Scope, Source, Timing};
use runner_core::task::Task;
use runner_queue::{Decision, DecisionKind, Holders as _, Schedules as _};
use runner_queue::{Pause, embedded::EmbeddedBroker};
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

/// Captured log lines, for tests on one thread.
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
        self.instance("here:1:a")
    }

    fn instance(&self, name: &str) -> Scheduler {
        Scheduler::new(
            self.broker.clone(),
            self.plan.subscribe(),
            self.clock.clone(),
            self.metrics.clone(),
            Arc::new(Health::new(self.clock.clone(), self.metrics.clone())),
            name.to_owned(),
            InstanceScope::default(),
        )
    }

    fn publish(&self, definitions: &[Definition]) {
        let schedules = definitions.iter().map(|d| (d.id.clone(), d.clone())).collect();
        let scope = Scope {
            place: "code".to_owned(),
            complete: true,
        };
        self.plan.send_replace(Arc::new(Plan {
            schedules,
            scopes: [(Source::Code, scope)].into(),
            ..Plan::default()
        }));
    }

    /// Advances the clock and looks once, with leadership and rechecks due.
    async fn after(&self, scheduler: &mut Scheduler, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        look(scheduler).await;
    }

    /// Repeats that for each second.
    async fn run(&self, scheduler: &mut Scheduler, seconds: u64) {
        for _ in 0..seconds {
            self.after(scheduler, 1).await;
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second() - START
    }

    fn set(&self, seconds: i64) {
        self.clock.set(Timestamp::from_second(START + seconds).unwrap());
    }

    /// Recorded decisions, oldest first.
    async fn decisions(&self) -> Vec<Decision> {
        let mut all = self.broker.decisions(None, 1000).await.unwrap();
        all.reverse();
        all
    }

    /// Nominal instants of fires, in the order in which they fired.
    async fn fired(&self) -> Vec<i64> {
        let all = self.decisions().await.into_iter();
        all.filter(|d| d.kind == DecisionKind::Fired)
            .map(|d| d.nominal.as_second() - START)
            .collect()
    }
}

async fn look(scheduler: &mut Scheduler) {
    scheduler.sweep_at = None;
    scheduler.renew_at = None;
    scheduler.housekeep_at = None;
    scheduler.look().await.unwrap();
}

/// Due 100 seconds after the start, then daily.
fn nightly() -> Definition {
    Definition {
        timing: Timing::parse("nightly", "45 5 3 * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap(),
        ..every_second(CatchUpPolicy::Last)
    }
}

fn every_second(policy: CatchUpPolicy) -> Definition {
    let timing = Timing::parse("beat", "* * * * * *", "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
    Definition {
        overlap: Overlap::Allow,
        catch_up: policy.into(),
        ..Definition::new(
            ScheduleId::code("beat"),
            "beat",
            Origin::code(),
            timing,
            Task::new("beat"),
        )
    }
}

#[tokio::test]
async fn a_pause_ends_by_itself_and_records_one_decision() {
    let scene = Scene::new().await;
    let beat = every_second(CatchUpPolicy::None);
    scene.publish(std::slice::from_ref(&beat));
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    let pause = Pause {
        until: Some(Timestamp::from_second(START + 5).unwrap()),
        ..Pause::by("ann").because(Some("new disks"))
    };
    scene.broker.pause_schedule(&beat.id, &pause).await.unwrap();
    scene.run(&mut scheduler, 8).await;
    assert_eq!(scene.fired().await, [6, 7, 8]);
    let decisions = scene.decisions().await;
    assert_eq!((decisions[0].kind, decisions[0].count), (DecisionKind::Paused, 5));
    let reason = &decisions[0].reason;
    assert!(reason.contains("by ann: new disks"), "{reason}");
    assert!(
        scene
            .metrics
            .render()
            .contains(r#"runner_fires_total{decision="paused"} 5"#)
    );
    // A manual resume counts everything that fell into the pause by then.
    scene.broker.pause_schedule(&beat.id, &Pause::by("ann")).await.unwrap();
    scene.run(&mut scheduler, 4).await;
    let decision = resume(&*scene.broker, &beat, None, "bob").await.unwrap().unwrap();
    assert_eq!((decision.count, decision.instance.as_str()), (4, "bob"));
    assert_eq!(resume(&*scene.broker, &beat, None, "bob").await.unwrap(), None);
}

#[tokio::test]
async fn a_second_pause_keeps_the_note_and_the_beginning() {
    let scene = Scene::new().await;
    let beat = every_second(CatchUpPolicy::None);
    let ids = [beat.id.clone()];
    pause(&*scene.broker, &beat, &Pause::by("ann").because(Some("disks")))
        .await
        .unwrap();
    let until = Some(Timestamp::from_second(START + 60).unwrap());
    for (note, kept) in [(None, "disks"), (Some("racks"), "racks")] {
        scene.set(scene.now() + 5);
        let again = Pause {
            until,
            ..Pause::by("bob")
        }
        .because(note);
        pause(&*scene.broker, &beat, &again).await.unwrap();
        let paused = scene
            .broker
            .standings(&ids)
            .await
            .unwrap()
            .remove(0)
            .unwrap()
            .paused
            .unwrap();
        assert_eq!(
            (paused.by.as_str(), paused.until, paused.note.as_deref()),
            ("bob", until, Some(kept))
        );
        assert_eq!(paused.at.map(Timestamp::as_second), Some(START));
    }
}

#[tokio::test]
async fn an_unregistered_schedule_can_be_paused() {
    let scene = Scene::new().await;
    let beat = every_second(CatchUpPolicy::None);
    pause(&*scene.broker, &beat, &Pause::by("ann")).await.unwrap();
    scene.publish(std::slice::from_ref(&beat));
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    scene.run(&mut scheduler, 3).await;
    assert!(scene.fired().await.is_empty());
    let decision = resume(&*scene.broker, &beat, None, "ann").await.unwrap().unwrap();
    assert_eq!((decision.kind, decision.count), (DecisionKind::Paused, 3));
}

#[tokio::test]
async fn missed_occurrences_are_logged_and_counted() {
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

#[tokio::test]
async fn a_clock_that_was_ahead_silences_nothing_and_repeats_nothing() {
    for step in [2 * 3600, 8 * 3600, 365 * 86_400] {
        let scene = Scene::new().await;
        scene.publish(&[every_second(CatchUpPolicy::Last)]);
        let mut scheduler = scene.scheduler();
        look(&mut scheduler).await;
        scene.run(&mut scheduler, 5).await;
        scene.set(5 + step);
        scene.run(&mut scheduler, 5).await;
        let wrong = scene.fired().await;
        assert_eq!(wrong.last(), Some(&(step + 10)));
        scene.set(10);
        look(&mut scheduler).await;
        scene.run(&mut scheduler, 5).await;
        assert_eq!(scene.now(), 15);
        let fired = scene.fired().await;
        assert_eq!(fired[wrong.len()..], [11, 12, 13, 14, 15], "{step}");
        let lines = scene.lines.with("schedule_cursor_ahead");
        assert!(lines.len() == 1 && lines[0].contains("WARN"), "{lines:?}");
        assert!(scene.metrics.render().contains("runner_cursors_corrected_total 1"));
        let corrected = scene.decisions().await.into_iter();
        let corrected = corrected.filter(|d| d.kind == DecisionKind::Corrected);
        assert_eq!(corrected.count(), 1);

        // When the skewed clock's instant comes, its fire is not repeated, not even by a new instance.
        let mut scheduler = scene.scheduler();
        scene.set(step);
        look(&mut scheduler).await;
        scene.run(&mut scheduler, 15).await;
        let mut fired = scene.fired().await;
        assert_eq!(fired.last(), Some(&(step + 15)), "{step}");
        let all = fired.len();
        fired.sort_unstable();
        fired.dedup();
        assert_eq!(fired.len(), all, "an occurrence fired twice");
        assert!(
            (step - 10..=step + 15).all(|at| fired.contains(&at)),
            "one is lacking: {fired:?}"
        );
    }
}

#[tokio::test]
async fn the_reported_next_fire_happens() {
    let scene = Scene::new().await;
    scene.publish(&[every_second(CatchUpPolicy::Last)]);
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    scene.set(7200);
    scene.run(&mut scheduler, 5).await;
    let definition = every_second(CatchUpPolicy::Last);
    let next = async || {
        let standings = scene.broker.standings(std::slice::from_ref(&definition.id)).await;
        let standing = standings.unwrap().remove(0).unwrap();
        let next = standing.next(&definition.timing, scene.clock.now()).unwrap();
        next.as_second() - START
    };
    // Before a scheduler has looked, after it has, and within what fired already.
    scene.set(10);
    assert_eq!(next().await, 11);
    scene.after(&mut scheduler, 1).await;
    assert_eq!(next().await, 12);
    scene.set(7202);
    assert_eq!(next().await, 7206);
}

#[tokio::test]
async fn a_schedule_that_returns_to_the_plan_does_not_fire_the_past() {
    let scene = Scene::new().await;
    scene.publish(&[nightly()]);
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    scene.after(&mut scheduler, 50).await;
    scene.publish(&[]);
    scene.after(&mut scheduler, 10).await;
    assert_eq!(scene.lines.with("withdrawn").len(), 1);
    scene.set(130);
    scene.publish(&[nightly()]);
    look(&mut scheduler).await;
    scene.after(&mut scheduler, 10).await;
    assert_eq!(scene.fired().await, [0_i64; 0]);
    scene.set(100 + 86_400);
    look(&mut scheduler).await;
    assert_eq!(scene.fired().await, [100 + 86_400]);
}

#[tokio::test]
async fn occurrences_missed_while_no_instance_was_up_are_caught_up() {
    let scene = Scene::new().await;
    scene.publish(&[nightly()]);
    look(&mut scene.scheduler()).await;
    scene.broker.resign("here:1:a").await.unwrap();
    scene.set(600);
    look(&mut scene.instance("here:2:b")).await;
    assert_eq!(scene.fired().await, [100]);
}

#[tokio::test]
async fn a_schedule_removed_while_no_instance_was_up_is_withdrawn_by_the_next() {
    let scene = Scene::new().await;
    scene.publish(&[nightly(), every_second(CatchUpPolicy::None)][..1]);
    look(&mut scene.scheduler()).await;
    scene.broker.resign("here:1:a").await.unwrap();
    scene.publish(&[]);
    scene.set(60);
    let mut next = scene.instance("here:2:b");
    look(&mut next).await;
    scene.set(130);
    scene.publish(&[nightly()]);
    look(&mut next).await;
    assert_eq!(scene.fired().await, [0_i64; 0]);
}

#[tokio::test]
async fn a_schedule_that_another_live_instance_has_is_not_withdrawn() {
    let scene = Scene::new().await;
    scene.publish(&[nightly()]);
    let (mut has, mut lacks) = (scene.scheduler(), scene.instance("here:2:b"));
    look(&mut has).await;
    look(&mut lacks).await;
    scene.publish(&[]);
    look(&mut lacks).await;
    // Its own plan has not changed yet.
    has.plan.mark_unchanged();
    scene.set(100);
    has.sweep_at = Some(Instant::now() + Duration::from_secs(3600));
    has.renew_at = None;
    has.look().await.unwrap();
    assert_eq!(scene.fired().await, [100]);
    assert!(scene.lines.with("withdrawn").is_empty());
}

#[tokio::test]
async fn an_unreadable_schedule_is_not_withdrawn() {
    let scene = Scene::new().await;
    scene.publish(&[nightly()]);
    let mut scheduler = scene.scheduler();
    look(&mut scheduler).await;
    // A row with a broken rule, and an unreadable source.
    let definition = nightly();
    let problem = Problem::error("E203", "no rule", definition.origin.clone()).about(definition.id.clone());
    let scope = |complete| Scope {
        place: "code".to_owned(),
        complete,
    };
    for (problems, complete) in [(vec![problem], false), (Vec::new(), false)] {
        scene.plan.send_replace(Arc::new(Plan {
            problems,
            scopes: [(Source::Code, scope(complete))].into(),
            ..Plan::default()
        }));
        scene.after(&mut scheduler, 50).await;
    }
    scene.set(130);
    scene.publish(&[nightly()]);
    look(&mut scheduler).await;
    assert_eq!(scene.fired().await, [100]);
}
