//! Random runs of operations against each broker and against a model of maps and lists, compared after every step.
//!
//! The model (`world` and the files around it) is the seam's semantics in the plainest form; `dialect` lists all points in
//! which the two brokers may differ. A failing run is shrunk and printed with its seed: `RUNNER_SEED=n` runs only that one.
//! Former failures are in `regressions`. `RUNNER_LONG=1` runs more and longer ones.
//!
//! Not here: several programs at once (see `chaos`), data of other programs (see `redis_broker`, `golden`).

mod act;
mod compare;
mod dialect;
mod draw;
mod look;
mod op;
mod produce;
mod regressions;
mod run;
mod step;
mod subject;
mod work;
mod world;

use std::time::Duration;

use crate::kit;

/// Upper bound for all cases of one broker on a busy machine; a minute on a quiet one.
const SHORT_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The same for the long form.
const LONG_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    let limit = if run::is_long() { LONG_LIMIT } else { SHORT_LIMIT };
    let redis = &[kit::Need::Redis];
    vec![
        kit::trial("model::regressions_on_embedded", &[], regressions_on_embedded),
        kit::trial("model::regressions_on_redis", redis, regressions_on_redis),
        kit::trial_within(limit, "model::embedded_is_as_the_model", &[], embedded_is_as_the_model),
        kit::trial_within(limit, "model::redis_is_as_the_model", redis, redis_is_as_the_model),
    ]
}

pub async fn embedded_is_as_the_model() {
    run::apart(|| async { subject::Subject::embedded().await }, run::many).await;
}

pub async fn redis_is_as_the_model() {
    let server = kit::RedisServer::start(&[]);
    let port = server.port;
    run::apart(move || async move { subject::Subject::redis(port, 0).await }, run::many).await;
}

pub async fn regressions_on_embedded() {
    run::apart(|| async { subject::Subject::embedded().await }, regressions::all).await;
}

pub async fn regressions_on_redis() {
    let server = kit::RedisServer::start(&[]);
    let port = server.port;
    run::apart(
        move || async move { subject::Subject::redis(port, 0).await },
        regressions::all,
    )
    .await;
}
