//! Which instance has which schedules, the withdrawal of those that none has any more, and when cursors were set back.
//!
//! Not here: what a withdrawal does to the cursor, which happens when the schedule is registered again.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;

use super::link::SqlError;
use super::readers::Readers;
use super::rows::{column, count, instant, span};
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{Corrections, HOLD_AT_MOST, Held};

/// Corrections at most this far apart are one, microseconds.
const ONE_CORRECTION: i64 = 60_000_000;

/// Schedules of one source that are read: many times those of any installation.
const MOST: u64 = 200_000;

/// Says which schedules an instance has.
pub(super) struct Hold {
    pub(super) instance: String,
    pub(super) held: Vec<Held>,
    pub(super) ttl: Duration,
}

#[async_trait]
impl Write for Hold {
    type Output = bool;
    const DOING: &'static str = "say which schedules there are";
    /// Said again every few seconds.
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        forget_ended(tx).await?;
        let until = tx.now.saturating_add(span(self.ttl));
        let known = sql("UPDATE holders SET expires_at = ? WHERE instance = ?")
            .bind(until)
            .bind(self.instance.clone())
            .execute(&mut *tx.conn)
            .await?;
        let known = known.rows_affected() > 0;
        if !known {
            sql("INSERT INTO holders (instance, expires_at) VALUES (?, ?)")
                .bind(self.instance.clone())
                .bind(until)
                .execute(&mut *tx.conn)
                .await?;
        }
        for held in &self.held {
            sql("INSERT INTO held (instance, schedule, revision) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (instance, schedule) DO UPDATE SET revision = excluded.revision")
            .bind(self.instance.clone())
            .bind(held.id.as_str().to_owned())
            .bind(held.revision.clone())
            .execute(&mut *tx.conn)
            .await?;
            // At first sight it has no cursor yet: it is registered next.
            sql("INSERT INTO scopes (scope, schedule) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(held.scope.clone())
                .bind(held.id.as_str().to_owned())
                .execute(&mut *tx.conn)
                .await?;
        }
        Ok(known)
    }
}

/// Forgets the instances whose time is over. An end that is further ahead than any should be was written while the clock
/// was wrong.
async fn forget_ended(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    let latest = tx.now.saturating_add(span(HOLD_AT_MOST)).saturating_add(1);
    sql("DELETE FROM held WHERE instance IN \
         (SELECT instance FROM holders WHERE expires_at <= ?1 OR expires_at > ?2)")
    .bind(tx.now)
    .bind(latest)
    .execute(&mut *tx.conn)
    .await?;
    sql("DELETE FROM holders WHERE expires_at <= ?1 OR expires_at > ?2")
        .bind(tx.now)
        .bind(latest)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// An instance that ends in good order is not waited for as long as one that fell silent.
pub(super) struct LetGo {
    pub(super) instance: String,
    pub(super) soon: Duration,
}

#[async_trait]
impl Write for LetGo {
    type Output = ();
    const DOING: &'static str = "say that an instance ends";
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        sql("UPDATE holders SET expires_at = ? WHERE instance = ?")
            .bind(tx.now.saturating_add(span(self.soon)))
            .bind(self.instance.clone())
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

/// Withdraws schedules that an instance has no longer.
pub(super) struct Withdraw {
    pub(super) instance: String,
    pub(super) scope: String,
    pub(super) ids: Vec<ScheduleId>,
}

#[async_trait]
impl Write for Withdraw {
    type Output = Vec<ScheduleId>;
    const DOING: &'static str = "withdraw schedules";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        forget_ended(tx).await?;
        let mut withdrawn = Vec::new();
        for id in &self.ids {
            let name = || id.as_str().to_owned();
            sql("DELETE FROM held WHERE instance = ? AND schedule = ?")
                .bind(self.instance.clone())
                .bind(name())
                .execute(&mut *tx.conn)
                .await?;
            let other = sql("SELECT 1 FROM held WHERE schedule = ? LIMIT 1").bind(name());
            if other.fetch_optional(&mut *tx.conn).await?.is_some() {
                continue;
            }
            sql("DELETE FROM scopes WHERE scope = ? AND schedule = ?")
                .bind(self.scope.clone())
                .bind(name())
                .execute(&mut *tx.conn)
                .await?;
            let marked = sql("UPDATE schedules SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL")
                .bind(tx.now)
                .bind(name())
                .execute(&mut *tx.conn)
                .await?;
            if marked.rows_affected() > 0 {
                withdrawn.push(id.clone());
            }
        }
        Ok(withdrawn)
    }
}

/// Schedules that were ever held from a scope and not withdrawn since.
pub(super) async fn held_from(readers: &Readers, scope: &str) -> Result<Vec<ScheduleId>, SqlError> {
    let rows = sql("SELECT schedule FROM scopes WHERE scope = ? LIMIT ?")
        .bind(scope.to_owned())
        .bind(column(MOST))
        .fetch_all(readers)
        .await?;
    rows.iter()
        .map(|row| Ok(ScheduleId::from_text(row.try_get::<String>(0)?)))
        .collect()
}

/// The last time that cursors were set back to the present.
pub(super) async fn corrections(readers: &Readers) -> Result<Option<Corrections>, SqlError> {
    let row = sql("SELECT at, ahead_s, schedules FROM clock_corrections")
        .fetch_optional(readers)
        .await?;
    let read = |row: super::cells::Row| {
        Ok(Corrections {
            at: instant(row.try_get(0)?),
            ahead: Duration::from_secs(count(row.try_get(1)?)),
            schedules: count(row.try_get(2)?),
        })
    };
    row.map(read).transpose()
}

/// Records how many cursors were set back; those of one and the same correction count together.
pub(super) async fn note_corrections(tx: &mut Tx<'_>, ahead_s: i64, schedules: i64) -> Result<(), SqlError> {
    sql(
        "INSERT INTO clock_corrections (one, at, ahead_s, schedules) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (one) DO UPDATE SET at = ?1, \
             ahead_s = iif(?1 - at BETWEEN 0 AND ?4, max(ahead_s, ?2), ?2), \
             schedules = iif(?1 - at BETWEEN 0 AND ?4, schedules, 0) + ?3",
    )
    .bind(tx.now)
    .bind(ahead_s)
    .bind(schedules)
    .bind(ONE_CORRECTION)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
