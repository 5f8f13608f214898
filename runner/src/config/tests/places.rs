//! Relative paths, and where files are expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use crate::config::{BrokerSettings, Environment, Purpose, Settings};
use crate::source::TableSettings;

#[test]
fn relative_paths_of_a_file_begin_at_its_directory() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("site.yaml");
    let load = |text: &str, variables: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        Settings::load(Some(&file), &Environment::of(variables), Purpose::Check, &[]).unwrap()
    };
    let here = |name: &str| home.path().join(name);
    let store = |settings: &Settings| match &settings.broker {
        BrokerSettings::Embedded { path } => path.clone(),
        other => panic!("{other:?}"),
    };

    let plain = load("", &[]);
    assert_eq!(plain.source.manifests.as_ref().unwrap().dir, here("manifests"));
    assert!(store(&plain).starts_with(here("data")), "{plain:?}");

    std::fs::write(here("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let text = "data: {dir: var}\nmanifests: {dir: plans.d}\nlog: {path: log/a.log}\nserver: {key: '${file:key}'}\n\
                database: {url: 'sqlite:rows.db'}\n";
    let stated = load(text, &[]);
    assert!(store(&stated).starts_with(here("var")), "{stated:?}");
    assert_eq!(stated.source.manifests.as_ref().unwrap().dir, here("plans.d"));
    assert_eq!(stated.log.file.as_ref().unwrap().path, here("log/a.log"));
    assert!(stated.key.is_some());
    let Some(TableSettings::Sqlite { path }) = &stated.source.table else {
        panic!("{:?}", stated.source.table);
    };
    assert_eq!(path, &here("rows.db"));

    // A variable is set in a working directory.
    let varied = load("", &[("RUNNER_DATA_DIR", "var"), ("RUNNER_MANIFESTS_DIR", "/srv/m")]);
    assert!(store(&varied).starts_with("var"), "{varied:?}");
    assert_eq!(varied.source.manifests.as_ref().unwrap().dir, Path::new("/srv/m"));
}

#[test]
fn a_file_below_etc_has_its_data_below_var_lib() {
    let environment = Environment::default().beside("/etc/runner".into());
    let settings = Settings::parse("/etc/runner/config.yaml", "", &environment).unwrap();
    assert_eq!(settings.data_dir, Path::new("/var/lib/runner"));
    assert_eq!(
        settings.source.manifests.unwrap().dir,
        Path::new("/etc/runner/manifests")
    );
    let stated = Settings::parse("/etc/runner/config.yaml", "data: {dir: d}\n", &environment).unwrap();
    assert_eq!(stated.data_dir, Path::new("/etc/runner/d"));
}

#[test]
fn files_in_the_working_directory_of_earlier_versions_are_a_warning() {
    // Cargo runs tests in the directory of the package.
    let name = "src";
    assert!(Path::new(name).is_dir());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("site.yaml");
    std::fs::write(&file, format!("manifests: {{dir: {name}}}\n")).unwrap();
    let moved = || {
        let settings = Settings::load(Some(&file), &Environment::default(), Purpose::Serve, &[]).unwrap();
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
