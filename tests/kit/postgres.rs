//! A PostgreSQL for tests.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};
use super::sql::{Dialect, SqlServer};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The shared server, started on first use. User `postgres`, any password.
pub fn postgres() -> &'static SqlServer {
    static SHARED: LazyLock<SqlServer> = LazyLock::new(start);
    &SHARED
}

/// Where `initdb` and `postgres` are: on the path, or where Debian puts them (the newest version).
pub fn bin_dir() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev())
        .find(|dir| dir.join("initdb").is_file())
}

/// A separate server.
pub fn start() -> SqlServer {
    let bin = bin_dir().expect("checked by the test's needs");
    let dir = scratch("postgres");
    let data = dir.join("data");
    // It refuses to run as root; the package creates a user of this name.
    let user = nix::unistd::geteuid().is_root().then_some("postgres");
    if let Some(user) = user {
        let user = nix::unistd::User::from_name(user)
            .ok()
            .flatten()
            .expect("the user postgres");
        std::os::unix::fs::chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .expect("a directory for postgres");
    }
    let initdb = Child::start(
        &bin.join("initdb").display().to_string(),
        user,
        Signal::SIGKILL,
        &dir.join("initdb.log"),
        |command| {
            command
                .current_dir(&dir)
                .args([
                    "--auth=trust",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "--pgdata",
                ])
                .arg(&data);
        },
    );
    let status = initdb.wait(START);
    assert!(status.success(), "initdb: {status}\n{}", initdb.tail());
    let port = free_port();
    // QUIT is its immediate shutdown, which ends its children; KILL would leave them for a moment.
    let child = Child::start(
        &bin.join("postgres").display().to_string(),
        user,
        Signal::SIGQUIT,
        &dir.join("log"),
        |command| {
            command
                .current_dir(&dir)
                .arg("-D")
                .arg(&data)
                .args(["-p", &port.to_string(), "-k"])
                .arg(&dir);
            for setting in [
                "listen_addresses=127.0.0.1",
                "fsync=off",
                "max_connections=300",
                "shared_buffers=16MB",
            ] {
                command.args(["-c", setting]);
            }
        },
    );
    // Its port answers before it accepts statements; its log shows when it does.
    let log = dir.join("log");
    let ready = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("ready to accept connections"));
    child.wait_ready(START, ready);
    SqlServer::new(Dialect::Postgres, port, child)
}
