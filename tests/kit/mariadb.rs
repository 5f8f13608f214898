//! A MariaDB for tests.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};
use super::sql::{Dialect, SqlServer};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Run before it listens, one a line: `root` has one password, from any host.
const FIRST_STATEMENTS: &str = "\
DELETE FROM mysql.global_priv WHERE User = 'root';
FLUSH PRIVILEGES;
CREATE USER root@'%' IDENTIFIED BY 'root';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
";

/// The shared server, started on first use. User `root`, password `root`.
pub fn mariadb() -> &'static SqlServer {
    static SHARED: LazyLock<SqlServer> = LazyLock::new(start);
    &SHARED
}

/// A separate server.
pub fn start() -> SqlServer {
    let dir = scratch("mariadb");
    let data = dir.join("data");
    let installed = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ])
        .arg(format!("--user={}", whoami()))
        .arg(format!("--datadir={}", data.display()))
        .output()
        .expect("mariadb-install-db");
    let said = String::from_utf8_lossy(&installed.stdout).into_owned() + &String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "mariadb-install-db failed:\n{said}");
    let init = dir.join("init.sql");
    std::fs::write(&init, FIRST_STATEMENTS).expect("the first statements");
    let port = free_port();
    let program = if super::trial::on_path("mariadbd") {
        "/usr/sbin/mariadbd"
    } else {
        "mariadbd"
    };
    let child = Child::start(program, None, Signal::SIGKILL, &dir.join("log"), |command| {
        command
            .args([
                "--no-defaults",
                "--skip-name-resolve",
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
            ])
            .arg(format!("--user={}", whoami()))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", dir.join("socket").display()))
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--port={port}"))
            // The tests' data may be lost; fast starts and small memory matter more.
            .args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=32M",
                "--max-connections=500",
            ]);
    });
    child.wait_ready(START, || greets(port));
    SqlServer::new(Dialect::MariaDb, port, child)
}

/// Whether the server sends its greeting, which begins with the protocol version 10 after a 4-byte head.
fn greets(port: u16) -> bool {
    let greeting = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        Ok(head[4] == 10)
    };
    greeting().unwrap_or(false)
}

fn whoami() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().map_or_else(|| "root".to_owned(), |user| user.name)
}
