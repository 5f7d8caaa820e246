//! One run a place at which a process dies while it saves.
//!
//! The part before the death is run once, and its checkpoints are copied. Then the dying segment is run once alive, to
//! learn how many file operations it makes, or how long it takes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rayon::prelude::*;
use traintrue_judge::evidence::{Evidence, RunRecord};
use traintrue_judge::rule::RunEvidence;
use traintrue_protocol::vocabulary::Capability;

use super::{Happening, Runner, RunnerError, create, join, last_saved, trace_name};
use crate::scenario::{ConcreteRun, Deaths, Dies};

/// A process is run for each.
const OPERATIONS_MOST: u64 = 10_000;

impl Runner<'_> {
    pub(super) fn deaths(
        &self,
        scenario: &str,
        run: &ConcreteRun,
        deaths: Deaths,
        traces: &Path,
    ) -> Result<Evidence, RunnerError> {
        let by_itself = !matches!(deaths, Deaths::Killed { .. });
        if by_itself && !self.capabilities.contains(&Capability::FileFaults) {
            return Ok(unjudged(format!("no {}", Capability::FileFaults)));
        }
        let mut prepared = run.dying(&format!("{}-prepared", run.name), None);
        prepared.segments.truncate(1);
        let before = self.follow(&prepared, traces, RunRecord::new(&prepared.name))?;
        let Some(record) = before.runs.first().filter(|record| record.as_meant()) else {
            return Ok(before);
        };

        let living = run.dying(&format!("{}-living", run.name), None);
        copy(&prepared.checkpoints, &living.checkpoints)?;
        let trace = traces.join(trace_name(&living, 1));
        let ending = self.segment(&living.segments[1], &trace, None)?;
        let wall = ending.wall;
        if !ending.as_meant {
            let evidence = RunEvidence { name: living.name, segments: vec![trace], repeats: Vec::new() };
            let record = RunRecord { evidence, endings: vec![ending], complete: false };
            return Ok(Evidence::of(record));
        }
        let operations = last_saved(&trace).and_then(|checkpoint| checkpoint.operations);
        if by_itself && operations.is_some_and(|operations| operations > OPERATIONS_MOST) {
            let reason = format!(
                "{}: a save of more than {OPERATIONS_MOST} file operations: a death before each is too many",
                run.name
            );
            return Ok(unjudged(reason));
        }
        let places: Vec<(usize, Dies)> = places(deaths, operations, wall).into_iter().enumerate().collect();
        if places.is_empty() {
            let reason = format!("{}: no file operations in the trace", run.name);
            return Ok(unjudged(reason));
        }

        let evidence = places.par_iter().map(|&(at, dies)| {
            let run = run.dying(&format!("{}-{:03}", run.name, at + 1), Some(dies));
            copy(&prepared.checkpoints, &run.checkpoints)?;
            let mut begun = record.clone();
            begun.evidence.name.clone_from(&run.name);
            let evidence = self.follow(&run, traces, begun);
            self.observer.see(Happening::Ran { scenario, run: &run.name });
            evidence
        });
        join(evidence.collect())
    }
}

fn unjudged(reason: String) -> Evidence {
    Evidence { unjudged: vec![reason], ..Evidence::default() }
}

/// Every operation of the living run; or moments evenly over its time.
fn places(deaths: Deaths, operations: Option<u64>, wall: Duration) -> Vec<Dies> {
    let each = |lose_unsynced| {
        (1..=operations.unwrap_or(0))
            .map(move |number| Dies::BeforeOperation { number, lose_unsynced })
            .collect()
    };
    match deaths {
        Deaths::BeforeEachOperation => each(false),
        Deaths::PowerCut => each(true),
        Deaths::Killed { count } => {
            let moment = |at: u64| wall.mul_f64((at as f64 + 0.5) / count as f64);
            (0..count).map(|at| Dies::Killed { after: moment(at) }).collect()
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), RunnerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RunnerError::Folder { path, source }
    };
    create(to)?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(failed(&target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_dies_before_every_operation_in_turn_or_at_moments_spread_over_its_life() {
        let wall = Duration::from_secs(4);
        let dies = |number, lose_unsynced| Dies::BeforeOperation { number, lose_unsynced };
        let killed = |millis| Dies::Killed { after: Duration::from_millis(millis) };
        assert_eq!(places(Deaths::BeforeEachOperation, Some(2), wall), [dies(1, false), dies(2, false)]);
        assert_eq!(places(Deaths::PowerCut, Some(1), wall), [dies(1, true)]);
        assert_eq!(places(Deaths::PowerCut, None, wall), []);
        assert_eq!(places(Deaths::Killed { count: 2 }, None, wall), [killed(1000), killed(3000)]);
    }
}
