//! Files are taken once, leave without loss, and what is no file stays where it is; other users who may write to the directory lead nothing away.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, symlink};

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
    let mut why: Vec<&str> = seen.refused.iter().map(|(_, why)| why.as_str()).collect();
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

const TOKEN: &str = "p0123456789abcdef0123456789abcdef";

impl Scene {
    fn work(&self) -> PathBuf {
        self.home.path().join(".runner/f:in")
    }

    /// A place in work that was not made by taking a file.
    fn plant(&self, token: &str) -> PathBuf {
        let place = self.work().join(token);
        fs::DirBuilder::new().mode(0o711).create(&place).unwrap();
        place
    }

    fn taken(&self, name: &str) -> TakenFile {
        self.write(name, name);
        let (seen, state) = self.only();
        assert_eq!(seen, name);
        self.folder.take(&seen, state).unwrap().unwrap()
    }
}

#[test]
fn done_inside_must_be_a_real_directory_of_our_own() {
    for key in ["done", "failed"] {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), home.path().join(key)).unwrap();
        let fault = Folder::open(&spec(home.path()), &TriggerId::new("f", "in")).unwrap_err();
        assert_eq!(fault.code, "file_target");
        assert!(fault.why.contains(key) && fault.why.contains("link"), "{fault:?}");
    }
    // Also deeper, and where the watched directory is written in another way.
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(elsewhere.path().join("done")).unwrap();
    symlink(elsewhere.path(), home.path().join("sub")).unwrap();
    symlink(elsewhere.path(), home.path().join("direct")).unwrap();
    let alias = elsewhere.path().join("alias");
    symlink(home.path(), &alias).unwrap();
    for done in [
        home.path().join("sub/done"),
        alias.join("direct"),
        home.path().join("sub/../done"),
    ] {
        let spec = FileTrigger {
            done: FileEnd::Move(done),
            ..spec(home.path())
        };
        let fault = Folder::open(&spec, &TriggerId::new("f", "in")).unwrap_err();
        assert_eq!(fault.code, "file_target", "{fault:?}");
    }
}

#[test]
fn directories_of_other_users_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let other = Uid::from_raw(Uid::effective().as_raw() + 1);
    let fault = Folder::open_as(&spec(home.path()), &TriggerId::new("f", "in"), other).unwrap_err();
    assert_eq!(fault.code, "file_dir");
    assert!(fault.why.contains(".runner: it belongs to user"), "{fault:?}");
    let dir = own::named(home.path()).unwrap();
    let why = own::make_target(&dir, OsStr::new("done"), other).unwrap_err();
    assert!(why.to_string().contains("it belongs to user"), "{why}");
}

#[test]
fn directories_above_work_can_be_passed_and_not_written_by_others() {
    let scene = scene();
    let taken = scene.taken("a.csv");
    let (inner, outer) = (scene.work(), scene.home.path().join(".runner"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [&inner, &outer, taken.path.parent().unwrap()] {
        assert_eq!(mode(path), 0o711, "{}", path.display());
    }
    let open = || Folder::open(&spec(scene.home.path()), &TriggerId::new("f", "in"));
    for path in [&inner, &outer] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o731)).unwrap();
        let fault = open().unwrap_err();
        assert!(
            fault.code == "file_dir" && fault.why.contains("write to it"),
            "{fault:?}"
        );
        // An older version made it so.
        fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
        open().unwrap();
        assert_eq!(mode(path), 0o711);
    }
}

#[test]
fn what_was_opened_is_used_whatever_comes_in_its_place() {
    let scene = scene();
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = scene.taken("a.csv");
    for name in ["done", "failed"] {
        let path = scene.home.path().join(name);
        fs::rename(&path, path.with_extension("away")).unwrap();
        symlink(elsewhere.path(), &path).unwrap();
    }
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert_eq!(scene.text("done.away/a.csv").as_deref(), Some("a.csv"));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn planted_things_never_become_files_in_work() {
    let scene = scene();
    for other in ["x", "é", "pé", "o", &TOKEN.to_uppercase(), &format!("{TOKEN}0")] {
        fs::write(scene.plant(other).join("a.csv"), "").unwrap();
    }
    let seen = scene.folder.taken().unwrap();
    assert!(
        seen.files.is_empty() && seen.empty.is_empty() && seen.refused.is_empty(),
        "{seen:?}"
    );
    // Tokens: a file, a link to a directory, one with a link, one with a directory, one with a name that leads away.
    let token = |n: usize| format!("{}{n}", &TOKEN[..32]);
    fs::write(scene.work().join(token(0)), "").unwrap();
    symlink("/etc", scene.work().join(token(1))).unwrap();
    symlink("/etc/passwd", scene.plant(&token(2)).join("a.csv")).unwrap();
    fs::create_dir(scene.plant(&token(3)).join("a.csv")).unwrap();
    let odd = token(4).replacen('p', "o", 1);
    fs::write(scene.plant(&odd).join("..%2Fa.csv"), "").unwrap();
    let good = scene.taken("good.csv");
    let seen = scene.folder.taken().unwrap();
    assert_eq!(seen.files, [good]);
    assert!(seen.empty.is_empty());
    let mut refused: Vec<OsString> = seen.refused.into_iter().map(|(token, _)| token).collect();
    refused.sort();
    let expected = [odd, token(0), token(1), token(2), token(3)];
    assert_eq!(refused, expected.map(OsString::from));
}

#[test]
fn what_a_command_left_beside_its_file_does_not_hide_it() {
    let scene = scene();
    let taken = scene.taken("a.csv");
    for n in 0..9 {
        fs::create_dir(taken.path.with_file_name(format!("left{n}"))).unwrap();
    }
    assert_eq!(scene.folder.taken().unwrap().files, [taken]);
}

#[test]
fn a_thing_that_is_no_file_and_cannot_go_back_has_no_task() {
    let scene = scene();
    scene.write("a.csv", "1");
    let (name, state) = scene.only();
    fs::remove_file(scene.home.path().join("a.csv")).unwrap();
    symlink("/etc/passwd", scene.home.path().join("a.csv")).unwrap();
    let place = own::make_private(&scene.folder.work, OsStr::new(TOKEN), scene.folder.owner).unwrap();
    renameat(&*scene.folder.dir, "a.csv", &place, "a.csv").unwrap();
    // As if the rename of `take` had moved it, and another one came.
    assert_eq!(
        taken_file(TOKEN, &place, scene.work().join(TOKEN).join("a.csv"))
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidData
    );
    let seen = scene.folder.taken().unwrap();
    assert!(seen.files.is_empty() && seen.refused.len() == 1, "{seen:?}");
    assert_eq!(scene.folder.take(&name, state).unwrap(), None);
}

#[test]
fn a_file_that_cannot_leave_says_so_and_stays() {
    let scene = scene();
    let taken = scene.taken("a.csv");
    // A directory in place of the file of the same name, and of the names with endings: no free name is left.
    let done = scene.home.path().join("done");
    for ending in ["", &format!(".{}", &taken.token[1..9]), &format!(".{}", taken.token)] {
        fs::create_dir(done.join(format!("a.csv{ending}"))).unwrap();
    }
    let why = scene.folder.leave(&taken, Leave::Done).unwrap_err();
    assert!(
        why.contains("cannot be moved to") && why.contains(&taken.token),
        "{why}"
    );
    assert_eq!(fs::read_to_string(&taken.path).unwrap(), "a.csv");
}

#[test]
fn a_long_name_that_is_there_already_gets_its_ending() {
    let scene = scene();
    let name = format!("{}.csv", "n".repeat(251));
    scene.write(Path::new("done").join(&name), "before");
    let taken = scene.taken(&name);
    scene.folder.leave(&taken, Leave::Done).unwrap();
    assert!(scene.is_empty());
    assert_eq!(scene.text(Path::new("done").join(&name)).as_deref(), Some("before"));
    assert_eq!(fs::read_dir(scene.home.path().join("done")).unwrap().count(), 2);
}

#[test]
fn the_bound_counts_files_that_are_meant_and_the_oldest_come_first() {
    let scene = scene();
    for n in 0..20 {
        scene.write(format!("{n}.txt"), "");
    }
    for (name, age) in [("a.csv", 1), ("b.csv", 3), ("c.csv", 2)] {
        let file = fs::File::create(scene.home.path().join(name)).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        file.set_modified(time).unwrap();
    }
    let seen = scene.folder.look_at_most(3).unwrap();
    let names: Vec<&OsString> = seen.files.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b.csv", "c.csv", "a.csv"]);
    assert!(!seen.more);
    let seen = scene.folder.look_at_most(2).unwrap();
    assert!(seen.more && seen.files.len() == 2);
}

#[test]
fn the_watched_directory_is_no_target_by_any_name() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alias = elsewhere.path().join("alias");
    symlink(home.path(), &alias).unwrap();
    for key in ["done", "failed"] {
        let mut spec = spec(home.path());
        let end = FileEnd::Move(alias.clone());
        match key {
            "done" => spec.done = end,
            _ => spec.failed = end,
        }
        let fault = Folder::open(&spec, &TriggerId::new("f", "in")).unwrap_err();
        assert!(
            fault.code == "file_target" && fault.why.contains("watched directory itself"),
            "{fault:?}"
        );
    }
}

#[test]
fn a_file_that_failed_comes_back_to_its_token() {
    let scene = scene();
    let take = |name: &str, text: &str| {
        scene.write(name, text);
        let (name, state) = scene.only();
        scene.folder.take(&name, state).unwrap().unwrap()
    };
    // Two of one name, and one with a name that is no text.
    let (first, second) = (take("a.csv", "1"), take("a.csv", "1"));
    let odd = {
        scene.write(OsStr::from_bytes(b"\xff.csv"), "odd");
        let (name, state) = scene.only();
        scene.folder.take(&name, state).unwrap().unwrap()
    };
    let known = |file: &TakenFile| KnownFile::parse(&KnownFile::of(file).header()).unwrap();
    let restored = |file: &TakenFile, known: &KnownFile| scene.folder.restore(&file.token, known);
    for file in [&first, &second, &odd] {
        // Nothing to do while it is in its place.
        assert_eq!(restored(file, &known(file)), Ok(()));
        scene.folder.leave(file, Leave::Failed).unwrap();
        assert!(!file.path.exists());
    }
    for file in [&second, &first, &odd] {
        assert_eq!(restored(file, &known(file)), Ok(()));
        assert!(file.path.exists(), "{file:?}");
    }
    assert!(fs::read_dir(scene.home.path().join("failed")).unwrap().next().is_none());
    // Also of a task that succeeded.
    scene.folder.leave(&odd, Leave::Done).unwrap();
    assert_eq!(restored(&odd, &known(&odd)), Ok(()));
    assert!(odd.path.exists());
    // One that is nowhere was taken away by its function.
    fs::remove_file(&first.path).unwrap();
    assert_eq!(restored(&first, &known(&first)), Ok(()));
    assert!(!first.path.exists());
    // One of another size may be another file, and a link is none.
    scene.write("failed/a.csv", "longer");
    let why = restored(&first, &known(&first)).unwrap_err();
    assert!(why.contains("failed/a.csv is of another size"), "{why}");
    fs::remove_file(scene.home.path().join("failed/a.csv")).unwrap();
    symlink("/etc/passwd", scene.home.path().join("failed/a.csv")).unwrap();
    assert!(restored(&first, &known(&first)).is_err());
    assert!(!first.path.exists());
    for header in ["", "1", "1 2", "1 2 ", "1 2 ../x", "1 2 ..", "x 2 a", "1 x a"] {
        assert_eq!(KnownFile::parse(header), None, "{header:?}");
    }
}
