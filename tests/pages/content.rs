//! Content of pages: each of them, empty and full, in both languages.

use std::time::Duration;

use runner_core::task::Task;
use runner_queue::{Action, Actions as _, Producer as _};

use super::dashboard::{HOSTILE, Order, Site, id, keep_bad_of, queue};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_page_of_an_empty_store_explains_the_next_step, every_page_of_a_full_store_is_complete,
            hostile_text_stays_text, pages_come_in_two_languages, lists_have_bounds, the_page_of_a_task_is_complete, tasks_are_listed_by_type,
            the_page_of_a_schedule_is_complete, the_page_of_a_function_is_complete, broken_definitions_are_shown, machines_get_their_answers,
            missing_pages_are_explained, pages_are_sent_small_and_only_when_they_changed, a_missing_directory_is_not_a_fault,
            manual_functions_are_not_a_problem, the_last_task_of_a_schedule_is_shown,
            a_broker_that_is_gone_is_not_an_empty_list, a_type_that_no_worker_takes_is_a_problem,
            bad_messages_are_counted_and_read_by_page, a_trigger_with_bad_messages_is_a_problem_for_a_day
    ]
}

/// Every address of an empty dashboard.
pub const EMPTY: [&str; 11] = [
    "/queue",
    "/queue/schedules",
    "/queue/servers",
    "/queue/functions",
    "/queue/tasks",
    "/queue/decisions",
    "/queue/notifications",
    "/queue/workflows",
    "/queue/bad-messages",
    "/queue/audit",
    "/queue/operations",
];

/// Further addresses of a full one.
pub const FULL: [&str; 21] = [
    "/queue/queues/default/pending",
    "/queue/queues/default/active",
    "/queue/queues/default/scheduled",
    "/queue/queues/default/retry",
    "/queue/queues/default/archived",
    "/queue/queues/default/completed",
    "/queue/queues/default/aggregating",
    "/queue/queues/mail/pending",
    "/queue/tasks?state=archived&q=timed",
    "/queue/tasks/selected?verb=delete&all=1&state=retry",
    "/queue/find?id=report",
    "/queue/tasks/default/done",
    "/queue/tasks/default/dead",
    "/queue/tasks/default/a%2Fb%20%3F%23%E7%A9%BA",
    "/queue/tasks/default/held",
    "/queue/functions/nightly-report",
    "/queue/functions/broken",
    "/queue/schedules/code%3Ahourly",
    "/queue/schedules?state=paused",
    "/queue/bad-messages?trigger=orders%3Anew",
    "/queue/schedules/m%3Anightly-report%3Adefault",
];

async fn every_page_of_an_empty_store_explains_the_next_step() {
    let site = Site::empty().await;
    for (path, says) in EMPTY.iter().zip([
        "No queue has been used yet",
        "No schedule yet",
        "No server is alive",
        "No function yet",
        "No pending tasks",
        "No such decision",
        "Nothing was reported",
        "No workflow yet",
        "No bad messages",
        "No actions yet",
        "No operation yet",
    ]) {
        let page = site.http.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(page.body.contains(says), "{path} lacks {says:?}");
    }
}

async fn every_page_of_a_full_store_is_complete() {
    let site = Site::full().await;
    for path in EMPTY.iter().chain(&FULL) {
        let page = site.http.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert_eq!(
            page.body.matches("<h1").count(),
            1,
            "{path} has one heading of the first rank"
        );
        assert!(page.body.trim_end().ends_with("</html>"), "{path} is cut short");
        assert!(
            page.body.contains(" · a-service</title>"),
            "{path} does not say whose it is"
        );
    }
}

async fn hostile_text_stays_text() {
    let site = Site::full().await;
    for path in EMPTY.iter().chain(&FULL) {
        let body = site.http.get(path).await.body;
        assert!(!body.contains("<script>"), "{path} lets a script in");
        let signs = ['\u{1b}', '\u{202e}', '\u{0}'];
        assert!(!body.contains(signs), "{path} lets a control character in");
        assert!(body.len() < 400_000, "{path} has {} bytes", body.len());
    }
    let page = site.http.get("/queue/tasks/default/a%2Fb%20%3F%23%E7%A9%BA").await.body;
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;␛[31m⟨U+202E⟩evil␀"),
        "{page}"
    );
    let long = site.http.get("/queue/tasks/default/long").await.body;
    assert!(long.contains("5,242,880 bytes") && long.contains("cut for this page"));
    let file = site.http.get("/queue/tasks/default/long/payload").await;
    assert_eq!(file.body.len(), 5 << 20);
    assert!(file.header("content-disposition").starts_with("attachment"));
    assert!(file.header("content-type").starts_with("text/plain"));
    let whole = site
        .http
        .get("/queue/tasks/default/a%2Fb%20%3F%23%E7%A9%BA/payload")
        .await;
    assert_eq!(whole.body, HOSTILE);
}

async fn pages_come_in_two_languages() {
    let site = Site::full().await;
    for (accept, lang, says) in [
        ("zh-CN,zh;q=0.9", "zh-CN", "总览"),
        ("en-GB", "en", "Overview"),
        ("fr", "en", "Overview"),
    ] {
        let request = site
            .http
            .request(reqwest::Method::GET, "/queue")
            .header("accept-language", accept);
        let page = site.http.send(request).await.unwrap().body;
        assert!(
            page.contains(&format!("<html lang=\"{lang}\"")) && page.contains(says),
            "{accept}"
        );
    }
    let chosen = site.act("/queue/prefs", &[("lang", "zh"), ("theme", "dark")]).await;
    assert_eq!((chosen.status, chosen.header("location")), (303, "/queue"));
    let page = site.http.get("/queue/schedules").await.body;
    assert!(page.contains("lang=\"zh-CN\" data-theme=\"dark\"") && page.contains("定时计划"));
    // No English sentence is left on a Chinese page: each page has its own texts there.
    for path in EMPTY.iter().chain(&FULL) {
        let page = site.http.get(path).await.body;
        for english in ["Run now", "Pause", "Overview", "Payload", "Retries", "No server"] {
            assert!(!page.contains(english), "{path} says {english:?} in Chinese");
        }
    }
}

async fn lists_have_bounds() {
    let site = Site::full().await;
    let list = "/queue/queues/mail/pending";
    let first = site.http.get(list).await.body;
    assert!(first.contains("1–25 of 60") && first.contains("page=2"), "{first}");
    let last = site.http.get(&format!("{list}?page=3")).await.body;
    assert!(last.contains("51–60 of 60") && !last.contains("page=4"));
    assert!(
        site.http
            .get(&format!("{list}?page=9"))
            .await
            .body
            .contains("it ends on page 3")
    );
    let sized = site.http.get(&format!("{list}?size=50")).await.body;
    assert!(sized.contains("page=2&amp;size=50"));
    for bad in ["page=0", "page=-1", "page=1000000000", "page=abc", "size=0", "size=101"] {
        let refused = site.http.get(&format!("{list}?{bad}")).await;
        assert_eq!(refused.status, 400, "{bad}");
    }
    assert_eq!(site.http.get("/queue/schedules?source=moon").await.status, 400);
}

async fn tasks_are_listed_by_type() {
    let site = Site::empty().await;
    let kind = |n: usize| if n.is_multiple_of(50) { "Mail:welcome" } else { "other" };
    let tasks: Vec<Task> = (0..2_001)
        .map(|n| Task::new(kind(n)).id(id(&format!("t{n}"))))
        .collect();
    for answer in site.broker.enqueue(&tasks).await.unwrap() {
        answer.unwrap();
    }
    let list = "/queue/queues/default/pending";
    let mail = site.http.get(&format!("{list}?type=mail:")).await.body;
    assert!(
        mail.contains("1–25 of 40") && mail.contains("page=2&amp;type=mail"),
        "{mail}"
    );
    assert!(!mail.contains("<code>other</code>") && mail.contains("/queue/tasks/default/t50\""));
    assert!(mail.contains("Only the first 2,000 tasks"), "{mail}");
    let last = site.http.get(&format!("{list}?type=mail:&page=2")).await.body;
    assert!(last.contains("26–40 of 40") && last.contains("/queue/tasks/default/t1950\""));
    let none = site.http.get(&format!("{list}?type=%3Cb%3E")).await.body;
    assert!(
        none.contains("No task of such a type") && none.contains("value=\"&lt;b&gt;\""),
        "{none}"
    );
    let done = site.http.get("/queue/queues/default/completed?type=mail").await.body;
    assert!(done.contains("No task of such a type") && !done.contains("Only the first"));
}

async fn the_page_of_a_task_is_complete() {
    let site = Site::full().await;
    let page = site.http.get("/queue/tasks/default/plain").await.body;
    assert!(
        page.contains("&quot;n&quot;: 12345678901234567890"),
        "JSON is laid out, numbers are kept"
    );
    let done = site.http.get("/queue/tasks/default/done").await.body;
    for part in [
        "success",
        "1.5 s",
        "line one\nline two",
        "&quot;rows&quot;: 12",
        "Kept until",
    ] {
        assert!(done.contains(part), "a completed task lacks {part:?}");
    }
    let dead = site.http.get("/queue/tasks/default/dead").await.body;
    assert!(dead.contains("connect: timed out") && dead.contains("It failed for good"));
    let again = site.http.get("/queue/tasks/default/again").await.body;
    assert!(
        again.contains("Its next attempt is in 1 min 30 s") && again.contains("1 of 5 used"),
        "{again}"
    );
    let waits = site.http.get("/queue/tasks/default/waits").await.body;
    assert!(
        waits.contains("Waits for handler task:unknown") && !waits.contains("It is due"),
        "{waits}"
    );
    let paused = site.http.get("/queue/tasks/mail/m1").await.body;
    assert!(paused.contains("The queue mail is paused"));
    let hourly = site
        .http
        .get("/queue/tasks/default/code%3Ahourly%4020261122T060000Z")
        .await
        .body;
    assert!(hourly.contains("href=\"/queue/schedules/code%3Ahourly\""), "{hourly}");
    assert!(hourly.contains("No live server has a handler for task:hourly"));
    let found = site.http.get("/queue/find?id=plain").await;
    assert_eq!(found.header("location"), "/queue/tasks/default/plain");
}

async fn the_page_of_a_schedule_is_complete() {
    let site = Site::full().await;
    let page = site
        .http
        .get("/queue/schedules/m%3Anightly-report%3Adefault")
        .await
        .body;
    for part in [
        "30 2 * * *",
        "report.yaml",
        "The figures of the day",
        "2026-11-23 02:30:00 +08:00",
        "2026-11-27 02:30:00 +08:00",
        "Asia/Shanghai",
    ] {
        assert!(page.contains(part), "the schedule lacks {part:?}: {page}");
    }
    let hourly = site.http.get("/queue/schedules/code%3Ahourly").await.body;
    for part in [
        "Fired",
        "2026-11-22 14:00:00",
        "on time",
        "test-host:4711",
        "/queue/tasks/default/code%3Ahourly%40",
    ] {
        assert!(hourly.contains(part), "the decisions lack {part:?}: {hourly}");
    }
    let off = site.http.get("/queue/schedules/m%3Aresting%3Adefault").await.body;
    assert!(off.contains("Disabled where it is defined"), "{off}");
    let filtered = site.http.get("/queue/schedules?q=NIGHTLY&source=manifest").await.body;
    assert!(filtered.contains("nightly-report") && !filtered.contains("m%3Asweep"));
}

async fn broken_definitions_are_shown() {
    let site = Site::full().await;
    for path in ["/queue", "/queue/schedules"] {
        let page = site.http.get(path).await.body;
        for part in ["E203", "broken.yaml:3", "hour"] {
            assert!(page.contains(part), "{path} lacks {part:?}: {page}");
        }
    }
}

async fn machines_get_their_answers() {
    let site = Site::full().await;
    assert_eq!(site.http.get("/healthz").await.json()["status"], "alive");
    let ready = site.http.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["ready"].as_bool()),
        (200, Some(true)),
        "{}",
        ready.body
    );
    let request = site.http.request(reqwest::Method::GET, "/metrics");
    let request = request.header("accept", "application/openmetrics-text");
    let metrics = site.http.send(request).await.unwrap().body;
    for line in [
        "runner_broker_up 1",
        "runner_tasks{queue=\"mail\",state=\"pending\"} 60",
        "runner_queue_paused{queue=\"mail\"} 1",
        "runner_queue_latency_seconds{queue=\"default\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert_eq!(metrics.matches("# EOF").count(), 1);
}

async fn the_page_of_a_function_is_complete() {
    let site = Site::full().await;
    let page = site.http.get("/queue/functions/nightly-report").await.body;
    for part in [
        "manifests/report.yaml:1",
        "runner run nightly-report",
        "The figures of the day",
        "/queue/schedules/m%3Anightly-report%3Adefault",
        "30 2 * * *",
        "task:report",
        "runs are remembered only if a schedule starts them",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let broken = site.http.get("/queue/functions/broken").await.body;
    assert!(broken.contains("Not in force") && broken.contains("E203"), "{broken}");
    let list = site.http.get("/queue/functions?q=sweep").await.body;
    assert!(
        list.contains("/queue/functions/sweep") && !list.contains("nightly-report"),
        "{list}"
    );
    let schedules = site.http.get("/queue/schedules").await.body;
    assert!(schedules.contains("href=\"/queue/functions\""), "{schedules}");
    let schedule = site
        .http
        .get("/queue/schedules/m%3Anightly-report%3Adefault")
        .await
        .body;
    assert!(schedule.contains("/queue/functions/nightly-report"), "{schedule}");
}

async fn missing_pages_are_explained() {
    let site = Site::full().await;
    for (path, says) in [
        ("/queue/tasks/default/none", "Not in the store any more"),
        ("/queue/queues/none/pending", "No such queue"),
        ("/queue/schedules/none", "No such schedule"),
        ("/queue/functions/none", "No such function"),
        ("/queue/queues/default/sleeping", "No such page"),
        ("/queue/nowhere", "No such page"),
        ("/queue/assets/..%2Fwords.json", "No such page"),
    ] {
        let page = site.http.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(page.body.contains(says), "{path} does not say {says:?}: {}", page.body);
    }
    let wrong = site
        .http
        .send(site.http.request(reqwest::Method::DELETE, "/queue/servers"))
        .await
        .unwrap();
    assert_eq!(wrong.status, 405);
    assert_eq!(site.http.get("/queue/").await.header("location"), "/queue");
}

async fn pages_are_sent_small_and_only_when_they_changed() {
    let site = Site::full().await;
    let ask = async |path: &str, name: &'static str, value: &str| {
        let request = site.http.request(reqwest::Method::GET, path);
        site.http.send(request.header(name, value)).await.unwrap()
    };
    let path = "/queue/queues/mail/pending";
    // The first answer also names the browser.
    site.http.get(path).await;
    let tag_of = async |path: &str| site.http.get(path).await.header("etag").to_owned();
    let (tag, still) = (tag_of(path).await, tag_of("/queue/functions").await);
    assert!(tag.starts_with('"'), "{tag}");
    assert_eq!(ask(path, "if-none-match", &tag).await.status, 304);
    let task = Task::new("mail:send").queue(queue("mail"));
    site.broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    assert_eq!(ask(path, "if-none-match", &tag).await.status, 200);
    // Time alone changes nothing.
    site.clock.advance(Duration::from_secs(5));
    assert_eq!(ask("/queue/functions", "if-none-match", &still).await.status, 304);
    for path in EMPTY
        .iter()
        .chain(&FULL)
        .chain(&["/queue/assets/queue.css", "/queue/assets/queue.js"])
    {
        let packed = ask(path, "accept-encoding", "gzip").await;
        assert_eq!(packed.header("content-encoding"), "gzip", "{path}");
        let plain = site.http.get(path).await;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        let size: usize = packed.header("content-length").parse().unwrap();
        assert!(size < 12 * 1024 && size * 2 < plain.body.len(), "{path}: {size}");
    }
    let foreign = site.http.request(reqwest::Method::GET, path);
    let foreign = foreign
        .header("accept-encoding", "gzip")
        .header("sec-fetch-site", "cross-site");
    assert_eq!(site.http.send(foreign).await.unwrap().header("content-encoding"), "");
    let page = site.http.get("/queue").await.body;
    let (_, rest) = page.split_once("/queue/assets/queue.css?").unwrap();
    let stamp = rest.split('"').next().unwrap();
    let kept = site.http.get(&format!("/queue/assets/queue.css?{stamp}")).await;
    assert!(kept.header("cache-control").contains("immutable"));
    let dated = site.http.get("/queue/assets/queue.css?old").await;
    assert!(!dated.header("cache-control").contains("immutable"));
}

async fn a_missing_directory_is_not_a_fault() {
    let site = Site::start(Order {
        directory: false,
        ..Order::default()
    })
    .await;
    let ready = site.http.get("/readyz").await;
    let checks = ready.json()["checks"].clone();
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert_eq!(
        (&checks[1]["name"], &checks[1]["ok"], &checks[1]["note"]),
        (&"manifest".into(), &true.into(), &"not there yet".into()),
        "{}",
        ready.body
    );
    let page = site.http.get("/queue/schedules").await.body;
    assert!(
        page.contains("Not there yet") && !page.contains("Failing</span>"),
        "{page}"
    );
    let page = site.http.get("/queue").await.body;
    assert!(page.contains("Nothing needs you."), "{page}");
    // One that was read and disappeared is different: its definitions stay in force.
    let site = Site::full().await;
    std::fs::remove_dir_all(site.dir.join("manifests")).unwrap();
    site.act("/queue/sync", &[]).await;
    kit::eventually("the directory is stale", async || {
        let ready = site.http.get("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.body);
        if ready.body.contains("\"note\":\"stale: ") {
            Ok(())
        } else {
            Err(ready.body)
        }
    })
    .await;
}

async fn manual_functions_are_not_a_problem() {
    let site = Site::full().await;
    for n in 0..6 {
        let text = format!("name: hand-{n}\nhandler: task:hand\n");
        std::fs::write(site.dir.join(format!("manifests/a-{n}.yaml")), text).unwrap();
    }
    site.act("/queue/sync", &[]).await;
    kit::eventually("the page of schedules names them", async || {
        let page = site.http.get("/queue/schedules").await.body;
        if page.contains("6 functions without a schedule") && page.contains("W201") {
            Ok(())
        } else {
            Err(page)
        }
    })
    .await;
    let page = site.http.get("/queue").await.body;
    assert!(!page.contains("W201") && page.contains("E203"), "{page}");
}

async fn the_last_task_of_a_schedule_is_shown() {
    let site = Site::full().await;
    let (path, id) = ("/queue/schedules/code%3Ahourly", id("code:hourly@20261122T060000Z"));
    let page = site.http.get(path).await.body;
    assert!(page.contains("Last task"), "{page}");
    assert_eq!(
        page.matches("s-pending").count(),
        2,
        "beside the schedule and its decision: {page}"
    );
    site.broker.act(&queue("default"), &id, Action::Archive).await.unwrap();
    let page = site.http.get(path).await.body;
    assert!(page.contains("The last task is archived"), "{page}");
    assert_eq!(page.matches("s-archived").count(), 2, "{page}");
    site.broker.act(&queue("default"), &id, Action::Delete).await.unwrap();
    let page = site.http.get(path).await.body;
    assert!(page.contains("finished and no longer stored"), "{page}");
    // The link of the decision leads to the record.
    let task = site
        .http
        .get("/queue/tasks/default/code%3Ahourly%4020261122T060000Z")
        .await;
    assert_eq!(task.status, 200, "{}", task.body);
    assert!(task.body.contains("its outcome is not on record"), "{}", task.body);
    assert_eq!(page.matches("s-archived").count(), 0, "{page}");
}

async fn a_broker_that_is_gone_is_not_an_empty_list() {
    let site = Site::full().await;
    // The file is still open; its content is damaged.
    std::fs::write(site.dir.join("runner.db"), vec![0x55; 1 << 16]).unwrap();
    let page = site.http.get("/queue").await;
    assert_eq!(page.status, 503, "{}", page.body);
    assert!(page.body.contains("The broker cannot be reached") && !page.body.contains("No queue has been used"));
    assert_eq!(page.header("retry-after"), "5");
    assert_eq!(site.http.get("/healthz").await.status, 200);
    let ready = site.http.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["checks"][0]["ok"].as_bool()),
        (503, Some(false)),
        "{}",
        ready.body
    );
    assert!(site.http.get("/metrics").await.body.contains("runner_broker_up 0"));
}

async fn a_type_that_no_worker_takes_is_a_problem() {
    let site = Site::empty().await;
    let tasks = ["task:odd", "task:odd", "<b>"].map(Task::new);
    for answer in site.broker.enqueue(&tasks).await.unwrap() {
        answer.unwrap();
    }
    site.clock.advance(Duration::from_secs(90));
    let ask = async |lang: &str| {
        let request = site.http.request(reqwest::Method::GET, "/queue");
        let request = request.header("accept-language", lang);
        site.http.send(request).await.unwrap().body
    };
    let page = ask("en").await;
    for part in [
        "type_unclaimed",
        "2 tasks of type task:odd in queue default have waited for up to 1 min 30 s, and no worker handles them.",
        "1 task of type &lt;b&gt; in queue default has waited for 1 min 30 s, and no worker handles it.",
        "Start a worker that has a handler for this type",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    let page = ask("zh").await;
    assert!(
        page.contains("类型为 task:odd 的任务") && !page.contains("no worker"),
        "{page}"
    );
    let metrics = site.http.get("/metrics").await.body;
    for line in [
        "runner_unclaimed_tasks{queue=\"default\",type=\"task:odd\"} 2\n",
        "runner_unclaimed_age_seconds{queue=\"default\",type=\"task:odd\"} 90\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

async fn bad_messages_are_counted_and_read_by_page() {
    let site = Site::empty().await;
    for n in 0..60 {
        keep_bad_of(
            &site.broker,
            "orders:new",
            &format!("host-{}#{}", n % 2, n / 2),
            &format!("o{n}"),
        )
        .await;
    }
    for n in 0..3 {
        keep_bad_of(&site.broker, "bills:paid", &format!("host-0#{n}"), &format!("b{n}")).await;
    }
    let page = async |query: &str| site.http.get(&format!("/queue/bad-messages{query}")).await.body;
    let all = page("").await;
    assert!(
        all.contains("1–50 of 63") && all.contains("/queue/bad-messages?page=2\""),
        "{all}"
    );
    for part in [
        "All triggers <span class=\"count\">63<",
        "orders:new <span class=\"count\">60<",
        "bills:paid <span class=\"count\">3<",
    ] {
        assert!(all.contains(part), "{part:?} is not in {all}");
    }
    let second = page("?page=2").await;
    assert!(
        second.contains("51–63 of 63") && second.matches("class=\"id\"").count() == 13,
        "{second}"
    );
    let of_one = page("?trigger=orders%3Anew&page=2").await;
    assert!(of_one.contains("51–60 of 60"), "{of_one}");
    assert!(of_one.contains("trigger=orders%3Anew&amp;page=1"), "{of_one}");
    assert!(!of_one.contains(">b0<"), "{of_one}");
    let small = page("?trigger=bills%3Apaid").await;
    assert!(
        small.contains("1–3 of 3") && small.contains(">b2<") && !small.contains(">o1<"),
        "{small}"
    );
    assert_eq!(site.http.get("/queue/bad-messages?page=0").await.status, 400);
    let beyond = page("?page=9").await;
    assert!(beyond.contains("No bad messages"), "{beyond}");
}

async fn a_trigger_with_bad_messages_is_a_problem_for_a_day() {
    let site = Site::empty().await;
    let ready = site.http.get("/readyz").await.status;
    keep_bad_of(&site.broker, "orders:new", "host#0", "x").await;
    let overview = async |language: &str| {
        let request = site.http.request(reqwest::Method::GET, "/queue");
        site.http
            .send(request.header("accept-language", language))
            .await
            .unwrap()
            .body
    };
    let page = overview("en").await;
    for part in [
        "trigger_bad_message",
        "href=\"/queue/bad-messages?trigger=orders%3Anew\">orders:new<",
        "A message of this trigger could not become a task in the last 24 hours",
        "1 problem",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    keep_bad_of(&site.broker, "orders:new", "host#1", "x").await;
    keep_bad_of(&site.broker, "bills:paid", "host#1", "x").await;
    let page = overview("en").await;
    assert!(page.contains("2 messages of this trigger"), "{page}");
    assert!(page.contains("Messages of several triggers"), "{page}");
    let chinese = overview("zh").await;
    assert!(chinese.contains("该触发器有 2 条消息无法生成任务"), "{chinese}");
    assert!(!chinese.contains("could not become"), "{chinese}");
    assert_eq!(
        site.http.get("/readyz").await.status,
        ready,
        "readiness is another thing"
    );
    site.clock.advance(Duration::from_secs(86_400 + 1));
    let page = overview("en").await;
    assert!(!page.contains("trigger_bad_message"), "{page}");
    let list = site.http.get("/queue/bad-messages").await.body;
    assert!(list.contains("1–3 of 3"), "they stay: {list}");
}
