//! An unchanged configuration: host names that resolve to the test's servers, on the ports it names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};

use super::children::scratch;

/// Makes names resolve to other addresses within one process.
#[derive(Debug)]
pub struct Names {
    library: PathBuf,
    names: String,
}

impl Names {
    /// `[("redis", "127.77.0.1")]`: addresses of the loopback network, all of which a Linux machine has.
    pub fn new(names: &[(&str, &str)]) -> Self {
        let dir = scratch("names");
        let (source, library) = (dir.join("names.c"), dir.join("names.so"));
        std::fs::write(&source, include_str!("names.c")).expect("the source");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output();
        let built = built.expect("cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let names: Vec<String> = names
            .iter()
            .map(|(name, address)| format!("{name}={address}"))
            .collect();
        Self {
            library,
            names: names.join(" "),
        }
    }

    /// Environment for the program.
    pub fn env(&self) -> [(String, String); 2] {
        [
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("NAMES".to_owned(), self.names.clone()),
        ]
    }
}

/// A listener that forwards to a port of 127.0.0.1, until it is cut.
#[derive(Debug)]
pub struct Forward {
    cut: Arc<AtomicBool>,
    mute: Arc<AtomicBool>,
    wake: Arc<tokio::sync::Notify>,
    /// Its own port.
    pub address: SocketAddr,
}

impl Forward {
    /// Listens on `address` and forwards to `port`.
    pub async fn start(address: &str, port: u16) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("an address");
        let (cut, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
        let mute = Arc::new(AtomicBool::new(false));
        let (is_cut, is_mute, woken) = (Arc::clone(&cut), Arc::clone(&mute), Arc::clone(&wake));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let (is_mute, woken) = (Arc::clone(&is_mute), Arc::clone(&woken));
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        // However a connection ends, it has ended.
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = woken.notified() => {}
                    }
                    if is_mute.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self {
            cut,
            mute,
            wake,
            address,
        }
    }

    /// Stops forwarding on the existing connections without closing them; new ones are not affected.
    pub fn silence(&self) {
        self.mute.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    /// Closes every connection, and each new one at once.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    /// Accepts connections again.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}
