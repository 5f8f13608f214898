//! Which schedule a command means: one in force, or one of a row or file with errors. Reads the sources, changes
//! nothing.

use std::sync::Arc;

use anyhow::bail;
use runner_core::schedule::{Definition, ScheduleId, Source};
use runner_core::task::FUNCTION_PREFIX;
use runner_queue::Broker;

use super::check::{MISSING, MISSING_HINT};
use super::exit::Usage;
use super::state_store::BrokerStateStore;
use super::{CommandContext, assemble, print};
use crate::scheduler;
use crate::source::{self, Catalog, Loaded, Rejected, SourceStatus};
use crate::upkeep::known_types;

/// What a name refers to.
#[derive(Debug)]
pub(super) enum NamedSchedule<'a> {
    /// A schedule in force.
    InForce(&'a Definition),
    /// A function or a row of which nothing is in force.
    Broken(&'a Rejected),
}

/// The schedules of all sources, as this process reads them, and what differs among live instances. Sources that cannot
/// be read are named on standard error.
pub(super) async fn load(context: &CommandContext, broker: &Arc<dyn Broker>) -> anyhow::Result<Loaded> {
    let loaded = read(context, broker).await?;
    loaded
        .statuses
        .iter()
        .filter_map(unread)
        .for_each(|line| print::note(&line));
    Ok(loaded)
}

/// The same, silently.
pub(super) async fn read(context: &CommandContext, broker: &Arc<dyn Broker>) -> anyhow::Result<Loaded> {
    let settings = context.settings()?;
    let code = assemble::code_schedules(settings, context.schedules.clone())?;
    let sources = source::SourceSettings {
        keep: BrokerStateStore::of_look(broker.clone(), settings),
        ..assemble::looked_at(settings, code)
    };
    let taken = known_types::look_once(&**broker).await;
    let mut loaded = Catalog::load_beside(sources, context.clock.clone(), taken).await;
    let now = broker.now().await?;
    scheduler::add_differences(&**broker, now, Arc::make_mut(&mut loaded.plan)).await?;
    Ok(loaded)
}

/// A warning about a source that cannot be read, and how to create one that does not exist.
pub(super) fn unread(status: &SourceStatus) -> Option<String> {
    let reason = status.state.reason()?;
    if status.is_absent() && status.source == Source::Manifest {
        return Some(format!("warning: {}: W107 {MISSING}; {MISSING_HINT}", status.place));
    }
    Some(format!("warning: {} cannot be read: {reason}", status.place))
}

/// The schedule that is meant, if it is in force.
pub(super) fn in_force<'a>(loaded: &'a Loaded, name: &str) -> anyhow::Result<&'a Definition> {
    match named(loaded, name)? {
        NamedSchedule::InForce(definition) => Ok(definition),
        NamedSchedule::Broken(broken) => {
            let why = broken.problems.iter().find(|p| p.is_error());
            let why = why.map(|p| format!(": {}", p.one_line())).unwrap_or_default();
            bail!("{name:?} has errors, so that no schedule of it is in force{why}")
        }
    }
}

/// The schedule with this id, else the only one with this name.
pub(super) fn named<'a>(loaded: &'a Loaded, name: &str) -> anyhow::Result<NamedSchedule<'a>> {
    let id = ScheduleId::from_text(name);
    if let Some(definition) = loaded.plan.schedules.get(&id) {
        return Ok(NamedSchedule::InForce(definition));
    }
    if let Some(broken) = loaded.rejected.iter().find(|r| r.id.as_ref() == Some(&id)) {
        return Ok(NamedSchedule::Broken(broken));
    }
    let schedules = loaded.plan.schedules.values();
    let found: Vec<&Definition> = schedules.filter(|d| d.name == name).collect();
    match found.as_slice() {
        [one] => return Ok(NamedSchedule::InForce(one)),
        [] => {}
        several => {
            let ids: Vec<&str> = several.iter().map(|d| d.id.as_str()).collect();
            return Err(Usage(format!(
                "several schedules are called {name:?}: {}; name one by its id",
                ids.join(", ")
            ))
            .into());
        }
    }
    if let Some(broken) = loaded.rejected.iter().find(|r| r.name == name) {
        return Ok(NamedSchedule::Broken(broken));
    }
    let bare = name.strip_prefix(FUNCTION_PREFIX).unwrap_or(name);
    if let Some(function) = loaded.functions.iter().find(|f| f.name == bare) {
        bail!(
            "the function {bare:?} has no schedule of that name; `runner enqueue {}` runs it",
            function.task_type()
        );
    }
    bail!("no schedule {name:?} in any source; `runner ls schedules` shows those that exist")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::{ManifestSettings, SourceSettings};

    async fn loaded(manifests: &[(&str, &str)]) -> Loaded {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in manifests {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        let manifests = ManifestSettings {
            dir: home.path().to_path_buf(),
            rescan: std::time::Duration::from_secs(30),
        };
        let settings = SourceSettings {
            manifests: Some(manifests),
            ..SourceSettings::default()
        };
        Catalog::load_once(settings, Arc::new(runner_core::clock::SystemClock)).await
    }

    #[tokio::test]
    async fn a_name_without_a_schedule_says_what_it_is() {
        let loaded = loaded(&[
            ("a.yaml", "name: nightly\nschedule: '@daily'\nexec: [date]\n"),
            ("b.yaml", "name: unscheduled\nexec: [date]\n"),
            ("c.yaml", "name: bad\nschedule: nope\nexec: [date]\n"),
        ])
        .await;
        for name in ["nightly", "m:nightly:default"] {
            assert_eq!(in_force(&loaded, name).unwrap().id.as_str(), "m:nightly:default");
        }
        let refused = |name: &str| in_force(&loaded, name).unwrap_err().to_string();
        for name in ["unscheduled", "fn:unscheduled"] {
            assert!(
                refused(name).contains("`runner enqueue fn:unscheduled`"),
                "{}",
                refused(name)
            );
        }
        assert!(refused("bad").contains("has errors") && refused("bad").contains("c.yaml:2"));
        assert!(matches!(named(&loaded, "bad").unwrap(), NamedSchedule::Broken(_)));
        assert!(refused("none").contains("in any source"));
    }
}
