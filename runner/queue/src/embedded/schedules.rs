//! Implements the seam's `Schedules` by calling the functions of each subject.

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;
use rusqlite::Connection;

use super::writer::Tx;
use super::{EmbeddedBroker, held, manual, pause, schedule};
use crate::{
    BrokerResult, Commit, Committed, Corrections, Decision, ManualRun, ManuallyRun, Pause, Registration, Resume,
    Resumed, Schedules, Standing,
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
        let query = move |conn: &Connection| schedule::standings(conn, &ids);
        self.readers.query("read where schedules stand", query).await
    }

    async fn commit(&self, commits: &[Commit]) -> BrokerResult<Vec<Committed>> {
        // One transaction each: claims and settlements get their turn in between.
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

    async fn corrections(&self) -> BrokerResult<Option<Corrections>> {
        self.readers
            .query("ask whether cursors were set back", held::corrections)
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
        let query = move |conn: &Connection| schedule::decisions(conn, id.as_ref(), limit);
        self.readers.query("list decisions", query).await
    }

    async fn decisions_each(&self, ids: &[ScheduleId], limit: usize) -> BrokerResult<Vec<Vec<Decision>>> {
        let ids = ids.to_vec();
        let query = move |conn: &Connection| {
            let of = |id| schedule::decisions(conn, Some(id), limit);
            ids.iter().map(of).collect()
        };
        self.readers.query("list decisions of schedules", query).await
    }
}
