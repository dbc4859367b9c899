//! The terminal, taken over and given back.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::style::{Attribute, Color, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};

use super::view::{Line, Look};

/// A terminal that shows nothing else. Dropping it gives it back.
pub(super) struct Screen(());

/// A key that somebody has typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// It is to end.
    Quit,
    /// Anything else, and another size of the terminal.
    Other,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self(());
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Returns its columns and lines.
    pub(super) fn size(&self) -> io::Result<(usize, usize)> {
        let (columns, lines) = terminal::size()?;
        Ok((columns.into(), lines.into()))
    }

    /// Shows lines, as far as they fit.
    pub(super) fn show(&self, lines: &[Line], (columns, height): (usize, usize)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, cursor::MoveTo(0, 0))?;
        for (index, line) in lines.iter().take(height).enumerate() {
            if index > 0 {
                write!(out, "\r\n")?;
            }
            let mut room = columns;
            for (look, text) in &line.0 {
                let shown: String = text.chars().take(room).collect();
                room -= shown.chars().count();
                look_like(&mut out, *look)?;
                write!(out, "{shown}")?;
            }
            queue!(
                out,
                ResetColor,
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }

    /// Waits so long for a key.
    pub(super) fn key(&self, most: Duration) -> io::Result<Option<Key>> {
        if !event::poll(most)? {
            return Ok(None);
        }
        Ok(Some(match event::read()? {
            Event::Key(key) => {
                let interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    KeyCode::Char('c') if interrupt => Key::Quit,
                    _ => Key::Other,
                }
            }
            _ => Key::Other,
        }))
    }
}

fn look_like(out: &mut impl Write, look: Look) -> io::Result<()> {
    queue!(out, ResetColor, SetAttribute(Attribute::Reset))?;
    match look {
        Look::Plain => Ok(()),
        Look::Title => queue!(out, SetAttribute(Attribute::Bold)),
        Look::Dim => queue!(out, SetForegroundColor(Color::DarkGrey)),
        Look::Good => queue!(out, SetForegroundColor(Color::Green)),
        Look::Bad => queue!(out, SetForegroundColor(Color::Red)),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that takes no commands.
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
