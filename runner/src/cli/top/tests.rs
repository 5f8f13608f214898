//! What the screen shows of a look, and what keys do.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::task::{QueueName, RunCounts, TaskId, TaskState};
use runner_queue::{QueueInfo, ServerInfo, ServerStatus, ServerView, Working};

use super::draw::Palette;
use super::rows::Pane;
use super::screen::{Effect, Mode, Order, Screen};
use super::snapshot::TopSnapshot;
use super::terminal::drawn;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn queue(name: &str, pending: u64, paused: bool) -> (QueueInfo, Option<RunCounts>) {
    let counts = TaskState::ALL.iter().map(|state| match state {
        TaskState::Pending => (*state, pending),
        other => (*other, 0),
    });
    let info = QueueInfo {
        name: QueueName::new(name).unwrap(),
        counts: counts.collect(),
        paused,
        latency: Duration::from_secs(pending * 60),
        processed_today: 0,
        failed_today: 0,
        processed: 0,
        failed: 0,
    };
    (info, None)
}

fn worker(handlers: &[&str]) -> ServerView {
    let task = Working {
        id: TaskId::new("task-1").unwrap(),
        kind: "report".to_owned(),
        queue: QueueName::new("low").unwrap(),
        started_at: now() - Duration::from_secs(90),
        deadline: now() + Duration::from_secs(600),
    };
    ServerView {
        info: ServerInfo {
            host: "web-1".to_owned(),
            pid: 7,
            id: "an-id".to_owned(),
            concurrency: 4,
            queues: [("low".to_owned(), 1)].into(),
            strict_priority: false,
            status: ServerStatus::Active,
            started_at: now() - Duration::from_secs(7_300),
            active: 1,
            handlers: handlers.iter().map(|name| (*name).to_owned()).collect(),
        },
        working: vec![task],
    }
}

fn look() -> TopSnapshot {
    let mut failing = RunCounts::default();
    (failing.done, failing.failed, failing.took[10]) = (90, 10, 100);
    let mut low = queue("low", 0, false);
    low.1 = Some(failing.clone());
    TopSnapshot {
        at: now(),
        queues: vec![queue("default", 5, false), queue("high", 2, true), low],
        servers: vec![worker(&["report"])],
        minutes: vec![failing; 60],
        ..TopSnapshot::default()
    }
}

fn screen(pane: Pane) -> Screen {
    let mut screen = Screen::new(pane, TimeZone::UTC);
    screen.take(Ok(look()));
    screen
}

fn press(screen: &mut Screen, keys: &str) -> Effect {
    let mut effect = Effect::Nothing;
    for key in keys.chars() {
        effect = screen.key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
    }
    effect
}

fn shown(screen: &Screen) -> String {
    drawn(screen, Palette { colours: false }, (150, 30)).unwrap()
}

#[test]
fn each_table_shows_its_rows() {
    let text = shown(&screen(Pane::Queues));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(text.contains("2027-01-15 08:00:00 UTC"), "{text}");
    assert!(
        text.contains("1 worker, 1 of 4 slots busy") && text.contains("7 pending"),
        "{text}"
    );
    assert!(
        line("default").contains('5') && line("default").contains("5 min"),
        "{text}"
    );
    assert!(line("high").contains("paused"), "{text}");
    assert!(line("low").contains("10%") && line("low").contains(" ms"), "{text}");

    let text = shown(&screen(Pane::Running));
    assert!(
        text.contains("report") && text.contains("task-1") && text.contains("90 s"),
        "{text}"
    );
    let text = shown(&screen(Pane::Workers));
    assert!(
        text.contains("web-1:7") && text.contains("1/4") && text.contains("2 h"),
        "{text}"
    );
    let text = shown(&screen(Pane::Failed));
    assert!(text.contains("No task has failed for good."), "{text}");
}

#[test]
fn nothing_that_a_task_says_steers_the_terminal() {
    let mut odd = look();
    odd.servers[0].working[0].kind = "\u{1b}[2Jevil\u{202e}".to_owned();
    let mut screen = Screen::new(Pane::Running, TimeZone::UTC);
    screen.take(Ok(odd));
    let text = shown(&screen);
    assert!(
        text.contains("evil") && !text.contains(['\u{1b}', '\u{202e}']),
        "{text}"
    );
    screen.take(Err("\u{1b}[2J".to_owned()));
    assert!(!shown(&screen).contains('\u{1b}'));
}

#[test]
fn an_action_asks_and_is_carried_out_by_yes_only() {
    let mut screen = screen(Pane::Queues);
    let pause = Order::PauseQueue(QueueName::new("default").unwrap());
    assert_eq!(press(&mut screen, "p"), Effect::Nothing);
    assert_eq!(screen.mode, Mode::Asking(pause.clone()));
    assert!(shown(&screen).contains("Pause the queue default?"));
    assert_eq!(press(&mut screen, "n"), Effect::Nothing);
    assert!(shown(&screen).contains("nothing was done"));
    assert_eq!(press(&mut screen, "py"), Effect::Carry(pause));
    // The second one is paused.
    let resume = Order::ResumeQueue(QueueName::new("high").unwrap());
    assert_eq!(press(&mut screen, "jpy"), Effect::Carry(resume));
    // A key without a meaning there asks nothing.
    assert_eq!(press(&mut screen, "xc"), Effect::Nothing);
    assert_eq!(screen.mode, Mode::Moving);
}

#[test]
fn the_selected_row_stays_selected_whatever_comes_before_it() {
    let mut screen = screen(Pane::Queues);
    press(&mut screen, "j");
    let selected = |screen: &Screen| {
        let rows = screen.rows();
        screen.place(&rows).map(|place| rows[place].key.clone())
    };
    assert_eq!(selected(&screen).unwrap(), "high");
    let mut more = look();
    more.queues.insert(0, queue("another", 1, false));
    screen.take(Ok(more));
    assert_eq!(selected(&screen).unwrap(), "high");
    // It is gone: the row in its place is selected; then all are.
    let mut fewer = look();
    fewer.queues.remove(1);
    screen.take(Ok(fewer));
    assert_eq!(selected(&screen).unwrap(), "low");
    screen.take(Ok(TopSnapshot::default()));
    assert_eq!(selected(&screen), None);
    assert_eq!(press(&mut screen, "pjkG"), Effect::Nothing);
}

#[test]
fn a_question_is_about_the_row_that_was_selected() {
    let mut screen = screen(Pane::Queues);
    press(&mut screen, "Gp");
    let mut more = look();
    more.queues.insert(0, queue("another", 1, false));
    screen.take(Ok(more));
    let pause = Order::PauseQueue(QueueName::new("low").unwrap());
    assert_eq!(press(&mut screen, "y"), Effect::Carry(pause));
}

#[test]
fn workers_are_resized_and_those_in_go_are_not() {
    let mut screen = screen(Pane::Workers);
    let resize = |concurrency| Order::Resize {
        id: "an-id".to_owned(),
        name: "web-1:7".to_owned(),
        concurrency,
    };
    assert_eq!(press(&mut screen, "+y"), Effect::Carry(resize(5)));
    assert_eq!(press(&mut screen, "-y"), Effect::Carry(resize(3)));
    let mut go = look();
    go.servers = vec![worker(&[])];
    screen.take(Ok(go));
    assert_eq!(press(&mut screen, "p"), Effect::Nothing);
    assert!(shown(&screen).contains("takes no orders"));
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut screen = screen(Pane::Queues);
    press(&mut screen, "/HIq");
    assert!(shown(&screen).contains("No row contains this text"));
    screen.key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE));
    screen.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
    assert_eq!(screen.rows().len(), 1);
    assert_eq!(screen.rows()[0].key, "high");
    // The first one ends the filter, the second one the program.
    assert_eq!(
        screen.key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)),
        Effect::Nothing
    );
    assert_eq!(screen.rows().len(), 3);
    assert_eq!(
        screen.key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)),
        Effect::Quit
    );
}

#[test]
fn pasted_text_is_a_filter_or_nothing() {
    let mut screen = screen(Pane::Queues);
    screen.paste("py");
    assert_eq!((screen.mode.clone(), screen.filter.as_str()), (Mode::Moving, ""));
    press(&mut screen, "p");
    screen.paste("y");
    assert!(matches!(screen.mode, Mode::Asking(_)), "a paste answers no question");
    press(&mut screen, "n/");
    screen.paste("hi\ngh");
    assert_eq!(screen.rows().len(), 1);
}

#[test]
fn a_failed_look_says_so_and_leaves_what_was_seen() {
    let mut screen = screen(Pane::Queues);
    screen.take(Err("Redis does not answer".to_owned()));
    let text = shown(&screen);
    assert!(
        text.contains("no answer: Redis does not answer; what is shown is of 2027-01-15 08:00:00"),
        "{text}"
    );
    assert!(text.contains("default"), "{text}");
    screen.take(Ok(look()));
    assert!(!shown(&screen).contains("no answer"));
}

#[test]
fn any_size_can_be_drawn() {
    let mut screen = screen(Pane::Schedules);
    for size in [(1, 1), (10, 3), (40, 8), (300, 100)] {
        for keys in ["", "?", "q/", "x"] {
            press(&mut screen, keys);
            assert!(drawn(&screen, Palette { colours: true }, size).is_ok(), "{size:?}");
        }
    }
}
