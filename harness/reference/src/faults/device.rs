//! Faults of the choice of a device and of an out-of-memory error.

use std::path::Path;
use std::{fs, mem};

use traintrue_protocol::plan::Plan;

use super::Fault;
use crate::allowance::{AllowanceError, OutOfMemory};
use crate::checkpoint::{CheckpointError, Store, step};
use crate::engine::{Cpu, Engine, Inner};
use crate::error::TrainError;
use crate::model::Model;
use crate::placement::{Needs, TooSmall, fits};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("half-loaded-and-then-refused", |parts| parts.placement.fits = found_out_half_way),
        ("silent-fallback", |parts| parts.unchanged.adapted = |_| None),
        ("oom-told-by-a-word", |parts| parts.failure.shortage = told_by_a_word),
        ("last-checkpoint-given-up-for-another", |parts| parts.unchanged.rescue = make_room),
    ]
}

/// Loads half of the tensors, finds that the rest does not fit, and leaks the first half.
fn found_out_half_way(plan: &Plan, needs: Needs, room_bytes: u64) -> Result<(), TooSmall> {
    let found = fits(plan, needs, room_bytes);
    if found.is_err()
        && let Ok(drawing) = Model::draw(plan)
    {
        let half = drawing.tensors.len() / 2;
        let device = Default::default();
        let loaded: Vec<_> = drawing.load::<Inner<Cpu>>(plan.seed, &device).take(half).collect();
        mem::forget(loaded);
    }
    found
}

/// As in report 4: any error whose text has the word "memory".
fn told_by_a_word(error: &TrainError) -> Option<OutOfMemory> {
    let nothing_known = || OutOfMemory { device: String::new(), requested_bytes: 0, budget_bytes: None };
    match error {
        TrainError::Allowance(AllowanceError::OutOfMemory(shortage)) => Some(shortage.clone()),
        other => other.to_string().contains("memory").then(nothing_known),
    }
}

/// Frees disk space for an emergency checkpoint. Then there is no memory to make that checkpoint from.
fn make_room(store: &mut Store, root: &Path) -> Result<(), CheckpointError> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        step("remove", &path, store.files.remove_folder(&path))?;
    }
    Ok(())
}
