//! Explains why a command cannot be started, and what to do.
//!
//! The system has one error for many causes: "No such file" can refer to the interpreter of an existing script.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// How much of a script is read: the kernel reads 256 bytes for its first line.
const HEAD: u64 = 256;

/// The problem of the working directory, if there is one.
pub(super) fn enter(cwd: &Path) -> Option<String> {
    let shown = cwd.display();
    match cwd.metadata() {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("cwd: {shown} is not a directory")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some(format!("cwd: the directory {shown} does not exist")),
        Err(e) => Some(format!("cwd: the directory {shown} cannot be used: {e}")),
    }
}

/// What would prevent this program from starting here, as far as that is known without starting it.
pub(super) fn foresee(program: &Path, cwd: &Path, path: Option<&OsStr>) -> Option<String> {
    let error = |errno: Errno| Some(start(program, cwd, path, &io::Error::from(errno)));
    let Some(file) = found(program, cwd, path) else {
        return error(Errno::ENOENT);
    };
    let meta = file.metadata().ok()?;
    if meta.is_dir() || meta.permissions().mode() & 0o111 == 0 {
        return error(Errno::EACCES);
    }
    let head = head(&file);
    match head.strip_prefix(b"#!") {
        Some(line) => {
            let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
            let name: Vec<u8> = line
                .trim_ascii_start()
                .iter()
                .copied()
                .take_while(|b| !matches!(b, b' ' | b'\t'))
                .collect();
            let interpreter = Path::new(OsStr::from_bytes(&name));
            (!interpreter.exists()).then(|| error(Errno::ENOENT)).flatten()
        }
        // Without an interpreter line and without a program's header it is text for a shell.
        None if !head.is_empty() && head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            error(Errno::ENOEXEC)
        }
        None => None,
    }
}

/// The meaning of `error` for this program, which is searched in `path` if its name has no slash.
pub(super) fn start(program: &Path, cwd: &Path, path: Option<&OsStr>, error: &io::Error) -> String {
    let shown = program.display();
    let file = found(program, cwd, path);
    let why = match (Errno::from_raw(error.raw_os_error().unwrap_or(0)), &file) {
        (Errno::ENOENT, None) if program.as_os_str().as_bytes().contains(&b'/') => {
            Some("there is no such file".to_owned())
        }
        (Errno::ENOENT, None) => Some(match path {
            Some(path) => format!("it is in none of the directories of PATH ({})", path.display()),
            None => "no PATH is set for it; write its full path, or inherit PATH".to_owned(),
        }),
        (Errno::ENOENT, Some(file)) => interpreter(file),
        (Errno::ENOEXEC, Some(file)) => Some(match head(file).starts_with(b"#!") {
            true => "the first line of the script is not complete".to_owned(),
            false => {
                "it is neither a program for this machine nor a script whose first line names its interpreter, such as \
                      `#!/bin/sh`"
                    .to_owned()
            }
        }),
        (Errno::EACCES, Some(file)) => denied(file),
        (Errno::ENOTDIR, _) => Some("a part of its path is not a directory".to_owned()),
        (Errno::ETXTBSY, _) => Some("it is being written".to_owned()),
        (Errno::E2BIG, _) => Some("its arguments and variables are too long for the system".to_owned()),
        _ => None,
    };
    match why {
        Some(why) => format!("cannot start `{shown}`: {error}: {why}"),
        None => format!("cannot start `{shown}`: {error}"),
    }
}

/// The file that the name leads to, executable or not.
fn found(program: &Path, cwd: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Some(cwd.join(program)).filter(|file| file.exists());
    }
    std::env::split_paths(path?)
        .map(|dir| cwd.join(dir).join(program))
        .find(|file| file.exists())
}

fn head(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An unreadable file is not explained further.
    let read = File::open(file).and_then(|f| f.take(HEAD).read_to_end(&mut bytes));
    read.map_or_else(|_| Vec::new(), |_| bytes)
}

/// For a file that exists and is yet "not found".
fn interpreter(file: &Path) -> Option<String> {
    let head = head(file);
    let Some(line) = head.strip_prefix(b"#!") else {
        return Some("it is there, but the loader or a library that it needs is not".to_owned());
    };
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Some(
            "its lines end in CR LF, as on Windows, so its interpreter is searched under a name that ends in CR: \
             convert it, with `dos2unix` or `sed -i 's/\\r$//'`"
                .to_owned(),
        );
    }
    let line = String::from_utf8_lossy(line).into_owned();
    let name = line.split_ascii_whitespace().next().unwrap_or_default();
    Some(format!(
        "its interpreter `{name}`, which its first line names, does not exist"
    ))
}

fn denied(file: &Path) -> Option<String> {
    let found = file.metadata().ok()?;
    if found.is_dir() {
        return Some("it is a directory".to_owned());
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Some("it is not executable: `chmod +x` makes it so, or name its interpreter: `[sh, FILE]`".to_owned());
    }
    let head = head(file);
    let script = head.strip_prefix(b"#!");
    Some(match script {
        Some(_) => {
            "it or the interpreter that its first line names may not be executed by this user, or its file system is \
                    mounted with `noexec`"
                .to_owned()
        }
        None => "this user may not execute it, or its file system is mounted with `noexec`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_cause_has_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8], mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let crlf = file("crlf", b"#!/bin/sh\r\necho\r\n", 0o755);
        let bare = file("bare", b"echo hi\n", 0o755);
        let lost = file("lost", b"#!/no/such/shell -e\n", 0o755);
        let plain = file("plain", b"#!/bin/sh\n", 0o644);
        for (program, path, words) in [
            (crlf.as_path(), None, "CR LF"),
            (&bare, None, "#!/bin/sh"),
            (&lost, None, "`/no/such/shell`"),
            (&plain, None, "chmod +x"),
            (dir.path(), None, "is a directory"),
            (Path::new("/no/such/file"), None, "no such file"),
            (Path::new("no-such-program"), Some("/usr/bin"), "PATH (/usr/bin)"),
            (Path::new("no-such-program"), None, "no PATH is set"),
            (Path::new("/bin/sh/x"), None, "not a directory"),
        ] {
            let error = std::process::Command::new(program).spawn().unwrap_err();
            let message = start(program, Path::new("/"), path.map(OsStr::new), &error);
            assert!(message.contains(words), "{message}");
        }
        assert!(enter(&bare).is_some_and(|why| why.contains("not a directory")));
        assert!(enter(Path::new("/no/such")).is_some_and(|why| why.contains("does not exist")));
        assert_eq!(enter(dir.path()), None);

        let good = file("good", b"#! /bin/sh -e\ntrue\n", 0o755);
        for program in [crlf, bare, lost, plain, dir.path().to_owned(), "/no/such/file".into()] {
            let error = std::process::Command::new(&program).spawn().unwrap_err();
            let message = start(&program, Path::new("/"), None, &error);
            assert_eq!(foresee(&program, Path::new("/"), None), Some(message));
        }
        assert_eq!(foresee(&good, Path::new("/"), None), None);
        assert_eq!(foresee(Path::new("sh"), Path::new("/"), Some(OsStr::new("/bin"))), None);
        let lost = foresee(Path::new("no-such-program"), Path::new("/"), Some(OsStr::new("/bin")));
        assert!(lost.is_some_and(|why| why.contains("PATH (/bin)")));
    }
}
