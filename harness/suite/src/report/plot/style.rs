//! Colours that follow the reader's light or dark preference. The drawing library writes each colour into the picture as an
//! attribute; a style sheet inside the picture finds it there and puts the dark one in its place.

use std::fmt::Write as _;

use maud::html;
use plotters::prelude::*;
use traintrue_protocol::plan::Boundary;

/// The height of a line of text.
pub(super) const TEXT_PX: i32 = 28;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ink,
    Grid,
    WarmUp,
    Lane,
    Slope,
    Limit,
    Epoch,
    Evaluation,
    Checkpoint,
}

pub(super) const INK: Role = Role::Ink;

impl Role {
    const ALL: [Self; 9] = [
        Self::Ink,
        Self::Grid,
        Self::WarmUp,
        Self::Lane,
        Self::Slope,
        Self::Limit,
        Self::Epoch,
        Self::Evaluation,
        Self::Checkpoint,
    ];

    /// On white, and on near black. No two on white are the same, for that is how the dark one is found.
    fn colours(self) -> (RGBColor, &'static str) {
        match self {
            Self::Ink => (RGBColor(0x1f, 0x23, 0x28), "#f0f6fc"),
            Self::Grid => (RGBColor(0xd1, 0xd9, 0xe0), "#3d444d"),
            Self::WarmUp => (RGBColor(0xe6, 0xea, 0xef), "#262c36"),
            Self::Lane => (RGBColor(0x09, 0x69, 0xda), "#4493f8"),
            Self::Slope => (RGBColor(0xa4, 0x0e, 0x8c), "#f778ba"),
            Self::Limit => (RGBColor(0xbc, 0x4c, 0x00), "#f0883e"),
            Self::Epoch => (RGBColor(0x59, 0x63, 0x6e), "#9198a1"),
            Self::Evaluation => (RGBColor(0x1a, 0x7f, 0x37), "#3fb950"),
            Self::Checkpoint => (RGBColor(0x82, 0x50, 0xdf), "#ab7df8"),
        }
    }

    /// The colour that is drawn with.
    pub(super) fn colour(self) -> RGBColor {
        self.colours().0
    }

    /// What a place in training is drawn as, if it is.
    pub(super) fn of(at: Boundary) -> Option<Self> {
        match at {
            Boundary::Epoch => Some(Self::Epoch),
            Boundary::Evaluation => Some(Self::Evaluation),
            Boundary::Checkpoint => Some(Self::Checkpoint),
            Boundary::Update
            | Boundary::Forward
            | Boundary::Adaptation
            | Boundary::Load
            | Boundary::Unload => None,
        }
    }
}

/// Text of one size.
pub(super) fn text(role: Role) -> TextStyle<'static> {
    // The library writes a font size of 1/1.24 of what it is asked for.
    ("sans-serif", f64::from(TEXT_PX) * 1.24).into_font().color(&role.colour())
}

/// The picture with its name and its style sheet in it. The limit is dashed: a colour alone is not seen by everyone.
pub(super) fn dressed(svg: &str, name: &str) -> String {
    let name = legible(name);
    let head = html! { title { (name) } }.into_string() + "<style>" + &sheet() + "</style>\n";
    let opening = svg.find('>').map_or(0, |at| at + 1);
    let (opening, body) = svg.split_at(opening);
    format!(
        "{}\n{head}{}",
        opening.replacen("<svg ", "<svg class=\"plot\" role=\"img\" ", 1),
        body.trim_start()
    )
}

fn sheet() -> String {
    let mut dark = ".plot{background:#0d1117}".to_owned();
    for role in Role::ALL {
        let (from, (_, to)) = (written(role), role.colours());
        for paint in ["fill", "stroke"] {
            // Writing to a string does not fail.
            let _ = write!(dark, ".plot [{paint}=\"{from}\"]{{{paint}:{to}}}");
        }
    }
    let dashed = format!(".plot [stroke=\"{}\"]{{stroke-dasharray:16 8}}", written(Role::Limit));
    format!(".plot{{background:#fff}}{dashed}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// A colour as the drawing library writes it.
pub(super) fn written(role: Role) -> String {
    let RGBColor(red, green, blue) = role.colour();
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// A foreign trainer's words, without characters that no document may hold, and no longer than there is room for.
pub(super) fn legible(name: &str) -> String {
    let allowed =
        |it: char| if it.is_control() || matches!(it, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { it };
    let mut name: String = name.chars().map(allowed).collect();
    if let Some((at, _)) = name.char_indices().nth(32) {
        name.truncate(at);
        name.push('…');
    }
    name
}
