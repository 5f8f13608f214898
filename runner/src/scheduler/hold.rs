//! Records at the broker which schedules this instance has, and withdraws those it no longer has.
//!
//! A schedule that leaves the plan is withdrawn at once. One that left while no instance was up is found by comparing
//! what the source held before with what it holds now. Not here: how the broker counts holders.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_core::schedule::{Definition, Plan, Problem, ScheduleId, Source, stable_hash};
use runner_queue::{BrokerError, CURSOR_AHEAD, Registration, Standing};
use tokio::time::Instant;

use super::Scheduler;

/// How long the broker remembers what this instance holds: three rounds of housekeeping.
const HOLD_TTL: Duration = Duration::from_secs(30);

/// How often the earlier content of the sources is compared with the present.
const SWEEP: Duration = Duration::from_secs(60);

/// Corrected cursors that are logged one by one; the others are only counted.
const LOGGED: usize = 10;

/// What an instance shares with its successor after a restart.
#[derive(Debug, Clone, Default)]
pub struct InstanceScope {
    /// The host.
    pub host: String,
    /// The program.
    pub program: String,
}

impl InstanceScope {
    /// The name of the source of a definition: stable across restarts, different for another directory, database or
    /// program.
    pub(super) fn scope_of(&self, plan: &Plan, definition: &Definition) -> String {
        self.scope(plan, definition.origin.source)
    }

    fn scope(&self, plan: &Plan, source: Source) -> String {
        let place = plan.scopes.get(&source).map_or("", |scope| scope.place.as_str());
        let parts = match source {
            Source::Manifest => [self.host.as_str(), place],
            Source::Table => ["", place],
            Source::Code => [self.host.as_str(), self.program.as_str()],
        };
        format!("{}-{:016x}", source.as_str(), stable_hash(&parts))
    }
}

impl Scheduler {
    /// Withdraws what left the plan. If the broker does not answer, the next look tries again.
    pub(super) async fn withdraw_gone(&mut self) -> Result<(), BrokerError> {
        for (scope, ids) in self.agenda.gone() {
            self.withdraw(&scope, &ids).await?;
        }
        self.agenda.withdrawn();
        Ok(())
    }

    /// Holds the schedules that came into the plan.
    pub(super) async fn hold_new(&mut self) -> Result<(), BrokerError> {
        let held = self.agenda.unheld();
        if !held.is_empty() {
            self.broker.hold(&self.instance, &held, HOLD_TTL).await?;
            self.agenda.all_held();
        }
        self.sweep().await
    }

    /// Renews the hold on everything; if it has expired, all schedules are held again.
    pub(super) async fn renew_hold(&mut self) -> Result<(), BrokerError> {
        if !self.broker.hold(&self.instance, &[], HOLD_TTL).await? {
            self.agenda.none_held();
        }
        Ok(())
    }

    /// Withdraws what the sources held before and hold no longer. Only for sources that were read completely: an
    /// unreadable file has not been removed. Each source is compared once per [`SWEEP`], or as soon as it can be read.
    async fn sweep(&mut self) -> Result<(), BrokerError> {
        let now = Instant::now();
        if self.sweep_at.is_none_or(|at| at <= now) {
            self.swept.clear();
            self.sweep_at = Some(now + SWEEP);
        }
        let plan = self.plan.borrow().clone();
        let complete = plan.scopes.iter().filter(|(_, scope)| scope.complete);
        let complete: BTreeSet<String> = complete.map(|(source, _)| self.scope.scope(&plan, *source)).collect();
        self.swept.retain(|scope| complete.contains(scope));
        for scope in complete {
            if self.swept.contains(&scope) {
                continue;
            }
            let before = self.broker.held_from(&scope).await?;
            // One that is left out because of an error is still in its source, and keeps its cursor.
            let is_broken = |id: &ScheduleId| plan.problems_of(id).any(Problem::is_error);
            let gone: Vec<ScheduleId> = before
                .into_iter()
                .filter(|id| !plan.schedules.contains_key(id) && !is_broken(id))
                .collect();
            if !gone.is_empty() {
                self.withdraw(&scope, &gone).await?;
            }
            self.swept.insert(scope);
        }
        Ok(())
    }

    async fn withdraw(&self, scope: &str, ids: &[ScheduleId]) -> Result<(), BrokerError> {
        let withdrawn = self.broker.withdraw(&self.instance, scope, ids).await?;
        for id in withdrawn {
            tracing::info!(schedule = %id, "withdrawn: no source has it any more; it starts from the present if it comes back");
        }
        Ok(())
    }

    /// Reports cursors that this registration found ahead of the broker's clock.
    pub(super) fn report_corrections(&self, batch: &[Registration], standings: &[Standing]) {
        let ahead = batch.iter().zip(standings);
        let ahead: Vec<_> = ahead.filter_map(|(r, s)| Some((&r.id, s.was?))).collect();
        self.metrics.corrected(ahead.len());
        for (id, was) in ahead.iter().take(LOGGED) {
            tracing::warn!(
                code = "schedule_cursor_ahead", schedule = %id, %was,
                "the cursor was more than {} s ahead of the broker's clock, which must have been wrong; \
                 it is set to the present", CURSOR_AHEAD.as_secs()
            );
        }
        if ahead.len() > LOGGED {
            tracing::warn!(
                code = "schedule_cursor_ahead",
                "{} more cursors were ahead of the broker's clock and are set to the present",
                ahead.len() - LOGGED
            );
        }
    }
}
