//! What is refused: code, place and advice of each fault, all at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::problems;
use crate::config::{Environment, Purpose, Settings};

/// Text (`\n` begins a line), code, line:column, and words that the message or hint must contain.
const BAD: &str = r#"
server: {timezone: Asia/Shanghia} | CFG_TZ | 1:20 | unknown time zone
server:\n  timezon: UTC | CFG_UNKNOWN | 2:3 | did you mean "timezone"?
sever: {} | CFG_UNKNOWN | 1:1 | did you mean "server"?
worker: {shutdownTimeout: 1s} | CFG_UNKNOWN | 1:10 | "shutdown_timeout"
server: {addr: "0.0.0.0:99999"} | CFG_ADDR | 1:16 | not a number from 0 to 65535
server: {addr: localhost} | CFG_ADDR | 1:16 | port is missing
server: {addr: "[::1"} | CFG_ADDR | 1:16 | brackets
server: {mode: prod} | CFG_VALUE | 1:16 | release, debug or test
server: [1] | CFG_TYPE | 1:9 | must be a map, found a list
redis: {host: "redis://u:x"} | CFG_REDIS | 1:15 | without a scheme
redis: {host: r, database: -1} | CFG_RANGE | 1:28 | from 0 to 65535
redis: | CFG_REDIS | 1: | redis.host is missing
mysql: {host: "h:x"} | CFG_DATABASE | 1:15 | port
mysql: {host: h}\ndatabase: {driver: none} | CFG_TWICE | 2:1 | keep one
database: {driver: oracle} | CFG_VALUE | 1:20 | mysql
database: {host: h} | CFG_DATABASE | 1:11 | driver is missing
worker: {concurrency: 0} | CFG_RANGE | 1:23 | from 1 to 10000
worker: {concurrency: -1} | CFG_RANGE | 1:23 | from 1 to 10000
worker: {concurrency: 1000000} | CFG_RANGE | 1:23 | from 1 to 10000
worker: {limits: {a: {semaphore: s}}} | CFG_VALUE | 1:34 | needs concurrency
worker: {limits: {a: {concurrency: 1, semaphore: s}}} | CFG_VALUE | 1:50 | tasks are in a file
redis: {host: r}\nworker: {limits: {a: {concurrency: 1, semaphore: ' '}}} | CFG_VALUE | 2:50 | blank
redis: {cluster: {addresses: [r]}}\nworker: {limits: {a: {concurrency: 1, semaphore: s}}} | CFG_VALUE | 2:50 | in the slot of the queue
worker: {queues: {}} | CFG_VALUE | 1:10 | claim nothing
worker: {queues: {a: 0}} | CFG_RANGE | 1:19 | weight
worker: {shutdown_timeout: soon} | CFG_RANGE | 1:28 | not a duration
worker: {lease: 1s} | CFG_RANGE | 1:17 | 3s
worker: {group_grace_period: 999ms} | CFG_RANGE | 1:30 | 1s
worker: {group_max_size: 10001} | CFG_RANGE | 1:26 | from 0 to 10000
worker: {poison_after: -1} | CFG_RANGE | 1:24 | from 0 to 1000
worker: {strict_priority: yes} | CFG_VALUE | 1:27 | true or false
roles: [worker, wizard] | CFG_VALUE | 1:17 | scheduler, worker or web
roles: [] | CFG_VALUE | 1:1 | nothing
log: {level: loud} | CFG_VALUE | 1:14 | debug
log: {maxSize: 0} | CFG_RANGE | 1:16 | from 1
log: {maxSize: 60, maxTotal: 50} | CFG_RANGE | 1:30 | from 60
manifests: {dir: /} | CFG_DIR | 1:18 | root
manifests: {dir: /dev/null} | CFG_DIR | 1:18 | not a directory
app: {name: a}\nserver: {name: b} | CFG_TWICE | 1:7 | same setting
auth: {users: [{name: a}]} | CFG_AUTH | 1:16 | password
auth: {users: [{name: a, password_hash: x}]} | CFG_AUTH | 1:16 | Argon2
auth: {users: [{name: a, password: x}, {name: a, password: y}]} | CFG_TWICE | 1:40 | twice
auth: {tokens: [{name: a}]} | CFG_AUTH | 1:17 | needs either token_hash or token
auth: {tokens: [{name: a, token: short}]} | CFG_AUTH | 1:17 | fewer than 32
auth: {tokens: [{name: a, token_hash: sha256:00}]} | CFG_AUTH | 1:17 | SHA-256
auth: {tokens: [{token: 0123456789abcdef0123456789abcdef}]} | CFG_AUTH | 1:17 | name
auth: {tokens: [{name: a, token: 0123456789abcdef0123456789abcdef, scopes: [write]}]} | CFG_VALUE | 1:77 | act:tasks
auth: {tokens: [{name: a, token: 0123456789abcdef0123456789abcdef, expires: soon}]} | CFG_VALUE | 1:77 | 2027-06-30
redis: {host: "${env:NONE}"} | CFG_REFERENCE | 1:15 | NONE is not set
a: 1\na: 2 | CFG_SYNTAX | 2:1 | duplicate key "a"
"#;

#[test]
fn bad_input_is_refused_with_place_code_and_advice() {
    let cases = BAD.lines().filter(|line| !line.is_empty());
    for case in cases {
        let [text, code, place, words] = case.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("four columns: {case}");
        };
        let found = problems(&text.replace("\\n", "\n"));
        let hit = found.iter().find(|p| p.code == code);
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
fn a_named_file_must_exist_and_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| match Settings::load(Some(path), &Environment::default(), Purpose::Check, &[]) {
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
fn what_is_wrong_with_a_section_that_is_read_twice_is_said_once() {
    for text in [
        "redis: {host: a, host: b}",
        "server: {name: a, name: b, public_url: \"https://a.example\"}",
    ] {
        let found = problems(text);
        let twice = found.iter().filter(|problem| problem.message.contains("duplicate key"));
        assert_eq!(twice.count(), 1, "{text}: {found:?}");
    }
}

#[test]
fn a_refused_word_is_quoted_as_it_is_written() {
    let found = problems("log: {level: DEBGU}");
    assert!(found[0].message.ends_with("found \"DEBGU\""), "{found:?}");
    assert_eq!(found[0].hint.as_deref(), Some("did you mean \"debug\"?"));
}
