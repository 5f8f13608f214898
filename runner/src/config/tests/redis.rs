//! The section `redis` from outside: every way to name a server, overrides, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic)]

use runner_queue::redis::{Password, RedisSettings, RedisTarget, RedisTls};

use crate::config::{BrokerSettings, Environment, Refused, Settings};

fn read(text: &str, variables: &[(&str, &str)]) -> Result<RedisSettings, Refused> {
    let settings = Settings::parse("c", text, &Environment::of(variables))?;
    match settings.broker {
        BrokerSettings::Redis(redis) => Ok(*redis),
        BrokerSettings::Embedded { .. } => panic!("not redis: {text}"),
    }
}

#[test]
fn every_way_to_name_a_server_is_read() {
    let redis = read("redis: {url: \"rediss://ann:pw@h:1/2\"}", &[]).unwrap();
    assert_eq!(redis, RedisSettings::from_url("rediss://ann:pw@h:1/2").unwrap());
    let redis = read("redis: {host: /run/redis.sock, password: pw}", &[]).unwrap();
    assert_eq!(redis.target, RedisTarget::Socket("/run/redis.sock".into()));
    let redis = read(
        "redis:\n  password: p\n  sentinel: {master: m, addresses: [a, \"b:1\"], username: s, password: sp}\n",
        &[],
    );
    let redis = redis.unwrap();
    assert_eq!(redis.password, Some(Password::new("p")));
    let RedisTarget::Sentinels(sentinels) = redis.target else {
        panic!("not sentinels")
    };
    assert_eq!(sentinels.addresses, ["a:26379", "b:1"]);
    assert_eq!(sentinels.password, Some(Password::new("sp")));
    let redis = read("redis: {host: a, durability: replicated, allow_eviction: true}", &[]).unwrap();
    assert_eq!((redis.replicas, redis.allow_eviction), (1, true));
    let redis = read("redis: {cluster: {addresses: [a, b]}}", &[]).unwrap();
    assert_eq!(
        redis.target,
        RedisTarget::Cluster(vec!["a:6379".into(), "b:6379".into()])
    );
}

#[test]
fn a_url_leaves_room_for_what_it_does_not_say() {
    let text = "redis:\n  url: redis-sentinel://:sp@a,b\n  password: \"${env:PW}\"\n  database: 3\n  \
                sentinel: {master: m}\n  tls: {ca_file: ca.pem}\n";
    let redis = read(text, &[("PW", "p")]).unwrap();
    assert_eq!((redis.password, redis.database), (Some(Password::new("p")), 3));
    let RedisTarget::Sentinels(sentinels) = redis.target else {
        panic!("not sentinels")
    };
    assert_eq!(
        (sentinels.master.as_str(), sentinels.password),
        ("m", Some(Password::new("sp")))
    );
    assert_eq!(redis.tls.unwrap().ca_file, Some("ca.pem".into()));
}

#[test]
fn variables_override_the_way_and_add_tls() {
    let redis = read("redis: {host: h}", &[("RUNNER_REDIS_URL", "redis://other:1")]).unwrap();
    assert_eq!(redis, RedisSettings::at("other:1"));
    let variables = [
        ("RUNNER_REDIS_SENTINEL_ADDRESSES", "a,b"),
        ("RUNNER_REDIS_SENTINEL_MASTER", "m"),
        ("RUNNER_REDIS_TLS_CA_FILE", "/ca.pem"),
    ];
    let redis = read("", &variables).unwrap();
    assert!(matches!(redis.target, RedisTarget::Sentinels(s) if s.master == "m"));
    let tls = RedisTls {
        ca_file: Some("/ca.pem".into()),
        ..RedisTls::default()
    };
    assert_eq!(redis.tls, Some(tls));
    let redis = read("redis: {url: \"redis://:a@h\"}", &[("RUNNER_REDIS_PASSWORD", "b")]).unwrap();
    assert_eq!(redis.password, Some(Password::new("b")));
}

#[test]
fn what_contradicts_itself_is_refused_and_no_secret_is_repeated() {
    for (text, code, words) in [
        (
            "redis: {host: a, url: \"redis://:hunter2@b\"}",
            "CFG_TWICE",
            "both say where",
        ),
        (
            "redis: {url: \"redis://:hunter2@b\", password: hunter2}",
            "CFG_TWICE",
            "redis.password",
        ),
        (
            "redis: {url: \"redis://b/1\", database: 2}",
            "CFG_TWICE",
            "redis.database",
        ),
        (
            "redis: {host: a, sentinel: {addresses: [b]}}",
            "CFG_TWICE",
            "both say where",
        ),
        (
            "redis: {host: a, sentinel: {master: m}}",
            "CFG_REDIS",
            "does not go with",
        ),
        (
            "redis: {sentinel: {addresses: [a]}}",
            "CFG_REDIS",
            "redis.sentinel.master",
        ),
        ("redis: {sentinel: {master: m}}", "CFG_REDIS", "redis.host is missing"),
        ("redis: {url: \"redis://h\", tls: {}}", "CFG_REDIS", "rediss://"),
        ("redis: {host: /run/r.sock, tls: {}}", "CFG_REDIS", "socket"),
        ("redis: {host: a, tls: {cert_file: c}}", "CFG_REDIS", "key_file"),
        ("redis: {host: a, tls: {ca: c}}", "CFG_UNKNOWN", "ca_file"),
        ("redis: {host: a, tls: true}", "CFG_TYPE", "a map"),
        ("redis: {url: \"http://:hunter2@b\"}", "CFG_REDIS", "rediss://"),
        ("redis: {host: \"redis://:hunter2@b\"}", "CFG_REDIS", "redis.url"),
        (
            "redis: {sentinel: {master: m, addresses: [\"x://hunter2\"]}}",
            "CFG_REDIS",
            "host:port",
        ),
        (
            "redis: {cluster: {addresses: [a], host: b}}",
            "CFG_UNKNOWN",
            "addresses",
        ),
        ("redis: {host: a, allow_eviction: yes}", "CFG_VALUE", "true or false"),
    ] {
        let refused = read(text, &[]).unwrap_err();
        assert!(
            refused.0.iter().any(|problem| problem.code == code),
            "{text}: {refused}"
        );
        let refusal = refused.to_string();
        assert!(refusal.contains(words), "{text}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{text}: {refusal}");
    }
}

#[test]
fn a_username_without_a_password_is_refused() {
    for text in [
        "redis: {host: h, username: app}",
        "redis: {url: \"redis://app@h\"}",
        "redis: {url: \"redis-sentinel://watch@h?master=m\"}",
        "redis: {sentinel: {master: m, addresses: [h], username: watch}}",
    ] {
        let refused = read(text, &[]).unwrap_err();
        assert_eq!(refused.0[0].code, "CFG_REDIS", "{text}: {refused}");
        let refusal = refused.to_string();
        assert!(
            refusal.contains("username without a password") && refusal.contains("password: ${file"),
            "{text}: {refusal}"
        );
    }
    assert!(read("redis: {url: \"redis://app@h\", password: p}", &[]).is_ok());
    assert!(read("redis: {host: h, username: app}", &[("RUNNER_REDIS_PASSWORD", "p")]).is_ok());
}
