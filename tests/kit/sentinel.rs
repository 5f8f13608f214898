//! A primary, two replicas and three sentinels for tests.

use nix::sys::signal::Signal;

use super::children::{Child, free_port, scratch};
use super::redis::{RedisServer, program};
use super::wait::eventually_within;

/// The name under which the sentinels watch the primary.
pub const MASTER: &str = "tasks";
/// The password of the servers.
pub const PASSWORD: &str = "of-the-servers";
/// The password of the sentinels.
pub const SENTINEL_PASSWORD: &str = "of-the-sentinels";

/// The whole set.
#[derive(Debug)]
pub struct SentinelSet {
    /// The first is the primary at the start.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<(Child, u16)>,
}

impl SentinelSet {
    /// Starts them; returns when each sentinel knows all of them.
    pub async fn start() -> Self {
        let mut login = vec!["--requirepass", PASSWORD, "--masterauth", PASSWORD];
        login.extend(["--repl-diskless-sync-delay", "0"]);
        let primary = RedisServer::start(&login);
        let port = primary.port.to_string();
        let follow: Vec<&str> = login
            .iter()
            .copied()
            .chain(["--replicaof", "127.0.0.1", &port])
            .collect();
        let servers = vec![primary, RedisServer::start(&follow), RedisServer::start(&follow)];
        let sentinels = (0..3).map(|_| sentinel(&port)).collect();
        let set = Self { servers, sentinels };
        eventually_within(
            std::time::Duration::from_secs(30),
            "the sentinels know each other",
            || set.is_whole(),
        )
        .await;
        set
    }

    /// `127.0.0.1:PORT` of each sentinel.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels
            .iter()
            .map(|(_, port)| format!("127.0.0.1:{port}"))
            .collect()
    }

    async fn is_whole(&self) -> Result<(), String> {
        for (_, port) in &self.sentinels {
            let url = format!("redis://:{SENTINEL_PASSWORD}@127.0.0.1:{port}");
            let mut link = super::link_to(&url).await.map_err(|error| error.to_string())?;
            let known: std::collections::HashMap<String, String> = redis::cmd("SENTINEL")
                .arg("master")
                .arg(MASTER)
                .query_async(&mut link)
                .await
                .map_err(|error| error.to_string())?;
            let of = |key: &str| known.get(key).map_or("", String::as_str);
            if (of("num-slaves"), of("num-other-sentinels")) != ("2", "2") {
                return Err(format!("{port} knows {known:?}"));
            }
        }
        Ok(())
    }
}

fn sentinel(primary: &str) -> (Child, u16) {
    let (dir, port) = (scratch("sentinel"), free_port());
    let config = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nrequirepass {SENTINEL_PASSWORD}\n\
         sentinel sentinel-pass {SENTINEL_PASSWORD}\nsentinel monitor {MASTER} 127.0.0.1 {primary} 2\n\
         sentinel auth-pass {MASTER} {PASSWORD}\nsentinel down-after-milliseconds {MASTER} 1000\n\
         sentinel failover-timeout {MASTER} 3000\nsentinel parallel-syncs {MASTER} 2\n",
        dir.display()
    );
    let file = dir.join("sentinel.conf");
    std::fs::write(&file, config).expect("writing a configuration");
    let child = Child::start(&program(), None, Signal::SIGKILL, &dir.join("log"), |command| {
        command.current_dir(&dir).arg(&file).arg("--sentinel");
    });
    (child, port)
}
