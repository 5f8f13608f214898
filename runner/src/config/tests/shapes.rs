//! The settings in their usual shapes: the files of the Go service, the defaults, single sections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use runner_queue::GroupRule;
use runner_queue::redis::RedisTarget;
use tracing::level_filters::LevelFilter;

use super::{parse, problems};
use crate::config::BrokerSettings;
use crate::source::TableSettings;

const SEED: &str = include_str!("../../../../tests/data/config/bingo-scheduler.yaml");

#[test]
fn the_file_of_the_go_service_loads_unchanged() {
    let settings = parse(SEED);
    assert_eq!(settings.web.name, "bingo-scheduler");
    assert_eq!(settings.addr.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.source.zone_name, "Asia/Shanghai");
    assert_eq!(settings.key.unwrap().expose(), "your-secret-key");
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("not redis")
    };
    assert_eq!(redis.target, RedisTarget::Server("redis:6379".to_owned()));
    assert_eq!((redis.password, redis.database), (None, 1));
    let Some(TableSettings::MySql(mysql)) = settings.source.table else {
        panic!("not mysql")
    };
    assert_eq!((mysql.host.as_str(), mysql.port), ("mysql", 3306));
    assert_eq!(mysql.login.read(), Ok(("root".to_owned(), "root".to_owned())));
    assert_eq!(mysql.database, "bingo");
    assert_eq!(mysql.max_lifetime, Some(Duration::from_secs(10)));
    assert!(settings.web.queue_dash && settings.log.console);
    let file = settings.log.file.unwrap();
    assert_eq!(file.path, Path::new("storage/log/scheduler.log"));
    assert_eq!((file.max_bytes, file.compress), (100 * 1024 * 1024, true));
    assert_eq!(file.keep, Duration::from_secs(7 * 24 * 3600));
    let codes: Vec<_> = settings.warnings.iter().map(|w| w.code.as_str()).collect();
    assert_eq!(codes, ["CFG_LEGACY", "CFG_LEGACY"], "{:?}", settings.warnings);
}

#[test]
fn the_newer_shape_of_the_go_service_loads_too() {
    let settings = parse(
        "app: {name: s, timezone: Asia/Tokyo, key: k, url: http://x}\n\
         http: {enabled: false, addr: \":9000\", ginMode: debug}\n\
         redis: {host: r, username: u, password: p, database: 2}\n\
         feature: {metrics: true, profiling: false, apiDoc: true, queueDash: false}\n\
         mail: {host: smtp:25, username: a}\ncode: {length: 6}\n",
    );
    assert_eq!(
        (settings.web.name.as_str(), settings.source.zone_name.as_str()),
        ("s", "Asia/Tokyo")
    );
    assert_eq!((settings.web.templates.is_some(), settings.roles.web), (true, false));
    assert_eq!(settings.addr.port(), 9000);
    assert!(!settings.web.queue_dash);
    assert_eq!(settings.warnings.len(), 6);
}

#[test]
fn without_a_file_everything_has_a_safe_default() {
    let settings = parse("");
    assert_eq!(settings.addr.to_string(), "127.0.0.1:8080");
    assert!(settings.is_loopback());
    assert!(matches!(&settings.broker, BrokerSettings::Embedded { path } if path == Path::new("data/runner.db")));
    assert!(
        matches!(&settings.source.table, Some(TableSettings::OfBroker { path }) if path == Path::new("data/runner.db"))
    );
    assert_eq!(settings.source.manifests.unwrap().dir, Path::new("manifests"));
    assert!(settings.worker.concurrency >= 10);
    assert_eq!(settings.worker.queues.get("default"), Some(&1));
    assert_eq!(settings.source.sync_interval, Duration::from_secs(10));
    assert_eq!(settings.log.level, LevelFilter::INFO);
    assert!(settings.log.file.is_none() && settings.warnings.is_empty());
}

#[test]
fn metrics_may_have_an_address_of_their_own() {
    assert_eq!(parse("server: {addr: \":8080\"}\n").metrics_addr, None);
    let settings = parse("server: {metrics_addr: \":9090\"}\n");
    assert_eq!(settings.metrics_addr.unwrap().to_string(), "0.0.0.0:9090");
    let found = problems("server: {addr: \":9090\", metrics_addr: \":9090\"}\n");
    assert_eq!((found.len(), found[0].code.as_str()), (1, "CFG_TWICE"), "{found:?}");
    assert_eq!(problems("server: {metrics_addr: nowhere}\n")[0].code, "CFG_ADDR");
}

#[test]
fn a_database_named_by_a_url_has_the_same_limits() {
    let settings = parse("database: {url: \"postgres://u@h/d\", max_connections: 3, max_lifetime: 5s}\n");
    let Some(TableSettings::Postgres(server)) = settings.source.table else {
        panic!("not postgres")
    };
    assert_eq!(server.max_lifetime, Some(Duration::from_secs(5)));
}

#[test]
fn groups_have_asynqs_defaults_and_zero_is_no_bound() {
    let groups = |text: &str| parse(text).worker.groups;
    assert_eq!(groups(""), GroupRule::default());
    let zero = "worker: {group_max_delay: 0s, group_max_size: 0}";
    assert_eq!(groups(zero), GroupRule::default());
    let all = groups("worker: {group_grace_period: 1s, group_max_delay: 1h, group_max_size: 20}");
    assert_eq!(
        (all.grace.as_secs(), all.max_delay, all.max_size),
        (1, Some(Duration::from_secs(3600)), Some(20))
    );
}
