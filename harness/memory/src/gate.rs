//! The gate: memory series against limits, as a document, a table for people and one for a page of continuous integration.

mod judged;
mod limits;
mod text;

use serde::Serialize;
use traintrue_protocol::exit::Exit;

use super::bytes::{Bytes, BytesPerStep};
use super::series::Recording;
use super::slope::SlopeVerdict;

pub use judged::{Judged, is_exact, unit};
pub use limits::{Baseline, Limit, Limits, LimitsError};

/// The version of the document. Raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// What a gate holds series to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// The limit of every lane that counts bytes.
    pub max_slope: Option<BytesPerStep>,
    /// Limits by lane, scenario and device, in the place of `max_slope`.
    pub limits: Option<&'a Limits>,
    /// Whether exact lanes must hold the same bytes at the same phase of their last two epochs.
    pub exact: bool,
    /// What there is, for the steps until it is full.
    pub capacity: Option<Bytes>,
}

/// The document of `gate`.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// The version of this document.
    pub schema: u32,
    /// The verdict on each lane of each file.
    pub series: Vec<Judged>,
}

impl Gate {
    /// Judges every lane of every recording.
    pub fn of(recordings: &[Recording], held: Held<'_>) -> Self {
        Self {
            schema: SCHEMA,
            series: recordings.iter().flat_map(|recording| judged::judge_all(recording, held)).collect(),
        }
    }

    /// The exit status: broken where a lane exceeds, not judged where one is not, or where there is none.
    pub fn exit(&self) -> Exit {
        let any = |verdict| self.series.iter().any(|judged| judged.verdict == verdict);
        match () {
            () if any(SlopeVerdict::Exceeds) => Exit::Broken,
            () if any(SlopeVerdict::NotJudged) || self.series.is_empty() => Exit::NotJudged,
            () => Exit::Held,
        }
    }
}

#[cfg(test)]
mod tests;
