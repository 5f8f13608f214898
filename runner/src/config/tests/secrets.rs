//! Secrets: where they come from, who needs them, and that no finding shows one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use runner_queue::redis::Password;

use super::problems;
use crate::config::{BrokerSettings, Environment, Purpose, Refused, Settings};
use crate::source::TableSettings;

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
    assert!(matches!(settings.source.table, Some(TableSettings::Postgres(_))));
}

#[test]
fn a_command_needs_only_the_secrets_that_it_uses() {
    let text = "server: {key: \"${env:NONE}\"}\nredis: {host: \"r:6379\", password: \"${file:/none/pw}\"}\n\
                database: {driver: mysql, host: db, username: u, password: \"a${env:NONE}\"}\n";
    let read = |purpose| Settings::parse_for("c", text, &Environment::default(), purpose, &[]);
    let settings = read(Purpose::Command).unwrap();
    assert!(settings.key.is_some_and(|key| key.read().is_err()));
    let Some(TableSettings::MySql(server)) = settings.source.table else {
        panic!("{:?}", settings.source.table)
    };
    assert!(server.login.read().unwrap_err().contains("NONE"));
    let BrokerSettings::Redis(redis) = settings.broker else {
        panic!("{:?}", settings.broker)
    };
    assert!(redis.password.is_some(), "not a login without a password");
    for purpose in [Purpose::Serve, Purpose::Check] {
        let Refused(problems) = read(purpose).unwrap_err();
        let mut codes: Vec<_> = problems.iter().map(|p| (p.code.as_str(), p.place.as_str())).collect();
        codes.sort_unstable();
        let expected = ["c:1:15", "c:2:35", "c:3:60"].map(|place| ("CFG_REFERENCE", place));
        assert_eq!(codes, expected);
    }
    // Values that are not references are always checked.
    for bad in ["server: {key: [1]}", "redis: {host: r, password: {a: b}}"] {
        assert!(
            Settings::parse_for("c", bad, &Environment::default(), Purpose::Command, &[]).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn only_a_process_with_the_dashboard_needs_its_users() {
    let text = "auth: {users: [{name: ann, password: \"${env:NONE}\"}, {nmae: bob}], other: 1}\n";
    let read = |text: &str, purpose| Settings::parse_for("c", text, &Environment::default(), purpose, &[]);
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
        let codes: Vec<_> = problems.iter().map(|p| p.code.as_str()).collect();
        assert!(
            codes.contains(&"CFG_REFERENCE") && codes.contains(&"CFG_UNKNOWN"),
            "{codes:?}"
        );
    }
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
fn a_world_readable_file_with_secrets_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), format!("redis: {text}\n")).unwrap();
    write("{host: r, password: p}");
    let codes = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).unwrap();
        let settings = Settings::load(Some(file.path()), &Environment::default(), Purpose::Check, &[]).unwrap();
        settings.warnings.iter().map(|w| w.code.clone()).collect::<Vec<_>>()
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
fn replicas_that_would_make_secrets_of_their_own_are_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let codes = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let settings = Settings::load(Some(file.path()), &Environment::default(), Purpose::Check, &[]).unwrap();
        let own = settings.warnings.iter().filter(|w| w.code.starts_with("CFG_OWN"));
        own.map(|w| w.code.clone()).collect::<Vec<_>>()
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
