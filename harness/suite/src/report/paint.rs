//! Colour on a terminal, and nothing elsewhere.

use std::fmt::{self, Display};

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// With colours.
    Colour,
    /// Plain text.
    Plain,
}

/// What a colour means here.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Good,
    Bad,
    Unsure,
    Faint,
    Strong,
}

impl Paint {
    pub(super) fn tone(self, tone: Tone, text: impl Display) -> impl Display {
        Painted { paint: self, tone, text }
    }
}

struct Painted<T> {
    paint: Paint,
    tone: Tone,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.paint == Paint::Plain {
            return self.text.fmt(f);
        }
        let code = match self.tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Unsure => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        write!(f, "\x1b[{code}m")?;
        self.text.fmt(f)?;
        f.write_str("\x1b[0m")
    }
}
