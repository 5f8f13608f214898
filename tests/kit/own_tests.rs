//! Tests of the kit itself, on which all others rely.

use super::{SqlDb, eventually_within, free_port, mariadb, postgres, redis, trials};

pub fn tests() -> Vec<super::Trial> {
    trials![
        needs(): ports_are_handed_out_once, waiting_ends_with_the_last_reason;
        needs(Redis): redis_databases_are_separate;
        needs(MariaDb): mariadb_databases_are_separate;
        needs(Postgres): postgres_databases_are_separate;
    ]
}

async fn ports_are_handed_out_once() {
    assert_ne!(free_port(), free_port());
}

async fn waiting_ends_with_the_last_reason() {
    let waiting = tokio::spawn(eventually_within(std::time::Duration::ZERO, "pigs fly", async || {
        Err::<(), _>("they walk")
    }));
    let failure = waiting.await.expect_err("it must give up").into_panic();
    let failure = failure.downcast_ref::<String>().expect("a text");
    assert!(
        failure.contains("pigs fly") && failure.contains("they walk"),
        "{failure}"
    );
}

async fn redis_databases_are_separate() {
    let (one, other) = (redis().fresh_db(), redis().fresh_db());
    let _: () = ::redis::cmd("SET")
        .arg("k")
        .arg("v")
        .query_async(&mut one.connect().await)
        .await
        .unwrap();
    let seen: Option<String> = ::redis::cmd("GET")
        .arg("k")
        .query_async(&mut other.connect().await)
        .await
        .unwrap();
    assert_eq!(seen, None);
}

async fn mariadb_databases_are_separate() {
    databases_are_separate(mariadb().fresh_db().await, mariadb().fresh_db().await).await;
}

async fn postgres_databases_are_separate() {
    databases_are_separate(postgres().fresh_db().await, postgres().fresh_db().await).await;
}

async fn databases_are_separate(one: SqlDb, other: SqlDb) {
    for db in [&one, &other] {
        db.execute("CREATE TABLE t (x text)").await;
    }
    one.execute("INSERT INTO t VALUES ('a'); INSERT INTO t VALUES (NULL)")
        .await;
    assert_eq!(
        one.column("SELECT x FROM t ORDER BY x IS NULL").await,
        [Some("a".to_owned()), None]
    );
    assert_eq!(other.column("SELECT x FROM t").await, []);
}
