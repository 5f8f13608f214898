//! Functions that run SQL, on all databases: values, transactions, errors, and statements that are cancelled.

use std::time::Duration;

use runner_core::function::{
    Function, FunctionKind, FunctionTemplate, Functions, RowBounds, SqlMode, SqlParameter, SqlSpec, SqlStatement,
};
use runner_handlers::{HandlerSettings, SqlConnection, register_with};
use runner_sdk::testing::Trial;
use runner_sdk::{Outcome, Registry, StopReason};
use serde_json::{Value, json};

use crate::kit::{self, Dialect, SqlDb};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): values_are_bound_in_sqlite, a_transaction_is_whole_in_sqlite, errors_decide_in_sqlite,
            a_long_statement_of_sqlite_is_cancelled, a_locked_file_is_tried_again, a_manifest_runs_statements;
        needs(MariaDb): values_are_bound_in_mariadb, a_transaction_is_whole_in_mariadb, errors_decide_in_mariadb,
            a_long_statement_of_mariadb_is_cancelled, times_of_mariadb_are_read_as_they_are;
        needs(Postgres): values_are_bound_in_postgres, a_transaction_is_whole_in_postgres, errors_decide_in_postgres,
            a_long_statement_of_postgres_is_cancelled, types_of_postgres_are_those_of_the_statement;
    ]
}

/// A database file with its directory.
struct SqliteFile {
    db: SqlDb,
    _dir: tempfile::TempDir,
}

async fn sqlite() -> SqliteFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    std::fs::write(&path, "").unwrap();
    SqliteFile {
        db: SqlDb::file(&path),
        _dir: dir,
    }
}

fn filled(text: &str) -> SqlParameter {
    SqlParameter::Filled(FunctionTemplate::parse(text).unwrap())
}

fn statement(db: &SqlDb, text: &str, parameters: Vec<SqlParameter>) -> SqlStatement {
    SqlStatement {
        text: placeholders(db, text),
        parameters,
        expect_rows: RowBounds::default(),
    }
}

/// `?` as the database writes it.
fn placeholders(db: &SqlDb, text: &str) -> String {
    if db.dialect != Dialect::Postgres {
        return text.to_owned();
    }
    let mut number = 0;
    text.split('?')
        .collect::<Vec<_>>()
        .join("\0")
        .chars()
        .fold(String::new(), |mut all, c| {
            if c == '\0' {
                number += 1;
                all.push_str(&format!("${number}"));
            } else {
                all.push(c);
            }
            all
        })
}

fn spec(statements: Vec<SqlStatement>, mode: SqlMode) -> SqlSpec {
    SqlSpec {
        statements,
        mode,
        ..SqlSpec::new("main", "")
    }
}

async fn run(db: &SqlDb, spec: SqlSpec, trial: Trial) -> Outcome {
    let functions = Functions::new(vec![Function {
        name: "sql".into(),
        description: String::new(),
        kind: FunctionKind::Sql(spec),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let mut settings = HandlerSettings::default();
    let url = db.url();
    settings
        .sql
        .insert("main".into(), SqlConnection::read_from(move || Ok(url.clone())));
    trial
        .run(register_with(Registry::new(), functions, settings))
        .await
        .unwrap()
        .outcome
}

async fn exec(db: &SqlDb, statements: Vec<SqlStatement>, payload: &str) -> Outcome {
    run(
        db,
        spec(statements, SqlMode::Exec),
        Trial::of("fn:sql").payload(payload.to_owned()),
    )
    .await
}

fn json_of(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Success(Some(result)) => serde_json::from_slice(&result).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn values_are_bound_in_sqlite() {
    values_are_bound(&sqlite().await.db).await;
}

async fn values_are_bound_in_mariadb() {
    values_are_bound(&kit::mariadb().fresh_db().await).await;
}

async fn values_are_bound_in_postgres() {
    values_are_bound(&kit::postgres().fresh_db().await).await;
}

/// What a payload brings arrives as it is, whatever it looks like.
async fn values_are_bound(db: &SqlDb) {
    let charset = match db.dialect {
        Dialect::MariaDb => " CHARACTER SET utf8mb4",
        Dialect::Postgres | Dialect::Sqlite => "",
    };
    let columns = "id INTEGER PRIMARY KEY, text VARCHAR(200), amount DOUBLE PRECISION, done BOOLEAN";
    db.execute(&format!("CREATE TABLE notes ({columns}){charset}")).await;
    let insert = || {
        let parameters = [
            "{{ payload.id }}",
            "{{ payload.text }}",
            "{{ payload.amount }}",
            "{{ payload.done }}",
        ];
        let parameters = parameters.map(filled).to_vec();
        vec![statement(
            db,
            "INSERT INTO notes (id, text, amount, done) VALUES (?, ?, ?, ?)",
            parameters,
        )]
    };
    let hostile = [
        "'); DROP TABLE notes; --",
        "\" OR 1=1",
        "?",
        "$1",
        "{{ payload.id }}",
        "ä\u{1F600}\n",
        "\\'",
    ];
    for (id, text) in (1..).zip(hostile) {
        let payload = json!({"id": id, "text": text, "amount": 1.5, "done": true}).to_string();
        let result = json_of(exec(db, insert(), &payload).await);
        assert_eq!(result["rows_affected"], 1, "{text}");
    }
    assert_eq!(
        json_of(exec(db, insert(), r#"{"id": 99}"#).await)["rows_affected"],
        1,
        "missing fields are null"
    );
    let query = vec![statement(
        db,
        "SELECT id, text, amount, done FROM notes ORDER BY id",
        Vec::new(),
    )];
    let found = json_of(run(db, spec(query, SqlMode::Query), Trial::of("fn:sql")).await);
    assert_eq!(found["columns"], json!(["id", "text", "amount", "done"]));
    for (row, text) in found["rows"].as_array().unwrap().iter().zip(hostile) {
        assert_eq!((&row[1], &row[2]), (&json!(text), &json!(1.5)));
        assert!(row[3] == json!(true) || row[3] == json!(1), "{row}");
    }
    assert_eq!(found["rows"][7], json!([99, null, null, null]));
    assert_eq!(found.get("truncated"), None);
    let few = SqlSpec {
        max_rows: 2,
        ..spec(
            vec![statement(db, "SELECT id FROM notes ORDER BY id", Vec::new())],
            SqlMode::Query,
        )
    };
    let found = json_of(run(db, few, Trial::of("fn:sql")).await);
    assert_eq!(
        (&found["rows"], &found["truncated"]),
        (&json!([[1], [2]]), &json!(true))
    );
}

async fn a_transaction_is_whole_in_sqlite() {
    a_transaction_is_whole(&sqlite().await.db).await;
}

async fn a_transaction_is_whole_in_mariadb() {
    a_transaction_is_whole(&kit::mariadb().fresh_db().await).await;
}

async fn a_transaction_is_whole_in_postgres() {
    a_transaction_is_whole(&kit::postgres().fresh_db().await).await;
}

async fn a_transaction_is_whole(db: &SqlDb) {
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)").await;
    let insert = |n: i64| statement(db, "INSERT INTO t VALUES (?)", vec![SqlParameter::Fixed(n.into())]);
    let count = async || {
        db.column("SELECT CAST(COUNT(*) AS CHAR(9)) FROM t").await[0]
            .clone()
            .unwrap()
    };
    let result = json_of(exec(db, vec![insert(1), insert(2)], "").await);
    let affected = |n: usize| &result["statements"][n]["rows_affected"];
    assert_eq!((affected(0), affected(1)), (&json!(1), &json!(1)));
    // The second fails, so the first is undone.
    let twice = exec(db, vec![insert(3), insert(3)], "").await;
    assert!(
        matches!(&twice, Outcome::Skip(error) if error.contains("connection main")),
        "{twice:?}"
    );
    assert_eq!(count().await.trim(), "2");
    // So it is if too many rows are changed.
    let mut all = statement(db, "DELETE FROM t", Vec::new());
    all.expect_rows.max = Some(1);
    let refused = exec(db, vec![all, insert(4)], "").await;
    assert!(
        matches!(&refused, Outcome::Skip(e) if e.contains("2 rows") && e.contains("0 to 1")),
        "{refused:?}"
    );
    assert_eq!(count().await.trim(), "2");
    let mut none = statement(db, "SELECT n FROM t WHERE n > 5", Vec::new());
    none.expect_rows.min = Some(1);
    let refused = run(db, spec(vec![none], SqlMode::Query), Trial::of("fn:sql")).await;
    assert!(
        matches!(&refused, Outcome::Skip(e) if e.contains("0 rows")),
        "{refused:?}"
    );
    let read_only = SqlSpec {
        read_only: true,
        ..spec(vec![insert(5)], SqlMode::Exec)
    };
    let refused = run(db, read_only, Trial::of("fn:sql")).await;
    assert!(!matches!(&refused, Outcome::Success(_)), "{refused:?}");
    assert_eq!(count().await.trim(), "2");
}

async fn errors_decide_in_sqlite() {
    errors_decide(&sqlite().await.db).await;
}

async fn errors_decide_in_mariadb() {
    errors_decide(&kit::mariadb().fresh_db().await).await;
}

async fn errors_decide_in_postgres() {
    errors_decide(&kit::postgres().fresh_db().await).await;
}

async fn errors_decide(db: &SqlDb) {
    let one = |text: &str| vec![statement(db, text, Vec::new())];
    for text in ["SELEC 1", "SELECT 1 FROM nowhere", "DELETE FROM nowhere"] {
        let outcome = exec(db, one(text), "").await;
        assert!(matches!(&outcome, Outcome::Skip(_)), "{text}: {outcome:?}");
    }
    let not_json = exec(
        db,
        vec![statement(db, "SELECT ?", vec![filled("{{ payload.n }}")])],
        "x",
    )
    .await;
    assert!(
        matches!(&not_json, Outcome::Skip(e) if e.contains("statement 1, parameter 1")),
        "{not_json:?}"
    );
    let elsewhere = match db.dialect {
        Dialect::Sqlite => SqlDb {
            name: format!("{}-none", db.name),
            ..db.clone()
        },
        // The discard port, where nothing listens.
        _ => SqlDb { port: 9, ..db.clone() },
    };
    let outcome = exec(&elsewhere, one("SELECT 1"), "").await;
    assert!(
        matches!(&outcome, Outcome::Retry(e) if !e.contains("root:")),
        "{outcome:?}"
    );
    if db.dialect != Dialect::Sqlite {
        let unknown = SqlDb {
            name: "no_such_database".into(),
            ..db.clone()
        };
        let outcome = exec(&unknown, one("SELECT 1"), "").await;
        assert!(
            matches!(&outcome, Outcome::Retry(e) if e.starts_with("misconfigured")),
            "{outcome:?}"
        );
    }
}

async fn a_long_statement_of_sqlite_is_cancelled() {
    let file = sqlite().await;
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n";
    let trial = Trial::of("fn:sql").limits(None, Some(Duration::from_millis(300)));
    let spec = spec(vec![statement(&file.db, endless, Vec::new())], SqlMode::Query);
    let outcome = run(&file.db, spec, trial).await;
    assert!(
        matches!(&outcome, Outcome::Retry(e) if e.contains("timeout")),
        "{outcome:?}"
    );
    // The file is free again.
    kit::eventually("another writer", async || {
        let outcome = exec(
            &file.db,
            vec![statement(&file.db, "CREATE TABLE IF NOT EXISTS a (b INT)", Vec::new())],
            "",
        )
        .await;
        match outcome {
            Outcome::Success(_) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn a_long_statement_of_mariadb_is_cancelled() {
    let db = kit::mariadb().fresh_db().await;
    let running =
        "SELECT CAST(COUNT(*) AS CHAR(9)) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(3333)%'";
    is_cancelled(&db, "SELECT SLEEP(3333)", running).await;
}

async fn a_long_statement_of_postgres_is_cancelled() {
    let db = kit::postgres().fresh_db().await;
    let running =
        "SELECT COUNT(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(3333)%'";
    is_cancelled(&db, "SELECT pg_sleep(3333)", running).await;
}

/// When the task is cancelled, the server stops working on its statement.
async fn is_cancelled(db: &SqlDb, long: &str, running: &'static str) {
    let count = async || db.column(running).await[0].clone().unwrap().trim().to_owned();
    let trial = Trial::of("fn:sql");
    let stop = trial.stop();
    let (task_db, spec) = (db.clone(), spec(vec![statement(db, long, Vec::new())], SqlMode::Query));
    let task = tokio::spawn(async move { run(&task_db, spec, trial).await });
    let patience = Duration::from_secs(30);
    kit::eventually_within(patience, "the statement runs", async || match count().await.as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    stop.stop(StopReason::Cancelled);
    let outcome = task.await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Retry(e) if e.contains("cancelled")),
        "{outcome:?}"
    );
    kit::eventually_within(patience, "the statement ends", async || match count().await.as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

async fn a_locked_file_is_tried_again() {
    let file = sqlite().await;
    file.db.execute("CREATE TABLE t (n INT)").await;
    let options: sqlx::sqlite::SqliteConnectOptions = file.db.url().parse().unwrap();
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.unwrap();
    let outcome = exec(&file.db, vec![statement(&file.db, "DELETE FROM t", Vec::new())], "").await;
    assert!(
        matches!(&outcome, Outcome::Retry(e) if e.contains("locked")),
        "{outcome:?}"
    );
}

async fn times_of_mariadb_are_read_as_they_are() {
    let db = kit::mariadb().fresh_db().await;
    let columns = "day DATE, at DATETIME, exact DATETIME(6), stamp TIMESTAMP NULL, span TIME, part TIME(6)";
    db.execute(&format!("CREATE TABLE t ({columns})")).await;
    let values = "('2030-01-02', '2030-01-02 03:04:05', '2030-01-02 00:00:00.000007', NULL, '-25:01:02', '01:02:03.5')";
    db.execute(&format!("INSERT INTO t VALUES {values}")).await;
    db.execute(
        "INSERT INTO t VALUES ('1999-12-31', '2030-01-02', '2030-01-02', '2030-01-02 03:04:05', '0:0:0', '0:0:0')",
    )
    .await;
    let query = vec![statement(&db, "SELECT * FROM t ORDER BY day DESC", Vec::new())];
    let found = json_of(run(&db, spec(query, SqlMode::Query), Trial::of("fn:sql")).await);
    assert_eq!(
        found["rows"],
        json!([
            [
                "2030-01-02",
                "2030-01-02 03:04:05",
                "2030-01-02 00:00:00.000007",
                null,
                "-25:01:02",
                "01:02:03.500000"
            ],
            [
                "1999-12-31",
                "2030-01-02 00:00:00",
                "2030-01-02 00:00:00",
                "2030-01-02 03:04:05",
                "00:00:00",
                "00:00:00"
            ]
        ])
    );
}

async fn types_of_postgres_are_those_of_the_statement() {
    let db = kit::postgres().fresh_db().await;
    db.execute("CREATE TABLE t (id SMALLINT, at TIMESTAMPTZ, day DATE, price NUMERIC(20, 3), doc JSONB, key UUID)")
        .await;
    let parameters = [
        "{{ payload.id }}",
        "{{ payload.at }}",
        "{{ payload.at }}",
        "{{ payload.price }}",
        "{{ payload.doc }}",
        "{{ payload.key }}",
    ];
    let insert = statement(
        &db,
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)",
        parameters.map(filled).to_vec(),
    );
    let payload = json!({
        "id": 7, "at": "2030-01-01T00:30:00+01:00", "price": "12.5", "doc": {"a": [1]},
        "key": "00112233-4455-6677-8899-aabbccddeeff",
    });
    json_of(exec(&db, vec![insert.clone()], &payload.to_string()).await);
    let query = vec![statement(
        &db,
        "SELECT *, at < ? AS before FROM t",
        vec![filled("2030-01-01T00:00:00Z")],
    )];
    let found = json_of(run(&db, spec(query, SqlMode::Query), Trial::of("fn:sql")).await);
    assert_eq!(
        found["rows"][0],
        json!([
            7,
            "2029-12-31T23:30:00Z",
            "2029-12-31",
            "12.500",
            {"a": [1]},
            "00112233-4455-6677-8899-aabbccddeeff",
            true
        ])
    );
    let wrong = payload
        .to_string()
        .replace("7,", "\"7; DROP TABLE t\",")
        .replace(":7}", ":\"x\"}");
    let outcome = exec(
        &db,
        vec![insert],
        &wrong.replace("\"id\":7", "\"id\":\"7; DROP TABLE t\""),
    )
    .await;
    assert!(
        matches!(&outcome, Outcome::Skip(e) if e.contains("parameter 1")),
        "{outcome:?}"
    );
}

/// From the files of a site to rows of its database.
async fn a_manifest_runs_statements() {
    let site = kit::Site::new("handlers: {sql: {connections: {main: 'sqlite:app.db'}}}\n");
    site.write("app.db", "");
    site.write(
        "manifests/tables.yaml",
        "name: tables\nschedule: {at: 2030-01-01T00:00:00Z}\nsql:\n  connection: main\n  statements:\n  - CREATE TABLE \
         IF NOT EXISTS log (text TEXT)\n  - {statement: INSERT INTO log VALUES (?), params: ['{{ payload.text }}']}\n",
    );
    site.cli(["check"]).await.ok();
    let runner = site.start().await;
    site.cli(["enqueue", "fn:tables", "--payload", r#"{"text":"from a payload"}"#])
        .await
        .ok();
    let file = SqlDb::file(&site.dir.join("app.db"));
    kit::eventually_within(Duration::from_secs(30), "a row", async || {
        let tables = file
            .column("SELECT CAST(COUNT(*) AS TEXT) FROM sqlite_master WHERE name = 'log'")
            .await;
        match tables[0].as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(
        file.column("SELECT text FROM log").await,
        [Some("from a payload".to_owned())]
    );
    assert!(runner.stop().await.success());
}
