//! The settings from outside: the user's own file, the newer shape, overrides, and a table of bad input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use runner_queue::GroupRule;
use runner_queue::redis::{Password, RedisSettings, RedisTarget};
use tracing::level_filters::LevelFilter;

use super::*;

const SEED: &str = include_str!("../../../tests/data/config/bingo-scheduler.yaml");

fn parse(text: &str) -> Settings {
    Settings::parse("config.yaml", text, &Environment::default()).unwrap()
}

fn problems(text: &str) -> Vec<SettingProblem> {
    match Settings::parse("config.yaml", text, &Environment::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(Refused(problems)) => problems,
    }
}

#[test]
fn the_file_of_the_go_service_loads_unchanged() {
    let settings = parse(SEED);
    assert_eq!(settings.name, "bingo-scheduler");
    assert_eq!(settings.addr.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.zone_name, "Asia/Shanghai");
    assert_eq!(settings.key.unwrap().expose(), "your-secret-key");
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("not redis")
    };
    assert_eq!(redis.target, RedisTarget::Server("redis:6379".to_owned()));
    assert_eq!((redis.password, redis.database), (None, 1));
    let TableSection::MySql(mysql) = settings.table else {
        panic!("not mysql")
    };
    assert_eq!((mysql.host.as_str(), mysql.port), ("mysql", 3306));
    assert_eq!((mysql.username.expose(), mysql.password.expose()), ("root", "root"));
    assert_eq!(mysql.database, "bingo");
    assert_eq!(mysql.max_lifetime, Some(Duration::from_secs(10)));
    assert!(settings.queue_dash && settings.log.console);
    let file = settings.log.file.unwrap();
    assert_eq!(file.path, Path::new("storage/log/scheduler.log"));
    assert_eq!((file.max_bytes, file.compress), (100 * 1024 * 1024, true));
    assert_eq!(file.keep, Duration::from_secs(7 * 24 * 3600));
    let codes: Vec<_> = settings.warnings.iter().map(|w| w.code).collect();
    assert_eq!(codes, ["CFG_LEGACY", "CFG_LEGACY"], "{:?}", settings.warnings);
}

#[test]
fn figures_may_have_an_address_of_their_own() {
    assert_eq!(parse("server: {addr: \":8080\"}\n").metrics_addr, None);
    let settings = parse("server: {metrics_addr: \":9090\"}\n");
    assert_eq!(settings.metrics_addr.unwrap().to_string(), "0.0.0.0:9090");
    let found = problems("server: {addr: \":9090\", metrics_addr: \":9090\"}\n");
    assert_eq!((found.len(), found[0].code), (1, "CFG_TWICE"), "{found:?}");
    assert_eq!(problems("server: {metrics_addr: nowhere}\n")[0].code, "CFG_ADDR");
}

#[test]
fn a_database_named_by_a_url_has_the_same_limits() {
    let settings = parse("database: {url: \"postgres://u@h/d\", max_connections: 3, max_lifetime: 5s}\n");
    let TableSection::Postgres(server) = settings.table else {
        panic!("not postgres")
    };
    assert_eq!(server.max_lifetime, Some(Duration::from_secs(5)));
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
        (settings.name.as_str(), settings.zone_name.as_str()),
        ("s", "Asia/Tokyo")
    );
    assert_eq!((settings.mode, settings.roles.web), (Mode::Debug, false));
    assert_eq!(settings.addr.port(), 9000);
    assert!(!settings.queue_dash);
    assert_eq!(settings.warnings.len(), 6);
}

#[test]
fn without_a_file_everything_has_a_safe_default() {
    let settings = parse("");
    assert_eq!(settings.addr.to_string(), "127.0.0.1:8080");
    assert!(settings.is_loopback());
    assert!(matches!(&settings.broker, BrokerSettings::Embedded { path } if path == Path::new("data/runner.db")));
    assert!(matches!(&settings.table, TableSection::Embedded { path } if path == Path::new("data/runner.db")));
    assert_eq!(settings.manifests.unwrap().dir, Path::new("manifests"));
    assert!(settings.worker.concurrency >= 10);
    assert_eq!(settings.worker.queues.get("default"), Some(&1));
    assert_eq!(settings.sync_interval, Duration::from_secs(10));
    assert_eq!(settings.log.level, LevelFilter::INFO);
    assert!(settings.log.file.is_none() && settings.warnings.is_empty());
}

#[test]
fn the_environment_overrides_the_file_and_what_it_lacks() {
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
    assert_eq!(settings.zone_name, "UTC");
    let settings = Settings::parse("c", "server: {allowed_hosts: [a.example]}\n", &Environment::default()).unwrap();
    assert_eq!(settings.allowed_hosts, ["a.example"]);
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
    assert_eq!(read.allowed_hosts, ["a.example"]);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let users = read.auth.users;
    let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(matches!(&users[0].credential, Credential::Password(p) if p.expose() == "hunter2"));
    assert!(settings(&[("RUNNER_AUTH_USERS", "")]).auth.users.is_empty());
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
        ("RUNNER_AUTH_USERS", "hunter2", "CFG_TYPE", "a list of mappings"),
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
    let mut found: Vec<_> = settings.warnings.iter().map(|w| (w.code, w.place.as_str())).collect();
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
fn secrets_come_from_references_and_are_never_printed() {
    let environment = Environment::of(&[("PW", "hunter2")]);
    let text = "redis: {host: r, password: \"${env:PW}\"}\ndatabase:\n  url: postgres://a:hunter2@h/d\n";
    let settings = Settings::parse("c", text, &environment).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("not redis")
    };
    assert_eq!(redis.password, Some(Password::new("hunter2")));
    assert!(matches!(settings.table, TableSection::Postgres(_)));
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
    assert_eq!(settings.allowed_hosts, ["a.example", "r"]);
    let TableSection::Postgres(database) = settings.table else {
        panic!("not postgres")
    };
    std::fs::write(&file, "another\n").unwrap();
    assert_eq!(database.password.read().as_deref(), Ok("another"));
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
            let found: Vec<_> = problems.iter().map(|p| (p.code, p.place.as_str())).collect();
            assert_eq!(found, [("CFG_REFERENCE", name)], "{value}: {problems:?}");
        }
    }
}

#[test]
fn a_command_misses_only_the_secrets_that_it_uses() {
    let text = "server: {key: \"${env:NONE}\"}\nredis: {host: \"r:6379\", password: \"${file:/none/pw}\"}\n\
                database: {driver: mysql, host: db, username: u, password: \"a${env:NONE}\"}\n";
    let read = |purpose| Settings::parse_for("c", text, &Environment::default(), purpose);
    let settings = read(Purpose::Command).unwrap();
    assert!(settings.key.is_some_and(|key| key.read().is_err()));
    let TableSection::MySql(server) = settings.table else {
        panic!("{:?}", settings.table)
    };
    assert!(server.password.read().unwrap_err().contains("NONE"));
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("{:?}", settings.broker)
    };
    assert!(redis.password.is_some(), "not a login without a password");
    for purpose in [Purpose::Serve, Purpose::Check] {
        let Refused(problems) = read(purpose).unwrap_err();
        let mut codes: Vec<_> = problems.iter().map(|p| (p.code, p.place.as_str())).collect();
        codes.sort_unstable();
        let expected = ["c:1:15", "c:2:35", "c:3:60"].map(|place| ("CFG_REFERENCE", place));
        assert_eq!(codes, expected);
    }
    // What is no reference is looked at in any case.
    for bad in ["server: {key: [1]}", "redis: {host: r, password: {a: b}}"] {
        assert!(
            Settings::parse_for("c", bad, &Environment::default(), Purpose::Command).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn only_who_serves_the_dashboard_needs_its_users() {
    let text = "auth: {users: [{name: ann, password: \"${env:NONE}\"}, {nmae: bob}], other: 1}\n";
    let read = |text: &str, purpose| Settings::parse_for("c", text, &Environment::default(), purpose);
    let settings = read(text, Purpose::Command).unwrap();
    assert!(settings.auth.users.is_empty());
    let without_web = format!("roles: [worker]\n{text}");
    assert!(read(&without_web, Purpose::Serve).unwrap().auth.users.is_empty());
    for (text, purpose) in [
        (text, Purpose::Serve),
        (text, Purpose::Check),
        (&without_web, Purpose::Check),
    ] {
        let Refused(problems) = read(text, purpose).unwrap_err();
        let codes: Vec<_> = problems.iter().map(|p| p.code).collect();
        assert!(
            codes.contains(&"CFG_REFERENCE") && codes.contains(&"CFG_UNKNOWN"),
            "{codes:?}"
        );
    }
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

/// Text, code, line:column, and words that the message or hint must hold.
const BAD: &[(&str, &str, &str, &str)] = &[
    (
        "server: {timezone: Asia/Shanghia}",
        "CFG_TZ",
        "1:20",
        "unknown time zone",
    ),
    (
        "server:\n  timezon: UTC",
        "CFG_UNKNOWN",
        "2:3",
        "did you mean \"timezone\"?",
    ),
    ("sever: {}", "CFG_UNKNOWN", "1:1", "did you mean \"server\"?"),
    (
        "worker: {shutdownTimeout: 1s}",
        "CFG_UNKNOWN",
        "1:10",
        "\"shutdown_timeout\"",
    ),
    (
        "server: {addr: \"0.0.0.0:99999\"}",
        "CFG_ADDR",
        "1:16",
        "not a number from 0 to 65535",
    ),
    ("server: {addr: localhost}", "CFG_ADDR", "1:16", "port is missing"),
    ("server: {addr: \"[::1\"}", "CFG_ADDR", "1:16", "brackets"),
    ("server: {mode: prod}", "CFG_VALUE", "1:16", "release, debug, test"),
    ("server: [1]", "CFG_TYPE", "1:9", "must be a mapping, not a list"),
    (
        "redis: {host: \"redis://u:x\"}",
        "CFG_REDIS",
        "1:15",
        "without a scheme",
    ),
    ("redis: {host: r, database: -1}", "CFG_RANGE", "1:28", "from 0 to 65535"),
    ("redis:", "CFG_REDIS", "1:", "redis.host is missing"),
    ("mysql: {host: \"h:x\"}", "CFG_DATABASE", "1:15", "port"),
    (
        "mysql: {host: h}\ndatabase: {driver: none}",
        "CFG_TWICE",
        "2:1",
        "keep one",
    ),
    ("database: {driver: oracle}", "CFG_VALUE", "1:20", "mysql"),
    ("database: {host: h}", "CFG_DATABASE", "1:11", "driver is missing"),
    ("worker: {concurrency: 0}", "CFG_RANGE", "1:23", "from 1 to 10000"),
    ("worker: {concurrency: -1}", "CFG_RANGE", "1:23", "from 1 to 10000"),
    ("worker: {concurrency: 1000000}", "CFG_RANGE", "1:23", "from 1 to 10000"),
    ("worker: {queues: {}}", "CFG_VALUE", "1:10", "take nothing"),
    ("worker: {queues: {a: 0}}", "CFG_RANGE", "1:19", "weight"),
    (
        "worker: {shutdown_timeout: soon}",
        "CFG_RANGE",
        "1:28",
        "not a duration",
    ),
    ("worker: {lease: 1s}", "CFG_RANGE", "1:17", "3s"),
    ("worker: {group_grace_period: 999ms}", "CFG_RANGE", "1:30", "1s"),
    (
        "worker: {group_max_size: 10001}",
        "CFG_RANGE",
        "1:26",
        "from 0 to 10000",
    ),
    ("worker: {poison_after: -1}", "CFG_RANGE", "1:24", "from 0 to 1000"),
    ("worker: {strict_priority: yes}", "CFG_VALUE", "1:27", "true, false"),
    (
        "roles: [worker, wizard]",
        "CFG_VALUE",
        "1:17",
        "scheduler, worker or web",
    ),
    ("roles: []", "CFG_VALUE", "1:1", "nothing"),
    ("log: {level: loud}", "CFG_VALUE", "1:14", "debug"),
    ("log: {maxSize: 0}", "CFG_RANGE", "1:16", "from 1"),
    ("log: {maxSize: 60, maxTotal: 50}", "CFG_RANGE", "1:30", "from 60"),
    ("manifests: {dir: /}", "CFG_DIR", "1:18", "root"),
    ("manifests: {dir: /dev/null}", "CFG_DIR", "1:18", "not a directory"),
    ("app: {name: a}\nserver: {name: b}", "CFG_TWICE", "1:7", "same setting"),
    ("auth: {users: [{name: a}]}", "CFG_AUTH", "1:16", "password"),
    (
        "auth: {users: [{name: a, password_hash: x}]}",
        "CFG_AUTH",
        "1:16",
        "Argon2",
    ),
    (
        "auth: {users: [{name: a, password: x}, {name: a, password: y}]}",
        "CFG_TWICE",
        "1:40",
        "twice",
    ),
    (
        "redis: {host: \"${env:NONE}\"}",
        "CFG_REFERENCE",
        "1:15",
        "NONE is not set",
    ),
    ("a: 1\na: 2", "CFG_SYNTAX", "2:1", "duplicate key \"a\""),
];

#[test]
fn bad_input_is_refused_with_place_code_and_advice() {
    for (text, code, place, words) in BAD {
        let found = problems(text);
        let hit = found.iter().find(|p| p.code == *code);
        let hit = hit.unwrap_or_else(|| panic!("{text}: {found:?}"));
        let printed = hit.to_string();
        let wanted = format!("config.yaml:{place}");
        assert!(printed.starts_with(&wanted), "{text}: {printed}");
        assert!(printed.contains(words), "{text}: {printed}");
    }
}

#[test]
fn all_faults_are_shown_at_once_with_source_and_caret() {
    let found = problems("server:\n  timezon: UTC\n  addr: x\nworker:\n  concurrency: none\n");
    assert_eq!(found.len(), 3, "{found:?}");
    let unknown = found.iter().find(|p| p.code == "CFG_UNKNOWN").unwrap();
    assert_eq!(
        unknown.to_string(),
        "config.yaml:2:3: CFG_UNKNOWN unknown key \"timezon\" in server\n\
         \u{20} 2 |   timezon: UTC\n    |   ^^^^^^^\n  help: did you mean \"timezone\"?"
    );
}

#[test]
fn no_finding_repeats_a_secret() {
    for text in [
        "redis: {host: [], password: hunter2, pasword: hunter2}",
        "redis:\n  host: r\n  pasword: hunter2\n  pwd: hunter2\n",
        "redis: {host: \"redis://:hunter2@h\"}",
        "redis: redis://:hunter2@h",
        "mysql: {host: \"root:hunter2@h\"}",
        "database:\n  url: \"hunter2\"\n",
        "auth: {users: [{name: a, password_hash: hunter2}]}",
        "redis:\n  password: \"hunter2\n",
        "redis:\n  password: \"a\n  hunter2\n",
    ] {
        for problem in problems(text) {
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }
}

#[test]
fn a_named_file_must_exist_and_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| match Settings::load(Some(path), &Environment::default(), Purpose::Check) {
        Ok(_) => panic!("accepted {path:?}"),
        Err(refused) => refused.to_string(),
    };
    let missing = load(&dir.path().join("x.yaml"));
    assert!(
        missing.contains("CFG_READ") && missing.contains("not found"),
        "{missing}"
    );
    assert!(load(dir.path()).contains("directory"));
    let binary = dir.path().join("b.yaml");
    std::fs::write(&binary, b"a: 1\nb: \xff\n").unwrap();
    assert!(load(&binary).contains("line 2 is not UTF-8"));
}

#[test]
fn a_file_with_secrets_that_everybody_may_read_is_pointed_out() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), format!("redis: {text}\n")).unwrap();
    write("{host: r, password: p}");
    let codes = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).unwrap();
        let settings = Settings::load(Some(file.path()), &Environment::default(), Purpose::Check).unwrap();
        settings.warnings.iter().map(|w| w.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(0o644), ["CFG_PERM"]);
    assert!(codes(0o600).is_empty());
    for (url, holds) in [
        ("redis://127.0.0.1:7501/2", false),
        ("unix:///run/redis.sock?db=3", false),
        ("redis://:p@127.0.0.1:7501/2", true),
    ] {
        write(&format!("{{url: \"{url}\"}}"));
        assert_eq!(codes(0o644) == ["CFG_PERM"], holds, "{url}");
    }
}

#[test]
fn relative_paths_of_a_file_begin_at_its_directory() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("site.yaml");
    let load = |text: &str, variables: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        Settings::load(Some(&file), &Environment::of(variables), Purpose::Check).unwrap()
    };
    let here = |name: &str| home.path().join(name);
    let store = |settings: &Settings| match &settings.broker {
        BrokerSettings::Embedded { path } => path.clone(),
        other => panic!("{other:?}"),
    };

    let plain = load("", &[]);
    assert_eq!(plain.manifests.as_ref().unwrap().dir, here("manifests"));
    assert!(store(&plain).starts_with(here("data")), "{plain:?}");

    std::fs::write(here("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let text = "data: {dir: var}\nmanifests: {dir: jobs.d}\nlog: {path: log/a.log}\nserver: {key: '${file:key}'}\n\
                database: {url: 'sqlite:rows.db'}\n";
    let stated = load(text, &[]);
    assert!(store(&stated).starts_with(here("var")), "{stated:?}");
    assert_eq!(stated.manifests.as_ref().unwrap().dir, here("jobs.d"));
    assert_eq!(stated.log.file.as_ref().unwrap().path, here("log/a.log"));
    assert!(stated.key.is_some());
    let TableSection::Sqlite { path } = &stated.table else {
        panic!("{:?}", stated.table);
    };
    assert_eq!(path, &here("rows.db"));

    // Whoever sets a variable does so in a working directory.
    let varied = load("", &[("RUNNER_DATA_DIR", "var"), ("RUNNER_MANIFESTS_DIR", "/srv/m")]);
    assert!(store(&varied).starts_with("var"), "{varied:?}");
    assert_eq!(varied.manifests.as_ref().unwrap().dir, Path::new("/srv/m"));
}

#[test]
fn a_file_below_etc_keeps_its_data_where_data_belongs() {
    let environment = Environment::default().beside("/etc/runner".into());
    let settings = Settings::parse("/etc/runner/config.yaml", "", &environment).unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/runner"));
    assert_eq!(settings.manifests.unwrap().dir, Path::new("/etc/runner/manifests"));
    let stated = Settings::parse("/etc/runner/config.yaml", "data: {dir: d}\n", &environment).unwrap();
    assert_eq!(stated.data_dir, Path::new("/etc/runner/d"));
}

#[test]
fn replicas_that_would_make_secrets_of_their_own_are_pointed_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let codes = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let settings = Settings::load(Some(file.path()), &Environment::default(), Purpose::Check).unwrap();
        let own = settings.warnings.iter().filter(|w| w.code.starts_with("CFG_OWN"));
        own.map(|w| w.code).collect::<Vec<_>>()
    };
    let redis = "redis: {host: r}\n";
    let both = ["CFG_OWN_KEY", "CFG_OWN_PASSWORD"];
    assert_eq!(codes(&format!("{redis}server: {{addr: ':8080'}}\n")), both);
    let key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let keyed = format!("{redis}server: {{addr: ':8080', key: {key}}}\n");
    assert_eq!(codes(&keyed), both[1..]);
    // One machine, one instance, or no dashboard.
    for alone in [
        format!("{redis}server: {{addr: '127.0.0.1:8080'}}\n"),
        "server: {addr: ':8080'}\n".to_owned(),
        format!("{redis}server: {{addr: ':8080'}}\nroles: [worker]\n"),
    ] {
        assert_eq!(codes(&alone), [""; 0], "{alone}");
    }
}

#[test]
fn what_lies_where_earlier_versions_looked_is_pointed_out() {
    // Cargo runs tests in the directory of the package.
    let name = "src";
    assert!(Path::new(name).is_dir());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("site.yaml");
    std::fs::write(&file, format!("manifests: {{dir: {name}}}\n")).unwrap();
    let moved = || {
        let settings = Settings::load(Some(&file), &Environment::default(), Purpose::Serve).unwrap();
        let moved = settings.warnings.into_iter().filter(|w| w.code == "CFG_MOVED");
        moved.collect::<Vec<_>>()
    };
    let found = moved();
    assert_eq!(found.len(), 1, "{found:?}");
    let (printed, now) = (found[0].to_string(), home.path().join(name));
    assert!(
        printed.contains(&format!("{} does not exist and {name} does", now.display())),
        "{printed}"
    );
    assert!(printed.contains("under manifests.dir"), "{printed}");
    std::fs::create_dir(now).unwrap();
    assert_eq!(moved(), []);
}
