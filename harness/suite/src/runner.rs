//! Runs a scenario's plans, a fresh process each, and keeps what they leave. It judges nothing.

mod damage;
mod deaths;
mod ranks;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rayon::prelude::*;
use traintrue_judge::evidence::{Ending, Evidence, RunRecord, SegmentEnding, declined};
use traintrue_judge::rule::run_name;
use traintrue_judge::verdict::Outcome;
use traintrue_protocol::trace::event::{Checkpoint, CheckpointEdge};
use traintrue_protocol::trace::{Event, TraceReader};
use traintrue_protocol::vocabulary::Capability;

use crate::program::{Ended, Errand, Program, ProgramError};
use crate::scenario::{ConcreteRun, DIED, Dies, Segment};
use ranks::Meeting;

/// Something that happened while scenarios were run and judged.
#[derive(Clone, Copy, Debug)]
pub enum Happening<'a> {
    /// A run came to its end.
    Ran {
        /// The scenario.
        scenario: &'a str,
        /// The run.
        run: &'a str,
    },
    /// A scenario was judged.
    Judged(&'a Outcome),
    /// A planted fault was tried.
    Tried {
        /// The fault.
        fault: &'a str,
    },
}

/// Told of progress while scenarios run.
pub trait Observer: Sync {
    /// Something happened.
    fn see(&self, happening: Happening<'_>);
}

/// Runs plans with one trainer.
pub struct Runner<'a> {
    /// The trainer.
    pub program: &'a Program,
    /// What it can do.
    pub capabilities: &'a [Capability],
    /// How long one process may take.
    pub timeout: Duration,
    /// Told of every run.
    pub observer: &'a dyn Observer,
}

/// The machine, not the trainer, stands in the way.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RunnerError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("{run}: no port for its ranks to meet at: {source}")]
    Port { run: String, source: io::Error },
    #[error("{path}: cannot write: {source}", path = .path.display())]
    Folder { path: PathBuf, source: io::Error },
}

impl Runner<'_> {
    /// Makes every run; the traces go to the folder `traces`.
    pub fn run(&self, scenario: &str, runs: &[ConcreteRun], traces: &Path) -> Result<Evidence, RunnerError> {
        create(traces)?;
        let together = |run: &ConcreteRun, next: &ConcreteRun| {
            run.is_rank() && run_name(&run.name) == run_name(&next.name)
        };
        let groups: Vec<&[ConcreteRun]> = runs.chunk_by(together).collect();
        join(groups.par_iter().map(|group| self.group(scenario, group, traces)).collect())
    }

    /// One run; or the ranks of one, at once.
    fn group(&self, scenario: &str, group: &[ConcreteRun], traces: &Path) -> Result<Evidence, RunnerError> {
        match group {
            [run] if !run.is_rank() => self.one(scenario, run, traces),
            ranks => self.ranks(scenario, ranks, traces),
        }
    }

    /// Makes a run again, `times` times; the traces of each, by segment. Fewer where one did not do what it was meant to.
    pub fn repeat(
        &self,
        run: &ConcreteRun,
        times: u64,
        traces: &Path,
    ) -> Result<Vec<Vec<PathBuf>>, RunnerError> {
        let again = (0..times).map(|time| run.called(&format!("{}-again-{}", run.name, time + 2)));
        let again: Vec<ConcreteRun> = again.collect();
        let evidence =
            join(again.par_iter().map(|run| self.follow(run, traces, RunRecord::new(&run.name))).collect())?;
        let whole = evidence.runs.into_iter().filter(|record| record.complete && record.as_meant());
        Ok(whole.map(|record| record.evidence.segments).collect())
    }

    fn one(&self, scenario: &str, run: &ConcreteRun, traces: &Path) -> Result<Evidence, RunnerError> {
        let evidence = match run.deaths {
            Some(deaths) => self.deaths(scenario, run, deaths, traces)?,
            None => self.follow(run, traces, RunRecord::new(&run.name))?,
        };
        self.observer.see(Happening::Ran { scenario, run: &run.name });
        Ok(evidence)
    }

    /// Goes on with a run from the segment after those that `record` has, up to its end or to the first that goes wrong.
    fn follow(
        &self,
        run: &ConcreteRun,
        traces: &Path,
        mut record: RunRecord,
    ) -> Result<Evidence, RunnerError> {
        create(&run.checkpoints)?;
        let mut unjudged = Vec::new();
        for (at, segment) in run.segments.iter().enumerate().skip(record.endings.len()) {
            if let Some(damage) = &segment.damage {
                let newest = record.evidence.segments.last().and_then(|trace| last_saved(trace));
                if let Err(problem) = damage::damage(newest.as_ref(), damage, &run.checkpoints) {
                    unjudged.push(format!("{}: {problem}", run.name));
                    break;
                }
            }
            let trace = traces.join(trace_name(run, at));
            let ending = self.segment(segment, &trace, None)?;
            let goes_on = ending.as_meant;
            record.evidence.segments.push(trace);
            record.endings.push(ending);
            record.complete = record.endings.len() == run.segments.len();
            if !goes_on {
                break;
            }
        }
        Ok(Evidence { unjudged, ..Evidence::of(record) })
    }

    fn segment(
        &self,
        segment: &Segment,
        trace: &Path,
        meeting: Option<&Meeting>,
    ) -> Result<SegmentEnding, RunnerError> {
        let kill_after = match segment.dies {
            Some(Dies::Killed { after }) => Some(after),
            _ => None,
        };
        let mut environment = segment.dies.map(Dies::environment).unwrap_or_default();
        environment.extend(meeting.iter().flat_map(|meeting| meeting.environment(&segment.plan.train)));
        let Ended { ending, wall } = self.program.run(&Errand {
            plan: &segment.plan,
            environment,
            given_up: meeting.map(|meeting| &meeting.given_up),
            trace,
            complaints: &trace.with_extension("stderr"),
            timeout: self.timeout,
            kill_after,
        })?;
        let ending = match (ending, declined(trace)) {
            (Ending::Done, Some(reason)) => Ending::Declined { reason },
            (ending, _) => ending,
        };
        let died = match segment.dies {
            None => false,
            Some(Dies::Killed { .. }) => ending == Ending::Killed,
            Some(Dies::BeforeOperation { .. }) => matches!(ending, Ending::Failed { code: Some(DIED), .. }),
            Some(Dies::WithError) => matches!(ending, Ending::Failed { code: Some(_), .. }),
        };
        // A moment may come too late; an operation that the living process made, or an error, may not.
        let may_live = !matches!(segment.dies, Some(Dies::BeforeOperation { .. } | Dies::WithError));
        let as_meant = died || (may_live && ending == Ending::Done);
        let plan = segment.plan.clone();
        Ok(SegmentEnding { plan, ending, wall, died, as_meant })
    }
}

fn join(parts: Vec<Result<Evidence, RunnerError>>) -> Result<Evidence, RunnerError> {
    let mut whole = Evidence::default();
    for part in parts {
        let part = part?;
        whole.runs.extend(part.runs);
        whole.unjudged.extend(part.unjudged);
        whole.declined.extend(part.declined);
    }
    Ok(whole)
}

/// `RUN.jsonl`, or `RUN.SEGMENT.jsonl` where there are several.
fn trace_name(run: &ConcreteRun, at: usize) -> String {
    match run.segments.len() {
        1 => format!("{}.jsonl", run.name),
        _ => format!("{}.{}.jsonl", run.name, at + 1),
    }
}

/// The last checkpoint that a trace says was saved.
fn last_saved(trace: &Path) -> Option<Checkpoint> {
    let lines = TraceReader::open(trace).ok()?.map_while(Result::ok);
    let saved = lines.filter_map(|line| match line.event {
        Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved => Some(it),
        _ => None,
    });
    saved.last()
}

fn create(folder: &Path) -> Result<(), RunnerError> {
    fs::create_dir_all(folder).map_err(|source| RunnerError::Folder { path: folder.to_owned(), source })
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
