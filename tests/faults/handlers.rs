//! The test binary as a custom program: handlers that crash, eat memory, wait, and record in a file what they did.
//!
//! A line is `event id attempt process milliseconds`, appended in one write, so that it survives a kill.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use runner::App;
use runner::sdk::{Ctx, Outcome, Registry};

use crate::kit::Site;

/// Names the file of events, and turns the binary into the program.
const LEDGER: &str = "RUNNER_IT_LEDGER";

/// How long a crashing handler waits, so that the tasks claimed with it have ended.
const BEFORE_CRASH: Duration = Duration::from_millis(500);

/// Allocated at a time by the handler that eats memory.
const BITE: usize = 64 << 20;

/// Runs the program, if this process is meant to be it.
pub fn program() -> Option<ExitCode> {
    std::env::var_os(LEDGER)?;
    Some(App::new().handlers(register).main())
}

/// Makes a site run this program, with its event file there.
pub fn at(mut site: Site) -> Site {
    let ledger = site.dir.join("ledger");
    site.env.push((LEDGER.to_owned(), ledger.display().to_string()));
    site.binary = std::env::current_exe().expect("this binary");
    site
}

/// One line of the event file.
#[derive(Debug, Clone)]
pub struct Event {
    pub what: String,
    pub id: String,
    pub attempt: u32,
    pub pid: i32,
    pub at_ms: i64,
}

/// All events of a site's handlers.
pub fn events(site: &Site) -> Vec<Event> {
    let text = std::fs::read_to_string(site.dir.join("ledger")).unwrap_or_default();
    let event = |line: &str| {
        let mut words = line.split(' ');
        Some(Event {
            what: words.next()?.to_owned(),
            id: words.next()?.to_owned(),
            attempt: words.next()?.parse().ok()?,
            pid: words.next()?.parse().ok()?,
            at_ms: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(event).collect()
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn record(what: &str, cx: &Ctx) {
    let line = format!(
        "{what} {} {} {} {}\n",
        cx.id(),
        cx.attempt(),
        std::process::id(),
        now_ms()
    );
    let path = std::env::var_os(LEDGER).expect("the ledger");
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("the ledger");
    file.write_all(line.as_bytes()).expect("a line in the ledger");
}

fn register(registry: Registry) -> Registry {
    registry
        .on("test:quick", quick)
        .on("test:hold", hold)
        .on("test:abort", crash)
        .on("test:hog", hog)
}

async fn quick(cx: Ctx) {
    record("begin", &cx);
    tokio::time::sleep(Duration::from_millis(2)).await;
    record("end", &cx);
}

/// Waits as many milliseconds as the payload says the first time, and a quarter of that later.
async fn hold(cx: Ctx) -> Outcome {
    record("begin", &cx);
    let millis: u64 = std::str::from_utf8(cx.payload())
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(0);
    let millis = if cx.attempt() > 1 { millis / 4 } else { millis };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(millis)) => {
            record("end", &cx);
            Outcome::success(std::process::id().to_string())
        }
        _ = cx.cancelled() => {
            record("stop", &cx);
            Outcome::Retry("stopped".into())
        }
    }
}

async fn crash(cx: Ctx) {
    record("begin", &cx);
    tokio::time::sleep(BEFORE_CRASH).await;
    std::process::abort();
}

async fn hog(cx: Ctx) {
    record("begin", &cx);
    tokio::time::sleep(BEFORE_CRASH).await;
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; BITE]);
        std::hint::black_box(&eaten);
    }
}
