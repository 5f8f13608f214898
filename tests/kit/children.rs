//! Child processes that die with the test process, unique ports, and scratch directories.

use std::collections::HashSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Below the ports that the kernel assigns to outgoing connections, so that a port is not taken between choosing it and
/// listening on it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How much of a log is shown in a failure.
const TAIL_BYTES: usize = 4_000;

/// The directory of this test process. Readable by all: PostgreSQL refuses to run as root, so it runs as a user who must be
/// able to reach its own part.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let parent = std::env::temp_dir();
    sweep(&parent);
    let root = parent.join(format!("runner-it-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a scratch directory");
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).expect("an open scratch directory");
    root
});

/// Living children and the signals that end them, for [`close`].
static CHILDREN: Mutex<Vec<(i32, Signal)>> = Mutex::new(Vec::new());

type Order = (Command, mpsc::SyncSender<std::io::Result<std::process::Child>>);

/// The thread that starts all children: the kernel sends the parent-death signal when the *thread* that
/// forked ends, and the threads of tests end before the process does.
static MIDWIFE: LazyLock<Mutex<mpsc::SyncSender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::sync_channel::<Order>(1);
    std::thread::spawn(move || {
        for (mut command, reply) in inbox {
            // The test that asked may have been aborted; the child is not needed then.
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(orders)
});

/// Removes the leftovers of killed test processes.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("runner-it-").and_then(|pid| pid.parse::<i32>().ok());
        if owner.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err()) {
            // Another test process may be sweeping too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A new empty directory whose name starts with `name`, removed when the tests end.
pub fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = ROOT.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).expect("a scratch directory");
    dir
}

/// A free port of 127.0.0.1, assigned once.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().expect("the list of ports");
    let taken = taken.get_or_insert_default();
    let width = u32::from(PORTS.end - PORTS.start);
    // Test processes that run at once start searching at different ports.
    let start = std::process::id().wrapping_mul(131) % width;
    (0..width)
        .map(|step| PORTS.start + u16::try_from((start + step) % width).expect("within the range"))
        .find(|port| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok() && taken.insert(*port))
        .expect("a free port")
}

/// A process that dies with us, and the file with its output.
#[derive(Debug)]
pub struct Child {
    inner: Mutex<std::process::Child>,
    pid: i32,
    log: PathBuf,
    name: String,
}

impl Child {
    /// Starts `program` with `arguments`, after `setup`; output is appended to `log`.
    ///
    /// `user` is the user to run as, if not ours. `death` is the signal sent when the test process dies.
    pub fn start(
        program: &str,
        user: Option<&str>,
        death: Signal,
        log: &Path,
        setup: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = Command::new("setpriv");
        if let Some(user) = user {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg("--clear-groups");
        }
        command
            .arg("--pdeathsig")
            .arg(death.as_str().trim_start_matches("SIG"))
            .arg("--")
            .arg(program);
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out);
        setup(&mut command);
        let (reply, answer) = mpsc::sync_channel(1);
        MIDWIFE
            .lock()
            .expect("the starting thread")
            .send((command, reply))
            .expect("the starting thread lives");
        let inner = answer
            .recv()
            .expect("an answer")
            .unwrap_or_else(|error| panic!("cannot start {program} by setpriv (util-linux): {error}"));
        let child = Self {
            pid: i32::try_from(inner.id()).expect("a process id"),
            inner: Mutex::new(inner),
            log: log.to_owned(),
            name: program.to_owned(),
        };
        CHILDREN
            .lock()
            .expect("the list of children")
            .push((child.pid(), death));
        child
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Whether it handles a signal itself: without that, the signal ends it at once.
    pub fn handles(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.inner
            .lock()
            .expect("a child")
            .try_wait()
            .expect("the state of a child")
    }

    /// Waits until it ends.
    ///
    /// # Panics
    ///
    /// If it has not by `deadline`, with the end of its log.
    pub fn wait(&self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} did not end within {deadline:?}\n{}",
                self.name,
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `ready` returns true.
    ///
    /// # Panics
    ///
    /// If it ends first or is not ready by `deadline`, with the end of its log.
    pub fn wait_ready(&self, deadline: Duration, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + deadline;
        while !ready() {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status} before it was ready\n{}", self.name, self.tail());
            }
            assert!(
                Instant::now() < end,
                "{} was not ready within {deadline:?}\n{}",
                self.name,
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it at once and waits for it.
    pub fn kill9(&self) {
        // It may have ended by itself, which is as good.
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = inner.kill();
        let _ = inner.wait();
    }

    /// All of its output.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its output, for failures.
    pub fn tail(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(TAIL_BYTES);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("--- end of {}\n{}\n---", self.log.display(), &log[from..])
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill9();
        let pid = self.pid();
        if let Ok(mut children) = CHILDREN.lock() {
            children.retain(|(other, _)| *other != pid);
        }
    }
}

/// Kills remaining processes (the shared servers) and removes the scratch directory.
pub fn close() {
    for (pid, death) in CHILDREN.lock().expect("the list of children").drain(..) {
        // It may be gone already.
        let _ = kill(Pid::from_raw(pid), death);
        let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
    }
    // Without any scratch directory there is nothing to remove.
    let _ = std::fs::remove_dir_all(&*ROOT);
}
