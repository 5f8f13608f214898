//! Functions defined by manifests, as plain data, and the set of them, which changes while the program runs.
//!
//! Neither reads manifests nor runs anything: the source room creates functions, the built-in handlers run them.

mod enqueue;
mod exec;
mod http;
mod kind;
mod mail;
mod publish;
mod schema;
mod sql;
mod template;
mod wasm;

pub use enqueue::{EnqueuePayload, EnqueueSpec, JsonOfTemplates};
pub use exec::{
    DEFAULT_INHERIT_ENV, DEFAULT_KILL_AFTER, DEFAULT_UMASK, ExecLimits, ExecResult, ExecSpec, ExitCodes, Shell,
};
pub use http::{HttpBody, HttpResult, HttpSpec, HttpTls, MAX_REDIRECTS, is_json_type};
pub use kind::{CheckFinding, FunctionKind, PayloadFault};
pub use mail::{MailAttachment, MailSpec};
pub use publish::{ExchangeTarget, PublishSpec, PublishTarget};
pub use schema::{PayloadCheck, PayloadSchema, SchemaFault};
pub use sql::{DEFAULT_MAX_ROWS, RowBounds, SqlMode, SqlParameter, SqlSpec, SqlStatement};
pub use template::{FunctionTemplate, FunctionTemplateFault, MAX_FILLED_BYTES, TEMPLATE_NAMES, TemplateScope};
pub use wasm::{DEFAULT_WASM_MEMORY, WasmDir, WasmSpec};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::limit::{Limits, TaskLimit};
use crate::notification::NotifyRules;
use crate::task::{FUNCTION_PREFIX, QueueName, Task, Unique};

/// Default number of retries of a function that no handler runs.
pub const FUNCTION_MAX_RETRY: u32 = 2;

/// Default time limit of an attempt of such a function.
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
    /// The payload in its manifest, over which schedules merge theirs: what a run by hand gets if it states none.
    pub payload: Option<Bytes>,
    /// What its payload must be; `None`: anything.
    pub payload_schema: Option<PayloadSchema>,
    /// How many of its tasks run at a time, how often one starts, in which order.
    pub limits: Vec<TaskLimit>,
    /// Over which channels people hear of it.
    pub notify: NotifyRules,
    /// Changes with every change of the definition.
    pub revision: String,
}

impl Function {
    /// The type of the tasks that run this function.
    #[must_use]
    pub fn task_type(&self) -> String {
        match self.kind.handler_type() {
            Some(kind) => kind.to_owned(),
            None => format!("{FUNCTION_PREFIX}{}", self.name),
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
    /// The uniqueness lock that tasks take.
    pub unique: Option<Unique>,
}

impl FunctionOptions {
    /// The defaults for the tasks of such a function. Tasks of handlers in code keep asynq's defaults, because Go servers run
    /// and show them too.
    #[must_use]
    pub fn default_of(kind: &FunctionKind) -> Self {
        match kind.handler_type() {
            Some(_) => Self::default(),
            None => Self::of_function(),
        }
    }

    /// The defaults for the tasks of any function that no handler runs.
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
            unique: task.unique.clone(),
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
            unique: self.unique.or_else(|| others.unique.clone()),
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
        if self.unique.is_some() {
            task.unique.clone_from(&self.unique);
        }
    }
}

/// The functions of all manifests. Clones share one set, which is replaced as a whole.
#[derive(Debug, Clone, Default)]
pub struct Functions(Arc<Shared>);

type ByName = BTreeMap<String, Arc<Function>>;

/// By task type. A type that a handler runs may have several.
type Schemas = BTreeMap<String, Vec<PayloadSchema>>;

#[derive(Debug, Default)]
struct Shared {
    functions: RwLock<Arc<ByName>>,
    schemas: RwLock<Arc<Schemas>>,
    /// Whether there are any schemas: where there are none, a task must not pay for a lock.
    checks: AtomicBool,
}

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
        Arc::clone(&self.0.functions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    /// The limits of all functions, by the types of their tasks. Of several functions that one handler runs, the first one by name
    /// that states a limit of a rule states it for all.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for function in self.all().values() {
            for limit in &function.limits {
                limits.add(&function.task_type(), limit.clone());
            }
        }
        limits
    }

    /// Replaces all functions. Runs that have started keep their own.
    pub fn replace(&self, functions: Vec<Function>) {
        let mut schemas = Schemas::new();
        for function in &functions {
            if let Some(schema) = &function.payload_schema {
                schemas.entry(function.task_type()).or_default().push(schema.clone());
            }
        }
        let map = functions.into_iter().map(|f| (f.name.clone(), Arc::new(f)));
        let map = Arc::new(map.collect());
        let checks = !schemas.is_empty();
        *self.0.schemas.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(schemas);
        self.0.checks.store(checks, Ordering::Release);
        *self.0.functions.write().unwrap_or_else(PoisonError::into_inner) = map;
    }

    /// Why a task of this type must not have this payload. Of several schemas of one type one must accept it: the task does
    /// not say which function it is of.
    #[must_use]
    pub fn payload_fault(&self, kind: &str, payload: &[u8]) -> Option<SchemaFault> {
        if !self.0.checks.load(Ordering::Acquire) {
            return None;
        }
        let schemas = Arc::clone(&self.0.schemas.read().unwrap_or_else(PoisonError::into_inner));
        let mut first = None;
        for schema in schemas.get(kind)? {
            let fault = schema.fault(payload)?;
            first.get_or_insert(fault);
        }
        first
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
            payload: None,
            payload_schema: None,
            limits: Vec::new(),
            notify: Default::default(),
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

    /// Accepts one payload.
    struct Only(&'static [u8]);

    impl PayloadCheck for Only {
        fn fault(&self, payload: &[u8]) -> Option<SchemaFault> {
            (payload != self.0).then(|| SchemaFault {
                path: String::new(),
                why: format!("not {}", String::from_utf8_lossy(self.0)),
            })
        }
    }

    #[test]
    fn one_of_the_schemas_of_a_type_must_accept_a_payload() {
        let of = |name: &str, accepts: &'static [u8]| {
            let kind = FunctionKind::Handler {
                kind: "task:x".to_owned(),
            };
            let schema = PayloadSchema::new(name, Arc::new(Only(accepts)));
            Function {
                payload_schema: Some(schema),
                ..function(name, kind)
            }
        };
        let functions = Functions::new(vec![of("a", b"1"), of("b", b"2")]);
        assert_eq!(functions.payload_fault("task:x", b"1"), None);
        assert_eq!(functions.payload_fault("task:x", b"2"), None);
        assert_eq!(functions.payload_fault("task:x", b"3").unwrap().why, "not 1");
        assert_eq!(functions.payload_fault("task:y", b"3"), None);
        functions.replace(Vec::new());
        assert_eq!(functions.payload_fault("task:x", b"3"), None);
    }

    #[test]
    fn functions_without_a_handler_have_defaults_of_their_own() {
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
