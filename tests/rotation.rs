//! Passwords changed while the program runs: of Redis and of a database, each with the file that contains it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::kit::{self, RedisServer, Runner, Site};

/// Connections are retried at most 5 s apart; the rest is for a busy machine.
const SEEN: Duration = Duration::from_secs(30);

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_password_of_redis_is_changed_without_a_restart, a_password_within_a_url_is_changed_too;
        needs(MariaDb): a_password_of_the_database_is_changed_without_a_restart;
    ]
}

async fn admin(server: &RedisServer, password: &str) -> MultiplexedConnection {
    let url = format!("redis://:{password}@127.0.0.1:{}", server.port);
    kit::link_to(&url).await.unwrap()
}

/// Changes the server's password and closes every other connection.
async fn change(link: &mut MultiplexedConnection, password: &str) {
    let mut pipe = redis::pipe();
    pipe.cmd("CONFIG").arg(&["SET", "requirepass", password]).ignore();
    for kind in ["normal", "pubsub"] {
        pipe.cmd("CLIENT")
            .arg(&["KILL", "TYPE", kind, "SKIPME", "yes"])
            .ignore();
    }
    let _: () = pipe.query_async(link).await.unwrap();
}

async fn says(runner: &Runner, words: &str) {
    kit::eventually_within(SEEN, "/readyz says why", || async {
        let reply = runner.http.try_get("/readyz").await.map_err(|e| e.to_string())?;
        let said = reply.status == 503 && reply.body.contains(words);
        said.then_some(()).ok_or(format!("{}: {}", reply.status, reply.body))
    })
    .await;
}

async fn ready(runner: &Runner) {
    kit::eventually_within(SEEN, "ready again", || async {
        let reply = runner.http.try_get("/readyz").await.map_err(|e| e.to_string())?;
        (reply.status == 200)
            .then_some(())
            .ok_or(format!("{}: {}", reply.status, reply.body))
    })
    .await;
}

async fn runs_a_task(site: &Site, runner: &Runner) {
    let arguments = ["enqueue", "echo", "--payload", "1", "--retention", "1h"];
    site.cli(arguments).await.ok();
    kit::eventually_within(SEEN, "the task is run", || async {
        let page = site.cli(["ls", "tasks", "--json"]).await.ok().stdout;
        let done = page.contains("\"state\": \"completed\"");
        done.then_some(()).ok_or(format!("{page}\n{}", runner.child.tail()))
    })
    .await;
}

async fn a_password_of_redis_is_changed_without_a_restart() {
    let server = RedisServer::start(&["--requirepass", "old-1"]);
    let secret = kit::scratch("secret").join("pw");
    std::fs::write(&secret, "old-1\n").unwrap();
    let at = format!("127.0.0.1:{}", server.port);
    let site = Site::new(&format!(
        "redis: {{host: \"{at}\", password: \"${{file:{}}}\"}}\n",
        secret.display()
    ));
    let runner = site.start().await;
    // First without the file: that has its own error text.
    let mut link = admin(&server, "old-1").await;
    std::fs::remove_file(&secret).unwrap();
    change(&mut link, "new-2").await;
    says(&runner, "cannot read the password of Redis").await;
    // A file that is being written is empty for a moment.
    std::fs::write(&secret, "").unwrap();
    says(&runner, "it is empty").await;
    std::fs::write(&secret, "new-2\n").unwrap();
    ready(&runner).await;
    runs_a_task(&site, &runner).await;
    let log = runner.log();
    assert!(!log.contains("new-2") && !log.contains("old-1"), "{log}");
    assert!(runner.stop().await.success());
}

async fn a_password_within_a_url_is_changed_too() {
    let server = RedisServer::start(&["--requirepass", "old-1"]);
    let secret = kit::scratch("secret").join("pw");
    std::fs::write(&secret, "old-1").unwrap();
    let url = format!("redis://:${{file:{}}}@127.0.0.1:{}/0", secret.display(), server.port);
    let runner = Site::new(&format!("redis: {{url: \"{url}\"}}\n")).start().await;
    let mut link = admin(&server, "old-1").await;
    std::fs::write(&secret, "new%202").unwrap();
    change(&mut link, "new 2").await;
    // The old connections are closed: only a new one can answer.
    ready(&runner).await;
    kit::eventually("a new connection", async || {
        let clients: String = redis::cmd("CLIENT")
            .arg("LIST")
            .query_async(&mut link.clone())
            .await
            .unwrap();
        clients.contains("name=runner").then_some(()).ok_or(clients)
    })
    .await;
    assert!(runner.stop().await.success());
}

async fn a_password_of_the_database_is_changed_without_a_restart() {
    let db = kit::mariadb().fresh_db().await;
    db.execute(include_str!("data/table/create.sql")).await;
    let user = format!("u_{}", db.name);
    db.execute(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'old-1'"))
        .await;
    db.execute(&format!("GRANT SELECT ON {}.* TO {user}@'%'", db.name))
        .await;
    let secret = kit::scratch("secret").join("pw");
    std::fs::write(&secret, "old-1\n").unwrap();
    let site = Site::new(&format!(
        "database: {{driver: mysql, host: \"127.0.0.1:{}\", username: {user}, password: \"${{file:{}}}\", database: {}, \
         max_lifetime: 300ms}}\ndb: {{sync_interval: 200ms}}\n",
        db.port,
        secret.display(),
        db.name
    ));
    let runner = site.start().await;
    std::fs::remove_file(&secret).unwrap();
    db.execute(&format!("SET PASSWORD FOR {user}@'%' = PASSWORD('new-2')"))
        .await;
    kit::eventually_within(SEEN, "the reason is said", || async {
        let log = runner.log();
        let said = log.contains("cannot read the login of the database");
        said.then_some(()).ok_or(log)
    })
    .await;
    std::fs::write(&secret, "new-2\n").unwrap();
    db.execute("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('n', 'echo', '@daily', NULL, 1)")
        .await;
    kit::eventually_within(SEEN, "the new row is in force", || async {
        let log = runner.log();
        log.contains("row applied").then_some(()).ok_or(log)
    })
    .await;
    let log = runner.log();
    assert!(!log.contains("new-2") && !log.contains("old-1"), "{log}");
    assert!(runner.stop().await.success());
}
