//! All sources together: started once, read repeatedly, merged into one plan that others watch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use runner_core::clock::Clock;
use runner_core::function::{Function, Functions, SchemaFault};
use runner_core::schedule::{Plan, Problem, ScheduleId, Source};

use super::directory::Directory;
use super::manifest::ScheduleContext;
use super::settings::SourceSettings;
use super::shared::{Refresh, Shared, SourcePart, Taken, Triggers};
use super::status::{Rejected, SourceStatus};
use super::table::{CheckedFields, RowEditor, RowFields, Table, check_row};
use super::types::TypeOptions;
use crate::background;

/// How long a sync may take that a caller waits for: the timeouts of a database and of a connection.
const SYNC_LIMIT: Duration = Duration::from_secs(12);

/// How long the start waits for the table.
const START_LIMIT: Duration = Duration::from_secs(3);

/// All schedules, kept up to date. Clones share one state.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
    triggers: Arc<Vec<Arc<Refresh>>>,
    editor: Option<Arc<RowEditor>>,
    context: Arc<ScheduleContext>,
}

/// The content of all sources at one time.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The schedules and their problems.
    pub plan: Arc<Plan>,
    /// The functions that the manifests define.
    pub functions: Vec<Function>,
    /// The options of tasks by their type.
    pub types: TypeOptions,
    /// What else than schedules runs it.
    pub triggers: Triggers,
    /// Functions and rows of which nothing is in force.
    pub rejected: Vec<Rejected>,
    /// The status of each source.
    pub statuses: Vec<SourceStatus>,
}

impl Catalog {
    /// Reads every source once, then keeps reading until `stop`.
    ///
    /// Never fails: a source that cannot be read gets a little time, then is shown as unavailable and tried again.
    /// The functions of the manifests go into `functions`.
    pub async fn start(
        settings: SourceSettings,
        functions: Functions,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared::new(functions, clock).with_types(settings.types.clone()));
        let mut triggers = Vec::new();
        let context = Arc::new(settings.context());
        publish_code(&settings, &shared);
        if let Some(manifests) = settings.manifests.clone() {
            let trigger = Arc::new(Refresh::default());
            triggers.push(Arc::clone(&trigger));
            shared.expect(Source::Manifest, manifests.dir.display().to_string());
            let context = settings.context();
            let mut directory = Directory::new(manifests, context, Arc::clone(&shared), Arc::clone(&trigger), true)
                .guarded(settings.mass_delete)
                .keeping(settings.keep.clone());
            directory.listen(stop.clone());
            // The first look is made here, so that the caller sees the plan.
            directory.look().await;
            let stop = stop.clone();
            tokio::spawn(async move { background::run(directory, &trigger.wake, &stop).await });
        }
        let mut editor = None;
        if let Some(mut table) = new_table(&settings, &shared, &mut triggers) {
            if let Some(place) = settings.table.as_ref().filter(|_| settings.writable) {
                editor = Some(Arc::new(table.editor(place, settings.context())));
            }
            // A database that does not answer must not delay the start.
            if tokio::time::timeout(START_LIMIT, table.look()).await.is_err() {
                table.fall_back().await;
            }
            let (trigger, stop) = (table.trigger(), stop.clone());
            tokio::spawn(async move { background::run(table, &trigger.wake, &stop).await });
        }
        Self {
            shared,
            triggers: Arc::new(triggers),
            editor,
            context,
        }
    }

    /// Reads every source once and stops; errors count at once.
    pub async fn load_once(settings: SourceSettings, clock: Arc<dyn Clock>) -> Loaded {
        Self::load_beside(settings, clock, Taken::default()).await
    }

    /// The same, with the warnings that follow from the types and queues of live servers.
    pub async fn load_beside(settings: SourceSettings, clock: Arc<dyn Clock>, taken: Taken) -> Loaded {
        let shared = Arc::new(Shared::new(Functions::default(), clock).with_types(settings.types.clone()));
        shared.set_taken(taken);
        publish_code(&settings, &shared);
        if let Some(manifests) = settings.manifests.clone() {
            shared.expect(Source::Manifest, manifests.dir.display().to_string());
            let (context, trigger) = (settings.context(), Arc::default());
            Directory::new(manifests, context, Arc::clone(&shared), trigger, false)
                .keeping(settings.keep.clone())
                .look()
                .await;
        }
        if let Some(mut table) = new_table(&settings, &shared, &mut Vec::new()) {
            table.look().await;
        }
        let plan = Arc::clone(&shared.plan().borrow());
        let types = shared.type_options();
        let functions = shared.functions().all().values().map(|f| (**f).clone()).collect();
        Loaded {
            plan,
            functions,
            types,
            triggers: Arc::clone(&shared.triggers().borrow()),
            rejected: shared.rejected(),
            statuses: shared.statuses(),
        }
    }

    /// The options of tasks by their type, as they are now.
    #[must_use]
    pub fn type_options(&self) -> TypeOptions {
        self.shared.type_options()
    }

    /// The plan as it is now.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.shared.plan().borrow())
    }

    /// The plan as it is now, and every later one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Plan>> {
        self.shared.plan().subscribe()
    }

    /// The triggers as they are now, and every later set.
    #[must_use]
    pub fn watch_triggers(&self) -> watch::Receiver<Triggers> {
        self.shared.triggers().subscribe()
    }

    /// The triggers as they are now.
    #[must_use]
    pub fn triggers(&self) -> Triggers {
        Arc::clone(&self.shared.triggers().borrow())
    }

    /// The functions that the manifests define, by name, and where each is.
    #[must_use]
    pub fn functions(&self) -> Vec<(Arc<Function>, String)> {
        let all = self.shared.functions().all();
        let places = self.shared.places();
        let placed = all.values().map(|function| {
            let place = places.get(&function.name).cloned();
            (Arc::clone(function), place.unwrap_or_default())
        });
        placed.collect()
    }

    /// The function of this name, and where it is.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<(Arc<Function>, String)> {
        let function = self.shared.functions().get(name)?;
        Some((function, self.shared.places().get(name).cloned().unwrap_or_default()))
    }

    /// Why a task of this type must not have this payload, by the schemas of the manifests.
    #[must_use]
    pub fn payload_fault(&self, kind: &str, payload: &[u8]) -> Option<SchemaFault> {
        self.shared.functions().payload_fault(kind, payload)
    }

    /// One for each source that is read.
    #[must_use]
    pub fn statuses(&self) -> Vec<SourceStatus> {
        self.shared.statuses()
    }

    /// Functions and rows of which nothing is in force.
    #[must_use]
    pub fn rejected(&self) -> Vec<Rejected> {
        self.shared.rejected()
    }

    /// What edits the rows of the table; `None` if the settings do not allow it, or no table is read.
    #[must_use]
    pub fn editor(&self) -> Option<&RowEditor> {
        self.editor.as_deref()
    }

    /// What these fields would be as a row of the table, whether or not there is one; `id` is that of an existing row.
    #[must_use]
    pub fn check_row(&self, id: Option<&ScheduleId>, fields: &RowFields) -> CheckedFields {
        check_row(&self.context, &self.shared, id, fields)
    }

    /// Asks every source to be read now, without waiting for it.
    pub fn sync_now(&self) {
        for trigger in self.triggers.iter() {
            trigger.ask();
        }
    }

    /// Reads every source now. Returns whether all were done within 12 seconds; a source that cannot be read counts as
    /// done.
    pub async fn sync(&self) -> bool {
        let asked: Vec<u64> = self.triggers.iter().map(|t| t.ask()).collect();
        let waits = self.triggers.iter().zip(asked).map(|(t, n)| t.wait(n, SYNC_LIMIT));
        futures_util::future::join_all(waits).await.into_iter().all(|done| done)
    }

    /// Sets what live servers serve: schedules of other types get the warning W210, those of other queues and functions
    /// that run manually there W211, and a skip of such a schedule says so.
    pub fn set_taken(&self, taken: Taken) {
        self.shared.set_taken(taken);
    }

    /// Sets the differences of other instances: problems, and the schedules that are left to them.
    pub fn set_others(&self, problems: Vec<Problem>, superseded: BTreeSet<ScheduleId>) {
        self.shared.set_others(problems, superseded);
    }
}

fn new_table(settings: &SourceSettings, shared: &Arc<Shared>, triggers: &mut Vec<Arc<Refresh>>) -> Option<Table> {
    let table = settings.table.as_ref()?;
    let trigger = Arc::new(Refresh::default());
    triggers.push(Arc::clone(&trigger));
    shared.expect(Source::Table, table.place());
    let table = Table::new(
        table,
        settings.sync_interval,
        settings.context(),
        Arc::clone(shared),
        trigger,
    );
    Some(table.guarded(settings.mass_delete).keeping(settings.keep.clone()))
}

fn publish_code(settings: &SourceSettings, shared: &Shared) {
    let code = &settings.code;
    if code.definitions.is_empty() {
        return;
    }
    shared.expect(Source::Code, "code".to_owned());
    let part = SourcePart {
        definitions: code.definitions.clone(),
        stated: code.stated.clone(),
        problems: code.problems.clone(),
        ..SourcePart::default()
    };
    shared.publish(Source::Code, part, shared.now());
}
