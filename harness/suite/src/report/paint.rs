//! What a colour means. Text for people always has its colours: the stream that it goes to takes them out where nobody
//! would see them or somebody has declined them (`NO_COLOR`, `CLICOLOR`).

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const UNSURE: Style = AnsiColor::Yellow.on_default();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const STRONG: Style = Style::new().bold();

pub(super) fn painted(style: Style, text: impl Display) -> impl Display {
    format!("{style}{text}{style:#}")
}
