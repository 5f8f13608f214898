//! Turns due occurrences into commits. Leadership is only for efficiency: correctness is the cursor's, which
//! the broker moves by compare-and-set in the same atomic step that enqueues.
//!
//! Every instance knows every schedule and decides alike. The leader commits at the instant; a follower waits
//! out a grace first and then tries too, so that a dead leader costs seconds and never a fire. Knows nothing of
//! where a definition comes from.

mod agenda;
mod by_hand;
mod coming;
mod fire;
mod hold;
mod lines;
mod offset;
mod pauses;
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
use crate::health::Health;
use crate::metrics::Metrics;
use agenda::Agenda;
pub use by_hand::last_by_hand;
pub use coming::coming;
pub use hold::InstanceScope;
use lines::FireLines;
use offset::{OffsetSample, READINGS, offset};
pub use pauses::{fallen, pause, resume};

/// How long leadership lasts without renewal; how often it is renewed, and schedules that are paused or stand
/// too far ahead are looked at again.
const LEADER_TTL: Duration = Duration::from_secs(10);
const LEADER_RENEW: Duration = Duration::from_secs(3);

/// How long a follower leaves a due occurrence to the leader; each adds up to 0.3 s of its own. Short, because it is all
/// that a leader's death costs; a leader that is only slow loses nothing by it, for a follower begins at the other end of
/// what is due and looks what is decided already before it decides.
const FOLLOWER_GRACE: Duration = Duration::from_millis(700);
const FOLLOWERS_APART: u64 = 300;

/// How often the distance to the broker's clock is measured and the schedules are published for other tools, valid for
/// twice as long.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// The longest sleep between two looks at the agenda.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Pause after a failed call to the broker, doubled up to the longest.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// The scheduler's one role.
pub struct Scheduler {
    broker: Arc<dyn Broker>,
    plan: watch::Receiver<Arc<Plan>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    instance: String,
    home: InstanceScope,
    agenda: Agenda,
    lines: FireLines,
    leads: bool,
    own_grace: Duration,
    renew_at: Option<Instant>,
    housekeep_at: Option<Instant>,
    sweep_at: Option<Instant>,
    /// The sources that were compared with what they held before, since the last sweep began.
    swept: BTreeSet<String>,
    offset: jiff::SignedDuration,
    failures: u32,
}

impl Scheduler {
    /// A scheduler that follows `plan`; `instance` is `host:pid:random`, unique among all instances; `home` says what it
    /// has in common with the instance that is started in its place.
    pub fn new(
        broker: Arc<dyn Broker>,
        plan: watch::Receiver<Arc<Plan>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        instance: String,
        home: InstanceScope,
    ) -> Self {
        let own_grace = FOLLOWER_GRACE + Duration::from_millis(stable_hash(&[&instance]) % FOLLOWERS_APART);
        let mut plan = plan;
        plan.mark_changed();
        Self {
            broker,
            plan,
            clock,
            metrics,
            health,
            instance,
            home,
            agenda: Agenda::default(),
            lines: FireLines::default(),
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

    async fn look(&mut self) -> Result<Duration, BrokerError> {
        self.keep_house().await?;
        let changed = self.plan.has_changed().unwrap_or(false);
        if changed {
            let plan = self.plan.borrow_and_update().clone();
            let home = &self.home;
            self.agenda.adopt(&plan, |definition| home.scope_of(&plan, definition));
        }
        self.withdraw_gone().await?;
        self.hold_new().await?;
        self.register_new().await?;
        if changed {
            self.show_entries().await?;
        }
        self.fire_due().await
    }

    async fn keep_house(&mut self) -> Result<(), BrokerError> {
        let now = Instant::now();
        if self.housekeep_at.is_none_or(|at| at <= now) {
            self.measure_offset().await?;
            self.renew_hold().await?;
            self.show_entries().await?;
            self.housekeep_at = Some(now + HOUSEKEEPING);
        }
        if self.renew_at.is_none_or(|at| at <= now) {
            let leads = self.broker.lead(&self.instance, LEADER_TTL).await?;
            if leads != self.leads {
                tracing::info!(leads, instance = %self.instance, "scheduler leadership changed");
            }
            self.leads = leads;
            self.metrics.set_leader(leads);
            if let Ok(latest) = self.broker_now().checked_add(CURSOR_AHEAD) {
                self.agenda.forget_doubtful(latest);
            }
            self.renew_at = Some(now + LEADER_RENEW);
        }
        Ok(())
    }

    async fn show_entries(&self) -> Result<(), BrokerError> {
        if !self.leads {
            return Ok(());
        }
        self.broker
            .publish_entries(&self.instance, &self.agenda.entries(), HOUSEKEEPING * 2)
            .await
    }

    /// The broker's clock is the only one that counts.
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

    /// Has the broker's clock measured and doubtful cursors looked at before anything else is decided.
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
            let mut over = Vec::new();
            for (registration, standing) in batch.iter().zip(standings) {
                if let Some(pause) = standing
                    .paused
                    .as_ref()
                    .filter(|pause| pause.is_over(self.broker_now()))
                {
                    over.push((registration.id.clone(), pause.until));
                }
                self.agenda.stands(registration, &standing);
            }
            for (id, until) in over {
                self.end_pause(&id, until).await?;
            }
        }
    }

    /// Ends a pause whose time is over, and takes note of where the schedule stands then.
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
            self.agenda.follows(id, &standing);
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
                self.health.failed("look after schedules", &error);
                self.failures = self.failures.saturating_add(1);
                self.renew_at = None;
                Some(BACKOFF.saturating_mul(1 << self.failures.min(6)).min(LONGEST_BACKOFF))
            }
        }
    }
}
