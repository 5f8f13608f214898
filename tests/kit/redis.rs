//! A Redis for tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};

/// Databases of the shared server; each test takes one.
const DATABASES: u32 = 1024;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(20);

/// The server program: `redis-server` on the path, or what `RUNNER_TEST_REDIS` names, for tests against another version.
pub fn program() -> String {
    std::env::var("RUNNER_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Why the installed server cannot use TLS. It exits at the first unknown directive.
pub(super) fn without_tls() -> Option<String> {
    let mut command = std::process::Command::new(program());
    let output = command
        .args(["--port", "0", "--tls-port", "0", "--no-such-directive", "0"])
        .output();
    let output = output.ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .contains(">>> 'tls-port")
        .then(|| "the server is built without TLS".to_owned())
}

/// The shared server, started on first use.
pub fn redis() -> &'static RedisServer {
    static SHARED: LazyLock<RedisServer> = LazyLock::new(|| RedisServer::start(&[]));
    &SHARED
}

/// A `redis-server` process.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    dir: PathBuf,
    options: Vec<String>,
    /// Its port on 127.0.0.1.
    pub port: u16,
    next_db: AtomicU32,
}

impl RedisServer {
    /// A separate server, for tests that stop it or fill it; `options` go to the command line.
    pub fn start(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let (dir, port) = (scratch("redis"), free_port());
        let child = launch(&dir, port, &options);
        // The original's example configuration uses database 1 and everything unconfigured 0, so these stay unused.
        Self {
            child,
            dir,
            options,
            port,
            next_db: AtomicU32::new(2),
        }
    }

    /// A database for one test only.
    pub fn fresh_db(&self) -> RedisDb {
        let number = self.next_db.fetch_add(1, Ordering::Relaxed);
        assert!(
            number < DATABASES,
            "more than {DATABASES} tests take a Redis database: raise DATABASES"
        );
        RedisDb {
            port: self.port,
            number,
        }
    }

    /// Kills it as a power cut would.
    pub fn kill9(&self) {
        self.child.kill9();
    }

    /// Starts it again on the same port and directory.
    pub fn start_again(&mut self) {
        self.child = launch(&self.dir, self.port, &self.options);
    }

    /// The process, for signals and its log.
    pub fn child(&self) -> &Child {
        &self.child
    }
}

fn launch(dir: &PathBuf, port: u16, options: &[String]) -> Child {
    let child = Child::start(&program(), None, Signal::SIGKILL, &dir.join("log"), |command| {
        let (port, databases) = (port.to_string(), DATABASES.to_string());
        command
            .current_dir(dir)
            .args(["--port", &port, "--bind", "127.0.0.1", "--databases", &databases]);
        command
            .args(["--save", "", "--appendonly", "no", "--loglevel", "notice"])
            .args(options);
    });
    child.wait_ready(START, || answers(port));
    child
}

pub(super) fn answers(port: u16) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        // One that requires a password answers too.
        Ok(&reply == b"+PONG" || &reply == b"-NOAU")
    };
    ping().unwrap_or(false)
}

/// One database of a server.
#[derive(Debug, Clone)]
pub struct RedisDb {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Database number.
    pub number: u32,
}

impl RedisDb {
    /// `redis://127.0.0.1:PORT/NUMBER`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/{}", self.port, self.number)
    }

    /// The section `redis:` of a configuration.
    pub fn yaml(&self) -> String {
        format!("redis:\n  host: 127.0.0.1:{}\n  database: {}\n", self.port, self.number)
    }

    /// A connection to it.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let link = link_to(&self.url()).await;
        link.expect("a connection to the test's Redis")
    }
}

/// A connection that waits for its answers longer than the client's default of half a second, which is short for a large
/// call on a busy machine.
pub async fn link_to(url: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(START))
        .set_response_timeout(Some(START));
    let client = redis::Client::open(url)?;
    client.get_multiplexed_async_connection_with_config(&config).await
}
