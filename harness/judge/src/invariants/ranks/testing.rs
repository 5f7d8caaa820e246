//! Judges synthetic ranks.

use tempfile::TempDir;
use traintrue_protocol::trace::Event;

use crate::case::compare_ranks;
use crate::finding::Sheet;
use crate::rule::{RunEvidence, rank_name};
use crate::rules::find;
use crate::testing::evidence;

/// The sheet of one invariant over the ranks of a run, each with its segments, and over another run.
pub fn judge_ranks(name: &str, ranks: &[Vec<Vec<Event>>], against: Option<&[Vec<Event>]>) -> Sheet {
    let folder = TempDir::new().expect("a folder for the traces");
    let ranks: Vec<RunEvidence> = ranks
        .iter()
        .enumerate()
        .map(|(rank, segments)| evidence(&folder, &rank_name("run", rank as u64), segments))
        .collect();
    let against = against.map(|segments| evidence(&folder, "against", segments));
    let rule = find(name).expect("a rule of that name");
    compare_ranks(rule, &ranks.iter().collect::<Vec<_>>(), against.as_ref())
}
