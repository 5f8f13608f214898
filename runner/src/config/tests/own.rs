//! Sections of the program that embeds this one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::load::{Purpose, Refused};
use crate::config::{Environment, OwnSection, Settings};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Quick,
    Slow(u8),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Limits {
    most: Option<u32>,
    share: f32,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Billing {
    url: String,
    port: u16,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    limits: Vec<Limits>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What the section is read into, or the problems as `LINE:COLUMN CODE MESSAGE | HINT`.
fn read<T: DeserializeOwned + Send + 'static>(text: &str, purpose: Purpose) -> Result<Option<T>, Vec<String>> {
    let kept = Arc::new(Mutex::new(None));
    let place = kept.clone();
    let own = OwnSection::new("billing", move |value| *place.lock().unwrap() = Some(value));
    let variables = [
        ("BILLING_PORT", "8443"),
        ("BILLING_PASSWORD", "hunter2"),
        ("DRY", "true"),
    ];
    let environment = Environment::of(&variables);
    match Settings::parse_for("config.yaml", text, &environment, purpose, &[own]) {
        Ok(_) => Ok(kept.lock().unwrap().take()),
        Err(Refused(problems)) => Err(problems
            .iter()
            .map(|p| {
                let hint = p.hint.as_deref().map(|hint| format!(" | {hint}")).unwrap_or_default();
                let place = p.place.to_string();
                let place = place.trim_start_matches("config.yaml:");
                format!("{place} {} {}{hint}", p.code.as_str(), p.message)
            })
            .collect()),
    }
}

#[test]
fn a_section_is_read_into_a_type_with_references_resolved() {
    let text = r#"
log: {level: warn}
billing:
  url: "https://pay:${env:BILLING_PASSWORD}@example.org"
  port: ${env:BILLING_PORT}
  dry_run: ${env:DRY}
  mode: {slow: 7}
  limits:
    - {most: 5, share: 0.5}
    - {most: null, share: 1}
  labels: {team: 007, on: "yes"}
"#;
    let expected = Billing {
        url: "https://pay:hunter2@example.org".into(),
        port: 8443,
        dry_run: true,
        mode: Mode::Slow(7),
        limits: vec![
            Limits {
                most: Some(5),
                share: 0.5,
            },
            Limits { most: None, share: 1.0 },
        ],
        labels: [("team", "007"), ("on", "yes")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
    };
    assert_eq!(read(text, Purpose::Serve), Ok(Some(expected)));
    // A command that ends soon may be unable to read its secrets.
    let broken = "billing: {url: \"${env:MISSING}\"}";
    assert_eq!(read::<Billing>(broken, Purpose::Command), Ok(None));
}

#[test]
fn what_does_not_fit_has_its_place_and_no_value() {
    let refused = |text: &str| read::<Billing>(text, Purpose::Check).unwrap_err();
    let unknown = refused("billing:\n  url: a\n  port: 1\n  dry_rum: true\n  limits: [{share: 1, mots: 3}]\n");
    assert_eq!(unknown.len(), 2, "{unknown:?}");
    assert!(
        unknown[0].contains("4:3 CFG_UNKNOWN unknown key \"dry_rum\" in billing | did you mean \"dry_run\"?"),
        "{unknown:?}"
    );
    assert!(
        unknown[1].contains("CFG_UNKNOWN unknown key \"mots\" in billing.limits[0] | did you mean"),
        "{unknown:?}"
    );
    for (text, message) in [
        ("log: {level: info}", "CFG_VALUE billing lacks the key \"url\""),
        ("billing: {url: a, port: 70000}", "CFG_VALUE billing.port must be u16"),
        (
            "billing: {url: a, port: \"${env:BILLING_PASSWORD}\"}",
            "CFG_VALUE billing.port must be u16",
        ),
        (
            "billing: {url: a, port: 1, mode: \"${env:BILLING_PASSWORD}\"}",
            "CFG_VALUE billing.mode must be",
        ),
        ("billing: {url: [a], port: 1}", "CFG_VALUE billing.url must be a string"),
        ("billing: {url: \"${env:MISSING}\", port: 1}", "CFG_REFERENCE"),
        ("billing: {url: a, url: b, port: 1}", "\"url\" twice"),
        ("billing: [1]", "CFG_VALUE billing must be a map"),
    ] {
        let problems = refused(text);
        assert!(
            problems.len() == 1 && problems[0].contains(message),
            "{text}: {problems:?}"
        );
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn a_section_cannot_have_the_name_of_one_of_runner() {
    let own = OwnSection::new("log", |_: BTreeMap<String, String>| ());
    let read = Settings::parse_for("config.yaml", "", &Environment::default(), Purpose::Check, &[own]);
    let Err(Refused(problems)) = read else {
        panic!("accepted");
    };
    assert_eq!(problems[0].code.as_str(), "CFG_OWN");
}
