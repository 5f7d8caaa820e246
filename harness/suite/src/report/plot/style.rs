//! Colours that follow the reader's light or dark preference. The drawing library writes each colour into the picture as an
//! attribute; a style sheet inside the picture finds it there and puts the dark one in its place.

use std::fmt::Write as _;

use maud::{Markup, html};
use plotters::prelude::*;
use traintrue_protocol::plan::Boundary;

/// The height of a line of text.
pub(super) const TEXT_PX: i32 = 28;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Role {
    Ink,
    Grid,
    WarmUp,
    Lane,
    Slope,
    Limit,
    Epoch,
    Evaluation,
    Checkpoint,
    /// The run that another is held against, or a run alone.
    Reference,
    /// The run that is held against the other.
    Judged,
    /// Where a resumed process goes on.
    Seam,
    /// The first difference of two runs.
    Parted,
    /// A value that is not finite.
    Unfinite,
}

pub(super) const INK: Role = Role::Ink;

impl Role {
    const ALL: [Self; 14] = [
        Self::Ink,
        Self::Grid,
        Self::WarmUp,
        Self::Lane,
        Self::Slope,
        Self::Limit,
        Self::Epoch,
        Self::Evaluation,
        Self::Checkpoint,
        Self::Reference,
        Self::Judged,
        Self::Seam,
        Self::Parted,
        Self::Unfinite,
    ];

    /// How its lines are broken: a colour alone is not seen by everyone.
    fn dashes(self) -> Option<&'static str> {
        match self {
            Self::Limit => Some("16 8"),
            Self::Judged => Some("12 8"),
            Self::Seam => Some("3 9"),
            _ => None,
        }
    }

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
            Self::Reference => (RGBColor(0x6c, 0xa6, 0xe0), "#2f6db3"),
            Self::Judged => (RGBColor(0x7a, 0x28, 0x00), "#ffc08a"),
            Self::Seam => (RGBColor(0x6e, 0x77, 0x81), "#8b949e"),
            Self::Parted => (RGBColor(0x24, 0x29, 0x2f), "#e6edf3"),
            Self::Unfinite => (RGBColor(0xb3, 0x1d, 0x28), "#ff7b72"),
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

/// The picture with its name and its style sheet in it: a document of its own.
pub(super) fn dressed(svg: &str, name: &str) -> String {
    let head = html! { title { (legible(name)) } }.into_string() + "<style>" + &sheet() + "</style>\n";
    with_head(svg, &head)
}

/// The picture with its name and what it shows in words, for a page that has the style sheet.
pub(super) fn named(svg: &str, name: &str, words: &str) -> String {
    with_head(svg, &(html! { title { (name) } desc { (words) } }.into_string() + "\n"))
}

/// A short line that looks as it does in the pictures.
pub(in crate::report) fn sample(role: Role) -> Markup {
    let (colour, width) = (written(role), if role == Role::Reference { "9" } else { "4" });
    html! {
        svg.plot.sample viewBox="0 0 56 24" aria-hidden="true" {
            @if role == Role::Unfinite { path d="M20 4 36 20M20 20 36 4" fill="none" stroke=(colour) stroke-width=(width) {} }
            @else { path d="M0 12 56 12" fill="none" stroke=(colour) stroke-width=(width) {} }
        }
    }
}

fn with_head(svg: &str, head: &str) -> String {
    let opening = svg.find('>').map_or(0, |at| at + 1);
    let (opening, body) = svg.split_at(opening);
    format!(
        "{}\n{head}{}",
        opening.replacen("<svg ", "<svg class=\"plot\" role=\"img\" ", 1),
        body.trim_start()
    )
}

/// The colours and the dashes, for the light and for the dark.
pub(in crate::report) fn sheet() -> String {
    let mut dark = ".plot{background:#0d1117}".to_owned();
    for role in Role::ALL {
        let (from, (_, to)) = (written(role), role.colours());
        for paint in ["fill", "stroke"] {
            // Writing to a string does not fail.
            let _ = write!(dark, ".plot [{paint}=\"{from}\"]{{{paint}:{to}}}");
        }
    }
    let dashed = |role: Role| Some((role, role.dashes()?));
    let dashed: String =
        Role::ALL.into_iter().filter_map(dashed).fold(String::new(), |sheet, (role, dashes)| {
            sheet + &format!(".plot [stroke=\"{}\"]{{stroke-dasharray:{dashes}}}", written(role))
        });
    format!(".plot{{background:#fff}}{dashed}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// A colour as the drawing library writes it.
pub(in crate::report) fn written(role: Role) -> String {
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
