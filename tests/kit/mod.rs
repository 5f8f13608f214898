//! The foundation of integration tests: servers, the program as a process, waiting with deadlines.
//!
//! # Adding a test
//!
//! A test is an `async fn` without arguments that panics when it fails. A module lists its tests, and
//! `tests/main.rs` lists the modules (one `mod x;` line, one `x::tests(),` line):
//!
//! ```ignore
//! use crate::kit;
//!
//! pub fn tests() -> Vec<kit::Trial> {
//!     kit::trials![
//!         needs(Redis): a_task_is_claimed_once, a_lost_worker_is_noticed;
//!         needs(Redis, MariaDb): a_row_becomes_a_schedule;
//!         needs(): the_program_starts_in_an_empty_directory;
//!     ]
//! }
//!
//! async fn a_task_is_claimed_once() {
//!     let db = kit::redis().fresh_db();          // a database number for this test only
//!     // db.url() is `redis://127.0.0.1:PORT/NUMBER`
//! }
//! ```
//!
//! Tests made from a list (a contract suite, one test a clause) are made by hand; any `FnOnce` that
//! returns a future will do:
//!
//! ```ignore
//! clauses().into_iter().map(|(name, clause)| {
//!     kit::trial(format!("brokers::redis::{name}"), &[kit::Need::Redis], move || async move {
//!         clause(open_broker().await).await;
//!     })
//! }).collect()
//! ```
//!
//! A test whose needs are absent on this machine is reported as *ignored*, by name and reason, and never
//! as passed. With `RUNNER_TEST_ALL=1` (set by `scripts/test`) it fails instead.
//!
//! # Servers
//!
//! [`redis()`], [`mariadb()`] and [`postgres()`] start once per test process, on first use, on a free port of 127.0.0.1 and
//! in a temporary directory. Every test takes its own database from them; a Redis Cluster has only one, so tests take turns
//! at [`cluster()`], and queues of names of their own on [`rabbitmq()`]. All children die with the test process, even when it is killed.
//!
//! # The program
//!
//! [`Site`] is a directory with a `config.yaml`; [`Site::start`] runs the built binary there and waits
//! until it is ready; [`Site::cli`] runs one of its commands there. [`eventually`] waits for a condition
//! and fails with the last reason why it did not hold.
#![allow(dead_code, unused_imports)] // tests come and go; the kit stays

mod children;
mod cluster;
mod fault;
mod go_worker;
mod http;
pub mod mariadb;
mod names;
mod nginx;
pub mod own_tests;
pub mod pages;
pub mod pgbouncer;
mod postgres;
mod program;
mod prometheus;
mod proxy;
mod rabbitmq;
mod receiver;
mod redis;
pub mod sentinel;
pub mod smtp;
mod sql;
pub mod tls;
mod trial;
mod wait;

pub use children::{Child, free_port, scratch};
pub use cluster::{Cluster, ClusterTurn, cluster};
pub use fault::{Fault, long};
pub use go_worker::{GoWorker, Ran};
pub use http::{Http, Reply};
pub use libtest_mimic::Trial;
pub use mariadb::mariadb;
pub use names::{Forward, Names};
pub use nginx::Nginx;
pub use postgres::postgres;
pub use program::{Finished, Runner, Site, foreign};
pub use prometheus::Prometheus;
pub use proxy::{Harm, Proxy};
pub use rabbitmq::{RabbitChannel, RabbitServer, queue_name, rabbitmq};
pub use receiver::{HttpReceiver, ReceivedCall, Scripted};
pub use redis::{RedisDb, RedisServer, link_to, redis};
pub use sql::{Dialect, SqlDb};
pub(crate) use trial::trials;
pub use trial::{Need, run, trial, trial_within};
pub use wait::{eventually, eventually_within};
