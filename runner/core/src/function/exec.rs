//! The kind `exec` as data: a command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Variables that a command inherits when its manifest names none.
pub const DEFAULT_INHERIT_ENV: [&str; 3] = ["PATH", "HOME", "TZ"];

/// How long a command may take to exit after it was asked to.
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(10);

/// The permissions that files of a command do not get: only its user reads them.
pub const DEFAULT_UMASK: u32 = 0o077;

/// A command and the interpretation of its exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments. With `shell`, one element: the text for it. With `script`, the interpreter and its options.
    pub command: Vec<String>,
    /// The shell that runs the text, by `-c`.
    pub shell: Option<Shell>,
    /// A program in the language of the interpreter, which gets the path of a private file with it. Nothing is replaced in
    /// it: values arrive by `env` and standard input.
    pub script: Option<String>,
    /// Working directory; `None`: a fresh private directory, removed afterwards.
    pub cwd: Option<PathBuf>,
    /// Variables set for it. Values may hold `${env:NAME}` and `${file:PATH}`, resolved when it runs.
    pub env: BTreeMap<String, String>,
    /// Variables of this process that it inherits; no others.
    pub inherit_env: Vec<String>,
    /// Whether it gets the payload on standard input.
    pub stdin_payload: bool,
    /// The source of its result.
    pub result: ExecResult,
    /// The meaning of its exit codes.
    pub exit_codes: ExitCodes,
    /// How long it may take to exit after it was asked to.
    pub kill_after: Duration,
    /// The user it runs as; `None`: that of the worker.
    pub user: Option<String>,
    /// The permissions that files it makes do not get.
    pub umask: u32,
    /// What each of its processes may use.
    pub limits: ExecLimits,
}

impl ExecSpec {
    /// This command with the defaults of a manifest.
    #[must_use]
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            shell: None,
            script: None,
            cwd: None,
            env: BTreeMap::new(),
            inherit_env: DEFAULT_INHERIT_ENV.map(str::to_owned).to_vec(),
            stdin_payload: true,
            result: ExecResult::default(),
            exit_codes: ExitCodes::default(),
            kill_after: DEFAULT_KILL_AFTER,
            user: None,
            umask: DEFAULT_UMASK,
            limits: ExecLimits::default(),
        }
    }
}

impl ExecSpec {
    /// The program to start, as it is written; empty if there is none.
    #[must_use]
    pub fn program(&self) -> &str {
        match self.shell {
            Some(shell) => shell.program(),
            None => self.command.first().map_or("", String::as_str),
        }
    }
}

/// What each process of a command may use; `None`: what the worker may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecLimits {
    /// Bytes of memory, counted as address space.
    pub memory: Option<u64>,
    /// Processor time, in whole seconds.
    pub cpu_time: Option<Duration>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Bytes of a file that it writes.
    pub file_size: Option<u64>,
    /// Processes and threads of its user.
    pub processes: Option<u64>,
}

/// A shell that runs a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// The one that every system has.
    Sh,
    /// bash, for arrays, `pipefail` and the like; searched in the PATH of the command.
    Bash,
}

impl Shell {
    /// The program to start.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Sh => "/bin/sh",
            Self::Bash => "bash",
        }
    }

    /// Its name, as `$0` of the text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }
}

/// The source of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecResult {
    /// The file that `RUNNER_RESULT_FILE` names.
    #[default]
    File,
    /// All of its standard output.
    Stdout,
    /// It has none.
    None,
}

/// The meaning of exit codes. A code in none of the lists means "try again".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitCodes {
    /// Done.
    pub success: Vec<i32>,
    /// Try again; after the delay in the control file, if there is one.
    pub retry: Vec<i32>,
    /// Trying again cannot help.
    pub fatal: Vec<i32>,
    /// There is nothing left to do.
    pub revoke: Vec<i32>,
}

impl Default for ExitCodes {
    /// The codes of `sysexits.h` (75 temporary failure; 64 usage, 65 data, 77 permission, 78 configuration),
    /// 0, and 99 for revoke.
    fn default() -> Self {
        Self {
            success: vec![0],
            retry: vec![75],
            fatal: vec![64, 65, 77, 78],
            revoke: vec![99],
        }
    }
}
