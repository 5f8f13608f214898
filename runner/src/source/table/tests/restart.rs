//! What a restart does with rows that the process before it had in force.

use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::SystemClock;
use runner_core::schedule::Plan;

use super::{File, INSERT, catalog};
use crate::source::{Catalog, SourceSettings, SourceState};

/// A row beside that of the manual.
const SECOND: &str = "INSERT INTO sys_crontab (name, type, spec, status) VALUES ('b', 't', '@daily', 1)";

/// Saved state, in the memory of a test.
#[derive(Default)]
struct TestStore(std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>);

#[async_trait::async_trait]
impl crate::source::StateStore for TestStore {
    async fn put(&self, _: &'static str, name: &str, body: Vec<u8>) -> Result<(), String> {
        self.0.lock().unwrap().insert(name.to_owned(), body);
        Ok(())
    }

    async fn get(&self, _: &'static str, name: &str) -> Result<Option<Vec<u8>>, crate::source::StateStoreError> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }
}

/// Settings under which what is in force is remembered.
fn remembering(file: &File) -> SourceSettings {
    SourceSettings {
        keep: Some(Arc::new(TestStore::default())),
        ..file.settings()
    }
}

async fn remembered(statements: &[&str]) -> (File, SourceSettings) {
    let file = File::with(statements).await;
    let settings = remembering(&file);
    (file, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_table_fires_the_last_rows_until_it_can_be_read() {
    let file = File::with(&[INSERT]).await;
    file.execute("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('b', 't', '@daily', '[1]', 2)")
        .await;
    let settings = remembering(&file);
    let (first, stop) = catalog(settings.clone()).await;
    // The last good version is kept, whatever happened to its row.
    file.execute("UPDATE sys_crontab SET spec = '0 25 * * *' WHERE id = 2")
        .await;
    assert!(first.sync().await);
    let before = first.plan().schedules.clone();
    drop((first, stop));
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spec TO spek").await;
    let (second, _stop) = catalog(settings.clone()).await;
    assert_eq!(second.plan().schedules, before);
    let status = &second.statuses()[0];
    assert!(
        matches!(&status.state, SourceState::Stale { reason, .. } if reason.contains("its rows of 20")),
        "{status:?}"
    );
    let plan = second.plan();
    let said = plan.problems.last().unwrap();
    assert_eq!(said.code, "D112");
    assert!(
        said.message.contains("the last known version of its 2 rows, of 20") && said.message.contains("+00:00, is"),
        "{said}"
    );
    let looked = Catalog::load_once(settings.clone(), Arc::new(SystemClock)).await;
    assert_eq!(
        looked.plan.schedules, before,
        "a command that lists them knows them too"
    );
    file.execute("ALTER TABLE sys_crontab RENAME COLUMN spek TO spec").await;
    file.execute("DELETE FROM sys_crontab WHERE id = 1").await;
    assert!(second.sync().await);
    assert_eq!(second.statuses()[0].state, SourceState::Loaded);
    assert!(
        second.plan().schedules.keys().all(|id| id.as_str() == "db:2"),
        "{:?}",
        second.plan()
    );
    assert!(second.plan().problems.iter().all(|p| p.code != "D112"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_all_deleted_before_a_restart_stay_for_the_guard() {
    let (file, settings) = remembered(&[INSERT, SECOND]).await;
    let before = catalog(settings.clone()).await.0.plan().schedules.clone();
    assert_eq!(before.len(), 2);
    file.execute("DELETE FROM sys_crontab").await;
    let codes = |plan: &Plan| -> Vec<String> { plan.problems.iter().map(|p| p.code.clone()).collect() };
    let looked = Catalog::load_once(settings.clone(), Arc::new(SystemClock)).await;
    assert_eq!(
        (&looked.plan.schedules, codes(&looked.plan)),
        (&before, vec!["D110".to_owned()])
    );
    let (again, stop) = catalog(settings.clone()).await;
    assert_eq!(
        (&again.plan().schedules, codes(&again.plan())),
        (&before, vec!["D110".to_owned()])
    );
    drop((again, stop));
    // Once they were removed, nothing is left to be missed.
    let hasty = SourceSettings {
        mass_delete: Duration::ZERO,
        ..settings.clone()
    };
    let (last, stop) = catalog(hasty).await;
    assert_eq!(
        (last.plan().schedules.len(), codes(&last.plan())),
        (0, vec!["D111".to_owned()])
    );
    drop((last, stop));
    let looked = Catalog::load_once(settings, Arc::new(SystemClock)).await;
    assert_eq!((looked.plan.schedules.len(), codes(&looked.plan)), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_broken_at_a_restart_stays_as_it_was() {
    let (file, settings) = remembered(&[INSERT, SECOND]).await;
    let before = catalog(settings.clone()).await.0.plan().schedules.clone();
    file.execute("UPDATE sys_crontab SET spec = '0 25 * * *' WHERE id = 2")
        .await;
    for _ in 0..2 {
        let (again, _stop) = catalog(settings.clone()).await;
        assert_eq!(again.plan().schedules, before);
        let plan = again.plan();
        let said = plan.problems.iter().find(|p| p.code == "W104").unwrap();
        assert!(said.message.contains("its last good version, of 20"), "{said}");
        assert_eq!(again.statuses()[0].state, SourceState::Loaded);
    }
    // Switching it off works as for any row, and so does repairing it.
    file.execute("UPDATE sys_crontab SET status = 2 WHERE id = 2").await;
    let (off, _stop) = catalog(settings.clone()).await;
    assert_eq!(off.plan().schedules.values().filter(|d| d.enabled).count(), 1);
    file.execute("UPDATE sys_crontab SET status = 1, spec = '@hourly' WHERE id = 2")
        .await;
    let (repaired, _stop) = catalog(settings).await;
    let specs: Vec<_> = repaired
        .plan()
        .schedules
        .values()
        .map(|d| d.timing.text.clone())
        .collect();
    assert_eq!(specs[1], "@hourly");
    assert!(repaired.plan().problems.iter().all(|p| p.code != "W104"));
}
