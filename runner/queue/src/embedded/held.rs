//! The seam's `Holders`: the leading instance, which instance has which schedules, withdrawal of those that no instance has any
//! more, and corrections of cursors.
//!
//! Not here: what a withdrawal does to the cursor, which happens when the schedule is registered again.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, count, instant, span};
use super::writer::Tx;
use crate::{BrokerResult, Corrections, HOLD_AFTER_END, HOLD_AT_MOST, Held, Holders};

/// Corrections at most this far apart count as one, in microseconds.
const ONE_CORRECTION: i64 = 60_000_000;

/// Maximum number of schedules read of one source: many times those of any installation.
const MOST: u64 = 200_000;

/// Records which schedules an instance has. Returns whether the instance was known.
pub(super) fn hold(tx: &Tx<'_>, instance: &str, held: &[Held], ttl: Duration) -> Result<bool, SqlError> {
    forget_ended(tx)?;
    let until = tx.now.saturating_add(span(ttl));
    let known = expire_at(tx, instance, until)?;
    if !known {
        tx.conn.exec(
            "INSERT INTO holders (instance, expires_at) VALUES (?, ?)",
            params![instance, until],
        )?;
    }
    for held in held {
        let id = held.id.as_str();
        tx.conn.exec(
            "INSERT INTO held (instance, schedule, revision) VALUES (?1, ?2, ?3) \
             ON CONFLICT (instance, schedule) DO UPDATE SET revision = excluded.revision",
            params![instance, id, held.revision],
        )?;
        // A new schedule has no cursor yet: its registration follows.
        tx.conn.exec(
            "INSERT INTO scopes (scope, schedule) VALUES (?, ?) ON CONFLICT DO NOTHING",
            params![held.scope, id],
        )?;
    }
    Ok(known)
}

/// Sets when the instance expires. Returns whether it was known.
fn expire_at(tx: &Tx<'_>, instance: &str, end: i64) -> Result<bool, SqlError> {
    let known = tx.conn.exec(
        "UPDATE holders SET expires_at = ? WHERE instance = ?",
        params![end, instance],
    )?;
    Ok(known > 0)
}

/// Deletes expired instances. An expiry further ahead than any can be was written with a wrong clock.
fn forget_ended(tx: &Tx<'_>) -> Result<(), SqlError> {
    let latest = tx.now.saturating_add(span(HOLD_AT_MOST)).saturating_add(1);
    for statement in [
        "DELETE FROM held WHERE instance IN \
         (SELECT instance FROM holders WHERE expires_at <= ?1 OR expires_at > ?2)",
        "DELETE FROM holders WHERE expires_at <= ?1 OR expires_at > ?2",
    ] {
        tx.conn.exec(statement, [tx.now, latest])?;
    }
    Ok(())
}

/// Removes an instance that ends in good order, so that its schedules need not wait for its expiry.
pub(super) fn let_go(tx: &Tx<'_>, instance: &str, soon: Duration) -> Result<(), SqlError> {
    expire_at(tx, instance, tx.now.saturating_add(span(soon))).map(drop)
}

/// Withdraws schedules that an instance no longer has, unless another instance has them.
pub(super) fn withdraw(
    tx: &Tx<'_>,
    instance: &str,
    scope: &str,
    ids: &[ScheduleId],
) -> Result<Vec<ScheduleId>, SqlError> {
    forget_ended(tx)?;
    let mut withdrawn = Vec::new();
    for id in ids {
        let name = id.as_str();
        tx.conn
            .exec("DELETE FROM held WHERE instance = ? AND schedule = ?", [instance, name])?;
        let held_elsewhere = tx
            .conn
            .value("SELECT EXISTS (SELECT 1 FROM held WHERE schedule = ?)", [name])?;
        if held_elsewhere {
            continue;
        }
        tx.conn
            .exec("DELETE FROM scopes WHERE scope = ? AND schedule = ?", [scope, name])?;
        let marked = tx.conn.exec(
            "UPDATE schedules SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL",
            params![tx.now, name],
        )?;
        if marked > 0 {
            withdrawn.push(id.clone());
        }
    }
    Ok(withdrawn)
}

/// Schedules that were held from a scope and not withdrawn since.
pub(super) fn held_from(conn: &Connection, scope: &str) -> Result<Vec<ScheduleId>, SqlError> {
    conn.all(
        "SELECT schedule FROM scopes WHERE scope = ? LIMIT ?",
        params![scope, column(MOST)],
        |row| Ok(ScheduleId::from_text(row.get::<_, String>(0)?)),
    )
}

/// The last time that cursors were corrected.
pub(super) fn corrections(conn: &Connection) -> Result<Option<Corrections>, SqlError> {
    conn.first("SELECT at, ahead_s, schedules FROM clock_corrections", [], |row| {
        Ok(Corrections {
            at: instant(row.get(0)?),
            ahead: Duration::from_secs(count(row.get(1)?)),
            schedules: count(row.get(2)?),
        })
    })
}

/// Tries to become or stay the leader; without a length resigns.
fn lead(tx: &Tx<'_>, instance: &str, ttl: Option<Duration>) -> Result<bool, SqlError> {
    let changed = match ttl {
        Some(ttl) => tx.conn.exec(
            "INSERT INTO leader (one, instance, expires_at) VALUES (1, ?1, ?2) \
             ON CONFLICT (one) DO UPDATE SET instance = excluded.instance, \
                 expires_at = excluded.expires_at \
             WHERE leader.instance = excluded.instance OR leader.expires_at <= ?3 \
                 OR leader.expires_at > ?4",
            params![
                instance,
                tx.now.saturating_add(span(ttl)),
                tx.now,
                // A later end was written with a wrong clock.
                tx.now.saturating_add(span(HOLD_AT_MOST)),
            ],
        )?,
        None => tx.conn.exec("DELETE FROM leader WHERE instance = ?", [instance])?,
    };
    Ok(changed > 0)
}

/// Records how many cursors were corrected; those of one correction count together.
pub(super) fn note_corrections(tx: &Tx<'_>, ahead_s: i64, schedules: i64) -> Result<(), SqlError> {
    tx.conn.exec(
        "INSERT INTO clock_corrections (one, at, ahead_s, schedules) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (one) DO UPDATE SET at = ?1, \
             ahead_s = iif(?1 - at BETWEEN 0 AND ?4, max(ahead_s, ?2), ?2), \
             schedules = iif(?1 - at BETWEEN 0 AND ?4, schedules, 0) + ?3",
        [tx.now, ahead_s, schedules, ONE_CORRECTION],
    )?;
    Ok(())
}

#[async_trait]
impl Holders for EmbeddedBroker {
    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool> {
        let instance = instance.to_owned();
        let change = move |tx: &mut Tx<'_>| lead(tx, &instance, Some(ttl));
        self.writer.write("change the leader", change).await
    }

    async fn resign(&self, instance: &str) -> BrokerResult<()> {
        let (leader, holder) = (instance.to_owned(), instance.to_owned());
        let change = move |tx: &mut Tx<'_>| lead(tx, &leader, None);
        self.writer.write("change the leader", change).await?;
        let change = move |tx: &mut Tx<'_>| let_go(tx, &holder, HOLD_AFTER_END);
        self.writer.write_unsynced("report that an instance ends", change).await
    }

    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool> {
        let (instance, held) = (instance.to_owned(), held.to_vec());
        let change = move |tx: &mut Tx<'_>| hold(tx, &instance, &held, ttl);
        // Unsynced: it is repeated every few seconds.
        self.writer
            .write_unsynced("report which schedules an instance has", change)
            .await
    }

    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>> {
        let (instance, scope, ids) = (instance.to_owned(), scope.to_owned(), ids.to_vec());
        let change = move |tx: &mut Tx<'_>| withdraw(tx, &instance, &scope, &ids);
        self.writer.write("withdraw schedules", change).await
    }

    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>> {
        let scope = scope.to_owned();
        let query = move |conn: &Connection| held_from(conn, &scope);
        self.readers.query("ask for the schedules of a source", query).await
    }
}
