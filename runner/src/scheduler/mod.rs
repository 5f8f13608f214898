//! Turns due occurrences into commits. Leadership is only for efficiency: correctness is the cursor's, which
//! the broker moves by compare-and-set in the same atomic step that enqueues.
//!
//! Every instance knows every schedule and decides alike. The leader commits at the instant; a follower waits
//! for a grace period and then tries too, so that a dead leader costs seconds and never a fire. Does not know
//! where a definition comes from.

mod agenda;
mod by_hand;
mod coming;
mod fire;
mod fleet;
mod hold;
mod lines;
mod offset;
mod pauses;
mod peer_reader;
mod peers;
mod service;
#[cfg(test)]
mod tests;
mod versions;

use peers::Peers;
pub use service::{LAST_REQUESTS, SchedulerParts, run};
pub use versions::Differences;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::clock::Clock;
use runner_core::schedule::{Plan, stable_hash};
use runner_queue::{Broker, BrokerError, CURSOR_AHEAD};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::background::BackgroundLoop;
use crate::events::Events;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;
use agenda::Agenda;
pub use by_hand::last_by_hand;
pub use coming::coming;
pub use fleet::add_differences;
pub use hold::InstanceScope;
use lines::FireLines;
use offset::{OffsetSample, READINGS, offset};
pub use pauses::{fallen, pause, resume};

/// How long leadership lasts without renewal, and how often it is renewed. Paused schedules and cursors too far ahead
/// are rechecked with each renewal.
const LEADER_TTL: Duration = Duration::from_secs(10);
const LEADER_RENEW: Duration = Duration::from_secs(3);

/// How long a follower leaves a due occurrence to the leader; each adds up to 0.3 s of its own. Short, because this is
/// what a leader's death costs. A slow leader loses nothing by it: a follower starts at the other end of the due
/// schedules and reads which are already decided before it decides.
const FOLLOWER_GRACE: Duration = Duration::from_millis(400);
const FOLLOWER_SPREAD_MILLIS: u64 = 300;

/// How often the offset to the broker's clock is measured and the schedules are published to other tools (valid for
/// twice as long).
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// The longest sleep between two looks at the agenda.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Pause after a failed call to the broker, doubled up to the longest.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// The scheduler's background loop.
pub struct Scheduler {
    broker: Arc<dyn Broker>,
    plan: watch::Receiver<Arc<Plan>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    instance: String,
    scope: InstanceScope,
    agenda: Agenda,
    lines: FireLines,
    events: Events,
    telemetry: Telemetry,
    leads: bool,
    own_grace: Duration,
    renew_at: Option<Instant>,
    housekeep_at: Option<Instant>,
    sweep_at: Option<Instant>,
    /// Sources already compared with what they held before, since the last sweep began.
    swept: BTreeSet<String>,
    offset: jiff::SignedDuration,
    failures: u32,
}

impl Scheduler {
    /// A scheduler that follows `plan`. `instance` is `host:pid:random`, unique among all instances; `scope` is what it
    /// shares with its successor after a restart.
    pub fn new(
        broker: Arc<dyn Broker>,
        plan: watch::Receiver<Arc<Plan>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        instance: String,
        scope: InstanceScope,
    ) -> Self {
        // Derived from the name, so that several followers do not try in the same instant.
        let own_grace = FOLLOWER_GRACE + Duration::from_millis(stable_hash(&[&instance]) % FOLLOWER_SPREAD_MILLIS);
        let mut plan = plan;
        plan.mark_changed();
        Self {
            broker,
            plan,
            clock,
            metrics,
            health,
            instance,
            scope,
            agenda: Agenda::default(),
            lines: FireLines::default(),
            events: Events::default(),
            telemetry: Telemetry::default(),
            leads: false,
            own_grace,
            renew_at: None,
            housekeep_at: None,
            sweep_at: None,
            swept: BTreeSet::new(),
            offset: jiff::SignedDuration::ZERO,
            failures: 0,
        }
    }

    /// Reports decisions to other programs as well.
    pub fn reporting_to(self, events: Events, telemetry: Telemetry) -> Self {
        Self {
            events,
            telemetry,
            ..self
        }
    }

    /// One pass. The order matters: the clock is measured before anything is decided by it; a removed schedule is
    /// withdrawn before the rest is held, so that one moved to another source is not withdrawn after it was held there;
    /// and a schedule fires only after it is held and registered, because only then does the broker keep its cursor.
    async fn look(&mut self) -> Result<Duration, BrokerError> {
        self.housekeep().await?;
        let changed = self.plan.has_changed().unwrap_or(false);
        if changed {
            let plan = self.plan.borrow_and_update().clone();
            let scope = &self.scope;
            self.agenda.adopt(&plan, |definition| scope.scope_of(&plan, definition));
        }
        self.withdraw_gone().await?;
        self.hold_new().await?;
        self.register_new().await?;
        if changed {
            self.publish_entries().await?;
        }
        self.fire_due().await
    }

    /// Measures the clock, renews holds and leadership, publishes the entries: each when its time has come.
    async fn housekeep(&mut self) -> Result<(), BrokerError> {
        let now = Instant::now();
        if self.housekeep_at.is_none_or(|at| at <= now) {
            self.measure_offset().await?;
            self.renew_hold().await?;
            self.publish_entries().await?;
            // Only after all three succeeded: a failed one is repeated by the next look.
            self.housekeep_at = Some(now + HOUSEKEEPING);
        }
        if self.renew_at.is_none_or(|at| at <= now) {
            let leads = self.broker.lead(&self.instance, LEADER_TTL).await?;
            if leads != self.leads {
                tracing::info!(leads, instance = %self.instance, "scheduler leadership changed");
            }
            self.leads = leads;
            self.metrics.set_leader(leads);
            // A cursor beyond this was written while a clock was wrong, or has been corrected by another instance since.
            if let Ok(latest) = self.broker_now().checked_add(CURSOR_AHEAD) {
                self.agenda.recheck_doubtful(latest);
            }
            self.renew_at = Some(now + LEADER_RENEW);
        }
        Ok(())
    }

    async fn publish_entries(&self) -> Result<(), BrokerError> {
        if !self.leads {
            return Ok(());
        }
        self.broker
            .publish_entries(&self.instance, &self.agenda.entries(), HOUSEKEEPING * 2)
            .await
    }

    /// Measures how far the broker's clock is ahead; all decisions use the broker's clock.
    async fn measure_offset(&mut self) -> Result<(), BrokerError> {
        let mut readings = Vec::with_capacity(READINGS);
        while readings.len() < READINGS && !readings.last().is_some_and(|last: &OffsetSample| last.is_quick()) {
            readings.push(OffsetSample {
                asked: self.clock.now(),
                theirs: self.broker.now().await?,
                answered: self.clock.now(),
            });
        }
        let offset = offset(&readings);
        if offset.abs() > jiff::SignedDuration::from_secs(2)
            && (offset - self.offset).abs() > jiff::SignedDuration::from_secs(1)
        {
            tracing::warn!(offset = %offset, "this machine's clock differs from the broker's; the broker's is used");
        }
        self.offset = offset;
        Ok(())
    }

    /// Makes the next look measure the clock and recheck doubtful cursors before it decides anything.
    fn measure_again(&mut self) {
        self.housekeep_at = None;
        self.renew_at = None;
    }

    fn broker_now(&self) -> jiff::Timestamp {
        self.clock
            .now()
            .checked_add(self.offset)
            .unwrap_or_else(|_| self.clock.now())
    }

    async fn register_new(&mut self) -> Result<(), BrokerError> {
        loop {
            let batch = self.agenda.unregistered();
            if batch.is_empty() {
                return Ok(());
            }
            let standings = self.broker.register(&batch).await?;
            self.report_corrections(&batch, &standings);
            // Ended after the loop: ending a pause changes the agenda, which this loop is filling.
            let mut over = Vec::new();
            for (registration, standing) in batch.iter().zip(standings) {
                if let Some(pause) = standing
                    .paused
                    .as_ref()
                    .filter(|pause| pause.is_over(self.broker_now()))
                {
                    over.push((registration.id.clone(), pause.until));
                }
                self.agenda.registered(registration, &standing);
            }
            for (id, until) in over {
                self.end_pause(&id, until).await?;
            }
        }
    }

    /// Ends an expired pause and adopts the resulting cursor.
    async fn end_pause(
        &mut self,
        id: &runner_core::schedule::ScheduleId,
        until: Option<jiff::Timestamp>,
    ) -> Result<(), BrokerError> {
        let Some(definition) = self.plan.borrow().schedules.get(id).cloned() else {
            return Ok(());
        };
        if let Some(decision) = resume(&*self.broker, &definition, until, &self.instance).await? {
            self.metrics.decided(decision.kind.as_str(), u64::from(decision.count));
            tracing::info!(schedule = %id, count = decision.count, reason = %decision.reason, "the pause is over");
        }
        let standing = self.broker.standings(std::slice::from_ref(id)).await?;
        if let Some(standing) = standing.into_iter().next().flatten() {
            self.agenda.adopt_cursor(id, &standing);
        }
        Ok(())
    }
}

#[async_trait]
impl BackgroundLoop for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn every(&self) -> Duration {
        LONGEST_SLEEP
    }

    async fn turn(&mut self) -> Option<Duration> {
        match self.look().await {
            Ok(sleep) => {
                self.failures = 0;
                Some(sleep.min(LONGEST_SLEEP))
            }
            Err(error) => {
                self.health.failed("maintain schedules", &error);
                self.failures = self.failures.saturating_add(1);
                // Another instance may lead by now.
                self.renew_at = None;
                Some(BACKOFF.saturating_mul(1 << self.failures.min(6)).min(LONGEST_BACKOFF))
            }
        }
    }
}
