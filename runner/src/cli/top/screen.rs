//! What `runner top` shows at the moment, and what a key changes in it. Pure: reading, drawing and acting are elsewhere.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, TaskId};

use super::rows::{Pane, Row, Subject, rows};
use super::snapshot::TopSnapshot;

/// Characters of a filter.
const LONGEST_FILTER: usize = 100;

/// Rows that PgUp and PgDn move by.
const PAGE: isize = 10;

/// The most tasks at once that a worker is ordered to run.
const MOST_AT_ONCE: u32 = 10_000;

/// Something to be done to what a row stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    PauseQueue(QueueName),
    ResumeQueue(QueueName),
    Cancel(QueueName, TaskId),
    Stop(QueueName, TaskId),
    RunAgain(QueueName, TaskId),
    Delete(QueueName, TaskId),
    RunSchedule(ScheduleId),
    PauseSchedule(ScheduleId),
    ResumeSchedule(ScheduleId),
    PauseWorker { id: String, name: String },
    ResumeWorker { id: String, name: String },
    Resize { id: String, name: String, concurrency: u32 },
}

impl Order {
    /// What is asked before it is carried out.
    pub fn question(&self) -> String {
        match self {
            Self::PauseQueue(queue) => format!("Pause the queue {queue}?"),
            Self::ResumeQueue(queue) => format!("Resume the queue {queue}?"),
            Self::Cancel(queue, id) => {
                format!("Cancel this attempt of {id} in {queue}? It is tried again if retries are left.")
            }
            Self::Stop(queue, id) => format!("Stop {id} in {queue} for good? It is archived."),
            Self::RunAgain(queue, id) => format!("Run {id} in {queue} again?"),
            Self::Delete(queue, id) => format!("Delete {id} in {queue}?"),
            Self::RunSchedule(id) => format!("Run {id} now, beside its occurrences?"),
            Self::PauseSchedule(id) => format!("Pause {id}? Nothing fires until it is resumed."),
            Self::ResumeSchedule(id) => format!("Resume {id} from now on?"),
            Self::PauseWorker { name, .. } => format!("Pause the worker {name}? It takes no new tasks."),
            Self::ResumeWorker { name, .. } => format!("Resume the worker {name}?"),
            Self::Resize { name, concurrency, .. } => format!("Let {name} run {concurrency} tasks at once?"),
        }
    }

    /// The order that a key gives for a row; `None`: the key has no meaning there.
    fn of(key: char, subject: &Subject) -> Option<Result<Self, String>> {
        Some(Ok(match (subject.clone(), key) {
            (Subject::Queue { name, is_paused: false }, 'p') => Self::PauseQueue(name),
            (Subject::Queue { name, is_paused: true }, 'p') => Self::ResumeQueue(name),
            (Subject::Running { queue, id }, 'c') => Self::Cancel(queue, id),
            (Subject::Running { queue, id }, 's') => Self::Stop(queue, id),
            (Subject::Failed { queue, id }, 'r') => Self::RunAgain(queue, id),
            (Subject::Failed { queue, id }, 'd') => Self::Delete(queue, id),
            (Subject::Schedule { id, .. }, 'r') => Self::RunSchedule(id),
            (Subject::Schedule { id, is_paused: false }, 'p') => Self::PauseSchedule(id),
            (Subject::Schedule { id, is_paused: true }, 'p') => Self::ResumeSchedule(id),
            (Subject::Worker { is_go: true, name, .. }, 'p' | '+' | '-') => {
                return Some(Err(format!("{name} is a worker in Go, which takes no orders")));
            }
            (
                Subject::Worker {
                    id, name, is_paused, ..
                },
                'p',
            ) => match is_paused {
                false => Self::PauseWorker { id, name },
                true => Self::ResumeWorker { id, name },
            },
            (
                Subject::Worker {
                    id, name, concurrency, ..
                },
                '+' | '-',
            ) => {
                let concurrency = match key {
                    '+' => concurrency.saturating_add(1),
                    _ => concurrency.saturating_sub(1),
                };
                let concurrency = concurrency.clamp(1, MOST_AT_ONCE);
                Self::Resize { id, name, concurrency }
            }
            _ => return None,
        }))
    }
}

/// What the next key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Moving,
    /// The filter is being typed.
    Filtering,
    /// A question is open.
    Asking(Order),
    Help,
}

/// What is to happen after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Quit,
    /// Read again at once.
    Look,
    Carry(Order),
}

/// A line about what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScreenNotice {
    pub text: String,
    pub is_error: bool,
}

/// The state of the screen.
pub(super) struct Screen {
    pub pane: Pane,
    pub mode: Mode,
    pub filter: String,
    pub notice: Option<ScreenNotice>,
    /// What was read last.
    pub look: Option<TopSnapshot>,
    /// Why the last look failed.
    pub trouble: Option<String>,
    /// The zone of the settings.
    pub zone: TimeZone,
    /// The key of the selected row and its place, for each pane: rows come and go, and a question is about what was selected.
    selected: BTreeMap<Pane, (String, usize)>,
}

impl Screen {
    pub fn new(pane: Pane, zone: TimeZone) -> Self {
        Self {
            pane,
            mode: Mode::Moving,
            filter: String::new(),
            notice: None,
            look: None,
            trouble: None,
            zone,
            selected: BTreeMap::new(),
        }
    }

    /// The rows of the pane.
    pub fn rows(&self) -> Vec<Row> {
        let look = self.look.as_ref();
        look.map_or_else(Vec::new, |look| rows(look, self.pane, &self.filter, &self.zone))
    }

    /// The place of the selected row among these. If it is gone, its place stays selected.
    pub fn place(&self, rows: &[Row]) -> Option<usize> {
        let last = rows.len().checked_sub(1)?;
        let Some((key, place)) = self.selected.get(&self.pane) else {
            return Some(0);
        };
        let found = rows.iter().position(|row| row.key == *key);
        Some(found.unwrap_or(*place).min(last))
    }

    /// Takes what was read.
    pub fn take(&mut self, found: Result<TopSnapshot, String>) {
        match found {
            Ok(look) => {
                self.look = Some(look);
                self.trouble = None;
            }
            Err(why) => self.trouble = Some(why),
        }
        // Where the row of the selection is now is where it stays if it goes later.
        if let Some(place) = self
            .place(&self.rows())
            .filter(|_| self.selected.contains_key(&self.pane))
        {
            self.select(place);
        }
    }

    /// Takes text that was pasted: only a filter can use it. As keys it would act.
    pub fn paste(&mut self, text: &str) {
        if self.mode == Mode::Filtering {
            let room = LONGEST_FILTER.saturating_sub(self.filter.chars().count());
            self.filter.extend(text.chars().filter(|c| !c.is_control()).take(room));
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Effect::Quit,
                KeyCode::Char('l') => Effect::Look,
                _ => Effect::Nothing,
            };
        }
        match self.mode.clone() {
            Mode::Moving => self.moving_key(key.code),
            Mode::Filtering => self.filter_key(key.code),
            Mode::Asking(order) => {
                self.mode = Mode::Moving;
                match key.code {
                    KeyCode::Char('y' | 'Y') => Effect::Carry(order),
                    _ => {
                        self.say("nothing was done");
                        Effect::Nothing
                    }
                }
            }
            Mode::Help => {
                self.mode = Mode::Moving;
                Effect::Nothing
            }
        }
    }

    fn moving_key(&mut self, code: KeyCode) -> Effect {
        self.notice = None;
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Effect::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filtering,
            KeyCode::Char(' ') => return Effect::Look,
            KeyCode::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
                self.pane = Pane::ALL[place - 1];
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Pane::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(PAGE),
            KeyCode::PageUp => self.step(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char(key) => self.order(key),
            _ => {}
        }
        Effect::Nothing
    }

    fn filter_key(&mut self, code: KeyCode) -> Effect {
        match code {
            KeyCode::Enter => self.mode = Mode::Moving,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Moving;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < LONGEST_FILTER => self.filter.push(c),
            _ => {}
        }
        Effect::Nothing
    }

    /// Asks whether the order that this key gives is meant.
    fn order(&mut self, key: char) {
        let rows = self.rows();
        let Some(place) = self.place(&rows) else {
            return;
        };
        match Order::of(key, &rows[place].subject) {
            None => {}
            Some(Err(why)) => self.complain(&why),
            Some(Ok(order)) => {
                // What the question is about stays selected, whatever comes before it meanwhile.
                self.select(place);
                self.mode = Mode::Asking(order);
            }
        }
    }

    fn turn(&mut self, by: usize) {
        let place = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        self.pane = Pane::ALL[(place + by) % Pane::ALL.len()];
    }

    fn step(&mut self, by: isize) {
        let rows = self.rows();
        if let Some(place) = self.place(&rows) {
            self.select(place.saturating_add_signed(by).min(rows.len() - 1));
        }
    }

    fn select(&mut self, place: usize) {
        if let Some(row) = self.rows().get(place) {
            self.selected.insert(self.pane, (row.key.clone(), place));
        }
    }

    /// Shows what was done until the next key.
    pub fn say(&mut self, text: &str) {
        self.notice = Some(ScreenNotice {
            text: text.to_owned(),
            is_error: false,
        });
    }

    /// Shows why something was not done.
    pub fn complain(&mut self, text: &str) {
        self.notice = Some(ScreenNotice {
            text: text.to_owned(),
            is_error: true,
        });
    }
}
