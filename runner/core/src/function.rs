//! Functions defined by manifests, as plain data, and the set of them, which changes while the program runs.
//!
//! Neither reads manifests nor runs anything: the source room creates functions, the built-in handlers run them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::task::{FUNCTION_PREFIX, QueueName, Task};

/// Variables that a command inherits when its manifest names none.
pub const DEFAULT_INHERIT_ENV: [&str; 3] = ["PATH", "HOME", "TZ"];

/// How long a command may take to exit after it was asked to.
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(10);

/// Default number of retries of a command or call.
pub const FUNCTION_MAX_RETRY: u32 = 2;

/// Default time limit of an attempt of a command or call.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A named function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Unique across all manifests.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// What to run.
    pub kind: FunctionKind,
    /// The task options in its manifest; [`Function::task_options`] has the effective ones.
    pub options: FunctionOptions,
    /// Changes with every change of the definition.
    pub revision: String,
}

impl Function {
    /// The type of the tasks that run this function.
    #[must_use]
    pub fn task_type(&self) -> String {
        match &self.kind {
            FunctionKind::Handler { kind } => kind.clone(),
            FunctionKind::Exec(_) | FunctionKind::Http(_) => {
                format!("{FUNCTION_PREFIX}{}", self.name)
            }
        }
    }

    /// The effective options of its tasks, where the tasks themselves state none: those of the manifest, then the defaults of
    /// its kind.
    #[must_use]
    pub fn task_options(&self) -> FunctionOptions {
        self.options.clone().or(&FunctionOptions::default_of(&self.kind))
    }
}

/// Task options of a function, a row or a command line; `None` where unstated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionOptions {
    /// The queue.
    pub queue: Option<QueueName>,
    /// Number of retries.
    pub max_retry: Option<u32>,
    /// Time limit of an attempt.
    pub timeout: Option<Duration>,
    /// How long successful tasks are kept; zero: not at all.
    pub retention: Option<Duration>,
}

impl FunctionOptions {
    /// The defaults for the tasks of such a function. Tasks of handlers in code keep asynq's defaults, because Go servers run
    /// and show them too.
    #[must_use]
    pub fn default_of(kind: &FunctionKind) -> Self {
        match kind {
            FunctionKind::Handler { .. } => Self::default(),
            FunctionKind::Exec(_) | FunctionKind::Http(_) => Self::of_function(),
        }
    }

    /// The defaults for the tasks of any command or call.
    #[must_use]
    pub fn of_function() -> Self {
        Self {
            max_retry: Some(FUNCTION_MAX_RETRY),
            timeout: Some(FUNCTION_TIMEOUT),
            ..Self::default()
        }
    }

    /// The options in which a task differs from a new one of its type.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let new = Task::new("");
        Self {
            queue: (task.queue != new.queue).then(|| task.queue.clone()),
            max_retry: (task.max_retry != new.max_retry).then_some(task.max_retry),
            timeout: task.timeout,
            retention: (task.retention != new.retention).then_some(task.retention),
        }
    }

    /// These options, completed by the others.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            queue: self.queue.or_else(|| others.queue.clone()),
            max_retry: self.max_retry.or(others.max_retry),
            timeout: self.timeout.or(others.timeout),
            retention: self.retention.or(others.retention),
        }
    }

    /// Writes the stated options into a task.
    pub fn apply(&self, task: &mut Task) {
        if let Some(queue) = &self.queue {
            task.queue = queue.clone();
        }
        if let Some(times) = self.max_retry {
            task.max_retry = times;
        }
        if self.timeout.is_some() {
            task.timeout = self.timeout;
        }
        if let Some(keep) = self.retention {
            task.retention = keep;
        }
    }
}

/// The action of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionKind {
    /// A handler registered in code, here or in any other worker of the queue.
    Handler {
        /// The task type.
        kind: String,
    },
    /// A command.
    Exec(ExecSpec),
    /// An HTTP call.
    Http(HttpSpec),
}

/// A command and the interpretation of its exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments. With `shell`, one element: the script.
    pub command: Vec<String>,
    /// Run the script with `/bin/sh -c`.
    pub shell: bool,
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
}

impl ExecSpec {
    /// This command with the defaults of a manifest.
    #[must_use]
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            shell: false,
            cwd: None,
            env: BTreeMap::new(),
            inherit_env: DEFAULT_INHERIT_ENV.map(str::to_owned).to_vec(),
            stdin_payload: true,
            result: ExecResult::default(),
            exit_codes: ExitCodes::default(),
            kill_after: DEFAULT_KILL_AFTER,
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

/// An HTTP call and the interpretation of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSpec {
    /// `POST`, `GET`, …
    pub method: String,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Headers. Values may hold `${env:NAME}` and `${file:PATH}`, resolved when it runs.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: HttpBody,
    /// Statuses that mean "done": inclusive ranges.
    pub success: Vec<(u16, u16)>,
    /// Statuses that mean "try again": inclusive ranges.
    pub retry_on: Vec<(u16, u16)>,
}

impl HttpSpec {
    /// A `POST` of the payload to this address, with the defaults of a manifest.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            method: "POST".to_owned(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: HttpBody::default(),
            success: vec![(200, 299)],
            retry_on: vec![(408, 408), (425, 425), (429, 429), (500, 599)],
        }
    }

    /// Whether it sends the payload as JSON: it does unless `headers` have another `Content-Type`.
    #[must_use]
    pub fn sends_json(&self) -> bool {
        let has_body = !["GET", "HEAD"].iter().any(|m| self.method.eq_ignore_ascii_case(m));
        let mut headers = self.headers.iter();
        let stated = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        has_body && self.body == HttpBody::Payload && stated.is_none_or(|(_, value)| is_json_type(value))
    }
}

/// Whether a `Content-Type` means JSON: `application/json`, `application/cloudevents+json; charset=utf-8`.
#[must_use]
pub fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// The body of an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpBody {
    /// The payload.
    #[default]
    Payload,
    /// Nothing.
    None,
    /// This text.
    Text(String),
}

/// The functions of all manifests. Clones share one set, which is replaced as a whole.
#[derive(Debug, Clone, Default)]
pub struct Functions(Arc<RwLock<Arc<ByName>>>);

type ByName = BTreeMap<String, Arc<Function>>;

impl Functions {
    /// A set of these functions.
    #[must_use]
    pub fn new(functions: Vec<Function>) -> Self {
        let this = Self::default();
        this.replace(functions);
        this
    }

    /// The function of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Function>> {
        self.all().get(name).cloned()
    }

    /// A snapshot of all functions by name.
    #[must_use]
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Function>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    /// Replaces all functions. Runs that have started keep their own.
    pub fn replace(&self, functions: Vec<Function>) {
        let map = functions.into_iter().map(|f| (f.name.clone(), Arc::new(f)));
        let map = Arc::new(map.collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = map;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn function(name: &str, kind: FunctionKind) -> Function {
        Function {
            name: name.to_owned(),
            description: String::new(),
            kind,
            options: FunctionOptions::default(),
            revision: "1".to_owned(),
        }
    }

    #[test]
    fn the_set_is_shared_and_replaced_as_a_whole() {
        let exec = FunctionKind::Exec(ExecSpec::new(["true"]));
        let kind = "task:x".to_owned();
        let functions = Functions::new(vec![function("a", exec)]);
        let other = functions.clone();
        let began_with = other.get("a").unwrap();
        functions.replace(vec![function("b", FunctionKind::Handler { kind })]);
        assert_eq!(other.names(), ["b"]);
        assert_eq!(began_with.task_type(), "fn:a");
        assert_eq!(other.get("b").unwrap().task_type(), "task:x");
    }

    #[test]
    fn commands_and_calls_have_defaults_of_their_own() {
        let limits = |kind| {
            let options = function("a", kind).task_options();
            (options.max_retry, options.timeout)
        };
        let own = (Some(2), Some(Duration::from_secs(3600)));
        assert_eq!(limits(FunctionKind::Exec(ExecSpec::new(["true"]))), own);
        assert_eq!(limits(FunctionKind::Http(HttpSpec::new("http://example.com"))), own);
        let kind = "task:x".to_owned();
        assert_eq!(limits(FunctionKind::Handler { kind }), (None, None));

        let mut patient = function("a", FunctionKind::Exec(ExecSpec::new(["true"])));
        patient.options.max_retry = Some(0);
        assert_eq!(patient.task_options().max_retry, Some(0));
        assert_eq!(patient.task_options().timeout, Some(FUNCTION_TIMEOUT));
    }
}
