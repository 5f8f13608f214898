//! Which handler runs which task type: an explicit list that refuses duplicates and is then fixed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use runner_core::limit::Limits;

use crate::aggregate::Aggregators;
use crate::handler::OfType;
use crate::matched::HandlerMatch;
use crate::middleware::{self, Wrap};
use crate::options::HandlerOptions;
use crate::typed::TypedTasks;
use crate::{Aggregator, Backoff, Group, Handler, IntoTask, Needs, States};

type Knows = Box<dyn Fn(&str) -> bool + Send + Sync>;
type Names = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// A name that was registered twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` is registered twice; remove one of them, or give it another name{}", hint(.what))]
pub struct DuplicateName {
    /// The kind of duplicate: "handler", "prefix", "aggregator", "state".
    pub what: &'static str,
    /// The duplicate name.
    pub name: String,
}

fn hint(what: &str) -> &'static str {
    match what {
        "state" => " (a type of its own around it: struct Reports(PgPool))",
        _ => "",
    }
}

/// Why handlers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name that was registered twice.
    #[error(transparent)]
    Duplicate(#[from] DuplicateName),
    /// A handler that could never run, because nothing was registered for one of its arguments.
    #[error("handler `{handler}` needs the state `{state}`; add `.state(…)` with a value of this type to the registry")]
    MissingState {
        /// The name of the handler.
        handler: String,
        /// The type of the value.
        state: &'static str,
    },
}

struct Prefix {
    prefix: String,
    knows: Option<Knows>,
    names: Option<Names>,
    found: HandlerMatch,
}

/// The list of handlers while it is built.
///
/// The names are stored with every task in every store: renaming one orphans waiting tasks.
#[derive(Default)]
pub struct Registry {
    exact: BTreeMap<String, HandlerMatch>,
    prefixes: Vec<Prefix>,
    aggregators: Aggregators,
    states: States,
    errors: Vec<DuplicateName>,
    /// What each handler needs, by its name.
    needs: Vec<(String, Needs)>,
    /// Around all handlers, the innermost first.
    layers: Vec<Wrap>,
    limits: Limits,
    typed: TypedTasks,
    last: Last,
}

/// Which handler [`Registry::with`] is about.
#[derive(Default)]
enum Last {
    /// None, or one that was refused.
    #[default]
    None,
    Exact(String),
    /// The last of the list.
    Prefix,
}

impl Registry {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs tasks of this type with `handler`. A name that ends in `:` or `.` matches all types that begin with it, as
    /// [`Registry::on_prefix`].
    #[must_use]
    pub fn on<H: Handler<A>, A: 'static>(mut self, name: &str, handler: H) -> Self {
        if name.ends_with([':', '.']) {
            return self.on_prefix(name, handler);
        }
        if self.exact.contains_key(name) {
            return self.refuse("handler", name);
        }
        self.exact.insert(name.to_owned(), erase(handler));
        self.note_needs::<H, A>(name);
        self.last = Last::Exact(name.to_owned());
        self
    }

    /// Runs tasks of the type that the first argument of `handler` names, which is `Payload<T>` of a
    /// [`TaskType`](runner_core::task::TaskType): what enqueues the task and what runs it cannot disagree.
    ///
    /// ```
    /// use runner_sdk::{Ctx, Payload, Registry, TaskType};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, TaskType)]
    /// #[task(name = "greet", queue = "low", retry = 3)]
    /// struct Greet { name: String }
    ///
    /// async fn greet(Payload(greet): Payload<Greet>, cx: Ctx) -> String {
    ///     format!("hello, {}", greet.name)
    /// }
    /// let handlers = Registry::new().on_task(greet).build();
    /// # assert!(handlers.is_ok_and(|h| h.knows("greet")));
    /// ```
    #[must_use]
    pub fn on_task<H: Handler<A>, A: OfType + 'static>(mut self, handler: H) -> Self {
        self.typed.add(A::NAME, A::options);
        self.on(A::NAME, handler)
    }

    /// The types whose handlers were added by [`Registry::on_task`] until now.
    #[must_use]
    pub fn typed(&self) -> &TypedTasks {
        &self.typed
    }

    /// Sets options of the handler that was added last.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use runner_sdk::Registry;
    /// # async fn mail() {}
    /// let registry = Registry::new()
    ///     .on("mail", mail)
    ///     .with(|mail| mail.timeout(Duration::from_secs(30)).concurrency(4));
    /// # assert!(registry.build().is_ok());
    /// ```
    #[must_use]
    pub fn with(mut self, set: impl FnOnce(HandlerOptions) -> HandlerOptions) -> Self {
        let (pattern, found) = match &self.last {
            Last::None => return self,
            Last::Exact(name) => (name.clone(), self.exact.get_mut(name)),
            Last::Prefix => match self.prefixes.last_mut() {
                Some(last) => (format!("{}*", last.prefix), Some(&mut last.found)),
                None => return self,
            },
        };
        let mut options = set(HandlerOptions::default());
        for limit in options.take_limits() {
            self.limits.add(&pattern, limit);
        }
        if let Some(found) = found {
            options.apply(found);
        }
        self
    }

    /// Puts a layer of tower around every handler of this registry, also around those that are added later and around the
    /// built-in ones. The layer that is added last is the outermost.
    ///
    /// The services that it makes get a [`Ctx`] and return an [`Outcome`]; their errors are those of a handler.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: middleware::HandlerLayer,
    {
        self.layers.push(middleware::wrap(layer));
        self
    }

    /// Runs all tasks whose type begins with `prefix` and matches no longer name. An empty prefix matches every remaining type.
    #[must_use]
    pub fn on_prefix<H: Handler<A>, A: 'static>(mut self, prefix: &str, handler: H) -> Self {
        self.note_needs::<H, A>(prefix);
        self.add_prefix(prefix, None, None, erase(handler))
    }

    /// As [`Registry::on_prefix`], but only for types that `knows` accepts. It is called for each look-up with the rest of the
    /// type after the prefix, and must be fast.
    #[must_use]
    pub fn on_prefix_if<H: Handler<A>, A: 'static>(
        mut self,
        prefix: &str,
        knows: impl Fn(&str) -> bool + Send + Sync + 'static,
        handler: H,
    ) -> Self {
        self.note_needs::<H, A>(prefix);
        self.add_prefix(prefix, Some(Box::new(knows)), None, erase(handler))
    }

    /// As [`Registry::on_prefix_if`], where `names` lists the known types (without the prefix), so that [`Handlers::names`]
    /// shows concrete names.
    #[must_use]
    pub fn on_prefix_listed<H: Handler<A>, A: 'static>(
        mut self,
        prefix: &str,
        knows: impl Fn(&str) -> bool + Send + Sync + 'static,
        names: impl Fn() -> Vec<String> + Send + Sync + 'static,
        handler: H,
    ) -> Self {
        let (knows, names) = (Box::new(knows), Box::new(names));
        self.note_needs::<H, A>(prefix);
        self.add_prefix(prefix, Some(knows), Some(names), erase(handler))
    }

    /// Sets the retry delays of the handler or prefix that was added last under this name, for failures that state none. The
    /// default is asynq's.
    #[must_use]
    pub fn backoff(mut self, name: &str, backoff: Backoff) -> Self {
        let prefix = self.prefixes.iter_mut().find(|p| p.prefix == name);
        if let Some(found) = self.exact.get_mut(name).or(prefix.map(|p| &mut p.found)) {
            found.backoff = backoff;
        }
        self
    }

    /// Adds an aggregator for the group of this name; a pattern that ends in `*` matches all groups with that prefix. An exact
    /// name wins, then the longest prefix.
    ///
    /// Tasks of groups without an aggregator wait for a worker that has one. The returned task is enqueued with its own options,
    /// always into the queue of the group. After an error or a panic, and when the worker dies, the tasks return to their group
    /// within about two minutes and are aggregated again.
    ///
    /// ```
    /// use runner_sdk::{Group, Registry, Task};
    ///
    /// async fn digest(group: Group) -> Result<Task, serde_json::Error> {
    ///     let lines: Vec<_> = group.tasks().iter().map(|t| String::from_utf8_lossy(&t.payload)).collect();
    ///     Task::new("mail.digest").header("to", group.name()).json(&lines)
    /// }
    /// let handlers = Registry::new().aggregate("digest:*", digest).build();
    /// # assert!(handlers.is_ok_and(|h| h.aggregator("digest:ada").is_some() && h.aggregator("other").is_none()));
    /// ```
    #[must_use]
    pub fn aggregate<F, Fut>(mut self, pattern: &str, aggregator: F) -> Self
    where
        F: Fn(Group) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: IntoTask> + Send + 'static,
    {
        if self.aggregators.add(pattern, aggregator) {
            return self;
        }
        self.refuse("aggregator", pattern)
    }

    /// Shares a value with all handlers, which extract it as [`crate::State`]. One of each type.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        if self.states.add(value) {
            return self;
        }
        self.refuse("state", std::any::type_name::<T>())
    }

    /// The shared value of type `T`, if one was given.
    #[must_use]
    pub fn state_of<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.states.get()
    }

    /// The duplicates so far.
    #[must_use]
    pub fn errors(&self) -> &[DuplicateName] {
        &self.errors
    }

    /// Finishes the list.
    ///
    /// # Errors
    ///
    /// The first name that was registered twice, or a handler that needs a state that is not there.
    pub fn build(mut self) -> Result<Handlers, RegistryError> {
        if !self.errors.is_empty() {
            return Err(self.errors.remove(0).into());
        }
        for (handler, needs) in &self.needs {
            if let Some(state) = needs.missing(|id| self.states.has(id)).next() {
                let handler = handler.clone();
                return Err(RegistryError::MissingState { handler, state });
            }
        }
        let all = self
            .exact
            .values_mut()
            .chain(self.prefixes.iter_mut().map(|p| &mut p.found));
        for found in all {
            found.call = self
                .layers
                .iter()
                .fold(Arc::clone(&found.call), |call, wrap| wrap(call));
        }
        self.prefixes.sort_by_key(|p| std::cmp::Reverse(p.prefix.len()));
        // For contexts, which know the states and not the registry.
        self.states.add(self.typed.clone());
        Ok(Handlers(Arc::new(Built {
            exact: self.exact,
            prefixes: self.prefixes,
            aggregators: self.aggregators,
            limits: self.limits,
            typed: self.typed,
            states: Arc::new(self.states),
        })))
    }

    fn add_prefix(mut self, prefix: &str, knows: Option<Knows>, names: Option<Names>, found: HandlerMatch) -> Self {
        if self.prefixes.iter().any(|p| p.prefix == prefix) {
            return self.refuse("prefix", prefix);
        }
        self.prefixes.push(Prefix {
            prefix: prefix.to_owned(),
            knows,
            names,
            found,
        });
        self.last = Last::Prefix;
        self
    }

    fn note_needs<H: Handler<A>, A>(&mut self, name: &str) {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        self.needs.push((name.to_owned(), needs));
    }

    fn refuse(mut self, what: &'static str, name: &str) -> Self {
        let name = name.to_owned();
        self.errors.push(DuplicateName { what, name });
        self.last = Last::None;
        self
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("exact", &self.exact.keys())
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

fn erase<H: Handler<A>, A: 'static>(handler: H) -> HandlerMatch {
    HandlerMatch::new(Arc::new(move |cx| Box::pin(handler.clone().call(cx))))
}

struct Built {
    exact: BTreeMap<String, HandlerMatch>,
    /// Longest first.
    prefixes: Vec<Prefix>,
    aggregators: Aggregators,
    limits: Limits,
    typed: TypedTasks,
    states: Arc<States>,
}

/// The finished list of handlers. A clone is one atomic increment.
#[derive(Clone)]
pub struct Handlers(Arc<Built>);

impl Handlers {
    /// The handler of this task type: the one with exactly this name, else the one with the longest prefix that knows the type.
    #[must_use]
    pub fn find(&self, kind: &str) -> Option<HandlerMatch> {
        if let Some(found) = self.0.exact.get(kind) {
            return Some(found.clone());
        }
        let by_prefix = |p: &&Prefix| {
            let rest = kind.strip_prefix(p.prefix.as_str());
            rest.is_some_and(|rest| p.knows.as_ref().is_none_or(|knows| knows(rest)))
        };
        let prefix = self.0.prefixes.iter().find(by_prefix)?;
        Some(prefix.found.clone())
    }

    /// Whether a task of this type has a handler now.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.find(kind).is_some()
    }

    /// The types that can run now, sorted: names, prefixes as `prefix*`, or the names that a prefix lists.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.exact.keys().cloned().collect();
        for p in &self.0.prefixes {
            match &p.names {
                Some(names) => all.extend(names().iter().map(|n| format!("{}{n}", p.prefix))),
                None => all.push(format!("{}*", p.prefix)),
            }
        }
        all.sort();
        all
    }

    /// The types whose handlers say their options.
    #[must_use]
    pub fn typed(&self) -> &TypedTasks {
        &self.0.typed
    }

    /// The limits of all handlers.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The aggregator of this group, if there is one.
    #[must_use]
    pub fn aggregator(&self, group: &str) -> Option<Aggregator> {
        self.0.aggregators.find(group)
    }

    /// Whether there is any aggregator.
    #[must_use]
    pub fn aggregates(&self) -> bool {
        !self.0.aggregators.is_empty()
    }

    /// The shared values, for [`Ctx::new`].
    #[must_use]
    pub fn states(&self) -> Arc<States> {
        Arc::clone(&self.0.states)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handlers").field(&self.names()).finish()
    }
}
