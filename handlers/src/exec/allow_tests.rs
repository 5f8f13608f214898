//! What the list of allowed commands accepts, on a tree of files made for it.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use runner_core::function::Shell;

use super::*;

/// A directory with `tools/backup`, `tools/deep/x`, `evil/backup`, `bin/multi` and links to the last one.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["tools/backup", "tools/deep/x", "evil/backup", "bin/multi"] {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(dir.path().join("tools/notes"), "no program").unwrap();
    symlink("multi", dir.path().join("bin/date")).unwrap();
    symlink("multi", dir.path().join("bin/sh")).unwrap();
    symlink("../bin/multi", dir.path().join("tools/linked")).unwrap();
    symlink("tools", dir.path().join("also")).unwrap();
    dir
}

fn settings(entries: &[&str], root: &str) -> ExecSettings {
    ExecSettings {
        allowed_commands: entries.iter().map(|e| e.replace('@', root)).collect(),
        ..ExecSettings::default()
    }
}

#[test]
fn a_program_is_matched_by_the_file_that_it_is() {
    let dir = tree();
    let root = dir.path().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let path = OsString::from(format!("{root}/bin:{root}/tools"));
    for (entries, written, file) in [
        (&["@/tools/*"][..], "@/tools/backup", Some("@/tools/backup")),
        (&["@/tools/*"], "backup", Some("@/tools/backup")),
        (&["@/tools/*"], "@/also/backup", Some("@/tools/backup")),
        (&["@/also/*"], "@/tools/backup", Some("@/tools/backup")),
        (&["@/tools/*"], "@/tools/../evil/backup", None),
        (&["@/tools/*"], "@/tools/linked", None),
        (&["@/tools/*"], "@/tools/deep/x", None),
        (&["@/tools/*/x"], "@/tools/deep/x", Some("@/tools/deep/x")),
        (&["@/tools/*"], "@/tools/notes", None),
        (&["@/tools/*"], "./backup", None),
        (&["@/tools/*"], "", None),
        (&["backup"], "backup", Some("@/tools/backup")),
        (&["backup"], "@/tools/backup", Some("@/tools/backup")),
        (&["backup"], "@/evil/backup", None),
        (&["back*"], "@/evil/backup", None),
        (&["back*"], "backup", Some("@/tools/backup")),
        (&["@/tools/backup"], "backup", Some("@/tools/backup")),
        // One file under several names: only the listed name.
        (&["date"], "date", Some("@/bin/multi")),
        (&["date"], "sh", None),
        (&["@/bin/date"], "@/bin/sh", None),
        (&["date"], "multi", None),
        (&["@/bin/sh"], "sh", Some("@/bin/multi")),
        (&["tools/backup"], "@/tools/backup", None),
        (&["nowhere", "backup"], "backup", Some("@/tools/backup")),
    ] {
        let spec = ExecSpec::new([written.replace('@', root)]);
        let got = settings(entries, root).program_in(&spec, Some(path.clone()));
        let expected = file.map(|file| PathBuf::from(file.replace('@', root)));
        assert_eq!(got.ok().map(|p| p.file), expected, "{entries:?} {written}");
    }
}

#[test]
fn loader_variables_are_refused_with_a_list_only() {
    let listed = settings(&["sh"], "");
    let none = settings(&[], "");
    for (name, inherited, fits) in [
        ("LD_PRELOAD", false, false),
        ("PATH", false, false),
        ("PATH", true, true),
        ("HOME", true, true),
        ("LD_LIBRARY_PATH", true, false),
        ("PYTHONSTARTUP", false, false),
        ("BASH_FUNC_ls", false, false),
        ("API_TOKEN", false, true),
        ("TZ", true, true),
        ("PATHS", false, true),
    ] {
        let mut spec = ExecSpec::new(["sh"]);
        if inherited {
            spec.inherit_env.push(name.to_owned());
        } else {
            spec.env.insert(name.to_owned(), "x".to_owned());
        }
        assert_eq!(
            listed.program(&spec).is_ok(),
            fits,
            "{name}: {:?}",
            listed.program(&spec)
        );
        assert!(none.program(&spec).is_ok(), "{name}");
    }
}

#[test]
fn a_limit_without_effect_is_named() {
    let mut spec = ExecSpec::new(["/bin/sh"]);
    spec.user = Some("root".into());
    spec.limits.processes = Some(3);
    let codes = |spec: &ExecSpec, look| settings(&[], "").find_fault(spec, look).map(|found| found.code);
    match geteuid().is_root() {
        true => assert_eq!(codes(&spec, true), Some("W303")),
        false => assert_eq!(codes(&spec, false), Some("E307"), "only root runs commands as others"),
    }
    spec.user = Some("no-such-user".into());
    assert_eq!(codes(&spec, true), Some("E307"));
    spec.user = None;
    spec.limits.processes = None;
    assert_eq!(codes(&spec, true), None);
}

#[test]
fn a_shell_must_be_listed_too() {
    let mut spec = ExecSpec::new(["echo hi"]);
    spec.shell = Some(Shell::Sh);
    assert!(settings(&["/bin/sh"], "").program(&spec).is_ok());
    let refused = settings(&["date"], "").program(&spec);
    assert!(matches!(refused, Err(Unfit::Refused(why)) if why.contains("/bin/sh")));
    spec.shell = Some(Shell::Bash);
    assert!(settings(&["/bin/sh"], "").program(&spec).is_err());
    let mut script = ExecSpec::new(["sh"]);
    script.script = Some("id".into());
    assert!(settings(&["sh"], "").program(&script).is_ok());
    assert!(settings(&["date"], "").program(&script).is_err());
    let missing = settings(&["date"], "").program(&ExecSpec::new(["no-such-program"]));
    assert!(matches!(missing, Err(Unfit::NotHere(_))), "{missing:?}");
}
