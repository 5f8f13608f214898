//! The program as a process: a directory to run in, starts, signals, commands.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::children::{Child, free_port, scratch};
use super::http::Http;
use super::wait::eventually_within;

/// From start to the first answer of `/readyz`.
const START: Duration = Duration::from_secs(20);

/// From SIGTERM to the end, unless a test sets another limit.
const STOP: Duration = Duration::from_secs(30);

/// How long one of its commands may take.
const COMMAND: Duration = Duration::from_secs(30);

/// A directory with a `config.yaml`, in which the program runs; several instances may share it.
#[derive(Debug)]
pub struct Site {
    /// The directory.
    pub dir: PathBuf,
    /// Environment for everything that runs here.
    pub env: Vec<(String, String)>,
    /// The program; `runner` unless a test uses another one.
    pub binary: PathBuf,
}

impl Site {
    /// A new directory with `config.yaml` and an empty `manifests/`.
    pub fn new(config: &str) -> Self {
        let site = Self {
            dir: scratch("site"),
            env: Vec::new(),
            binary: PathBuf::from(env!("CARGO_BIN_EXE_runner")),
        };
        site.write("config.yaml", config);
        std::fs::create_dir_all(site.dir.join("manifests")).expect("a directory for manifests");
        site
    }

    /// Writes a file in one step, as a careful editor or `mv` does.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        let beside = self.dir.join(format!(".{}.tmp", name.replace('/', "-")));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&beside, text).expect("a file");
        // Settings hold passwords; the program warns if others may read them.
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("a private file");
        std::fs::rename(&beside, &path).expect("a file in its place");
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Starts the program and waits until it is ready.
    pub async fn start(&self) -> Runner {
        let runner = self.launch();
        runner.ready().await;
        runner
    }

    /// Starts the program and does not wait.
    pub fn launch(&self) -> Runner {
        self.launch_by(&[])
    }

    /// Starts the program by another one, such as `unshare --mount sh -c …`.
    pub fn launch_by(&self, wrapper: &[&str]) -> Runner {
        let port = free_port();
        let binary = self.binary.to_str().expect("a path that is text");
        let (program, before) = wrapper
            .split_first()
            .map_or((binary, &[][..]), |(first, rest)| (*first, rest));
        let log = self.dir.join(format!("log-{port}"));
        let child = Child::start(program, None, Signal::SIGKILL, &log, |command| {
            command.args(before);
            if !wrapper.is_empty() {
                command.arg(binary);
            }
            command.args(["run", "-c", "config.yaml"]).current_dir(&self.dir);
            for name in foreign() {
                command.env_remove(name);
            }
            command.env("RUNNER_SERVER_ADDR", format!("127.0.0.1:{port}"));
            command.envs(self.env.iter().map(|(key, value)| (key, value)));
        });
        Runner {
            child,
            port,
            http: Http::new(format!("http://127.0.0.1:{port}")),
        }
    }

    /// Runs a command of the program here: `site.cli(["ls", "schedules", "--json"])`.
    pub async fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        let mut command = tokio::process::Command::new(&self.binary);
        command.args(arguments).current_dir(&self.dir).kill_on_drop(true);
        // Without a terminal for confirmations.
        command.stdin(Stdio::null());
        for name in foreign() {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        let output = tokio::time::timeout(COMMAND, command.output())
            .await
            .unwrap_or_else(|_| panic!("{command:?} still runs after {COMMAND:?}"))
            .expect("the program");
        Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Variables of these tests and of the machine that the program would read, or warn about.
pub fn foreign() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.to_string_lossy().starts_with("RUNNER_"))
}

/// A finished command.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: String,
    /// Its error output.
    pub stderr: String,
}

impl Finished {
    /// The command itself, if it succeeded.
    ///
    /// # Panics
    ///
    /// With all of its output, if it did not.
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "{}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its output as JSON.
    ///
    /// # Panics
    ///
    /// With the text, if it is not JSON or the command failed.
    pub fn json(self) -> Value {
        let this = self.ok();
        serde_json::from_str(&this.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {}", this.stdout))
    }
}

/// A running instance of the program; killed when dropped.
#[derive(Debug)]
pub struct Runner {
    /// The process.
    pub child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// A client to it.
    pub http: Http,
}

impl Runner {
    /// Waits until `/readyz` answers 200.
    ///
    /// # Panics
    ///
    /// If it does not in time or the program ends, with the end of its log.
    pub async fn ready(&self) {
        let look = async || {
            if let Some(status) = self.child.ended() {
                return Ok(Err(status));
            }
            match self.http.try_get("/readyz").await {
                Ok(reply) if reply.status == 200 => Ok(Ok(())),
                Ok(reply) => Err(format!("{}: {}\n{}", reply.status, reply.body, self.child.tail())),
                Err(error) => Err(format!("{error}\n{}", self.child.tail())),
            }
        };
        if let Err(status) = eventually_within(START, "the program is ready", look).await {
            panic!(
                "the program ended with {status} before it was ready\n{}",
                self.child.tail()
            );
        }
    }

    /// All of its output.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Kills it as a power cut would.
    pub fn kill9(&self) {
        self.child.kill9();
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) -> ExitStatus {
        self.terminate().await;
        self.ended().await
    }

    /// Sends SIGTERM. A program that has just been started gets it as soon as it handles it: before, it would end at once.
    async fn terminate(&self) {
        let look = async || {
            if self.child.ended().is_some() || self.child.handles(Signal::SIGTERM) {
                return Ok(());
            }
            Err(self.child.tail())
        };
        eventually_within(START, "the program handles SIGTERM", look).await;
        self.signal(Signal::SIGTERM);
    }

    /// Waits until it ends.
    pub async fn ended(self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait(STOP))
            .await
            .expect("waiting for the program")
    }
}
