//! A Redis Cluster for tests.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::FromRedisValue;
use tokio::sync::OwnedMutexGuard;

use super::children::{Child, free_port, scratch};
use super::redis::{answers, program};
use super::wait::eventually_within;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// After this long without an answer the others consider a node dead.
const NODE_TIMEOUT_MS: u32 = 2000;

/// Number of slots.
const SLOTS: usize = 16_384;

/// The first version with the commands used here.
const VERSION: u32 = 7;

/// Why the installed server cannot form a cluster here.
pub(super) fn too_old() -> Option<String> {
    let output = std::process::Command::new(program()).arg("--version").output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    let version = text.split("v=").nth(1)?.split('.').next()?.parse::<u32>().ok()?;
    (version < VERSION).then(|| format!("version {version} of the server is older than {VERSION}"))
}

/// The shared cluster of three primaries, emptied; the test has exclusive use until it drops the turn.
pub async fn cluster() -> ClusterTurn {
    static TURNS: LazyLock<Arc<tokio::sync::Mutex<Option<Cluster>>>> = LazyLock::new(Arc::default);
    let mut shared = Arc::clone(&TURNS).lock_owned().await;
    match &*shared {
        Some(cluster) => cluster.flush().await,
        None => *shared = Some(Cluster::start(0).await),
    }
    ClusterTurn(shared)
}

/// Exclusive use of the shared cluster.
#[derive(Debug)]
pub struct ClusterTurn(OwnedMutexGuard<Option<Cluster>>);

impl std::ops::Deref for ClusterTurn {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("it was started before the turn")
    }
}

/// Three primaries, and perhaps replicas.
#[derive(Debug)]
pub struct Cluster {
    /// The primaries in order of their slots, then the replicas in the same order.
    pub nodes: Vec<Node>,
}

/// One server of a cluster.
#[derive(Debug)]
pub struct Node {
    child: Mutex<Child>,
    dir: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
    bus: u16,
}

impl Cluster {
    /// A separate cluster: three primaries with `replicas` (0 or 1) each.
    pub async fn start(replicas: usize) -> Self {
        let nodes: Vec<Node> = (0..3 * (1 + replicas)).map(|_| Node::start()).collect();
        for (nth, node) in nodes.iter().enumerate() {
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(nth + 1).to_string()])
                .await;
            if nth < 3 {
                let (from, to) = (nth * SLOTS / 3, (nth + 1) * SLOTS / 3 - 1);
                node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])
                    .await;
            }
            let (port, bus) = (node.port.to_string(), node.bus.to_string());
            nodes[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        let cluster = Self { nodes };
        cluster.knows(cluster.nodes.len()).await;
        for (nth, replica) in cluster.nodes.iter().enumerate().skip(3) {
            let primary: String = cluster.nodes[nth - 3].ask(&["CLUSTER", "MYID"]).await;
            replica.ask::<()>(&["CLUSTER", "REPLICATE", &primary]).await;
        }
        cluster.is_whole().await;
        cluster
    }

    async fn knows(&self, all: usize) {
        for node in &self.nodes {
            eventually_within(START, "the nodes have met", async || {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await;
                let line = format!("cluster_known_nodes:{all}\r\n");
                if info.contains(&line) { Ok(()) } else { Err(info) }
            })
            .await;
        }
    }

    /// Waits until every live node reports that all slots are served, and replicas have caught up.
    pub async fn is_whole(&self) {
        for node in &self.nodes {
            eventually_within(START, "all slots are served", async || {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await;
                let sync: String = node.ask(&["INFO", "replication"]).await;
                let served = info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
                let linked = !sync.contains("master_link_status:down");
                if served && linked {
                    Ok(())
                } else {
                    Err(format!("{info}{sync}"))
                }
            })
            .await;
        }
    }

    async fn flush(&self) {
        for node in &self.nodes {
            node.ask::<()>(&["FLUSHALL"]).await;
        }
    }

    /// `127.0.0.1:PORT` of each node.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect()
    }

    /// The section `redis:` of a configuration.
    pub fn yaml(&self) -> String {
        format!("redis: {{cluster: {{addresses: [{}]}}}}\n", self.addresses().join(", "))
    }

    /// The primary (0 to 2) that had the slot of this key at the start.
    pub async fn owner(&self, key: &str) -> usize {
        let slot: usize = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        (0..3).find(|nth| slot < (nth + 1) * SLOTS / 3).expect("a slot")
    }

    /// Names of queues, `n` for each of the three primaries in order.
    pub async fn queues(&self, n: usize) -> [Vec<String>; 3] {
        let mut names: [Vec<String>; 3] = std::array::from_fn(|_| Vec::new());
        for nth in 0.. {
            let name = format!("q{nth}");
            let of = &mut names[self.owner(&name).await];
            if of.len() < n {
                of.push(name);
            }
            if names.iter().all(|of| of.len() == n) {
                break;
            }
        }
        names
    }
}

impl Node {
    fn start() -> Self {
        let (dir, port, bus) = (scratch("cluster"), free_port(), free_port());
        let child = Mutex::new(launch(&dir, port, bus));
        Self { child, dir, port, bus }
    }

    /// Kills it as a power cut of its machine would.
    pub fn kill9(&self) {
        self.child().kill9();
    }

    /// Starts it again with the data on its disk.
    pub fn start_again(&self) {
        let child = launch(&self.dir, self.port, self.bus);
        *self.child() = child;
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        self.child().signal(signal);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("a child")
    }

    /// Queries this node only.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut link = super::link_to(&format!("redis://127.0.0.1:{}/", self.port))
            .await
            .unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", self.child().tail()));
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query_async(&mut link)
            .await
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

fn launch(dir: &PathBuf, port: u16, bus: u16) -> Child {
    let child = Child::start(&program(), None, Signal::SIGKILL, &dir.join("log"), |command| {
        let (port, bus) = (port.to_string(), bus.to_string());
        let patience = NODE_TIMEOUT_MS.to_string();
        command.current_dir(dir);
        command.args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "notice",
        ]);
        command.args([
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            &patience,
        ]);
        // A lost node affects only its own slots.
        command.args([
            "--cluster-require-full-coverage",
            "no",
            "--cluster-allow-replica-migration",
            "no",
        ]);
        command.args(["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]);
    });
    child.wait_ready(START, || answers(port));
    child
}
