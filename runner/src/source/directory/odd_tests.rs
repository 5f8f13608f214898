//! Unreadable and odd entries of the manifest directory: each affects only itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tokio::time::{Duration, Instant};

use super::change::{FileChange, FileStep, ScanTime};
use super::files::Files;
use super::scan::{self, NameWarning, ScanError, Snapshot};
use super::tests::manifest;
use crate::source::SourceSettings;

fn snapshot(dir: &Path) -> Snapshot {
    scan::scan(dir).unwrap_or_else(|(reason, _)| panic!("{reason}"))
}

fn write(dir: &Path, name: &str) {
    fs::write(dir.join(format!("{name}.yaml")), manifest(name)).unwrap();
}

fn files_of(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.keys().map(String::as_str).collect()
}

fn unreadable_of(snapshot: &Snapshot) -> Vec<String> {
    let one = |(path, error): (&String, &ScanError)| format!("{path}: {} {}", error.code, error.reason);
    snapshot.unreadable.iter().map(one).collect()
}

/// What a process without privileges sees. Privileges are per thread; this one ends with the scan.
fn without_privileges<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            }
            look()
        });
        looking.join().unwrap()
    })
}

#[test]
fn an_unreadable_entry_does_not_hide_the_rest() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("m");
    fs::create_dir_all(dir.join("lost+found")).unwrap();
    fs::create_dir(dir.join("team")).unwrap();
    write(&dir, "b");
    write(&dir.join("lost+found"), "x");
    write(&dir.join("team"), "c");
    write(&dir, "secret");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(home.path(), 0o755);
    set(&dir.join("lost+found"), 0o000);
    set(&dir.join("secret.yaml"), 0o000);
    let seen = without_privileges(|| fs::metadata(&dir).is_ok().then(|| snapshot(&dir)));
    // If temporary files are below a directory that only root may enter, the test is impossible.
    let Some(seen) = seen else { return };
    set(&dir.join("lost+found"), 0o755);
    assert_eq!(files_of(&seen), ["b.yaml", "secret.yaml", "team/c.yaml"]);
    assert_eq!(unreadable_of(&seen), ["lost+found: E106 permission denied"]);
    assert!(seen.hides("lost+found/x.yaml") && !seen.hides("lost+found.yaml") && !seen.hides("b.yaml"));
    let refused = seen.files["secret.yaml"].content.clone().unwrap_err();
    assert_eq!(refused, ("E106", "permission denied".to_owned()));
    assert!(seen.files["b.yaml"].content.is_ok());
}

#[test]
fn odd_entries_are_named_and_bounded() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("m");
    let deep = dir.join("1/2/3/4/5/6/7/8/9");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(home.path().join("outside")).unwrap();
    write(&deep, "deep");
    write(deep.parent().unwrap(), "deepest");
    for (name, text) in [
        (&b"n\xff.yaml"[..], "n1"),
        (b"n\xfe.yaml", "n2"),
        (b"UPPER.YML", "n3"),
        (b"x.json", "n4"),
        (b"y.yaml.txt", "n5"),
    ] {
        fs::write(dir.join(OsStr::from_bytes(name)), manifest(text)).unwrap();
    }
    symlink("gone", dir.join("team")).unwrap();
    symlink("../outside", dir.join("away")).unwrap();
    symlink(".", dir.join("loop")).unwrap();
    symlink("UPPER.YML", dir.join("again.yaml")).unwrap();
    symlink("nowhere", dir.join("README.md")).unwrap();
    let seen = snapshot(&dir);
    assert_eq!(
        files_of(&seen),
        [
            "1/2/3/4/5/6/7/8/deepest.yaml",
            "UPPER.YML",
            "n\\xfe.yaml",
            "n\\xff.yaml"
        ]
    );
    assert_eq!(
        unreadable_of(&seen),
        [
            "1/2/3/4/5/6/7/8/9: E104 more than 8 directories deep; it is not read",
            "away: E106 the link leads outside the manifest directory",
            "team: E106 the link's target is missing",
        ]
    );
    let remarks: Vec<_> = seen
        .remarks
        .iter()
        .map(|(path, remark)| (path.as_str(), *remark))
        .collect();
    assert_eq!(
        remarks,
        [
            ("n\\xfe.yaml", NameWarning::NotUtf8),
            ("n\\xff.yaml", NameWarning::NotUtf8),
            ("x.json", NameWarning::NotRead),
            ("y.yaml.txt", NameWarning::NotRead),
        ]
    );
}

#[test]
fn a_wrong_directory_costs_a_bounded_look_and_takes_nothing_away() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "z");
    for i in 0..=super::fingerprint::MAX_DIRS {
        fs::create_dir(home.path().join(format!("{i}"))).unwrap();
    }
    let seen = snapshot(home.path());
    assert_eq!(
        unreadable_of(&seen),
        [": E104 more than 1000 directories; those beyond are not read"]
    );
    assert!(seen.hides("z.yaml") && seen.seen.directories().len() <= super::fingerprint::MAX_DIRS);
}

/// Processes hand-made snapshots, a second apart.
struct Looks {
    files: Files,
    start: Instant,
    seconds: u64,
}

impl Looks {
    fn new() -> Self {
        Self {
            files: Files::new("m", SourceSettings::default().context()),
            start: Instant::now(),
            seconds: 0,
        }
    }

    fn look(&mut self, names: &[&str], unreadable: &[(&str, bool)]) -> FileStep {
        self.seconds += 1;
        let mut snapshot = Snapshot::default();
        for name in names {
            let function = name.rsplit('/').next().unwrap();
            let found = super::entry::FileContent::text(manifest(function));
            snapshot.files.insert(format!("{name}.yaml"), found);
        }
        for (path, passing) in unreadable {
            let error = ScanError {
                code: "E106",
                reason: "permission denied".to_owned(),
                passing: *passing,
            };
            snapshot.unreadable.insert((*path).to_owned(), error);
        }
        let instant = self.start + Duration::from_secs(self.seconds);
        self.files.apply(snapshot, ScanTime { instant, shown: "then" }, true)
    }

    /// Functions in force, and `place code` of each problem.
    fn state(&self) -> (Vec<String>, Vec<String>) {
        let contents = self.files.contents();
        let problems = contents.problems.iter().map(|p| format!("{} {}", p.place, p.code));
        (
            contents.functions.iter().map(|f| f.name.clone()).collect(),
            problems.collect(),
        )
    }
}

#[test]
fn files_that_cannot_be_looked_at_stay_and_others_come_and_go() {
    let mut looks = Looks::new();
    looks.look(&["a", "sub/b"], &[]);
    let step = looks.look(&["a"], &[("sub", false)]);
    assert!(matches!(step.changes[..], [FileChange::Unreadable { .. }]), "{step:?}");
    let still = (
        vec!["a".to_owned(), "b".to_owned()],
        vec!["m/sub E106".to_owned(), "m/sub/b.yaml W104".to_owned()],
    );
    assert_eq!(looks.state(), still);
    assert!(looks.files.contents().incomplete);
    // Reported once; a file elsewhere disappears, another one appears.
    looks.look(&["c"], &[("sub", false)]);
    let step = looks.look(&["c"], &[("sub", false)]);
    assert!(matches!(step.changes[..], [FileChange::Removed { .. }]), "{step:?}");
    assert_eq!(looks.state().0, ["c", "b"]);
    // Readable again, and the file is no longer in it.
    let step = looks.look(&["c"], &[]);
    assert!(matches!(step.changes[..], [FileChange::Readable { .. }]), "{step:?}");
    looks.look(&["c"], &[]);
    assert_eq!(looks.state(), (vec!["c".to_owned()], Vec::new()));
    assert!(!looks.files.contents().incomplete);
}

#[test]
fn an_error_that_may_pass_is_reported_after_a_moment() {
    let mut looks = Looks::new();
    looks.look(&["a", "team/b"], &[]);
    for _ in 0..2 {
        assert!(looks.look(&["a"], &[("team", true)]).changes.is_empty());
        assert_eq!(looks.state().0, ["a", "b"]);
    }
    let step = looks.look(&["a"], &[("team", true)]);
    assert!(matches!(step.changes[..], [FileChange::Unreadable { .. }]), "{step:?}");
}
