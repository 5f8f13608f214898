//! The manifest files in force before a restart, and which of them are in force after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use runner_core::clock::SystemClock;
use runner_core::function::{CheckFinding, FunctionKind, Functions};
use runner_core::schedule::Plan;

use super::tests::{has, manifest, settings};
use crate::source::state_store::MAX_KEPT;
use crate::source::{Catalog, FunctionCheck, SourceSettings, SourceState, StateStore, StateStoreError};

/// Stores what it is given; while unavailable it does not answer.
#[derive(Default)]
struct TestStore {
    texts: Mutex<HashMap<String, Vec<u8>>>,
    away: Mutex<bool>,
    writes: Mutex<usize>,
}

#[async_trait::async_trait]
impl StateStore for TestStore {
    async fn put(&self, kind: &'static str, name: &str, body: Vec<u8>) -> Result<(), String> {
        if *self.away.lock().unwrap() {
            return Err("away".to_owned());
        }
        assert!(body.len() <= MAX_KEPT);
        *self.writes.lock().unwrap() += 1;
        self.texts.lock().unwrap().insert(format!("{kind} {name}"), body);
        Ok(())
    }

    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Vec<u8>>, StateStoreError> {
        if *self.away.lock().unwrap() {
            return Err(StateStoreError::Away("away".to_owned()));
        }
        Ok(self.texts.lock().unwrap().get(&format!("{kind} {name}")).cloned())
    }
}

/// The store in use by one run.
struct InUse {
    shelf: Arc<TestStore>,
    _in_use: OwnedSemaphorePermit,
}

#[async_trait::async_trait]
impl StateStore for InUse {
    async fn put(&self, kind: &'static str, name: &str, body: Vec<u8>) -> Result<(), String> {
        self.shelf.put(kind, name, body).await
    }

    async fn get(&self, kind: &'static str, name: &str) -> Result<Option<Vec<u8>>, StateStoreError> {
        self.shelf.get(kind, name).await
    }
}

/// A directory, and the store that outlives a process.
struct Place {
    home: tempfile::TempDir,
    shelf: Arc<TestStore>,
    /// Locked while a process runs.
    seat: Arc<Semaphore>,
}

struct Run {
    catalog: Catalog,
    functions: Functions,
    _stop: DropGuard,
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

const BROKEN: &str = "name: a\nschedule: '0 25 * * *'\nhandler: task:a\n";

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("m")).unwrap();
        let this = Self {
            home,
            shelf: Arc::default(),
            seat: Arc::new(Semaphore::new(1)),
        };
        files.iter().for_each(|(name, text)| this.write(name, text));
        this
    }

    fn dir(&self) -> std::path::PathBuf {
        self.home.path().join("m")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir().join(name), text).unwrap();
    }

    fn settings(&self) -> SourceSettings {
        SourceSettings {
            keep: Some(self.shelf.clone()),
            ..settings(&self.dir())
        }
    }

    /// Starts after the previous run has ended, which may still be in the middle of a scan.
    async fn start_with(&self, settings: SourceSettings) -> Run {
        let others = tokio::time::timeout(DEADLINE, Arc::clone(&self.seat).acquire_owned()).await;
        let keep = InUse {
            shelf: Arc::clone(&self.shelf),
            _in_use: others.expect("a run that was stopped still runs").unwrap(),
        };
        let settings = SourceSettings {
            keep: Some(Arc::new(keep)),
            ..settings
        };
        let (functions, stop) = (Functions::default(), CancellationToken::new());
        let catalog = Catalog::start(settings, functions.clone(), Arc::new(SystemClock), stop.clone()).await;
        Run {
            catalog,
            functions,
            _stop: stop.drop_guard(),
        }
    }

    async fn start(&self) -> Run {
        self.start_with(self.settings()).await
    }
}

impl Run {
    fn plan(&self) -> Arc<Plan> {
        self.catalog.plan()
    }

    /// `place code` of each problem; the place without the directory.
    fn problems(&self) -> Vec<String> {
        let name = |place: &str| {
            let name = Path::new(place).file_name().unwrap_or_default();
            name.to_string_lossy().split(':').next().unwrap_or_default().to_owned()
        };
        let all = self.plan();
        let one = |p: &runner_core::schedule::Problem| format!("{} {}", name(&p.place), p.code);
        all.problems.iter().map(one).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Plan) -> bool) {
        let mut plan = self.catalog.watch();
        let came = plan.wait_for(|p| holds(p));
        let came = tokio::time::timeout(DEADLINE, came).await.is_ok();
        assert!(came, "{what}: {:?}", self.plan());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_version_survives_a_restart_until_the_file_is_repaired_or_removed() {
    let place = Place::new(&[("a.yaml", &manifest("a")), ("b.yaml", &manifest("b"))]);
    let before = place.start().await.plan().schedules.clone();
    for _ in 0..2 {
        place.write("a.yaml", BROKEN);
        place.write("b.yaml", "");
        let run = place.start().await;
        assert_eq!(run.plan().schedules, before, "in force from the first look on");
        assert_eq!(run.functions.names(), ["a", "b"]);
        run.until("the empty file is an error in the end", |p| {
            p.problems.iter().any(|p| p.code == "E107")
        })
        .await;
        assert_eq!(
            run.problems(),
            ["a.yaml E203", "a.yaml W104", "b.yaml E107", "b.yaml W104"]
        );
        let plan = run.plan();
        let said = plan.problems.iter().find(|p| p.code == "W104").unwrap();
        assert!(
            said.message.contains("its last good version, of 20") && said.message.contains("+00:00, stays in force"),
            "{said}"
        );
    }
    let looked = Catalog::load_once(place.settings(), Arc::new(SystemClock)).await;
    assert_eq!(looked.plan.schedules, before, "a command that lists them knows them");
    // One is repaired while nothing runs, the other is removed.
    place.write("a.yaml", &manifest("a").replace("0 2", "0 5"));
    fs::remove_file(place.dir().join("b.yaml")).unwrap();
    let run = place.start().await;
    assert_eq!(run.plan().schedules.len(), 1);
    assert!(run.plan().schedules.values().all(|d| d.timing.text == "0 5 * * *"));
    assert!(run.problems().is_empty(), "{:?}", run.problems());
    drop(run);
    // A removed file is forgotten.
    place.write("b.yaml", "");
    let run = place.start().await;
    assert!(!has(&run.plan(), "m:b:default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_all_went_before_a_restart_stay_for_the_guard() {
    let place = Place::new(&[("a.yaml", &manifest("a")), ("b.yaml", &manifest("b"))]);
    let before = place.start().await.plan().schedules.clone();
    for name in ["a.yaml", "b.yaml"] {
        fs::remove_file(place.dir().join(name)).unwrap();
    }
    let looked = Catalog::load_once(place.settings(), Arc::new(SystemClock)).await;
    assert_eq!(looked.plan.schedules, before, "a command that lists them knows them");
    assert!(looked.plan.problems.iter().any(|p| p.code == "E410"));
    let run = place.start().await;
    assert_eq!(run.plan().schedules, before);
    assert!(run.problems().contains(&"m E410".to_owned()), "{:?}", run.problems());
    drop(run);
    let hasty = SourceSettings {
        mass_delete: std::time::Duration::ZERO,
        ..place.settings()
    };
    let run = place.start_with(hasty).await;
    assert_eq!(run.plan().schedules.len(), 0);
    drop(run);
    let run = place.start().await;
    assert!(
        run.plan().schedules.is_empty() && run.problems().is_empty(),
        "{:?}",
        run.problems()
    );
    drop(run);
    // A single missing file was removed on purpose.
    place.write("a.yaml", &manifest("a"));
    drop(place.start().await);
    fs::remove_file(place.dir().join("a.yaml")).unwrap();
    let run = place.start().await;
    let (plan, problems) = (run.plan(), run.problems());
    assert!(plan.schedules.is_empty() && problems.is_empty(), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_file_takes_effect_and_nothing_is_written_needlessly() {
    let place = Place::new(&[("a.yaml", &manifest("a"))]);
    drop(place.start().await);
    place.write("a.yaml", BROKEN);
    let run = place.start().await;
    let writes = *place.shelf.writes.lock().unwrap();
    for _ in 0..3 {
        assert!(run.catalog.sync().await);
    }
    assert_eq!(*place.shelf.writes.lock().unwrap(), writes);
    place.write("a.yaml", &manifest("a").replace("0 2", "0 6"));
    run.until("repaired", |p| p.problems.is_empty()).await;
    assert!(run.plan().schedules.values().all(|d| d.timing.text == "0 6 * * *"));
    assert!(run.catalog.sync().await);
    assert_eq!(*place.shelf.writes.lock().unwrap(), writes + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_had_a_name_before_the_restart_keeps_it() {
    let place = Place::new(&[("nightly.yaml", &manifest("a"))]);
    drop(place.start().await);
    // The copy sorts first, and both are valid.
    place.write("nightly-old.yaml", &manifest("a"));
    place.write("nightly.yaml", &manifest("a").replace("0 2", "30 4"));
    let run = place.start().await;
    assert!(run.plan().schedules.values().all(|d| d.timing.text == "30 4 * * *"));
    assert_eq!(run.problems(), ["nightly-old.yaml E401"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_files_are_read_with_the_present_settings() {
    let place = Place::new(&[("a.yaml", "name: a\nschedule: '@daily'\nexec: [/bin/true]\n")]);
    assert_eq!(place.start().await.plan().schedules.len(), 1);
    place.write("a.yaml", "name: a\nschedule: '@daily'\nexec: [/bin/true\n");
    let settings = SourceSettings {
        vet: FunctionCheck::new(|kind| {
            let refused = || CheckFinding {
                refused: true,
                code: "E306",
                message: "not allowed".to_owned(),
                hint: None,
            };
            matches!(kind, FunctionKind::Exec { .. }).then(refused)
        }),
        ..place.settings()
    };
    assert_eq!(place.start_with(settings).await.plan().schedules.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_unavailable_at_the_start_is_retried_and_not_overwritten() {
    let place = Place::new(&[("a.yaml", &manifest("a"))]);
    drop(place.start().await);
    place.write("a.yaml", BROKEN);
    *place.shelf.away.lock().unwrap() = true;
    let run = place.start().await;
    assert_eq!(run.plan().schedules.len(), 0);
    *place.shelf.away.lock().unwrap() = false;
    assert!(run.catalog.sync().await);
    assert!(has(&run.plan(), "m:a:default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_read_at_the_start_is_as_it_was() {
    let place = Place::new(&[("a.yaml", &manifest("a"))]);
    drop(place.start().await);
    let away = place.home.path().join("away");
    fs::rename(place.dir(), &away).unwrap();
    fs::write(place.dir(), "no directory").unwrap();
    let run = place.start().await;
    assert!(has(&run.plan(), "m:a:default"));
    assert_eq!(run.problems(), ["m E106", "a.yaml W104"]);
    let state = run.catalog.statuses()[0].state.clone();
    assert!(matches!(state, SourceState::Stale { .. }), "{state:?}");
    fs::remove_file(place.dir()).unwrap();
    fs::rename(&away, place.dir()).unwrap();
    assert!(run.catalog.sync().await);
    assert!(has(&run.plan(), "m:a:default") && run.problems().is_empty());
    drop(run);
    // A directory that does not exist has no files.
    fs::rename(place.dir(), &away).unwrap();
    assert_eq!(place.start().await.plan().schedules.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_left_out() {
    let place = Place::new(&[]);
    let filler = format!("{}# {}\n", manifest("x"), "x".repeat(250_000));
    for i in 0..40 {
        place.write(
            &format!("{i:02}.yaml"),
            &filler.replacen("name: x", &format!("name: x{i}"), 1),
        );
    }
    place.write("z.yaml", &manifest("a"));
    assert_eq!(place.start().await.plan().schedules.len(), 41);
    for name in ["00.yaml", "39.yaml", "z.yaml"] {
        place.write(name, BROKEN);
    }
    let run = place.start().await;
    let known = ["m:x0:default", "m:x39:default", "m:a:default"].map(|id| has(&run.plan(), id));
    assert_eq!(known, [true, false, true]);
}
