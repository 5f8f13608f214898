//! Files are taken once, leave without loss, and what is no file stays where it is.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use std::time::Duration;

use super::*;

struct Scene {
    home: tempfile::TempDir,
    folder: Folder,
}

fn spec(dir: &Path) -> FileTrigger {
    FileTrigger {
        dir: dir.to_owned(),
        pattern: "*.csv".to_owned(),
        stable: Duration::from_secs(1),
        done: FileEnd::Move(dir.join("done")),
        failed: FileEnd::Move(dir.join("failed")),
        in_flight: 9,
        payload: None,
    }
}

fn scene() -> Scene {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::open(&spec(home.path()), &TriggerId::new("f", "in")).unwrap();
    Scene { home, folder }
}

impl Scene {
    fn write(&self, name: impl AsRef<OsStr>, text: &str) -> PathBuf {
        let path = self.home.path().join(name.as_ref());
        fs::write(&path, text).unwrap();
        path
    }

    fn only(&self) -> (OsString, FileState) {
        let mut files = self.folder.look().unwrap().files;
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn text(&self, name: impl AsRef<OsStr>) -> Option<String> {
        fs::read_to_string(self.home.path().join(name.as_ref())).ok()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.home.path().join(".runner/f:in"))
            .unwrap()
            .next()
            .is_none()
    }
}

#[test]
fn a_file_is_taken_once_and_leaves_under_its_name() {
    let scene = scene();
    scene.write("a.csv", "1");
    scene.write("a.txt", "");
    let (name, state) = scene.only();
    let taken = scene.folder.take(&name, state).unwrap().unwrap();
    assert_eq!((taken.name.as_os_str(), taken.size), (OsStr::new("a.csv"), 1));
    assert_eq!(fs::read_to_string(&taken.path).unwrap(), "1");
    // Another instance saw it too.
    assert_eq!(scene.folder.take(&name, state).unwrap(), None);
    assert_eq!(scene.folder.taken().unwrap().files, std::slice::from_ref(&taken));
    scene.folder.leave(&taken, Leave::Done).unwrap();
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert_eq!(scene.text("done/a.csv").as_deref(), Some("1"));
    assert!(scene.is_empty() && scene.folder.taken().unwrap().files.is_empty());
}

#[test]
fn no_file_is_written_over() {
    let scene = scene();
    for text in ["1", "2"] {
        scene.write("a.csv", text);
        let (name, state) = scene.only();
        let taken = scene.folder.take(&name, state).unwrap().unwrap();
        scene.folder.leave(&taken, Leave::Failed).unwrap();
    }
    assert_eq!(scene.text("failed/a.csv").as_deref(), Some("1"));
    let all = fs::read_dir(scene.home.path().join("failed")).unwrap();
    let mut texts: Vec<String> = all
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["1", "2"]);
    assert!(scene.is_empty());
}

#[test]
fn a_kill_between_two_names_leaves_one_file() {
    let scene = scene();
    scene.write("a.csv", "1");
    let (name, state) = scene.only();
    let taken = scene.folder.take(&name, state).unwrap().unwrap();
    fs::hard_link(&taken.path, scene.home.path().join("done/a.csv")).unwrap();
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert_eq!(fs::read_dir(scene.home.path().join("done")).unwrap().count(), 1);
    assert!(scene.is_empty());
}

#[test]
fn what_changed_since_it_was_seen_goes_back() {
    let scene = scene();
    scene.write("a.csv", "1");
    let (name, state) = scene.only();
    scene.write("a.csv", "longer");
    assert_eq!(scene.folder.take(&name, state).unwrap(), None);
    assert_eq!(scene.text("a.csv").as_deref(), Some("longer"));
    assert!(scene.is_empty());
    // A link that takes the place of a file is never followed.
    let (name, state) = scene.only();
    fs::remove_file(scene.home.path().join("a.csv")).unwrap();
    symlink("/etc/passwd", scene.home.path().join("a.csv")).unwrap();
    assert_eq!(scene.folder.take(&name, state).unwrap(), None);
    assert!(scene.is_empty());
}

#[test]
fn links_and_pipes_are_refused_and_directories_ignored() {
    let scene = scene();
    symlink("/etc/passwd", scene.home.path().join("link.csv")).unwrap();
    nix::unistd::mkfifo(&scene.home.path().join("pipe.csv"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(scene.home.path().join("dir.csv")).unwrap();
    scene.write(OsStr::from_bytes(&[&[0xff; 100][..], b".csv"].concat()), "");
    let seen = scene.folder.look().unwrap();
    assert!(seen.files.is_empty());
    let mut why: Vec<&str> = seen.refused.iter().map(|(_, why)| *why).collect();
    why.sort_unstable();
    let expected = [
        "it is a symbolic link",
        "it is neither a file nor a directory",
        "its name has too many odd bytes",
    ];
    assert_eq!(why, expected);
}

#[test]
fn an_odd_name_has_a_path_of_text_and_comes_back() {
    let scene = scene();
    let odd = OsStr::from_bytes(b"a\n\xff.csv");
    scene.write(odd, "1");
    let (name, state) = scene.only();
    let taken = scene.folder.take(&name, state).unwrap().unwrap();
    assert!(taken.path.to_str().unwrap().ends_with("/a%0A%FF.csv"), "{taken:?}");
    assert_eq!(scene.folder.taken().unwrap().files[0].name, odd);
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert_eq!(scene.text(OsStr::from_bytes(b"done/a\n\xff.csv")).as_deref(), Some("1"));
}

#[test]
fn a_file_that_its_task_removed_is_gone() {
    let scene = scene();
    scene.write("a.csv", "1");
    let (name, state) = scene.only();
    let taken = scene.folder.take(&name, state).unwrap().unwrap();
    fs::remove_file(&taken.path).unwrap();
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert!(scene.is_empty());
}

#[test]
fn directories_that_cannot_be_used_say_which() {
    let home = tempfile::tempdir().unwrap();
    let open = |spec: &FileTrigger| Folder::open(spec, &TriggerId::new("f", "in")).map(drop).unwrap_err();
    let missing = open(&spec(&home.path().join("none")));
    assert!(
        missing.code == "file_dir" && missing.why.contains("/none: No such file"),
        "{missing:?}"
    );
    let elsewhere = FileTrigger {
        done: FileEnd::Move("/no/such/place".into()),
        ..spec(home.path())
    };
    let fault = open(&elsewhere);
    assert!(
        fault.code == "file_target" && fault.why.starts_with("/no/such/place: done: "),
        "{fault:?}"
    );
    let other = FileTrigger {
        failed: FileEnd::Move("/proc".into()),
        ..spec(home.path())
    };
    assert!(open(&other).hint.contains("file system"));
    // Our own directory must not lead away.
    let linked = tempfile::tempdir().unwrap();
    symlink(home.path(), linked.path().join(".runner")).unwrap();
    assert_eq!(open(&spec(linked.path())).code, "file_dir");
}
