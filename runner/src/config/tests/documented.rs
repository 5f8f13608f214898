//! `config.yaml`, which `runner init` writes and documentation points to, names the keys that are read, and their
//! defaults.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::config::load::known_keys;
use crate::config::{Environment, Settings};
use crate::text::yaml::{self, Node, Value};

const SAMPLE: &str = include_str!("../../../../config.yaml");

/// Sections and keys that are read for the Go service's sake; `docs/migration.md` is about them.
const OF_THE_GO_SERVICE: &[&str] = &[
    "app.",
    "code",
    "feature.apiDoc",
    "feature.metrics",
    "feature.profiling",
    "http.",
    "mysql.",
];

#[test]
fn the_sample_names_every_key_and_no_other() {
    let (known, sample) = (known_keys(), keys_of_sample());
    assert!(known.len() > 60, "only {known:?}");
    let of_go = |key: &&String| OF_THE_GO_SERVICE.iter().any(|prefix| key.starts_with(prefix));
    let missing: Vec<_> = known.difference(&sample).filter(|key| !of_go(key)).collect();
    assert!(missing.is_empty(), "config.yaml does not name {missing:?}");
    let unknown: Vec<_> = sample.difference(&known).collect();
    assert!(unknown.is_empty(), "config.yaml names {unknown:?}, which are not read");
}

#[test]
fn what_the_sample_sets_is_the_default() {
    let shown = |text| {
        let mut settings = Settings::parse("config.yaml", text, &Environment::default()).unwrap();
        // Only a configured directory that is missing is a warning.
        settings.warnings.retain(|warning| warning.code != "CFG_DIR");
        format!("{settings:#?}")
    };
    assert_eq!(shown(SAMPLE), shown(""));
}

/// The paths of all keys, also of those that are commented out.
fn keys_of_sample() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let text: Vec<String> = SAMPLE.lines().map(uncommented).collect();
    for document in yaml::parse(&text.join("\n")).unwrap() {
        collect(&document, "", &mut keys);
    }
    keys
}

/// A line that begins with `# key:`, without the sign; other comments stay.
fn uncommented(line: &str) -> String {
    let Some((indent, rest)) = line.split_once("# ").filter(|(indent, _)| indent.trim().is_empty()) else {
        return line.to_owned();
    };
    let key = rest
        .trim_start()
        .trim_start_matches("- ")
        .split(':')
        .next()
        .unwrap_or_default();
    let is_key = key.len() < rest.trim().len() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    match is_key {
        true => format!("{indent}{rest}"),
        false => line.to_owned(),
    }
}

fn collect(node: &Node, path: &str, keys: &mut BTreeSet<String>) {
    let Value::Map(entries) = &node.value else {
        keys.insert(path.to_owned());
        return;
    };
    for (key, value) in entries {
        let Value::Text(key) = &key.value else { continue };
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match path.as_str() {
            // Names of queues and of connections are free.
            "worker.queues"
            | "worker.limits"
            | "rabbitmq.connections"
            | "redis_connections"
            | "handlers.sql.connections"
            | "telemetry.otlp.headers"
            | "notify.channels" => {
                keys.insert(path);
            }
            _ => collect(value, &path, keys),
        }
    }
}
