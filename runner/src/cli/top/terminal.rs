//! The terminal while `runner top` has it: raw, on its other screen, and as before when this ends. And a screen as text, without one.

use std::io;

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::execute;
use ratatui::DefaultTerminal;
use ratatui::backend::TestBackend;

use super::draw::{Palette, draw};
use super::screen::Screen;

/// The terminal, given back when this is dropped, also by a panic.
pub(super) struct Terminal(DefaultTerminal);

impl Terminal {
    pub fn open() -> io::Result<Self> {
        let mut terminal = ratatui::try_init().map(Self)?;
        // Without it pasted text would come as keys, which act.
        execute!(terminal.0.backend_mut(), EnableBracketedPaste)?;
        Ok(terminal)
    }

    pub fn draw(&mut self, screen: &Screen, palette: Palette) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, screen, palette)).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _unpasted = execute!(self.0.backend_mut(), DisableBracketedPaste);
        // If this fails, the terminal is gone, and there is no place to say so.
        let _gone = ratatui::try_restore();
    }
}

/// What a terminal of this width and height would show, a line for each line, without what is blank at the ends.
pub(super) fn drawn(screen: &Screen, palette: Palette, (width, height): (u16, u16)) -> anyhow::Result<String> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw(frame, screen, palette))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    let mut lines: Vec<String> = Vec::new();
    for (place, cell) in buffer.content().iter().enumerate() {
        text.push_str(cell.symbol());
        if (place + 1) % usize::from(width) == 0 {
            lines.push(std::mem::take(&mut text).trim_end().to_owned());
        }
    }
    let rows = lines
        .iter()
        .rposition(|line| !line.is_empty())
        .map_or(0, |last| last + 1);
    lines.truncate(rows);
    Ok(lines.join("\n") + "\n")
}
