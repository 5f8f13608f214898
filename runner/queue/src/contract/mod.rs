//! The contract that every broker keeps, as clauses that a test binary runs against each.
//!
//! A clause is an async function named as a sentence; [`all`] lists them all, and a test binary makes one
//! test of each for each broker, so that none is left out by accident. (A clause that is on no list is dead
//! code, which the compiler reports.) Each ends with an audit of the store. What a broker cannot honour is a
//! field of [`Fresh`] that the clause asks, never a silent pass elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::any::Any;
use std::sync::Arc;

use futures_util::future::{BoxFuture, LocalBoxFuture};
use runner_core::clock::ManualClock;

use crate::{Broker, BrokerResult};

/// Names its arguments, for the list of a file.
macro_rules! clauses {
    ($($clause:ident),* $(,)?) => {
        vec![$($crate::contract::Clause {
            name: stringify!($clause),
            keep: |fresh| Box::pin($clause(fresh)),
        }),*]
    };
}

mod act;
mod audit_list;
mod bulk;
mod claim;
mod clock;
mod document;
mod follow;
mod group;
mod history;
mod holders;
mod inspect;
mod limits;
mod lost;
mod manual;
mod occurrence;
mod once;
mod options;
mod produce;
mod remove;
mod runs;
mod schedule;
mod semaphores;
mod settle;
mod shared;
mod staged;
mod stale;
mod states;
mod statistics;
mod types;
mod unique;
mod upkeep;
mod workflow;

/// One clause.
#[derive(Clone, Copy)]
pub struct Clause {
    /// Its sentence, with underscores.
    pub name: &'static str,
    /// Panics when the broker does not keep it.
    pub keep: fn(Fresh) -> LocalBoxFuture<'static, ()>,
}

/// All clauses.
#[must_use]
pub fn all() -> Vec<Clause> {
    [
        produce::clauses(),
        once::clauses(),
        unique::clauses(),
        options::clauses(),
        claim::clauses(),
        types::clauses(),
        settle::clauses(),
        stale::clauses(),
        lost::clauses(),
        limits::clauses(),
        semaphores::clauses(),
        follow::clauses(),
        states::clauses(),
        upkeep::clauses(),
        act::clauses(),
        bulk::clauses(),
        remove::clauses(),
        runs::clauses(),
        inspect::clauses(),
        history::clauses(),
        statistics::clauses(),
        group::clauses(),
        staged::clauses(),
        schedule::clauses(),
        occurrence::clauses(),
        manual::clauses(),
        document::clauses(),
        audit_list::clauses(),
        workflow::clauses(),
        clock::clauses(),
        holders::clauses(),
    ]
    .concat()
}

/// Lists contradictions in the store, one line each; empty when all is well.
pub type Audit = Box<dyn Fn() -> BoxFuture<'static, BrokerResult<Vec<String>>> + Send + Sync>;

/// Runs a command in the store of a broker, as other programs do; gives the texts of its answer.
pub type Beside = Box<dyn Fn(Vec<String>) -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// A broker over an empty store of its own.
pub struct Fresh {
    /// The broker, by whose clock time passes.
    pub broker: Arc<dyn Broker>,
    /// That clock. Starts at [`START`].
    pub clock: Arc<ManualClock>,
    /// Looks for contradictions in the store.
    pub audit: Audit,
    /// Whether lapses that the store itself watches over (uniqueness locks, silent servers, the leader) follow the
    /// real time instead of `clock`. Clauses about such a lapse then wait for it.
    pub real_time_ttl: bool,
    /// How programs in Go that share the store ask it; `None` for a store that they do not share.
    pub beside: Option<Beside>,
    /// Whatever must live as long as the store: a directory, a server process.
    pub held: Box<dyn Any + Send>,
}

/// The initial time of a [`Fresh`] broker: 2030-01-02 03:04:05 UTC, a whole second.
pub const START: i64 = 1_893_553_445;

impl Fresh {
    /// The end of every clause.
    ///
    /// # Panics
    ///
    /// When the audit found something.
    pub async fn is_sound(self) {
        let found = (self.audit)().await.unwrap();
        assert!(found.is_empty(), "the audit found {found:#?}");
    }
}
