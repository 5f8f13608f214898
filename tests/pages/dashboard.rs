//! Dashboards for tests: a server on a free port with its own embedded broker, empty or full.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner::audit::{self, AuditLog};
use runner::health::Health;
use runner::metrics::Metrics;
use runner::operation::{self, OperationParts, Operations};
use runner::source::{Catalog, ManifestSettings, SourceSettings};
use runner::trigger::{Board, HookParts, Hooks};
use runner::web::{AppState, AppStateParts, Auth, PublicUrl, TrustedProxies, User, UserList, UserRole, WebSettings};
use runner_core::clock::{Clock, ManualClock};
use runner_core::schedule::{Definition, Origin, Overlap, ScheduleId, Timing};
use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskId, TaskState};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{
    Actions as _, Attempt, Broker, Claims as _, Commit, CommitFire, Documents as _, Presence as _, Producer,
    Registration, Schedules as _, ServerInfo, ServerStatus, Settlement, Verdict, Working,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::kit::{self, Http};

/// The fixed instant of the clock of all test dashboards.
pub const NOW: &str = "2026-11-22T06:39:12Z";

/// Text that must come out as text wherever it goes in.
pub const HOSTILE: &str = "</title><script>alert(1)</script>\u{1b}[31m\u{202e}evil\u{0}";

/// The password of every user of [`users`].
pub const PASSWORD: &str = "correct horse battery staple";

/// Hooks that no manifest defines.
fn no_hooks(
    broker: Arc<EmbeddedBroker>,
    health: Arc<Health>,
    board: Arc<Board>,
    stop: &CancellationToken,
    clock: Arc<dyn Clock>,
) -> Arc<Hooks> {
    let (secrets, stop) = (Default::default(), stop.clone());
    Arc::new(Hooks::new(HookParts {
        telemetry: Default::default(),
        broker,
        health,
        clock,
        board,
        secrets,
        stop,
    }))
}

/// A running dashboard; stopped when dropped.
pub struct Site {
    pub http: Http,
    pub base: String,
    pub broker: Arc<EmbeddedBroker>,
    pub clock: Arc<ManualClock>,
    pub dir: PathBuf,
    carries_out: (AuditLog, Arc<Health>, CancellationToken),
    _stop: DropGuard,
}

/// How a dashboard differs from the default.
pub struct Order {
    pub auth: Auth,
    pub allowed_hosts: Vec<String>,
    pub public_url: Option<PublicUrl>,
    pub trusted_proxies: TrustedProxies,
    pub full: bool,
    pub key: [u8; 32],
    pub directory: bool,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            auth: Auth::Open,
            allowed_hosts: Vec::new(),
            public_url: None,
            trusted_proxies: TrustedProxies::default(),
            full: false,
            key: [42; 32],
            directory: true,
        }
    }
}

/// One user for each role, named after it.
pub fn users() -> Auth {
    let hash = hash();
    let user = |name: &str, role| User {
        name: name.to_owned(),
        password_hash: hash.clone(),
        password_mark: PASSWORD.to_owned(),
        role,
    };
    Auth::Login {
        users: UserList::new(vec![
            user("viewer", UserRole::Viewer),
            user("operator", UserRole::Operator),
            user("admin", UserRole::Admin),
        ]),
    }
}

fn hash() -> String {
    use argon2::PasswordHasher;
    let params = argon2::Params::new(8, 1, 1, None).expect("small parameters");
    let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    hasher.hash_password(PASSWORD.as_bytes()).expect("a hash").to_string()
}

impl Site {
    pub async fn empty() -> Self {
        Self::start(Order::default()).await
    }

    pub async fn full() -> Self {
        Self::start(Order {
            full: true,
            ..Order::default()
        })
        .await
    }

    pub async fn start(order: Order) -> Self {
        // A failing page logs its reason only. Another test may have been first, which is as good.
        let web = Targets::new().with_target("runner::web", tracing::Level::ERROR);
        let _ = tracing_subscriber::fmt().finish().with(web).try_init();
        let dir = kit::scratch("pages");
        let clock = Arc::new(ManualClock::at(NOW.parse().expect("an instant")));
        let shared: Arc<dyn Clock> = clock.clone();
        let broker = EmbeddedBroker::open(dir.join("runner.db"), shared.clone()).await;
        let broker = Arc::new(broker.expect("a broker"));
        let stop = CancellationToken::new();
        let manifests = dir.join("manifests");
        if order.directory {
            fs::create_dir_all(&manifests).expect("a directory");
        }
        let mut sources = SourceSettings {
            zone_name: "Asia/Shanghai".to_owned(),
            zone: zone("Asia/Shanghai"),
            ..SourceSettings::default()
        };
        if order.full {
            write_manifests(&manifests);
            sources.code = runner::source::Code {
                definitions: vec![definition()],
                ..Default::default()
            };
        }
        sources.manifests = Some(ManifestSettings {
            dir: manifests,
            rescan: Duration::from_secs(3600),
        });
        let catalog = Catalog::start(sources, Default::default(), shared.clone(), stop.clone()).await;
        if order.full {
            fill(&broker, &clock).await;
        }
        let metrics = Arc::new(Metrics::default());
        let health = Arc::new(Health::new(shared.clone(), metrics.clone()));
        let board = Arc::new(Board::new(shared.clone()));
        let hooks = no_hooks(broker.clone(), health.clone(), board.clone(), &stop, shared.clone());
        let audit = AuditLog::new(metrics.clone());
        audit::watch(&audit, broker.clone(), health.clone(), stop.clone());
        let carries_out = (audit.clone(), health.clone(), stop.clone());
        let app = AppState::new(AppStateParts {
            operations: Operations::default(),
            audit,
            health,
            broker: broker.clone(),
            catalog,
            board,
            hooks,
            clock: shared,
            settings: settings(order),
            metrics,
            caveats: tokio::sync::watch::channel(Vec::new()).1,
            stopping: stop.clone(),
            quiet: Default::default(),
            notification: Default::default(),
        })
        .expect("templates that parse");
        let (listener, base) = listening().await;
        tokio::spawn(runner::web::serve(app, listener, stop.clone()));
        Self {
            http: Http::new(&base),
            base,
            broker,
            clock,
            dir,
            carries_out,
            _stop: stop.drop_guard(),
        }
    }

    /// Carries operations out from now on, as an instance does.
    pub fn operate(&self) {
        let (audit, health, stop) = self.carries_out.clone();
        operation::watch(OperationParts {
            broker: self.broker.clone(),
            audit,
            health,
            clock: self.clock.clone(),
            instance: "test-host:4711".to_owned(),
            stop,
        });
    }

    /// The form token of a page.
    pub async fn token(&self, page: &str) -> String {
        token_of(&self.http.get(page).await.body)
    }

    /// Sends a form of the dashboard as a browser would.
    pub async fn act(&self, path: &str, fields: &[(&str, &str)]) -> kit::Reply {
        let token = self.token("/queue").await;
        let mut all = vec![("token", token.as_str()), ("back", "/queue")];
        all.extend_from_slice(fields);
        self.http.post_form(path, &all).await
    }

    /// Logs in as this user.
    pub async fn log_in(&self, name: &str) -> kit::Reply {
        let token = self.token("/queue/login").await;
        let fields = [
            ("token", token.as_str()),
            ("name", name),
            ("password", PASSWORD),
            ("next", "/queue"),
        ];
        self.http.post_form("/queue/login", &fields).await
    }
}

/// A free port, and its address.
async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, base)
}

pub fn token_of(page: &str) -> String {
    let (_, rest) = page
        .split_once("name=\"token\" value=\"")
        .unwrap_or_else(|| panic!("no token in {page}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn settings(order: Order) -> WebSettings {
    WebSettings {
        name: "a-service".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        auth: order.auth,
        key: order.key,
        allowed_hosts: order.allowed_hosts,
        public_url: order.public_url,
        trusted_proxies: order.trusted_proxies,
        metrics_open: false,
        queues: vec![queue("mail")],
        channels: vec!["ops".to_owned()],
        zone: zone("Asia/Shanghai"),
        zone_name: "Asia/Shanghai".to_owned(),
        instance: "test-host:4711".to_owned(),
        version: "1.2.3",
        ..WebSettings::default()
    }
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone")
}

fn write_manifests(dir: &std::path::Path) {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a manifest");
    write(
        "report.yaml",
        "name: nightly-report\nhandler: task:report\nschedule: \"30 2 * * *\"\ndescription: The figures of the day\n",
    );
    write(
        "often.yaml",
        "name: sweep\nhandler: task:sweep\nschedule: \"*/5 * * * *\"\n",
    );
    write(
        "off.yaml",
        "name: resting\nhandler: task:rest\nenabled: false\nschedule: \"@daily\"\n",
    );
    write(
        "broken.yaml",
        "name: broken\nhandler: task:x\nschedule: \"0 25 * * *\"\n",
    );
}

/// The schedule registered in code.
pub fn definition() -> Definition {
    let id = ScheduleId::code("hourly");
    let timing = Timing::parse(
        id.as_str(),
        "0 * * * *",
        "Asia/Shanghai",
        &zone("Asia/Shanghai"),
        Default::default(),
    );
    let task = Task::new("task:hourly").payload(r#"{"hour":true}"#);
    Definition {
        overlap: Overlap::Allow,
        ..Definition::new(
            id,
            format!("hourly {HOSTILE}"),
            Origin::code(),
            timing.expect("a rule"),
            task,
        )
    }
}

pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("a name")
}

pub fn id(text: &str) -> TaskId {
    TaskId::new(text).expect("an id")
}

/// Tasks in every reachable state, servers, decisions; with hostile names and payloads.
async fn fill(broker: &EmbeddedBroker, clock: &ManualClock) {
    let task = |name: &str| Task::new("task:report").id(id(name));
    settle(
        broker,
        task("done").retention(Duration::from_secs(7200)),
        Verdict::Done,
        Some("{\"rows\":12}"),
    )
    .await;
    let error = format!("connect: timed out after 3 s {HOSTILE}");
    settle(
        broker,
        task("dead").max_retry(0),
        Verdict::Archive { error: error.clone() },
        None,
    )
    .await;
    let retry = Verdict::Retry {
        after: Duration::from_secs(90),
        error,
        counts: true,
    };
    settle(broker, task("again").max_retry(5), retry, None).await;
    let snooze = Verdict::Snooze {
        delay: Duration::from_secs(60),
        waiting_for: Some("handler task:unknown".to_owned()),
    };
    settle(broker, task("waits"), snooze, None).await;
    put(broker, &[task("held")]).await;
    let held = broker
        .claim(&[queue("default")], 1, Duration::from_secs(60))
        .await
        .expect("a claim");
    assert_eq!(held.len(), 1);
    let nasty = Task::new(HOSTILE)
        .id(id("a/b ?#空"))
        .payload(HOSTILE)
        .header("x-note", HOSTILE);
    let long = task("long").payload("x".repeat(5 << 20));
    let later = task("later").run(Run::In(Duration::from_secs(3600)));
    put(
        broker,
        &[
            task("plain").payload(r#"{"to":"li","n":12345678901234567890}"#),
            nasty,
            long,
            later,
        ],
    )
    .await;
    let many: Vec<Task> = (0..60)
        .map(|n| Task::new("mail:send").queue(queue("mail")).id(id(&format!("m{n}"))))
        .collect();
    put(broker, &many).await;
    broker.pause_queue(&queue("mail")).await.expect("a pause");
    heartbeat(broker, &["task:report", "mail:*"]).await;
    keep_bad(broker, 0, HOSTILE).await;
    decide(broker, clock).await;
}

/// A message of the trigger `orders:new` that could not become a task.
pub async fn keep_bad(broker: &EmbeddedBroker, place: u32, body: &str) {
    keep_bad_of(broker, "orders:new", &format!("test-host#{place}"), body).await;
}

/// The same of this trigger, host and place.
pub async fn keep_bad_of(broker: &EmbeddedBroker, trigger: &str, at: &str, body: &str) {
    let document = serde_json::json!({
        "trigger": trigger,
        "why": format!("the body is not JSON {HOSTILE}"),
        "at": NOW,
        "bytes": body.len(),
        "body": body,
        "headers": {"x-note": HOSTILE},
    });
    let (name, ttl) = (format!("{trigger}@{at}"), Duration::from_secs(30 * 86_400));
    let kept = broker.keep_document("bad-messages", &name, document.to_string().into_bytes(), ttl);
    kept.await.expect("kept");
}

async fn put(broker: &EmbeddedBroker, tasks: &[Task]) {
    for answer in broker.enqueue(tasks).await.expect("an answer") {
        answer.expect("accepted");
    }
}

async fn settle(broker: &EmbeddedBroker, task: Task, verdict: Verdict, result: Option<&str>) {
    put(broker, &[task]).await;
    let claims = broker
        .claim(&[queue("default")], 1, Duration::from_secs(60))
        .await
        .expect("a claim");
    let claim = claims.into_iter().next().expect("one task");
    let start: Timestamp = NOW.parse().expect("an instant");
    let attempt = Attempt {
        number: 1,
        started_at: start,
        ended_at: start.checked_add(Duration::from_millis(1500)).expect("later"),
        outcome: match &verdict {
            Verdict::Done => AttemptOutcome::Success,
            Verdict::Archive { .. } => AttemptOutcome::Archived,
            _ => AttemptOutcome::Retry,
        },
        error: None,
        server: "test-host:4711".to_owned(),
        log: Some(format!("line one\nline two {HOSTILE}\n")),
    };
    let result = result.map(|text| text.to_owned().into());
    let settlement = Settlement {
        claim,
        verdict,
        result,
        attempt: Some(attempt),
    };
    broker.settle(&[settlement]).await.expect("settled");
}

/// A server that runs the task `held`; one without handlers is a Go worker.
pub async fn heartbeat(broker: &EmbeddedBroker, handlers: &[&str]) {
    let now: Timestamp = NOW.parse().expect("an instant");
    let server = ServerInfo {
        host: "worker-1".to_owned(),
        pid: 77,
        id: "5f2b".to_owned(),
        concurrency: 8,
        queues: BTreeMap::from([("default".to_owned(), 3), ("mail".to_owned(), 1)]),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at: now,
        active: 1,
        handlers: handlers.iter().map(|&handler| handler.to_owned()).collect(),
    };
    let working = Working {
        id: id("held"),
        kind: "task:report".to_owned(),
        queue: queue("default"),
        started_at: now,
        deadline: now.checked_add(Duration::from_secs(1800)).expect("later"),
    };
    broker
        .heartbeat(&server, &[working], Duration::from_secs(600))
        .await
        .expect("a heartbeat");
}

/// The code schedule has fired once at 14:00 in Shanghai.
async fn decide(broker: &EmbeddedBroker, clock: &ManualClock) {
    let definition = definition();
    let now: Timestamp = NOW.parse().expect("an instant");
    clock.set("2026-11-22T05:30:00Z".parse().expect("an instant"));
    let registration = Registration {
        id: definition.id.clone(),
        revision: definition.revision(),
    };
    let standing = broker.register(&[registration]).await.expect("registered").remove(0);
    clock.set(now);
    let nominal: Timestamp = "2026-11-22T06:00:00Z".parse().expect("an instant");
    let fire = CommitFire {
        nominal,
        fire_at: nominal,
        task: definition
            .task
            .clone()
            .id(id("code:hourly@20261122T060000Z"))
            .header("runner-schedule-id", "code:hourly"),
        catch_up: false,
    };
    let commit = Commit {
        id: definition.id,
        from: standing.cursor,
        to: now,
        fires: vec![fire],
        missed: None,
        overlap: Overlap::Allow,
        unserved: false,
        instance: "test-host:4711".to_owned(),
    };
    broker.commit(&[commit]).await.expect("committed");
}

/// How many tasks of a queue are in a state.
pub async fn count(broker: &dyn Broker, name: &str, state: TaskState) -> u64 {
    let queues = broker.queues().await.expect("queues");
    queues
        .iter()
        .find(|q| q.name.as_str() == name)
        .map_or(0, |q| q.counts[&state])
}
