//! The gate: compares memory series with limits. Gives a JSON document, a table for a terminal and Markdown for CI.

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

/// The limits of a gate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// The limit of every lane that counts bytes.
    pub max_slope: Option<BytesPerStep>,
    /// Limits by lane, scenario and device. They replace `max_slope`.
    pub limits: Option<&'a Limits>,
    /// Whether exact lanes must hold the same bytes at the same phase of their last two epochs.
    pub exact: bool,
    /// The available memory, from which the gate derives the steps until it is full.
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

    /// The exit status: broken if a lane exceeds its limit, not judged if a lane is not judged or there is no lane.
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
