//! What the process says to a service manager such as systemd, from its start to its end.

use std::collections::VecDeque;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::UnixDatagram;

use crate::kit::{self, Site};

/// How long a message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages looked through for one, at most; the watchdog sends one a second.
const MOST: usize = 1000;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_service_manager_hears_of_start_reload_and_stop, without_a_watchdog_nothing_is_said_for_it
    ]
}

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Manager {
    fn of(site: &mut Site) -> Self {
        let path = site.dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        site.env.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
        let heard = VecDeque::new();
        Self { socket, heard }
    }

    /// The next message that has this line.
    async fn hear(&mut self, line: &str) -> String {
        for _ in 0..MOST {
            let mut bytes = [0; 4096];
            let received = tokio::time::timeout(PATIENCE, self.socket.recv(&mut bytes)).await;
            let length = received
                .unwrap_or_else(|_| panic!("no {line} after {:?}", self.heard))
                .expect("a message");
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|found| found == line) {
                return message;
            }
            self.heard.push_back(message);
        }
        panic!("no {line} among {MOST} messages");
    }
}

async fn a_service_manager_hears_of_start_reload_and_stop() {
    let mut site = Site::new("worker: {shutdown_timeout: 7s}\n");
    let mut manager = Manager::of(&mut site);
    site.env.push(("WATCHDOG_USEC".to_owned(), "2000000".to_owned()));
    let runner = site.launch();
    let ready = manager.hear("READY=1").await;
    assert!(ready.contains("STATUS=ready\n"), "{ready}");
    runner.ready().await;
    manager.hear("WATCHDOG=1").await;
    runner.signal(Signal::SIGHUP);
    let reloading = manager.hear("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1").await;
    runner.signal(Signal::SIGTERM);
    let stopping = manager.hear("STOPPING=1").await;
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=16500000\n"), "{stopping}");
    assert!(runner.ended().await.success());
}

async fn without_a_watchdog_nothing_is_said_for_it() {
    let mut site = Site::new("");
    let mut manager = Manager::of(&mut site);
    let runner = site.launch();
    manager.hear("READY=1").await;
    runner.signal(Signal::SIGTERM);
    manager.hear("STOPPING=1").await;
    assert!(runner.ended().await.success());
    let beats = manager
        .heard
        .iter()
        .filter(|message| message.contains("WATCHDOG"))
        .count();
    assert_eq!(beats, 0, "{:?}", manager.heard);
}
