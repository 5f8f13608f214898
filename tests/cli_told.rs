//! What commands tell from outside when something is not as it was meant, and that they show what is there.

use crate::cli::{fails, prints};
use crate::kit::{self, RedisServer, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_payload_is_shown_as_it_was_written;
        needs(Redis): a_redis_that_refuses_is_told_with_a_hint_that_fits;
    ]
}

async fn a_payload_is_shown_as_it_was_written() {
    let site = Site::new("");
    let payload = r#"{"z":12345678901234567890123,"a":1.50}"#;
    prints(&site, &["enqueue", "t", "--id", "a", "--payload", payload]).await;
    for command in [
        &["task", "show", "a"][..],
        &["task", "show", "a", "--json"],
        &["ls", "tasks", "--json"],
    ] {
        let shown = prints(&site, command).await;
        assert!(shown.contains(payload), "{shown}");
    }
}

async fn a_redis_that_refuses_is_told_with_a_hint_that_fits() {
    let server = RedisServer::start(&["--requirepass", "geheim"]);
    let host = format!("127.0.0.1:{}", server.port);
    let site = Site::new("");
    let said = async |redis: &str| {
        site.write("config.yaml", &format!("redis: {redis}\n"));
        fails(&site, &["ls", "queues"], 69).await
    };
    let (none, nobody) = (format!("{{host: \"{host}\"}}"), "{url: \"redis://127.0.0.1:1\"}");
    for (redis, words) in [
        (
            none,
            [
                "broker_auth: it asks for a password; set `redis.password`",
                "NOAUTH Authentication required",
            ],
        ),
        (
            format!("{{host: \"{host}\", password: x}}"),
            ["see `redis.username`, `redis.password`", "WRONGPASS"],
        ),
        (
            format!("{{url: \"redis://:x@{host}\"}}"),
            ["see `redis.url`", "WRONGPASS"],
        ),
        (
            format!("{{host: \"{host}\", password: geheim, database: 65535}}"),
            ["see `redis.database`", "out of range"],
        ),
        (nobody.to_owned(), ["is it running? `redis.url` says where", "refused"]),
    ] {
        let error = said(&redis).await;
        assert!(words.iter().all(|part| error.contains(part)), "{redis}: {error}");
        assert_eq!(error.contains("running"), redis == nobody, "{redis}: {error}");
    }
    // The server's own words name the command, and in newer versions the user.
    let client = redis::Client::open(format!("redis://:geheim@{host}")).unwrap();
    let mut link = client.get_multiplexed_async_connection().await.unwrap();
    let rights = ["SETUSER", "shop", "on", ">pw", "~*", "&*", "+@connection"];
    let _: () = redis::cmd("ACL").arg(&rights).query_async(&mut link).await.unwrap();
    let error = said(&format!("{{host: \"{host}\", username: shop, password: pw}}")).await;
    assert!(error.contains("NOPERM") && error.contains("ACL SETUSER"), "{error}");
    assert!(error.contains("script|load"), "{error}");
}
