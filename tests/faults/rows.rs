//! F22: a corrupt row of the embedded store affects no other task.
//!
//! The same calls as F19 makes on Redis, each beside a row of each table in which each column in turn holds every kind of
//! value: nothing, negative and huge numbers, invalid texts. The list of columns is read from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use runner_core::clock::{Clock as _, ManualClock};
use runner_queue::embedded::EmbeddedBroker;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::spoiled::{At, Call, Held, begin, drain, heal, left_of, of_people, of_schedulers, of_workers};
use crate::kit::{self, Fault};

const START: i64 = 1_893_553_445;

/// Stores that are tested in parallel.
const AT_ONCE: usize = 4;

/// Which row of a table is corrupted.
const ROWS: [(&str, &str); 11] = [
    ("tasks", "id = 'bad'"),
    ("queues", "name = 'default'"),
    ("locks", "task_id = 'bad'"),
    ("attempts", "task = (SELECT seq FROM tasks WHERE id = 'bad')"),
    ("schedules", "id = 'm:bad'"),
    ("decisions", "schedule = 'm:bad'"),
    ("staged_sets", "1"),
    ("servers", "1"),
    ("leader", "1"),
    ("day_counts", "1"),
    ("run_counts", "1"),
];

/// The values for a column as SQL, by its type.
const FORMS: [(&str, &[&str]); 3] = [
    ("INTEGER", &["-7", "9223372036854775807", "-9223372036854775808"]),
    (
        "TEXT",
        &[
            "'x'",
            "''",
            "CAST(x'fffe' AS TEXT)",
            "'-7'",
            "replace(hex(zeroblob(50000)), '0', 'z')",
        ],
    ),
    ("BLOB", &["x'fffe'", "x''"]),
];

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): f22_spoiled_rows_harm_no_other_task]
}

/// A statement that corrupts a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Spoil {
    table: &'static str,
    column: String,
    statement: String,
}

async fn link(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .pragma("ignore_check_constraints", "on");
    options.connect().await.unwrap()
}

fn clock_at(seconds: i64) -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(seconds).unwrap()))
}

async fn open(path: &Path, seconds: i64) -> At {
    let clock = clock_at(seconds);
    let broker = EmbeddedBroker::open(path, clock.clone()).await.unwrap();
    At {
        redis: None,
        broker: Arc::new(broker),
        clock,
    }
}

/// A store before a call: a copy of it, its time, and the caller's claims.
struct Template {
    path: PathBuf,
    seconds: i64,
    held: Held,
}

async fn template(folder: &Path, call: &Call) -> Template {
    let path = folder.join(format!("{:?}.db", call.start));
    let at = open(&path, START).await;
    let held = begin(&at, call.start).await;
    let seconds = at.clock.now().as_second();
    at.broker.close().await;
    drop(at);
    let mut link = link(&path).await;
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = delete")
        .execute(&mut link)
        .await
        .unwrap();
    link.close().await.unwrap();
    Template { path, seconds, held }
}

/// Everything that can be corrupted in the existing rows.
async fn spoils(path: &Path) -> BTreeSet<Spoil> {
    let mut link = link(path).await;
    let mut spoils = BTreeSet::new();
    for (table, condition) in ROWS {
        let there = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT 1 FROM {table} WHERE {condition}")));
        if there.fetch_optional(&mut link).await.unwrap().is_none() {
            continue;
        }
        spoils.insert(Spoil {
            table,
            column: "*".to_owned(),
            statement: format!("DELETE FROM {table} WHERE {condition}"),
        });
        let columns = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA table_info({table})")));
        for column in columns.fetch_all(&mut link).await.unwrap() {
            let (name, kind): (String, String) = (column.get("name"), column.get("type"));
            // The store assigns these numbers itself, and cannot continue after the last one.
            if (table, &*name) == ("decisions", "seq") {
                continue;
            }
            let (required, key): (i64, i64) = (column.get("notnull"), column.get("pk"));
            let forms = FORMS
                .iter()
                .find(|(of, _)| *of == kind)
                .map_or(&[][..], |(_, forms)| forms);
            let nothing = (required == 0 && key == 0).then_some("NULL");
            for form in forms.iter().copied().chain(nothing) {
                spoils.insert(Spoil {
                    table,
                    column: name.clone(),
                    // Only one row may have room for the value.
                    statement: format!("UPDATE OR IGNORE {table} SET {name} = {form} WHERE {condition}"),
                });
            }
        }
    }
    spoils
}

/// The failures of one case; empty if there are none.
async fn one(folder: &Path, template: &Template, call: &Call, spoil: &Spoil) -> Vec<String> {
    let path = folder.join("case.db");
    for end in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{end}", path.display())));
    }
    std::fs::copy(&template.path, &path).unwrap();
    let mut link = link(&path).await;
    let statement = spoil.statement.clone();
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut link)
        .await
        .unwrap();
    link.close().await.unwrap();
    let at = open(&path, template.seconds).await;
    let mut held = template.held.clone();
    let mut wrong = Vec::new();
    let gone = match (call.make)(&at, &mut held).await {
        Ok(gone) => gone,
        Err(error) => {
            // A queue without its row has no name any more.
            let nameless = spoil.table == "queues" && error.contains("no queue");
            if !(call.single || nameless) {
                wrong.push(format!("refused: {error}"));
            }
            BTreeSet::new()
        }
    };
    if call.start.has_tasks() || call.name.starts_with("enqueue") {
        let mut left = left_of(&gone);
        if !drain(&at, &mut left).await.is_ok_and(|why| why.is_empty()) {
            if let Err(error) = heal(&at).await {
                wrong.push(format!("not healed: {error}"));
            }
            match drain(&at, &mut left).await {
                Ok(why) => wrong.extend(why),
                Err(error) => wrong.push(format!("not drained: {error}")),
            }
        }
    }
    at.broker.close().await;
    wrong
}

/// The cases for one call: all in the long form, else one of several in turn, but every deletion.
fn picked(call: &Call, nth: usize, spoil: &Spoil) -> bool {
    kit::long() || (nth + call.name.len()).is_multiple_of(8) || spoil.column == "*"
}

async fn f22_spoiled_rows_harm_no_other_task() {
    let folder = tempfile::tempdir().unwrap();
    let mut templates: BTreeMap<String, Arc<Template>> = BTreeMap::new();
    let mut cases = Vec::new();
    let mut columns = BTreeSet::new();
    for call in [of_workers(), of_schedulers(), of_people()].concat() {
        let key = format!("{:?}", call.start);
        // Those that need a message in Redis's form, and one that waits.
        if call.name.ends_with("_unreadable") || call.name == "wait" {
            continue;
        }
        if !templates.contains_key(&key) {
            templates.insert(key.clone(), Arc::new(template(folder.path(), &call).await));
        }
        let template = &templates[&key];
        for (nth, spoil) in spoils(&template.path).await.into_iter().enumerate() {
            columns.insert((spoil.table, spoil.column.clone()));
            if picked(&call, nth, &spoil) {
                cases.push((Arc::clone(template), call, spoil));
            }
        }
    }
    let cases = Arc::new(Mutex::new(cases));
    let mut running = tokio::task::JoinSet::new();
    for nth in 0..AT_ONCE {
        let (cases, folder) = (Arc::clone(&cases), folder.path().join(format!("{nth}")));
        std::fs::create_dir(&folder).unwrap();
        running.spawn(async move {
            let (mut done, mut wrong) = (0, BTreeMap::new());
            loop {
                let Some((template, call, spoil)) = cases.lock().unwrap().pop() else {
                    return (done, wrong);
                };
                let found = one(&folder, &template, &call, &spoil).await;
                done += 1;
                if !found.is_empty() {
                    wrong.insert(format!("{} with {}", call.name, spoil.statement), found);
                }
            }
        });
    }
    let (mut done, mut wrong) = (0, BTreeMap::new());
    for (some, bad) in running.join_all().await {
        done += some;
        wrong.extend(bad);
    }
    let lost = wrong.values().flatten().filter(|text| text.starts_with("in")).count();
    let mut fault = Fault::new("F22");
    fault
        .figure("columns", columns.len())
        .require("cases", done, done > 100)
        .require("lost", lost, lost == 0)
        .require("bad_cases", wrong.len(), wrong.is_empty());
    fault.end(|| format!("{wrong:#?}"));
}
