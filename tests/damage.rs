//! A checkpoint whose bytes changed on the disk is refused, or is read as it was saved.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use traintrue_protocol::plan::{Plan, Start, Stop};
use traintrue_protocol::trace::event::State;
use traintrue_protocol::trainer::record;
use traintrue_protocol::vocabulary::Moment;
use traintrue_reference::Reference;

use crate::in_process::{Bench, state};
use crate::inputs;
use crate::properties::{config, essence};

/// What happens to bytes: a bit, a page that was never written, a file that ends too early, bytes of another place.
#[derive(Clone, Copy, Debug)]
enum Change {
    FlipBit(u8),
    Zero(u16),
    CutOff,
    Copy(Index),
}

/// One change, at a place of one of the checkpoint's files.
#[derive(Clone, Copy, Debug)]
struct Damage {
    file: Index,
    at: Index,
    change: Change,
}

fn damage() -> impl Strategy<Value = Damage> {
    let change = prop_oneof![
        4 => (0u8..8).prop_map(Change::FlipBit),
        1 => (1u16..4096).prop_map(Change::Zero),
        1 => Just(Change::CutOff),
        1 => any::<Index>().prop_map(Change::Copy),
    ];
    (any::<Index>(), any::<Index>(), change).prop_map(|(file, at, change)| Damage { file, at, change })
}

impl Damage {
    fn apply(self, folder: &Path) {
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        let path = self.file.get(&files);
        let mut bytes = fs::read(path).unwrap();
        let at = self.at.index(bytes.len());
        match self.change {
            Change::FlipBit(bit) => bytes[at] ^= 1 << bit,
            Change::Zero(length) => bytes.iter_mut().skip(at).take(length.into()).for_each(|it| *it = 0),
            Change::CutOff => bytes.truncate(at),
            Change::Copy(from) => bytes[at] = *from.get(&bytes),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// A checkpoint inside a window, and what it must come back as.
struct Saved {
    bench: Bench,
    plan: Plan,
    state: State,
}

impl Saved {
    fn new() -> Self {
        let (bench, plan) = (Bench::new(), serde_json::from_str::<Plan>(inputs::PLAN).unwrap());
        let stop = Stop { epoch: 0, micro_batches: 1, save: Some(bench.path("saved")) };
        let trace = bench.train("saved.jsonl", &Plan { stop: Some(stop), ..plan.clone() });
        Self { state: essence(state(&trace, Moment::End)), bench, plan }
    }

    /// Resumes from a damaged copy. None if the trainer refuses it.
    fn resume(&self, damage: Damage) -> Option<State> {
        let copy = tempfile::tempdir().unwrap();
        let checkpoint = fs::read_dir(self.bench.path("saved")).unwrap().next().unwrap().unwrap().path();
        let folder = copy.path().join(checkpoint.file_name().unwrap());
        fs::create_dir(&folder).unwrap();
        for file in fs::read_dir(checkpoint).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        damage.apply(&folder);
        let start = Start { from: copy.path().to_owned(), what: Default::default() };
        let stop = Stop { epoch: 0, micro_batches: 1, save: None };
        let plan = Plan { start: Some(start), stop: Some(stop), ..self.plan.clone() };
        let mut trace = tempfile::NamedTempFile::new().unwrap();
        record(&mut Reference::default(), &plan, &mut trace).ok()?;
        Some(essence(state(trace.path(), Moment::Loaded)))
    }
}

fn damaged(cases: u32) {
    let saved = Saved::new();
    let (refused, harmless) = (Cell::new(0), Cell::new(0));
    let checked = TestRunner::new(config(cases)).run(&damage(), |damage| {
        match saved.resume(damage) {
            None => refused.set(refused.get() + 1),
            Some(found) => {
                harmless.set(harmless.get() + 1);
                prop_assert_eq!(&found, &saved.state);
            }
        }
        Ok(())
    });
    checked.unwrap();
    println!("{} refused, {} harmless", refused.get(), harmless.get());
    assert!(refused > harmless);
}

#[test]
fn a_damaged_checkpoint_is_refused_or_harmless() {
    damaged(300);
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_damaged_checkpoints_are_refused_or_harmless() {
    damaged(10_000);
}
