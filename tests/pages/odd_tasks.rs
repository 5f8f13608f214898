//! Tasks with odd ids, and unreadable tasks: each has a page and can be deleted.

use runner_core::task::Task;
use runner_queue::Producer as _;

use super::dashboard::{Site, id, queue, token_of};
use crate::kit::{self, Http};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_id_has_a_page;
        needs(Redis): unreadable_tasks_have_a_page
    ]
}

/// The address in the first link of a page that begins like this.
fn link_in(page: &str, beginning: &str) -> String {
    let at = page
        .find(beginning)
        .unwrap_or_else(|| panic!("no link {beginning} in {page}"));
    let rest = &page[at..];
    rest[..rest.find('"').expect("the end of the link")].replace("&amp;", "&")
}

/// What a browser requests: dot segments, even encoded ones, are resolved.
fn as_browsers_do(address: &str) -> String {
    let url = reqwest::Url::parse("http://localhost").and_then(|base| base.join(address));
    url.expect("an address").path().to_owned()
}

async fn every_id_has_a_page() {
    let site = Site::empty().await;
    let long = format!("https://example.com/{}", "ü?".repeat(3_000));
    for name in [".", "..", "...", "~x2e", long.as_str()] {
        let tenant = queue(if name.starts_with('~') { ".." } else { "odd" });
        let task = Task::new("a").id(id(name)).queue(tenant.clone());
        site.broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
        let first = site.http.get("/queue").await.body;
        let list = as_browsers_do(&link_in(
            &first,
            if tenant.as_str() == ".." {
                "/queue/queues/~x2e2e/pending"
            } else {
                "/queue/queues/odd/pending"
            },
        ));
        let list = site.http.get(&list).await;
        assert_eq!(list.status, 200);
        let address = as_browsers_do(&link_in(&list.body, "/queue/tasks/"));
        let page = site.http.get(&address).await;
        assert_eq!(page.status, 200, "{address}");
        assert!(page.body.contains("<h1>a</h1>"), "{}", page.body);
        let gone = site.act(&format!("{address}/delete"), &[]).await;
        assert_eq!(gone.status, 303, "{address}");
        assert_eq!(site.http.get(&address).await.status, 404, "{address}");
    }
}

async fn unreadable_tasks_have_a_page() {
    let db = kit::redis().fresh_db();
    let site = kit::Site::new(&format!("{}roles: [web]\n", db.yaml()));
    let mut link = db.connect().await;
    for name in [&b"odd"[..], b"\xff\xfe"] {
        let key = [b"asynq:{default}:t:", name].concat();
        let _: () = redis::pipe()
            .cmd("SADD")
            .arg(&["asynq:queues", "default"])
            .cmd("HSET")
            .arg(&key)
            .arg("msg")
            .arg(b"\x0a\x02\xff<script>")
            .arg(&["state", "archived"])
            .cmd("ZADD")
            .arg(&["asynq:{default}:archived", "1900000000"])
            .arg(name)
            .query_async(&mut link)
            .await
            .expect("a task");
    }
    let runner = site.start().await;
    let list = runner.http.get("/queue/queues/default/archived").await.body;
    assert!(
        list.contains("Not shown above") && !list.contains("Past the end"),
        "{list}"
    );
    for address in ["/queue/tasks/default/odd", "/queue/tasks/default/~xfffe"] {
        assert!(list.contains(&format!("\"{address}\"")), "{address} is not in {list}");
        let page = runner.http.get(address).await;
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(
            page.body.contains("It cannot be read") && page.body.contains("0a 02 ff 3c"),
            "{}",
            page.body
        );
    }
    let listed = site.cli(["ls", "tasks", "--state", "archived"]).await.ok().stdout;
    assert!(listed.contains("odd") && listed.contains("cannot be read"), "{listed}");
    let shown = site.cli(["task", "show", "odd", "--json"]).await.json();
    assert_eq!(
        (&shown["id_hex"], &shown["bytes"]),
        (&"6f6464".into(), &11.into()),
        "{shown}"
    );
    delete(&runner.http, "/queue/tasks/default/~xfffe").await;
    let deleted = site
        .cli(["task", "delete", "--hex", "6f6464", "--queue", "default"])
        .await
        .ok();
    assert!(deleted.stdout.contains("is deleted"), "{}", deleted.stdout);
    let list = runner.http.get("/queue/queues/default/archived").await.body;
    assert!(!list.contains("Not shown above"), "{list}");
}

async fn delete(http: &Http, address: &str) {
    let token = token_of(&http.get(address).await.body);
    let done = http.post_form(&format!("{address}/delete"), &[("token", &token)]).await;
    assert_eq!((done.status, done.header("location")), (303, "/queue/queues/default"));
}
