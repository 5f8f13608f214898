//! A PgBouncer in front of the shared PostgreSQL, with its defaults and transaction pooling.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};
use super::sql::SqlDb;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running PgBouncer; stopped when dropped.
pub struct PgBouncer {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _child: Child,
}

/// One that forwards to this PostgreSQL database.
pub fn start(db: &SqlDb) -> PgBouncer {
    let dir = scratch("pgbouncer");
    let port = free_port();
    let settings = format!(
        "[databases]\n{0} = host=127.0.0.1 port={1} dbname={0} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\n",
        db.name, db.port
    );
    let file = dir.join("pgbouncer.ini");
    std::fs::write(&file, settings).expect("its settings");
    // It refuses to run as root.
    let user = nix::unistd::geteuid().is_root().then_some("postgres");
    let program = match std::path::Path::new("/usr/sbin/pgbouncer").is_file() {
        true => "/usr/sbin/pgbouncer",
        false => "pgbouncer",
    };
    let child = Child::start(program, user, Signal::SIGKILL, &dir.join("log"), |command| {
        command.arg(&file);
    });
    child.wait_ready(START, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    PgBouncer { port, _child: child }
}
