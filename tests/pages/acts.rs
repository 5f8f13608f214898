//! Operators' actions: each has its effect, answers with a redirect and shows its outcome.

use runner_core::task::TaskState;
use runner_queue::{InspectQueues as _, InspectTasks as _, Schedules as _, Signals as _};

use super::dashboard::{Site, count, definition, heartbeat, keep_bad, queue};
use crate::kit;

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): tasks_are_run_archived_and_deleted, a_task_of_a_worker_in_go_cannot_be_stopped, refused_actions_are_reported, queues_are_paused_and_resumed, what_was_done_is_in_the_audit_list, workers_and_hosts_take_orders,
            a_channel_is_tested, a_workflow_is_shown_and_cancelled, bad_messages_are_run_and_deleted, schedules_are_paused_and_resumed, a_schedule_runs_by_hand, a_run_beside_another_one_requires_confirmation, sources_are_read_on_demand
    ]
}

/// Sends the form, follows the redirect and expects the page to show this text once.
async fn says(site: &Site, path: &str, words: &str) -> String {
    let answer = site.act(path, &[]).await;
    assert_eq!(answer.status, 303, "{path}: {}", answer.body);
    let there = answer.header("location").to_owned();
    let page = site.http.get(&there).await.body;
    assert!(page.contains(words), "{path} does not say {words:?}: {page}");
    assert!(
        !site.http.get(&there).await.body.contains(words),
        "{path} says it twice"
    );
    there
}

async fn tasks_are_run_archived_and_deleted() {
    let site = Site::full().await;
    let before = count(&*site.broker, "default", TaskState::Archived).await;
    says(&site, "/queue/tasks/default/dead/run", "Task dead is pending now").await;
    assert_eq!(count(&*site.broker, "default", TaskState::Archived).await, before - 1);
    says(&site, "/queue/tasks/default/plain/archive", "Task plain was archived").await;
    assert_eq!(count(&*site.broker, "default", TaskState::Archived).await, before);
    let token = site.token("/queue").await;
    let task = "/queue/tasks/default/plain";
    let gone = site
        .http
        .post_form(&format!("{task}/delete"), &[("token", &token), ("back", task)])
        .await;
    assert_eq!(
        gone.header("location"),
        "/queue/queues/default",
        "not back to a page that is gone"
    );
    assert_eq!(site.http.get(task).await.status, 404);
    says(
        &site,
        "/queue/tasks/default/held/cancel",
        "was asked to end this attempt",
    )
    .await;
    let mut cancellations = site.broker.cancellations().await.unwrap();
    says(&site, "/queue/tasks/default/held/stop", "was asked to stop for good").await;
    let request = cancellations.recv().await.unwrap();
    assert_eq!(
        (request.id.as_str(), request.for_good.as_deref()),
        ("held", Some("stopped by local"))
    );
    assert_eq!(request.queue.unwrap().as_str(), "default");
}

async fn a_workflow_is_shown_and_cancelled() {
    use runner::{Client, Task, Workflow};
    let site = Site::full().await;
    let workflow = Workflow::new("import").id("i-1").then(Task::new("step").queue("mail"));
    Client::over(site.broker.clone()).workflow(workflow).await.unwrap();
    let list = site.http.get("/queue/workflows").await.body;
    assert!(
        list.contains("href=\"/queue/workflows/i-1\"") && list.contains("0/1"),
        "{list}"
    );
    let page = site.http.get("/queue/workflows/i-1").await.body;
    assert!(page.contains("/queue/tasks/mail/workflow%3Ai-1%3A0"), "{page}");
    let task = site.http.get("/queue/tasks/mail/workflow%3Ai-1%3A0").await.body;
    assert!(task.contains("href=\"/queue/workflows/i-1\""), "{task}");
    let metrics = site.http.get("/metrics").await.body;
    assert!(metrics.contains("runner_workflows{state=\"running\"} 1"), "{metrics}");
    says(&site, "/queue/workflows/i-1/cancel", "Workflow i-1 was cancelled").await;
    let metrics = site.http.get("/metrics").await.body;
    for line in [
        "runner_workflows{state=\"running\"} 0",
        "runner_workflows_ended_total{outcome=\"cancelled\"} 1",
        "runner_workflows_ended_total{outcome=\"failed\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let answer = site.act("/queue/workflows/other/retry", &[]).await;
    assert_eq!(answer.status, 404, "{}", answer.body);
}

async fn a_channel_is_tested() {
    let site = Site::full().await;
    let there = says(&site, "/queue/notifications/ops/test", "A test of ops is on its way").await;
    assert!(there.starts_with("/queue/tasks/runner-notifications/"), "{there}");
    let list = site.http.get("/queue/notifications").await.body;
    assert!(list.contains(&there) && list.contains("test of this channel"), "{list}");
    let answer = site.act("/queue/notifications/other/test", &[]).await;
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.contains("notify.channels"), "{}", answer.body);
}

/// The addresses of the messages on the list.
async fn bad_messages(site: &Site) -> Vec<String> {
    let list = site.http.get("/queue/bad-messages").await.body;
    let links = list.split("class=\"id\" href=\"").skip(1);
    links
        .filter_map(|rest| rest.split('"').next().map(str::to_owned))
        .collect()
}

async fn bad_messages_are_run_and_deleted() {
    let site = Site::full().await;
    let page = bad_messages(&site).await.remove(0);
    let shown = site.http.get(&page).await.body;
    for part in ["␛[31m⟨U+202E⟩evil␀", "the body is not JSON", "headers", "x-note"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(!shown.contains("<script>"), "{shown}");
    let file = site.http.get(&format!("{page}/body")).await;
    assert_eq!(file.body, super::dashboard::HOSTILE);
    assert!(file.header("content-disposition").starts_with("attachment"));
    // No manifest has the trigger yet.
    assert!(shown.contains("no manifest defines its trigger"), "{shown}");
    assert_eq!(site.act(&format!("{page}/run"), &[]).await.status, 404);
    assert_eq!(site.act(&format!("{page}/explode"), &[]).await.status, 404);
    let text =
        "name: orders\nhandler: task:orders\nqueue: low\ntriggers:\n  - id: new\n    redis_stream: {stream: s}\n";
    std::fs::write(site.dir.join("manifests/orders.yaml"), text).unwrap();
    site.act("/queue/sync", &[]).await;
    let with_schema = format!("{text}payload_schema: {{type: object}}\n");
    kit::eventually("the message can be run", async || {
        match site.http.get(&page).await.body {
            page if page.contains("Run it after all") => Ok(()),
            page => Err(page),
        }
    })
    .await;
    let function = site.http.get("/queue/functions/orders").await.body;
    assert!(
        function.contains("/queue/bad-messages?trigger=orders%3Anew"),
        "{function}"
    );
    let there = says(
        &site,
        &format!("{page}/run"),
        "A message of orders:new became this task",
    )
    .await;
    assert!(there.starts_with("/queue/tasks/low/orders%3Anew%40kept-"), "{there}");
    assert_eq!(bad_messages(&site).await, Vec::<String>::new());
    assert_eq!(site.act(&format!("{page}/run"), &[]).await.status, 404, "it is gone");
    // The function says what it accepts, also here.
    std::fs::write(site.dir.join("manifests/orders.yaml"), with_schema).unwrap();
    site.act("/queue/sync", &[]).await;
    keep_bad(&site.broker, 1, "[]").await;
    let page = bad_messages(&site).await.remove(0);
    kit::eventually("the schema is in force", async || {
        match site.http.get(&page).await.body {
            page if page.contains("does not fit payload_schema") => Ok(()),
            page => Err(page),
        }
    })
    .await;
    says(&site, &format!("{page}/run"), "does not fit payload_schema").await;
    // Another message may have taken the place of the one that the page showed.
    keep_bad(&site.broker, 1, "{}").await;
    assert_eq!(site.act(&format!("{page}/delete"), &[]).await.status, 404);
    let page = bad_messages(&site).await.remove(0);
    says(&site, &format!("{page}/delete"), "A message of orders:new was deleted").await;
    assert_eq!(bad_messages(&site).await, Vec::<String>::new());
}

async fn a_task_of_a_worker_in_go_cannot_be_stopped() {
    let site = Site::full().await;
    let page = "/queue/tasks/default/held";
    let stop = format!("action=\"{page}/stop\"");
    let sentence = "It runs on a Go worker, which does not support stop";
    let own = site.http.get(page).await.body;
    assert!(own.contains(&stop) && !own.contains(sentence), "{own}");
    heartbeat(&site.broker, &[]).await;
    let in_go = site.http.get(page).await.body;
    assert!(in_go.contains(sentence) && !in_go.contains(&stop), "{in_go}");
    // The form of a page that was loaded before.
    says(&site, &format!("{page}/stop"), "Task held runs on a Go worker").await;
}

async fn refused_actions_are_reported() {
    let site = Site::full().await;
    says(&site, "/queue/tasks/default/held/delete", "Nothing was changed").await;
    says(&site, "/queue/tasks/default/none/run", "Nothing was changed").await;
    says(&site, "/queue/tasks/default/plain/cancel", "Task plain is not running").await;
    says(&site, "/queue/tasks/default/none/cancel", "Task none is not running").await;
    says(&site, "/queue/tasks/default/plain/stop", "Task plain is not running").await;
    assert_eq!(site.act("/queue/tasks/default/held/explode", &[]).await.status, 404);
    assert_eq!(site.act("/queue/queues/none/pause", &[]).await.status, 404);
    assert_eq!(site.act("/queue/schedules/none/run", &[]).await.status, 404);
}

async fn queues_are_paused_and_resumed() {
    let site = Site::full().await;
    says(&site, "/queue/queues/default/pause", "Queue default is paused").await;
    let paused = async || site.broker.queues().await.unwrap().iter().filter(|q| q.paused).count();
    assert_eq!(paused().await, 2);
    says(&site, "/queue/queues/default/resume", "Queue default is resumed").await;
    says(&site, "/queue/queues/mail/resume", "Queue mail is resumed").await;
    assert_eq!(paused().await, 0);
}

async fn what_was_done_is_in_the_audit_list() {
    let site = Site::full().await;
    site.act("/queue/queues/mail/pause", &[("note", "stock-taking"), ("for", "8h")])
        .await;
    let queue = site.http.get("/queue/queues/mail/pending").await.body;
    for words in ["Paused by local", "stock-taking", "22:39"] {
        assert!(queue.contains(words), "{words}: {queue}");
    }
    site.act("/queue/tasks/default/dead/run", &[]).await;
    site.act("/queue/tasks/default/dead/run", &[]).await;
    let rows = |body: &str| body.matches("<tr data-key=").count();
    let page = kit::eventually("the entries", async || {
        let body = site.http.get("/queue/audit").await.body;
        if rows(&body) == 3 { Ok(body) } else { Err(body) }
    })
    .await;
    for words in [
        "queue.pause",
        "stock-taking",
        "→ paused until 2026-11-22T14:39:12Z",
        "default/dead",
        "127.0.0.1",
        "local",
        "refused",
        "2026-11-22",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    for (query, found) in [
        ("action=queue.", 1),
        ("target=DEAD", 2),
        ("by=ann", 0),
        ("from=2026-11-22+14:39&to=2026-11-22+14:40", 3),
        ("to=2026-11-22+14:39", 0),
    ] {
        let body = site.http.get(&format!("/queue/audit?{query}")).await.body;
        assert_eq!(rows(&body), found, "{query}: {body}");
    }
    assert_eq!(site.http.get("/queue/audit?from=x").await.status, 400);
    let file = site.http.get("/queue/audit.csv?target=mail").await;
    assert!(file.header("content-type").starts_with("text/csv"), "{}", file.body);
    let lines: Vec<&str> = file.body.lines().collect();
    assert_eq!(lines[0], "at,by,from,action,target,note,before,after,outcome");
    assert!(
        lines.len() == 2 && lines[1].contains(",queue.pause,mail,"),
        "{}",
        file.body
    );
}

async fn workers_and_hosts_take_orders() {
    use runner_queue::{OrderTarget, WorkerOrder};
    let site = Site::full().await;
    let order = async |target: OrderTarget| WorkerOrder::read(&*site.broker, &target).await.unwrap();
    let (worker, host) = (
        || OrderTarget::Worker("5f2b".to_owned()),
        || OrderTarget::Host("worker-1".to_owned()),
    );
    says(&site, "/queue/servers/5f2b/pause", "worker-1:77 takes no new tasks").await;
    let given = order(worker()).await;
    assert_eq!((given.paused, given.by.as_str()), (Some(true), "local"));
    let page = site.http.get("/queue/servers").await.body;
    assert!(
        page.contains("paused by order") && page.contains("not obeyed yet"),
        "{page}"
    );
    assert!(
        page.contains("action=\"/queue/servers/5f2b/resume\"") && !page.contains("servers/5f2b/pause"),
        "{page}"
    );
    says(&site, "/queue/servers/5f2b/resume", "worker-1:77 takes new tasks again").await;
    assert_eq!(order(worker()).await.paused, None, "a later order for its host holds");
    let answer = site.act("/queue/servers/5f2b/set", &[("concurrency", "3")]).await;
    assert_eq!((answer.status, order(worker()).await.concurrency), (303, Some(3)));
    assert!(site.http.get("/queue/servers").await.body.contains("3 tasks at once"));
    for bad in ["0", "many", "10001", "-1"] {
        let answer = site.act("/queue/servers/5f2b/set", &[("concurrency", bad)]).await;
        let page = site.http.get(answer.header("location")).await.body;
        assert!(
            page.contains("Nothing was changed") && page.contains("from 1 to 10000"),
            "{bad}: {page}"
        );
    }
    assert_eq!(order(worker()).await.concurrency, Some(3));
    site.act("/queue/servers/5f2b/set", &[("concurrency", "")]).await;
    assert_eq!(order(worker()).await.concurrency, None, "as the settings say");

    says(&site, "/queue/hosts/worker-1/pause", "worker-1 takes no new tasks").await;
    site.act("/queue/hosts/worker-1/set", &[("concurrency", "5")]).await;
    let given = order(host()).await;
    assert_eq!((given.paused, given.concurrency), (Some(true), Some(5)));
    says(&site, "/queue/servers/5f2b/resume", "worker-1:77 takes new tasks again").await;
    assert_eq!(order(worker()).await.paused, Some(false), "against that of its host");
    let page = site.http.get("/queue/servers").await.body;
    assert!(
        page.contains("for the whole host by local") && page.contains("takes tasks by order"),
        "{page}"
    );
    says(&site, "/queue/hosts/worker-1/resume", "worker-1 takes new tasks again").await;
    site.act("/queue/hosts/worker-1/set", &[]).await;
    assert!(order(host()).await.is_empty());
    for none in [
        "/queue/servers/other/pause",
        "/queue/hosts/other/pause",
        "/queue/servers/5f2b/explode",
    ] {
        assert_eq!(site.act(none, &[]).await.status, 404, "{none}");
    }
    // One in Go takes no orders.
    heartbeat(&site.broker, &[]).await;
    let page = site.http.get("/queue/servers").await.body;
    assert!(
        page.contains("takes no orders") && !page.contains("servers/5f2b/pause"),
        "{page}"
    );
}

async fn schedules_are_paused_and_resumed() {
    let site = Site::full().await;
    let ids = [definition().id];
    let paused = async || {
        site.broker.standings(&ids).await.unwrap()[0]
            .as_ref()
            .unwrap()
            .paused
            .clone()
    };
    says(
        &site,
        "/queue/schedules/code%3Ahourly/pause",
        "Schedule code:hourly is paused",
    )
    .await;
    assert!(paused().await.is_some_and(|pause| pause.by == "local"));
    let form = [("note", "new disks"), ("for", "8h")];
    site.act("/queue/schedules/code%3Ahourly/pause", &form).await;
    let pause = paused().await.expect("it is paused");
    assert_eq!(pause.note.as_deref(), Some("new disks"));
    assert!(pause.until.is_some());
    let bad = site
        .act("/queue/schedules/code%3Ahourly/pause", &[("for", "soon")])
        .await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    let page = site.http.get("/queue/schedules/code%3Ahourly").await.body;
    assert!(
        page.contains("None: it is paused") && page.contains("new disks"),
        "{page}"
    );
    says(&site, "/queue/schedules/code%3Ahourly/resume", "is resumed from now on").await;
    assert_eq!(paused().await, None);
}

async fn a_run_beside_another_one_requires_confirmation() {
    let site = Site::full().await;
    let run = "/queue/schedules/m%3Aasks%3Adefault/run";
    let text = "name: asks\nhandler: task:asks\nschedule: {cron: '@yearly'}\n";
    std::fs::write(site.dir.join("manifests/asks.yaml"), text).unwrap();
    site.act("/queue/sync", &[]).await;
    kit::eventually("the schedule can be run", async || {
        let there = site.act(run, &[]).await;
        match there.header("location") {
            location if location.contains("/queue/tasks/default/") => Ok(()),
            location => Err(location.to_owned()),
        }
    })
    .await;
    let there = site.act(run, &[]).await;
    let asks = "/queue/schedules/m%3Aasks%3Adefault?ask=run";
    assert_eq!(there.header("location"), asks);
    let page = site.http.get(asks).await.body;
    assert!(page.contains("Run it anyway") && page.contains("Run by hand"), "{page}");
    let there = site.act(run, &[("force", "1")]).await;
    assert!(there.header("location").contains("/queue/tasks/default/"));
}

async fn a_schedule_runs_by_hand() {
    let site = Site::full().await;
    let there = says(&site, "/queue/schedules/code%3Ahourly/run", "was enqueued").await;
    assert!(
        there.starts_with("/queue/tasks/default/code%3Ahourly%40manual-"),
        "{there}"
    );
    let found = site
        .broker
        .tasks(&queue("default"), TaskState::Pending, Default::default())
        .await
        .unwrap();
    let task = found
        .tasks
        .iter()
        .find(|t| t.record.id.as_str().contains("@manual-"))
        .expect("the task");
    assert_eq!(task.record.headers["runner-fire-kind"], "manual");
    assert_eq!(task.record.headers["runner-schedule-id"], "code:hourly");
    assert_eq!(&task.record.payload[..], br#"{"hour":true}"#);
    let standing = site
        .broker
        .standings(&[definition().id])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert!(
        standing.last.is_some_and(|(_, id)| !id.as_str().contains("manual")),
        "the record of fires is as it was"
    );
    let list = site.http.get("/queue/schedules").await.body;
    assert!(
        list.contains(&format!("href=\"{there}\"")),
        "the last run is not that by hand: {list}"
    );
}

async fn sources_are_read_on_demand() {
    let site = Site::full().await;
    let text = "name: fresh\nhandler: task:fresh\nschedule: \"@daily\"\n";
    std::fs::write(site.dir.join("manifests/fresh.yaml"), text).unwrap();
    says(&site, "/queue/sync", "All sources are being read again").await;
    kit::eventually("the new schedule is listed", async || {
        let page = site.http.get("/queue/schedules").await.body;
        if page.contains("m%3Afresh") {
            Ok(())
        } else {
            Err("it is not")
        }
    })
    .await;
}
