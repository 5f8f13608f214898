//! What the environment overrides, and which variables are reported.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use runner_queue::redis::{RedisSettings, RedisTarget};
use tracing::level_filters::LevelFilter;

use crate::config::{BrokerSettings, Credential, Environment, Refused, Settings};
use crate::source::TableSettings;

#[test]
fn the_environment_overrides_the_file() {
    let environment = Environment::of(&[
        ("RUNNER_REDIS_HOST", "other:7000"),
        ("RUNNER_LOG_MAX_SIZE", "7"),
        ("RUNNER_LOG_PATH", "x.log"),
        ("RUNNER_WORKER_QUEUES", "critical=6, low"),
        ("RUNNER_ROLES", "worker,web"),
        ("RUNNER_SERVER_ADDR", "127.0.0.1:0"),
        ("BINGO_SERVER_TIMEZONE", "UTC"),
    ]);
    let settings = Settings::parse("c", "server: {addr: \":1\"}\n", &environment).unwrap();
    assert!(matches!(&settings.broker, BrokerSettings::Redis(redis) if **redis == RedisSettings::at("other:7000")));
    assert_eq!(settings.log.file.unwrap().max_bytes, 7 * 1024 * 1024);
    assert_eq!(settings.worker.queues.len(), 2);
    assert_eq!(settings.worker.queues["critical"], 6);
    assert!(!settings.roles.scheduler && settings.roles.web);
    assert_eq!(settings.addr.to_string(), "127.0.0.1:0");
    assert_eq!(settings.source.zone_name, "UTC");
    let settings = Settings::parse("c", "server: {allowed_hosts: [a.example]}\n", &Environment::default()).unwrap();
    assert_eq!(settings.web.allowed_hosts, ["a.example"]);
}

#[test]
fn variables_of_the_same_form_set_lists_maps_and_users() {
    let settings = |variables: &[(&str, &str)]| {
        let text = "auth: {users: [{name: file, password: x}]}\nworker: {queues: {a: 1}}\n";
        Settings::parse("c", text, &Environment::of(variables)).unwrap()
    };
    let read = settings(&[
        ("RUNNER_ROLES", r#"["worker", "web"]"#),
        ("RUNNER_WORKER_QUEUES", r#"{"critical": 6, "low": 1}"#),
        ("RUNNER_SERVER_ALLOWED_HOSTS", r#"["a.example"]"#),
        ("PW", "hunter2"),
        (
            "RUNNER_AUTH_USERS",
            r#"[{"name": "ann", "password": "${env:PW}", "role": "admin"}, {"name": "bob", "password": "p"}]"#,
        ),
    ]);
    assert!(!read.roles.scheduler && read.roles.worker && read.roles.web);
    assert_eq!((read.worker.queues.len(), read.worker.queues["critical"]), (2, 6));
    assert_eq!(read.web.allowed_hosts, ["a.example"]);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let users = read.auth.users;
    let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(matches!(&users[0].credential, Credential::Password(p) if p.expose() == "hunter2"));
    assert!(settings(&[("RUNNER_AUTH_USERS", "")]).auth.users.is_empty());
    let secret = r#"[{"name": "ci", "token": "0123456789abcdef0123456789abcdef", "scopes": ["act:tasks"]}]"#;
    let read = settings(&[("RUNNER_AUTH_TOKENS", secret)]).auth;
    let names: Vec<_> = read.tokens.iter().map(|token| token.name.as_str()).collect();
    assert_eq!((read.users.len(), names), (1, vec!["ci"]));
}

#[test]
fn a_variable_that_cannot_be_read_is_named_without_its_value() {
    for (name, value, code, words) in [
        (
            "RUNNER_ROLES",
            r#"["worker""#,
            "CFG_SYNTAX",
            r#"write a,b or ["a","b"]"#,
        ),
        ("RUNNER_ROLES", r#"["wizard"]"#, "CFG_VALUE", "scheduler, worker or web"),
        (
            "RUNNER_WORKER_QUEUES",
            r#"{"a":6"#,
            "CFG_SYNTAX",
            r#"write a=6,b=3 or {"a":6,"b":3}"#,
        ),
        ("RUNNER_WORKER_QUEUES", r#"{"a":-6}"#, "CFG_RANGE", "from 1 to 10000"),
        ("RUNNER_AUTH_USERS", "[{hunter2", "CFG_SYNTAX", "as JSON"),
        ("RUNNER_AUTH_USERS", "hunter2", "CFG_TYPE", "a list of maps"),
        (
            "RUNNER_AUTH_USERS",
            r#"[{"pasword": "hunter2"}]"#,
            "CFG_AUTH",
            "auth.users[0].name",
        ),
        (
            "RUNNER_AUTH_USERS",
            r#"[{"name": "a", "pasword": "hunter2"}]"#,
            "CFG_UNKNOWN",
            "did you mean \"password\"",
        ),
        (
            "RUNNER_AUTH_USERS",
            r#"[{"name": "a", "password": "${env:NONE}"}]"#,
            "CFG_REFERENCE",
            "NONE is not set",
        ),
        (
            "RUNNER_AUTH_USERS",
            r#"[{"name": "a", "password_hash": "hunter2"}]"#,
            "CFG_AUTH",
            "Argon2",
        ),
    ] {
        let refused = Settings::parse("c", "", &Environment::of(&[(name, value)])).unwrap_err();
        let hit = refused.0.iter().find(|problem| problem.code == code);
        let hit = hit.unwrap_or_else(|| panic!("{value}: {refused}"));
        assert_eq!(hit.place, name, "{value}: {refused}");
        assert!(hit.to_string().contains(words), "{value}: {hit}");
        assert!(!refused.to_string().contains("hunter2"), "{value}: {refused}");
    }
}

#[test]
fn a_variable_without_effect_is_never_silent() {
    let environment = Environment::of(&[
        ("RUNNER_REDIS_HOTS", "x"),
        ("runner_redis_host", "x"),
        ("runner_home", "of another tool"),
        ("RUNNER_PORT", "of a container platform"),
        ("RUNNER_PORT_8080_TCP", "of the same"),
        ("RUNNER_TOOL_CACHE", "of another tool"),
        ("RUNNER_TASK_ID", "of the task that calls this program"),
        ("RUNNER_LOG_LEVEL", "warn"),
        ("BINGO_LOG_LEVEL", "debug"),
        ("BINGO_MYSQL_LOGLEVEL", "warn"),
    ]);
    let settings = Settings::parse("c", "", &environment).unwrap();
    let mut found: Vec<_> = settings
        .warnings
        .iter()
        .map(|w| (w.code.as_str(), w.place.as_str()))
        .collect();
    found.sort_unstable();
    let wanted = [
        ("CFG_IGNORED", "BINGO_LOG_LEVEL"),
        ("CFG_IGNORED", "RUNNER_PORT"),
        ("CFG_LEGACY", "BINGO_MYSQL_LOGLEVEL"),
        ("CFG_UNKNOWN", "RUNNER_REDIS_HOTS"),
        ("CFG_UNKNOWN", "runner_redis_host"),
    ];
    assert_eq!(found, wanted);
    let printed = |place: &str| {
        let warning = settings.warnings.iter().find(|w| w.place == place);
        warning.map(ToString::to_string).unwrap_or_default()
    };
    assert!(printed("RUNNER_REDIS_HOTS").contains("did you mean RUNNER_REDIS_HOST?"));
    assert!(printed("runner_redis_host").contains("did you mean RUNNER_REDIS_HOST?"));
    assert!(printed("RUNNER_PORT").contains(": RUNNER_PORT, RUNNER_PORT_8080_TCP, RUNNER_TOOL_CACHE"));
    assert!(printed("BINGO_LOG_LEVEL").contains("RUNNER_LOG_LEVEL is set"));
    assert_eq!(settings.log.level, LevelFilter::WARN);
    assert!(matches!(settings.broker, BrokerSettings::Embedded { .. }));
}

#[test]
fn references_in_variables_are_resolved_as_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let of_file = format!("${{file:{}}}", file.display());
    let environment = Environment::of(&[
        ("RUNNER_SERVER_KEY", &of_file),
        ("RUNNER_REDIS_HOST", "${env:PLACE}:7000"),
        ("RUNNER_REDIS_PASSWORD", "x$${y}"),
        ("RUNNER_WORKER_QUEUES", "${env:QUEUES}"),
        ("RUNNER_SERVER_ALLOWED_HOSTS", "a.example,${env:PLACE}"),
        ("RUNNER_DATABASE_DRIVER", "postgres"),
        ("RUNNER_DATABASE_HOST", "db"),
        ("RUNNER_DATABASE_PASSWORD", &of_file),
        ("PLACE", "r"),
        ("QUEUES", "critical=6,low"),
    ]);
    let settings = Settings::parse("c", "", &environment.beside("/elsewhere".into())).unwrap();
    assert_eq!(settings.key.unwrap().expose(), "0123456789abcdef0123456789abcdef");
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("not redis")
    };
    assert_eq!(redis.target, RedisTarget::Server("r:7000".to_owned()));
    assert_eq!(redis.password.unwrap().expose(), "x${y}");
    assert_eq!(settings.worker.queues["critical"], 6);
    assert_eq!(settings.web.allowed_hosts, ["a.example", "r"]);
    let Some(TableSettings::Postgres(database)) = settings.source.table else {
        panic!("not postgres")
    };
    std::fs::write(&file, "another\n").unwrap();
    assert_eq!(database.login.read().unwrap().1, "another");
}

#[test]
fn a_reference_in_a_variable_that_leads_nowhere_is_an_error_that_names_the_variable() {
    for value in ["${file:/does/not/exist/at/all}", "${env:NONE}", "${NONE}", "${env:NONE"] {
        for name in [
            "RUNNER_SERVER_KEY",
            "RUNNER_ROLES",
            "RUNNER_WORKER_QUEUES",
            "BINGO_LOG_LEVEL",
        ] {
            let environment = Environment::of(&[(name, value)]);
            let Refused(problems) = Settings::parse("c", "", &environment).unwrap_err();
            let found: Vec<_> = problems.iter().map(|p| (p.code.as_str(), p.place.as_str())).collect();
            assert_eq!(found, [("CFG_REFERENCE", name)], "{value}: {problems:?}");
        }
    }
}
