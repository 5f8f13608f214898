//! Tasks of all queues: found by type, text and error, and acted on together.

use std::time::Duration;

use runner_core::task::{Task, TaskState};
use runner_queue::{Producer as _, Signals as _};

use super::dashboard::{Order, id};
use super::dashboard::{Site, count, queue, users};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): tasks_of_all_queues_are_searched, a_search_says_what_it_has_searched, ticked_tasks_are_acted_on,
            all_that_match_are_acted_on, the_number_of_many_tasks_is_typed, attempts_that_run_are_cancelled_together, only_admins_delete_many, the_search_box_finds_everything
    ]
}

fn rows(page: &str) -> usize {
    page.matches("<tr data-key=").count()
}

async fn tasks_of_all_queues_are_searched() {
    let site = Site::full().await;
    let list = async |query: &str| site.http.get(&format!("/queue/tasks?{query}")).await.body;
    let all = list("").await;
    assert!(all.contains("searched 64 of 64"), "{all}");
    assert!(all.contains("/queue/tasks/mail/m1\"") && all.contains("/queue/tasks/default/plain\""));
    for (query, n) in [
        ("type=MAIL", 50),
        ("queue=default", 4),
        ("q=plain", 1),
        ("q=12345678901234567890", 1),
        ("q=m59", 1),
        ("q=nothing-has-this", 0),
        ("from=2100-01-01", 0),
        ("state=archived&q=timed+out", 1),
        ("state=archived&from=2026-11-22T06:00:00Z&to=2026-11-23T00:00:00Z", 1),
        ("state=archived&from=2026-11-23T06:00:00Z", 0),
        ("state=retry&sort=type", 1),
    ] {
        let page = list(query).await;
        assert_eq!(rows(&page), n, "{query}: {page}");
    }
    let first = list("queue=default&sort=id").await;
    let at = |name: &str| first.find(&format!("/queue/tasks/default/{name}\"")).expect(name);
    assert!(at("long") < at("plain"));
    // Errors that differ in numbers only are one link.
    let archived = list("state=archived").await;
    assert!(
        archived.contains("error=connect%3A%20timed%20out%20after%20%23%20s"),
        "{archived}"
    );
    let escaped = Task::new("task:report")
        .id(id("zh"))
        .payload("{\"to\":\"\\u8ba2\\u5355\"}");
    site.broker
        .enqueue(&[escaped])
        .await
        .expect("an answer")
        .remove(0)
        .expect("accepted");
    assert_eq!(rows(&list("q=订单").await), 1);
    for bad in ["state=asleep", "sort=best", "part=0", "from=yesterday", "page=0"] {
        assert_eq!(site.http.get(&format!("/queue/tasks?{bad}")).await.status, 400, "{bad}");
    }
}

async fn a_search_says_what_it_has_searched() {
    let site = Site::empty().await;
    let tasks: Vec<Task> = (0..5_200)
        .map(|n| Task::new("bulk").id(id(&format!("t{n}"))).queue(queue("big")))
        .collect();
    for answer in site.broker.enqueue(&tasks).await.expect("an answer") {
        answer.expect("accepted");
    }
    let first = site.http.get("/queue/tasks?q=t5199").await.body;
    assert!(
        first.contains("No task matches") && first.contains("searched 5,000 of 5,200"),
        "{first}"
    );
    assert!(first.contains("/queue/tasks?q=t5199&amp;part=2"), "{first}");
    let second = site.http.get("/queue/tasks?q=t5199&part=2").await.body;
    assert!(
        second.contains("searched 5,200 of 5,200") && rows(&second) == 1,
        "{second}"
    );
    assert!(!second.contains("part=3"), "{second}");
}

async fn ticked_tasks_are_acted_on() {
    let site = Site::full().await;
    let picks = [("pick", "4:mailm1"), ("pick", "4:mailm2"), ("pick", "7:defaultplain")];
    let ask = "/queue/tasks/selected?verb=archive&pick=4%3Amailm1&pick=4%3Amailm2&pick=7%3Adefaultplain&pick=bad";
    let page = site.http.get(ask).await.body;
    for part in [
        "Archive 3 tasks?",
        "value=\"4:mailm1\"",
        "/queue/tasks/default/plain\"",
        "until they are run again",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    assert_eq!(
        count(&*site.broker, "mail", TaskState::Archived).await,
        0,
        "looking changes nothing"
    );
    let mut fields = vec![("verb", "archive")];
    fields.extend(picks);
    let done = site.act("/queue/tasks/selected", &fields).await;
    assert_eq!(done.status, 303, "{}", done.body);
    assert!(
        site.http
            .get("/queue")
            .await
            .body
            .contains("Tasks that were archived: 3.")
    );
    assert_eq!(count(&*site.broker, "mail", TaskState::Archived).await, 2);
    let again = site.act("/queue/tasks/selected", &fields).await;
    assert_eq!(again.status, 303);
    assert!(site.http.get("/queue").await.body.contains("No task was changed"));
    assert_eq!(count(&*site.broker, "mail", TaskState::Archived).await, 2);
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect(name);
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// The page of the operation that a form began, when it says these words.
async fn operation_says(site: &Site, answer: &kit::Reply, words: &str) -> String {
    assert_eq!(answer.status, 303, "{}", answer.body);
    let there = answer.header("location").to_owned();
    assert!(there.contains("/operations/"), "{there}");
    site.operate();
    kit::eventually("the operation", async || {
        let page = site.http.get(&there).await.body;
        if page.contains(words) { Ok(page) } else { Err(page) }
    })
    .await
}

async fn all_that_match_are_acted_on() {
    let site = Site::full().await;
    let ask = "/queue/tasks/selected?verb=delete&all=1&type=mail:&q=m5";
    let page = site.http.get(ask).await.body;
    assert!(
        page.contains("Delete 11 tasks?") && !page.contains("name=\"typed\""),
        "{page}"
    );
    assert_eq!(page.matches("<li><a class=\"id\"").count(), 5, "a sample: {page}");
    let (before, counted) = (hidden(&page, "before"), hidden(&page, "counted"));
    let fields = |before| {
        [
            ("verb", "delete"),
            ("type", "mail:"),
            ("q", "m5"),
            ("exact", "1"),
            ("counted", counted.as_str()),
            ("before", before),
            ("note", "wrong address"),
        ]
    };
    for old in ["", "x", "2026-11-20T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let refused = site.act("/queue/operations", &fields(old)).await;
        assert!(
            refused.header("location").contains("/tasks/selected?all=1&verb=delete"),
            "{old}"
        );
    }
    assert_eq!(count(&*site.broker, "mail", TaskState::Pending).await, 60);
    // What comes after the preview is left alone.
    site.clock.advance(Duration::from_secs(5));
    let late = Task::new("mail:late").id(id("m5-late")).queue(queue("mail"));
    site.broker.enqueue(&[late]).await.unwrap()[0].as_ref().unwrap();
    let begun = site.act("/queue/operations", &fields(&before)).await;
    let page = operation_says(&site, &begun, "<span>Done</span>").await;
    assert!(
        page.contains("11 of 11 tasks") && page.contains("wrong address"),
        "{page}"
    );
    assert_eq!(count(&*site.broker, "mail", TaskState::Pending).await, 50);
    let ended = begun.header("location").to_owned();
    let again = site.act(&format!("{ended}/cancel"), &[]).await;
    assert_eq!(again.status, 303);
    assert!(site.http.get(&ended).await.body.contains("has ended already"));
    assert_eq!(site.http.get("/queue/operations/none").await.status, 404);
    assert!(site.http.get("/queue/operations").await.body.contains("m5"));
    let audit = kit::eventually("the end in the audit list", async || {
        let page = site.http.get("/queue/audit").await.body;
        if page.contains("done: 11 done, 0 skipped") {
            Ok(page)
        } else {
            Err(page)
        }
    })
    .await;
    assert!(
        audit.contains("operation.begin") && audit.contains("tasks.delete"),
        "{audit}"
    );
    assert_eq!(site.http.get("/queue/tasks/selected?verb=eat&all=1").await.status, 400);
    assert_eq!(
        site.http.get("/queue/tasks/selected?verb=run&all=1").await.status,
        400,
        "pending tasks are not run"
    );
}

async fn the_number_of_many_tasks_is_typed() {
    let site = Site::empty().await;
    let all: Vec<Task> = (0..1_100).map(|n| Task::new("t").id(id(&format!("t{n}")))).collect();
    for some in all.chunks(500) {
        site.broker.enqueue(some).await.unwrap();
    }
    let page = site.http.get("/queue/tasks/selected?verb=archive&all=1").await.body;
    assert!(
        page.contains("Archive 1,100 tasks?") && page.contains("Type 1,100"),
        "{page}"
    );
    let before = hidden(&page, "before");
    let fields = |typed| {
        [
            ("verb", "archive"),
            ("exact", "1"),
            ("counted", "1100"),
            ("before", before.as_str()),
            ("typed", typed),
        ]
    };
    let refused = site.act("/queue/operations", &fields("1000")).await;
    let there = refused.header("location").to_owned();
    assert!(
        site.http.get(&there).await.body.contains("type 1100 to confirm"),
        "{there}"
    );
    assert_eq!(count(&*site.broker, "default", TaskState::Pending).await, 1_100);
    let begun = site.act("/queue/operations", &fields("1,100")).await;
    operation_says(&site, &begun, "1,100 of 1,100 tasks").await;
    assert_eq!(count(&*site.broker, "default", TaskState::Archived).await, 1_100);
}

async fn attempts_that_run_are_cancelled_together() {
    let site = Site::full().await;
    let mut cancellations = site.broker.cancellations().await.unwrap();
    let page = site
        .http
        .get("/queue/tasks/selected?verb=cancel&all=1&state=active")
        .await
        .body;
    let (before, counted) = (hidden(&page, "before"), hidden(&page, "counted"));
    let fields = [
        ("verb", "cancel"),
        ("state", "active"),
        ("exact", "1"),
        ("counted", counted.as_str()),
        ("before", before.as_str()),
    ];
    let begun = site.act("/queue/operations", &fields).await;
    operation_says(&site, &begun, "<span>Done</span>").await;
    assert_eq!(cancellations.recv().await.unwrap().id.as_str(), "held");
}

async fn only_admins_delete_many() {
    let site = Site::start(Order {
        auth: users(),
        full: true,
        ..Order::default()
    })
    .await;
    site.log_in("operator").await;
    let list = site.http.get("/queue/tasks").await.body;
    assert!(
        list.contains("value=\"archive\"") && !list.contains("value=\"delete\""),
        "{list}"
    );
    let refused = site
        .act("/queue/tasks/selected", &[("verb", "delete"), ("pick", "4:mailm1")])
        .await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(count(&*site.broker, "mail", TaskState::Pending).await, 60);
}

async fn the_search_box_finds_everything() {
    let site = Site::full().await;
    let exact = site.http.get("/queue/find?id=plain").await;
    assert_eq!(exact.header("location"), "/queue/tasks/default/plain");
    let schedule = site.http.get("/queue/find?id=code:hourly").await;
    assert_eq!(schedule.header("location"), "/queue/schedules/code%3Ahourly");
    let page = site.http.get("/queue/find?id=REPORT").await.body;
    for part in [
        "/queue/schedules/m%3Anightly-report%3Adefault\"",
        "/queue/functions/nightly-report\"",
        "/queue/tasks/default/dead\"",
        "/queue/tasks?state=archived&amp;q=REPORT",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    let part_of_id = site.http.get("/queue/find?id=M4").await.body;
    assert!(part_of_id.contains("/queue/tasks/mail/m40\""), "{part_of_id}");
    let none = site.http.get("/queue/find?id=nothing-has-this").await.body;
    assert!(none.contains("Nothing has this text in its name"), "{none}");
    let nothing = site.http.get("/queue/find?id=").await;
    assert_eq!(nothing.status, 200, "{}", nothing.body);
}
