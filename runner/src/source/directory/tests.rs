//! The manifest directory on a real disk: drop, edit, swap, delete, break.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use runner_core::clock::SystemClock;
use runner_core::function::Functions;
use runner_core::schedule::Plan;

use crate::source::{Catalog, ManifestSettings, SourceSettings, SourceState};

/// A watched directory; the periodic scan is too rare to help, so the tests depend on reported changes.
pub struct Bench {
    pub home: tempfile::TempDir,
    pub catalog: Catalog,
    functions: Functions,
    _stop: tokio_util::sync::DropGuard,
}

pub fn settings(dir: &Path) -> SourceSettings {
    let rescan = Duration::from_secs(3600);
    let manifests = Some(ManifestSettings {
        dir: dir.to_owned(),
        rescan,
    });
    SourceSettings {
        manifests,
        ..SourceSettings::default()
    }
}

impl Bench {
    pub async fn start(files: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("m")).unwrap();
        let this = Self::on(home, files).await;
        this.settled(files.len()).await;
        this
    }

    pub async fn on(home: tempfile::TempDir, files: &[(&str, &str)]) -> Self {
        for (name, text) in files {
            fs::write(home.path().join("m").join(name), text).unwrap();
        }
        let (functions, stop) = (Functions::default(), CancellationToken::new());
        let settings = settings(&home.path().join("m"));
        let catalog = Catalog::start(settings, functions.clone(), Arc::new(SystemClock), stop.clone()).await;
        Self {
            home,
            catalog,
            functions,
            _stop: stop.drop_guard(),
        }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join("m").join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn ids(&self) -> Vec<String> {
        self.catalog.plan().schedules.keys().map(ToString::to_string).collect()
    }

    fn codes(&self) -> Vec<String> {
        self.catalog.plan().problems.iter().map(|p| p.code.clone()).collect()
    }

    /// Waits until the plan satisfies a condition; returns how long that took.
    pub async fn until(&self, what: &str, holds: impl Fn(&Plan) -> bool) -> Duration {
        let start = tokio::time::Instant::now();
        let mut plan = self.catalog.watch();
        let came = plan.wait_for(|p| holds(p));
        if tokio::time::timeout(SOON, came).await.is_err() {
            panic!("{what}: {:?} {:?}", self.ids(), self.catalog.plan().problems);
        }
        start.elapsed()
    }

    pub async fn settled(&self, count: usize) {
        self.until("start", |p| p.schedules.len() == count).await;
    }
}

pub fn has(plan: &Plan, id: &str) -> bool {
    plan.schedules.keys().any(|k| k.as_str() == id)
}

pub fn manifest(name: &str) -> String {
    format!("name: {name}\nschedule: '0 2 * * *'\nhandler: task:{name}\n")
}

const SECOND: Duration = Duration::from_secs(1);

/// Less than a second on an idle machine; these tests run in parallel with others. Without reported changes it would be
/// an hour.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_edited_and_deleted_file_is_live_within_a_second() {
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    bench.write("b.yaml", &manifest("b"));
    assert!(bench.until("drop", |p| has(p, "m:b:default")).await < SOON);
    assert_eq!(bench.functions.names(), ["a", "b"]);

    bench.write("b.yaml", &manifest("b").replace("0 2", "0 3"));
    let edited = |p: &Plan| p.schedules.values().any(|d| d.timing.text == "0 3 * * *");
    assert!(bench.until("edit", edited).await < SOON);

    fs::remove_file(bench.path("b.yaml")).unwrap();
    assert!(bench.until("delete", |p| !has(p, "m:b:default")).await < SOON);
    assert_eq!(bench.functions.names(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_its_last_good_version_and_reports_it() {
    let bench = Bench::start(&[("a.yaml", &manifest("a")), ("b.yaml", &manifest("b"))]).await;
    bench.write("a.yaml", &manifest("a").replace("0 2", "0 25"));
    let reported = |p: &Plan| p.problems.iter().any(|p| p.code == "E203");
    assert!(bench.until("error", reported).await < SOON);
    let plan = bench.catalog.plan();
    assert_eq!(bench.ids(), ["m:a:default", "m:b:default"]);
    assert!(plan.schedules.values().all(|d| d.timing.text == "0 2 * * *"));
    let stale = plan.problems.iter().find(|p| p.code == "W104").unwrap();
    assert_eq!(stale.schedule.as_ref().unwrap().as_str(), "m:a:default");
    assert!(stale.message.contains("stays in force"), "{stale}");

    bench.write("a.yaml", &manifest("a").replace("0 2", "0 5"));
    bench.until("repaired", |p| p.problems.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_file_is_given_time_before_it_is_an_error() {
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    bench.write("a.yaml", "");
    // Looks that find it empty change nothing while it may still be being written.
    for _ in 0..3 {
        assert!(bench.catalog.sync().await);
        assert_eq!((bench.ids().len(), bench.codes().len()), (1, 0));
    }
    let took = bench
        .until("error", |p| p.problems.iter().any(|p| p.code == "E107"))
        .await;
    assert!(took > SECOND, "{took:?}");
    assert_eq!(bench.ids(), ["m:a:default"]);
    bench.write("a.yaml", &manifest("a").replace("0 2", "0 4"));
    bench.until("whole", |p| p.problems.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_leave_nothing_behind_and_a_rename_is_no_gap() {
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    for name in [".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#", "a.yaml.tmp", ".b.yaml"] {
        bench.write(name, &manifest("x"));
    }
    bench.write("new", &manifest("a").replace("0 2", "0 3"));
    fs::rename(bench.path("new"), bench.path("a.yaml")).unwrap();
    bench
        .until("saved", |p| p.schedules.values().any(|d| d.timing.text == "0 3 * * *"))
        .await;
    // The same functions under another file name: at no time do they exist twice or not at all.
    let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut plans = bench.catalog.watch();
    let counting = tokio::spawn({
        let sizes = Arc::clone(&sizes);
        async move {
            while plans.changed().await.is_ok() {
                let plan = plans.borrow_and_update().clone();
                sizes.lock().unwrap().push((plan.schedules.len(), plan.problems.len()));
            }
        }
    });
    fs::rename(bench.path("a.yaml"), bench.path("z.yaml")).unwrap();
    let moved = |p: &Plan| p.schedules.values().any(|d| d.origin.place.ends_with("z.yaml:2"));
    bench.until("moved", moved).await;
    assert!(bench.catalog.sync().await);
    // The counting task may run later than the change that it counts.
    let counted = async {
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.unwrap();
    counting.abort();
    let sizes = sizes.lock().unwrap().clone();
    assert!(!sizes.is_empty() && sizes.iter().all(|s| *s == (1, 0)), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_link_to_a_directory_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("m");
    for (version, hour) in [("..1", "0 2"), ("..2", "0 3")] {
        fs::create_dir_all(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("a.yaml"), manifest("a").replace("0 2", hour)).unwrap();
    }
    let link = |from: &str, to: &Path| std::os::unix::fs::symlink(from, to).unwrap();
    link("..1", &dir.join("..data"));
    link("..data/a.yaml", &dir.join("a.yaml"));
    let bench = Bench::on(home, &[]).await;
    bench.settled(1).await;
    link("..2", &dir.join("..next"));
    fs::rename(dir.join("..next"), dir.join("..data")).unwrap();
    let swapped = |p: &Plan| p.schedules.values().any(|d| d.timing.text == "0 3 * * *");
    assert!(bench.until("swap", swapped).await < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_gone_takes_nothing_with_it() {
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    let away = bench.home.path().join("away");
    fs::rename(bench.home.path().join("m"), &away).unwrap();
    assert!(bench.catalog.sync().await);
    let status = &bench.catalog.statuses()[0];
    let SourceState::Stale { reason, .. } = &status.state else {
        panic!("{status:?}")
    };
    assert!(reason.ends_with("does not exist"), "{reason}");
    assert_eq!(bench.ids(), ["m:a:default"]);

    fs::write(away.join("b.yaml"), manifest("b")).unwrap();
    fs::rename(&away, bench.home.path().join("m")).unwrap();
    bench.until("back", |p| p.schedules.len() == 2).await;
    assert_eq!(bench.catalog.statuses()[0].state, SourceState::Loaded);
    // It is another directory than at the start; changes in it must be reported as well.
    bench.write("c.yaml", &manifest("c"));
    assert!(bench.until("heard", |p| p.schedules.len() == 3).await < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_made_later_is_found() {
    let bench = Bench::on(tempfile::tempdir().unwrap(), &[]).await;
    assert!(matches!(
        bench.catalog.statuses()[0].state,
        SourceState::Unavailable { .. }
    ));
    fs::create_dir(bench.home.path().join("m")).unwrap();
    bench.write("a.yaml", &manifest("a"));
    assert!(bench.until("made", |p| p.schedules.len() == 1).await < 2 * SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn most_files_gone_at_once_must_stay_gone_for_a_while() {
    let texts: Vec<(String, String)> = (0..6)
        .map(|i| (format!("{i}.yaml"), manifest(&format!("f{i}"))))
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let bench = Bench::start(&files).await;
    for (name, _) in &files[..5] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    let took = bench.until("gone", |p| p.schedules.len() == 1).await;
    assert!(took >= 2 * SECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_file_of_a_name_wins_and_the_other_is_reported() {
    let b = format!("{}---\n{}", manifest("b"), manifest("a"));
    let bench = Bench::start(&[("a.yaml", &manifest("a"))]).await;
    bench.write("b.yaml", &b);
    bench
        .until("clash", |p| p.problems.iter().any(|p| p.code == "E401"))
        .await;
    assert_eq!(bench.ids(), ["m:a:default"]);
    fs::remove_file(bench.path("a.yaml")).unwrap();
    bench
        .until("freed", |p| p.schedules.len() == 2 && p.problems.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_text_is_reported_and_affects_no_other_file() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("m");
    fs::create_dir(&dir).unwrap();
    fs::write(home.path().join("outside.yaml"), manifest("outside")).unwrap();
    std::os::unix::fs::symlink(home.path().join("outside.yaml"), dir.join("link.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", dir.join("loop.yaml")).unwrap();
    fs::write(dir.join("latin.yaml"), b"name: caf\xe9").unwrap();
    fs::write(dir.join("nul.yaml"), b"name: a\0b").unwrap();
    fs::write(dir.join("utf16.yaml"), b"\xff\xfen\0").unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.join("pipe.yaml")).status();
    assert!(made.unwrap().success());
    fs::File::create(dir.join("huge.yaml"))
        .unwrap()
        .set_len(2 << 30)
        .unwrap();
    fs::write(dir.join("good.yaml"), manifest("good")).unwrap();
    let problems = super::check_paths(std::slice::from_ref(&dir), &settings(&dir).context(), &[]).problems;
    let mut reported: Vec<String> = problems
        .iter()
        .map(|p| format!("{} {} {}", p.place.rsplit('/').next().unwrap(), p.code, p.message))
        .collect();
    reported.sort();
    assert_eq!(
        reported,
        [
            "huge.yaml E104 the file is 2147483648 bytes; at most 262144 are read",
            "latin.yaml E105 the file is not UTF-8 from byte 9 on; save it as UTF-8",
            "link.yaml E106 the link leads outside the manifest directory",
            "loop.yaml E106 too many links",
            "nul.yaml E105 the file holds a NUL byte at offset 7; it is not text",
            "pipe.yaml E106 not a regular file",
            "utf16.yaml E105 the file is UTF-16; save it as UTF-8",
        ]
    );
}

#[test]
fn when_no_file_is_left_all_stay_for_the_guard_and_it_is_an_error() {
    use super::change::{FileChange, ScanTime};
    use super::files::Files;
    use super::scan;
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str| fs::write(home.path().join(format!("{name}.yaml")), manifest(name)).unwrap();
    let remove = |name: &str| fs::remove_file(home.path().join(format!("{name}.yaml"))).unwrap();
    let start = tokio::time::Instant::now();
    let guard = Duration::from_secs(60);
    let mut files = Files::new("m", SourceSettings::default().context());
    files.set_guard(guard);
    let look = |files: &mut Files, seconds| {
        let instant = start + Duration::from_secs(seconds);
        files
            .apply(
                scan::scan(home.path()).unwrap_or_else(|(why, _)| panic!("{why}")),
                ScanTime { instant, shown: "" },
                true,
            )
            .changes
    };
    let codes = |files: &Files| -> Vec<String> { files.contents().problems.into_iter().map(|p| p.code).collect() };
    write("a");
    write("b");
    assert_eq!(look(&mut files, 0).len(), 2);
    remove("a");
    remove("b");
    let place = "m".to_owned();
    assert_eq!(
        look(&mut files, 1),
        [FileChange::Emptied {
            place: place.clone(),
            files: 2,
            guard
        }]
    );
    assert_eq!(
        (files.contents().functions.len(), codes(&files)),
        (2, vec!["E410".to_owned()])
    );
    assert_eq!(look(&mut files, 60), []);
    let changes = look(&mut files, 62);
    assert_eq!(
        (changes.len(), changes.last()),
        (3, Some(&FileChange::AllGone { place, files: 2 }))
    );
    assert_eq!(
        (files.contents().functions.len(), codes(&files)),
        (0, vec!["W410".to_owned()])
    );
    write("c");
    look(&mut files, 70);
    assert_eq!(codes(&files), [""; 0]);
    // A single file is removed on purpose.
    remove("c");
    assert_eq!(look(&mut files, 71), []);
    assert!(matches!(look(&mut files, 72)[..], [FileChange::Removed { .. }]));
}

#[test]
fn the_error_that_explains_most_is_reported_first() {
    use super::change::{FileChange, ScanTime};
    use super::files::Files;
    use super::scan;
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a.yaml"), "name: a\nretry: -1\nexecc: [date]\n").unwrap();
    let mut files = Files::new("m", SourceSettings::default().context());
    let moment = ScanTime {
        instant: tokio::time::Instant::now(),
        shown: "",
    };
    let step = files.apply(
        scan::scan(home.path()).unwrap_or_else(|(why, _)| panic!("{why}")),
        moment,
        false,
    );
    let [FileChange::Rejected { telling, errors, .. }] = step.changes.as_slice() else {
        panic!("{step:?}");
    };
    assert!(telling.to_string().contains("did you mean \"exec\"?"), "{telling}");
    assert!(*errors >= 2);
}
