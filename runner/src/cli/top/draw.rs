//! Draws the state of the screen. Pure: the same state gives the same characters.
//!
//! Colours are those of the terminal's own palette, and never the only sign.

use std::borrow::Cow;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row as TableRow, Sparkline, SparklineBar, Table, TableState, Wrap};
use runner_core::task::{RunCounts, TaskState};
use runner_queue::ServerStatus;

use super::rows::{Pane, Row, ScreenCell, ScreenColumn, Tone};
use super::screen::{Mode, Screen};
use super::snapshot::{LATELY, MINUTES, TopSnapshot};
use crate::cli::print::counted;
use crate::text::signs;

/// Lines of the chart.
const CHART: u16 = 3;

/// Below this height there is no chart, or nothing would be left for the table.
const CHART_FROM: u16 = 16;

const HELP: [(&str, &str); 12] = [
    ("1 to 5, Tab, ← →", "another table"),
    ("↑ ↓ j k, PgUp PgDn, g G", "another row"),
    ("/", "show only rows that contain a text; Esc shows all again"),
    ("space", "read again now"),
    ("p", "pause or resume the queue, schedule or worker"),
    ("r", "run the schedule now, or the failed task again"),
    ("c", "cancel the running attempt: it is tried again if retries are left"),
    ("s", "stop the running task for good"),
    ("d", "delete the failed task"),
    ("+ -", "one task more or fewer at once, for the worker"),
    ("? h", "this list"),
    ("q, Esc, Ctrl-C", "end"),
];

/// Whether colours are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub colours: bool,
}

impl Palette {
    fn tone(self, tone: Tone) -> Style {
        let coloured = |colour| match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            Tone::Warning => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, palette: Palette) {
    let area = frame.area();
    let chart = if area.height >= CHART_FROM { CHART } else { 0 };
    let [title, totals, bars, tabs, table, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(chart),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_of(screen, palette), title);
    if let Some(look) = &screen.look {
        frame.render_widget(Line::from(totals_of(look, palette)), totals);
        frame.render_widget(chart_of(look, palette), bars);
    }
    let rows = screen.rows();
    frame.render_widget(tabs_of(screen, rows.len()), tabs);
    draw_table(frame, table, screen, &rows, palette);
    frame.render_widget(foot_of(screen, palette), foot);
    if screen.mode == Mode::Help {
        draw_help(frame, area);
    }
}

fn title_of(screen: &Screen, palette: Palette) -> Line<'static> {
    let at = screen.look.as_ref().map(|look| clock(look.at, screen));
    let mut spans = vec![Span::styled("runner top  ", Style::new().add_modifier(Modifier::BOLD))];
    match (&screen.trouble, at) {
        (None, None) => spans.push(Span::raw("reading …")),
        (None, Some(at)) => spans.push(Span::raw(at)),
        (Some(why), at) => {
            let since = at.map_or_else(String::new, |at| format!("; what is shown is of {at}"));
            let text = format!("no answer: {}{since}", signs::line(why));
            spans.push(Span::styled(text, palette.tone(Tone::Bad)));
        }
    }
    Line::from(spans)
}

fn clock(at: Timestamp, screen: &Screen) -> String {
    let local = at.to_zoned(screen.zone.clone());
    local.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

fn totals_of(look: &TopSnapshot, palette: Palette) -> Vec<Span<'static>> {
    let sum = |state| -> u64 {
        let of = |queue: &runner_queue::QueueInfo| queue.counts.get(&state).copied().unwrap_or(0);
        look.queues.iter().map(|(queue, _)| of(queue)).sum()
    };
    let slots: u64 = look.servers.iter().map(|s| u64::from(s.info.concurrency)).sum();
    let busy: u64 = look.servers.iter().map(|s| u64::from(s.info.active)).sum();
    let paused = look.servers.iter().filter(|s| s.info.status == ServerStatus::Stopped);
    let mut lately = RunCounts::default();
    let minutes = usize::try_from(LATELY).unwrap_or(1);
    look.minutes.iter().rev().take(minutes).for_each(|one| lately.add(one));
    let failing = look
        .schedules
        .schedules
        .iter()
        .filter(|s| s.failed_in_a_row() > 0)
        .count();
    let mut spans = Vec::new();
    let mut say = |text: String, tone| spans.push(Span::styled(format!("{text}   "), palette.tone(tone)));
    // Trouble comes first: the end of the line may be cut.
    match look.servers.len() {
        0 => say("no worker is running".to_owned(), Tone::Bad),
        n => say(
            format!("{}, {busy} of {slots} slots busy", counted(n, "worker")),
            Tone::Plain,
        ),
    }
    if failing > 0 {
        say(format!("failing: {}", counted(failing, "schedule")), Tone::Bad);
    }
    let paused = paused.count();
    if paused > 0 {
        say(format!("paused: {}", counted(paused, "worker")), Tone::Warning);
    }
    let tone = if lately.failed > 0 { Tone::Bad } else { Tone::Plain };
    say(
        format!("{LATELY} min: {} failed, {} done", lately.failed, lately.done),
        tone,
    );
    let counts = [
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
    ];
    let counts = counts.map(|state| format!("{} {state}", sum(state)));
    say(counts.join(", "), Tone::Plain);
    spans
}

/// Runs of each minute; a minute with failures has another colour, and the totals have their number.
fn chart_of(look: &TopSnapshot, palette: Palette) -> Sparkline<'static> {
    let bars: Vec<SparklineBar> = look
        .minutes
        .iter()
        .map(|minute| {
            let tone = if minute.failed > 0 { Tone::Bad } else { Tone::Plain };
            SparklineBar::from(minute.ended()).style(palette.tone(tone))
        })
        .collect();
    let most = look.minutes.iter().map(RunCounts::ended).max().unwrap_or(0);
    let title = format!(" runs a minute in the last {MINUTES}, at most {most} ");
    Sparkline::default().data(bars).block(Block::new().title(title))
}

fn tabs_of(screen: &Screen, shown: usize) -> Line<'static> {
    let mut spans = Vec::new();
    for (place, pane) in (1..).zip(Pane::ALL) {
        let style = match pane == screen.pane {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!(" {place} {} ", pane.title()), style));
        spans.push(Span::raw(" "));
    }
    if let Some(words) = left_out(screen, shown) {
        spans.push(Span::styled(words, Style::new().add_modifier(Modifier::DIM)));
    }
    Line::from(spans)
}

/// What the table does not show.
fn left_out(screen: &Screen, shown: usize) -> Option<String> {
    let look = screen.look.as_ref()?;
    let more = match screen.pane {
        Pane::Queues => look.queues_left_out,
        Pane::Schedules => look.schedules.left_out,
        _ => 0,
    };
    match (screen.filter.is_empty(), more) {
        (true, 0) => None,
        (true, more) => Some(format!("{shown} shown, {more} more: see the dashboard, or runner ls")),
        (false, _) => Some(format!("{shown} contain {:?}", screen.filter)),
    }
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, screen: &Screen, rows: &[Row], palette: Palette) {
    let columns = screen.pane.columns();
    let widths = columns.iter().map(|column| match column.grows {
        true => Constraint::Fill(column.width),
        false => Constraint::Length(column.width),
    });
    let heading = columns
        .iter()
        .map(|column| aligned(Cow::Borrowed(column.title), column));
    let heading = TableRow::new(heading).style(Style::new().add_modifier(Modifier::DIM | Modifier::UNDERLINED));
    let lines = rows.iter().map(|row| {
        let cells = row.cells.iter().zip(columns);
        TableRow::new(cells.map(|(cell, column)| of_cell(cell, column, palette)))
    });
    let table = Table::new(lines, widths)
        .header(heading)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(screen.place(rows));
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty()
        && let Some(words) = nothing(screen)
    {
        let below = Rect {
            y: area.y.saturating_add(2).min(area.bottom()),
            height: area.height.saturating_sub(2),
            ..area
        };
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), below);
    }
}

/// What an empty table says.
fn nothing(screen: &Screen) -> Option<&'static str> {
    screen.look.as_ref()?;
    if !screen.filter.is_empty() {
        return Some("No row contains this text. Esc shows all.");
    }
    Some(match screen.pane {
        Pane::Queues => "No queue yet: the first task makes one. `runner enqueue TYPE` enqueues one.",
        Pane::Running => "No task is running.",
        Pane::Schedules => "No schedule in any source. `runner init` writes a sample manifest.",
        Pane::Workers => "No worker is running. `runner -c config.yaml` starts one.",
        Pane::Failed => "No task has failed for good.",
    })
}

fn of_cell<'a>(cell: &'a ScreenCell, column: &ScreenColumn, palette: Palette) -> Line<'a> {
    aligned(Cow::Borrowed(&cell.text), column).style(palette.tone(cell.tone))
}

fn aligned<'a>(text: Cow<'a, str>, column: &ScreenColumn) -> Line<'a> {
    let side = match column.is_number {
        true => Alignment::Right,
        false => Alignment::Left,
    };
    Line::from(text).alignment(side)
}

fn foot_of(screen: &Screen, palette: Palette) -> Line<'static> {
    let strong = Style::new().add_modifier(Modifier::BOLD);
    match &screen.mode {
        Mode::Asking(order) => {
            let question = format!("{} y: yes, any other key: no", order.question());
            Line::styled(signs::line(&question).into_owned(), strong)
        }
        Mode::Filtering => Line::styled(
            format!(
                "/{}_   Enter keeps the filter, Esc drops it",
                signs::line(&screen.filter)
            ),
            strong,
        ),
        Mode::Moving | Mode::Help => match &screen.notice {
            Some(notice) => {
                let tone = if notice.is_error { Tone::Bad } else { Tone::Plain };
                Line::styled(signs::line(&notice.text).into_owned(), palette.tone(tone))
            }
            None => Line::styled(keys_of(screen.pane), palette.tone(Tone::Quiet)),
        },
    }
}

fn keys_of(pane: Pane) -> &'static str {
    match pane {
        Pane::Queues => "p pause or resume   / filter   ? keys   q end",
        Pane::Running => "c cancel the attempt   s stop for good   / filter   ? keys   q end",
        Pane::Schedules => {
            "r run now   p pause or resume   / filter   ? keys   q end   runs: + done  x failed  ~ again  . open  - missed"
        }
        Pane::Workers => "p pause or resume   + - tasks at once   / filter   ? keys   q end",
        Pane::Failed => "r run again   d delete   / filter   ? keys   q end",
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, does)| Line::from(format!(" {key:<24} {does}")))
        .collect();
    let width = 76.min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), place);
}
