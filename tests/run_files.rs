//! Runs as others see them: the output and progress of a command so far, the files that it leaves; and work that continues at
//! another server, which reports its end.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::kit::{self, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_running_command_is_watched_and_its_files_are_saved, work_that_ends_later_is_reported]
}

/// Continues until a file appears.
const MANIFEST: &str = r#"
name: watched
exec:
  script: |
    echo "begun; $(id)"
    echo 'wrong' >&2
    echo 'progress=40% two of five' >> "$RUNNER_CONTROL_FILE"
    while [ ! -e "$GO_ON" ]; do sleep 0.1; done
    cat > "$RUNNER_ARTIFACT_DIR/payload.txt"
    exit 64
  env: {GO_ON: "$DIR/go-on"}
"#;

async fn a_running_command_is_watched_and_its_files_are_saved() {
    let site = Site::new("");
    let directory = site.dir.display().to_string();
    site.write("manifests/watched.yaml", &MANIFEST.replace("$DIR", &directory));
    let runner = site.start().await;
    let payload = "; id\n$(id)";
    site.cli(["enqueue", "fn:watched", "--id", "it", "--raw", "--payload", payload])
        .await
        .ok();
    let live = eventually("its output is shown while it runs", async || {
        let task = site.cli(["task", "show", "it", "--json"]).await.json();
        match task["live"]["done"] == 0.4
            && task["live"]["output"]
                .as_str()
                .is_some_and(|o| o.contains("err: wrong"))
        {
            true => Ok(task["live"].clone()),
            false => Err(task.to_string()),
        }
    })
    .await;
    assert!(
        live["output"].as_str().is_some_and(|o| o.contains("out: begun; ")),
        "{live}"
    );
    assert_eq!(live["note"], "two of five");
    let page = runner.http.get("/queue/tasks/default/it").await;
    for part in ["40 %", "two of five", "err: wrong"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let text = site.cli(["task", "show", "it"]).await.ok().stdout;
    assert!(text.contains("OUTPUT SO FAR, 40 %, two of five"), "{text}");

    site.write("go-on", "");
    eventually("its file is listed", async || {
        let listed = site.cli(["task", "artifacts", "it"]).await;
        match listed.stdout.contains("payload.txt") {
            true => Ok(()),
            false => Err(listed.stdout + &listed.stderr),
        }
    })
    .await;
    site.cli(["task", "artifacts", "it", "--out", "saved"]).await.ok();
    let saved = std::fs::read_to_string(site.dir.join("saved/payload.txt")).expect("a saved file");
    assert_eq!(saved, payload);
    let again = site.cli(["task", "artifacts", "it", "--out", "saved"]).await;
    assert!(!again.status.success(), "it replaced a file");
    let file = runner.http.get("/queue/tasks/default/it/artifacts/0").await;
    assert_eq!(file.body, payload);
    assert!(
        file.header("content-disposition")
            .starts_with("attachment; filename=\"payload.txt\"")
    );
    assert_eq!(runner.http.get("/queue/tasks/default/it/artifacts/1").await.status, 404);
    eventually("the page no longer says that it runs", async || {
        let page = runner.http.get("/queue/tasks/default/it").await.body;
        match page.contains("/artifacts/0") && !page.contains("two of five</p>") {
            true => Ok(()),
            false => Err(page),
        }
    })
    .await;
    runner.stop().await;
}

/// A server that takes one request, says that the work continues, and returns the request's head.
async fn takes_one(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.expect("a call");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    let answer = b"HTTP/1.1 202 Accepted\r\nx-runner-async: true\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.expect("an answer");
    String::from_utf8(head).expect("a head")
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let line = head.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

async fn work_that_ends_later_is_reported() {
    let site = Site::new("handlers: {http: {allow_private: true}}\n");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let manifest = format!("name: remote\nhttp: {{url: 'http://{address}/', async: true}}\nretention: 1h\n");
    site.write("manifests/remote.yaml", &manifest);
    let runner = site.start().await;
    site.cli(["enqueue", "fn:remote", "--id", "it"]).await.ok();
    let head = takes_one(&listener).await;
    let (path, token) = (
        header(&head, "x-runner-complete-path: "),
        header(&head, "x-runner-complete-token: "),
    );
    assert_eq!(path, "/queue/api/tasks/it/complete");
    let post = async |path: &str, token: &str, body: &serde_json::Value| {
        let request = runner.http.request(reqwest::Method::POST, path);
        let request = request
            .header("authorization", format!("Bearer {token}"))
            .body(body.to_string());
        runner.http.send(request).await.expect("an answer").status
    };
    let done = json!({"outcome": "success", "result": {"rows": 12}});
    assert_eq!(post(path, "guessed", &done).await, 404);
    assert_eq!(post("/queue/api/tasks/other/complete", token, &done).await, 404);
    assert_eq!(post(path, token, &json!({"outcome": "maybe"})).await, 400);
    let task = site.cli(["task", "show", "it", "--json"]).await.json();
    assert_eq!(task["state"], "active", "{task}");
    assert_eq!(post(path, token, &done).await, 200);
    eventually("the reported result is kept", async || {
        let task = site.cli(["task", "show", "it", "--json"]).await.json();
        match task["state"] == "completed" && task["result"]["rows"] == 12 {
            true => Ok(()),
            false => Err(task.to_string()),
        }
    })
    .await;
    assert_eq!(post(path, token, &done).await, 404, "the token is used up");
    runner.stop().await;
}
