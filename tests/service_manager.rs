//! Notifications to a service manager such as systemd, from start to end.

use std::collections::VecDeque;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::UnixDatagram;

use crate::kit::{self, Site};

/// How long a message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of messages searched for one; the watchdog sends one a second.
const MOST: usize = 1000;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_service_manager_is_notified_of_start_reload_and_stop, without_a_watchdog_no_pings_are_sent
    ]
}

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    received: VecDeque<String>,
}

impl Manager {
    fn of(site: &mut Site) -> Self {
        let path = site.dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        site.env.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
        let received = VecDeque::new();
        Self { socket, received }
    }

    /// The next message that contains this line.
    async fn receive(&mut self, line: &str) -> String {
        for _ in 0..MOST {
            let mut bytes = [0; 4096];
            let received = tokio::time::timeout(PATIENCE, self.socket.recv(&mut bytes)).await;
            let length = received
                .unwrap_or_else(|_| panic!("no {line} after {:?}", self.received))
                .expect("a message");
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|found| found == line) {
                return message;
            }
            self.received.push_back(message);
        }
        panic!("no {line} among {MOST} messages");
    }
}

async fn a_service_manager_is_notified_of_start_reload_and_stop() {
    let mut site = Site::new("worker: {shutdown_timeout: 7s}\n");
    let mut manager = Manager::of(&mut site);
    site.env.push(("WATCHDOG_USEC".to_owned(), "2000000".to_owned()));
    let runner = site.launch();
    let ready = manager.receive("READY=1").await;
    assert!(ready.contains("STATUS=ready\n"), "{ready}");
    runner.ready().await;
    manager.receive("WATCHDOG=1").await;
    let settings = std::fs::read_to_string(site.dir.join("config.yaml")).expect("settings");
    site.write("config.yaml", &settings.replace("7s", "9s"));
    runner.signal(Signal::SIGHUP);
    let reloading = manager.receive("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.receive("READY=1").await;
    runner.signal(Signal::SIGTERM);
    let stopping = manager.receive("STOPPING=1").await;
    // The time for running tasks is that of the reload: the manager waits for as long as the worker.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=18500000\n"), "{stopping}");
    assert!(runner.ended().await.success());
}

async fn without_a_watchdog_no_pings_are_sent() {
    let mut site = Site::new("");
    let mut manager = Manager::of(&mut site);
    let runner = site.launch();
    manager.receive("READY=1").await;
    runner.signal(Signal::SIGTERM);
    manager.receive("STOPPING=1").await;
    assert!(runner.ended().await.success());
    let beats = manager
        .received
        .iter()
        .filter(|message| message.contains("WATCHDOG"))
        .count();
    assert_eq!(beats, 0, "{:?}", manager.received);
}
