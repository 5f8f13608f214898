//! The seam's `Schedules`: each call asks or writes what its subject's file says.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;
use rusqlite::Connection;

use super::writer::Tx;
use super::{EmbeddedBroker, held, manual, pause, schedule};
use crate::{
    BrokerResult, Commit, Committed, Corrections, Decision, EntryView, HOLD_AFTER_END, Held, ManualRun, ManuallyRun,
    Pause, Registration, Resume, Resumed, Schedules, Standing,
};

/// Commits in one transaction.
const COMMITTED_AT_ONCE: usize = 200;

#[async_trait]
impl Schedules for EmbeddedBroker {
    async fn register(&self, registrations: &[Registration]) -> BrokerResult<Vec<Standing>> {
        let registrations = registrations.to_vec();
        let change = move |tx: &mut Tx<'_>| schedule::register(tx, &registrations);
        self.writer.write("register schedules", change).await
    }

    async fn standings(&self, ids: &[ScheduleId]) -> BrokerResult<Vec<Option<Standing>>> {
        let ids = ids.to_vec();
        let ask = move |conn: &Connection| schedule::standings(conn, &ids);
        self.readers.ask("read where schedules stand", ask).await
    }

    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        // Claims and verdicts come in between.
        let mut committed = Vec::with_capacity(commits.len());
        for batch in commits.chunks(COMMITTED_AT_ONCE) {
            let batch = batch.to_vec();
            let change = move |tx: &mut Tx<'_>| schedule::commit(tx, &batch);
            committed.append(&mut self.writer.write("commit occurrences", change).await?);
        }
        Ok(committed)
    }

    async fn run_now(&self, run: &ManualRun) -> BrokerResult<ManuallyRun> {
        let run = run.clone();
        let change = move |tx: &mut Tx<'_>| manual::run_now(tx, &run);
        self.writer.write("run a schedule by hand", change).await
    }

    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool> {
        let instance = instance.to_owned();
        let change = move |tx: &mut Tx<'_>| schedule::lead(tx, &instance, Some(ttl));
        self.writer.write("settle who leads", change).await
    }

    async fn resign(&self, instance: &str) -> BrokerResult<()> {
        let (leader, holder) = (instance.to_owned(), instance.to_owned());
        let change = move |tx: &mut Tx<'_>| schedule::lead(tx, &leader, None);
        self.writer.write("settle who leads", change).await?;
        let change = move |tx: &mut Tx<'_>| held::let_go(tx, &holder, HOLD_AFTER_END);
        self.writer.write_unsynced("say that an instance ends", change).await
    }

    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool> {
        let (instance, held) = (instance.to_owned(), held.to_vec());
        let change = move |tx: &mut Tx<'_>| held::hold(tx, &instance, &held, ttl);
        // Said again every few seconds.
        self.writer
            .write_unsynced("say which schedules there are", change)
            .await
    }

    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>> {
        let (instance, scope, ids) = (instance.to_owned(), scope.to_owned(), ids.to_vec());
        let change = move |tx: &mut Tx<'_>| held::withdraw(tx, &instance, &scope, &ids);
        self.writer.write("withdraw schedules", change).await
    }

    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>> {
        let scope = scope.to_owned();
        let ask = move |conn: &Connection| held::held_from(conn, &scope);
        self.readers.ask("ask for the schedules of a source", ask).await
    }

    async fn corrections(&self) -> BrokerResult<Option<Corrections>> {
        self.readers
            .ask("ask whether cursors were set back", held::corrections)
            .await
    }

    async fn pause_schedule(&self, id: &ScheduleId, pause: &Pause) -> BrokerResult<()> {
        let (id, pause) = (id.clone(), pause.clone());
        let change = move |tx: &mut Tx<'_>| pause::pause_schedule(tx, &id, &pause);
        self.writer.write("pause a schedule", change).await
    }

    async fn resume_schedule(&self, resume: &Resume) -> BrokerResult<Resumed> {
        let resume = resume.clone();
        let change = move |tx: &mut Tx<'_>| pause::resume_schedule(tx, &resume);
        self.writer.write("resume a schedule", change).await
    }

    async fn decisions(&self, id: Option<&ScheduleId>, limit: usize) -> BrokerResult<Vec<Decision>> {
        let id = id.cloned();
        let ask = move |conn: &Connection| schedule::decisions(conn, id.as_ref(), limit);
        self.readers.ask("list decisions", ask).await
    }

    /// Nothing to do: no other tool reads this file.
    async fn publish_entries(&self, _: &str, _: &[EntryView], _: Duration) -> BrokerResult<()> {
        Ok(())
    }
}
