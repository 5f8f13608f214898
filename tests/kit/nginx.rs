//! An nginx for tests.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// An `nginx` process.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Nginx {
    /// Starts one with these lines in its only `server` block.
    pub fn start(locations: &str) -> Self {
        Self::start_on(free_port(), locations)
    }

    /// The same on a port that the caller chose.
    pub fn start_on(port: u16, locations: &str) -> Self {
        let dir = scratch("nginx");
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String = temp.map(|kind| format!("{kind}_temp_path {kind};\n")).concat();
        // One process, so that none is left behind when it is killed.
        let settings = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temp}server {{\nlisten 127.0.0.1:{port};\n{locations}\n}}\n}}\n"
        );
        std::fs::write(dir.join("nginx.conf"), settings).expect("its settings");
        // Debian's location is not on every user's path.
        let debian = "/usr/sbin/nginx";
        let program = if Path::new(debian).exists() { debian } else { "nginx" };
        let child = Child::start(program, None, Signal::SIGKILL, &dir.join("log"), |command| {
            command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
        });
        child.wait_ready(START, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port }
    }

    /// The end of its log, for failures.
    pub fn tail(&self) -> String {
        self.child.tail()
    }
}
