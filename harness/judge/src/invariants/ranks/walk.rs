//! The traces of all ranks of a run, read side by side from one update to the next.

use std::iter::Enumerate;
use std::path::PathBuf;
use std::slice::Iter;

use traintrue_protocol::trace::event::{Evaluation, MicroBatch, Run, State, Update};
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};

use crate::rule::RunEvidence;

/// What one rank did from the end of one update to the end of the next: its micro-batches, the update, and what followed it.
pub(super) struct Turn {
    /// The rank and the segment of its traces.
    pub(super) place: (usize, usize),
    /// In their order, without the samples of memory.
    pub(super) lines: Vec<Line>,
}

impl Turn {
    pub(super) fn update(&self) -> Option<(&Line, &Update)> {
        self.lines.iter().find_map(|line| match &line.event {
            Event::Update(it) => Some((line, it)),
            _ => None,
        })
    }

    pub(super) fn micro_batches(&self) -> impl Iterator<Item = (&Line, &MicroBatch)> {
        self.lines.iter().filter_map(|line| match &line.event {
            Event::MicroBatch(it) => Some((line, it)),
            _ => None,
        })
    }

    pub(super) fn states(&self) -> impl Iterator<Item = (&Line, &State)> {
        self.lines.iter().filter_map(|line| match &line.event {
            Event::State(it) => Some((line, it.as_ref())),
            _ => None,
        })
    }

    pub(super) fn evaluations(&self) -> impl Iterator<Item = (&Line, &Evaluation)> {
        self.lines.iter().filter_map(|line| match &line.event {
            Event::Evaluation(it) => Some((line, it)),
            _ => None,
        })
    }
}

/// A reader over all ranks. It holds one turn of each.
pub(super) struct Walk<'a> {
    /// The first line of rank 0.
    pub(super) opening: Run,
    ranks: Vec<Reading<'a>>,
}

struct Reading<'a> {
    segments: Enumerate<Iter<'a, PathBuf>>,
    segment: usize,
    reader: Option<TraceReader>,
    /// The first line of the next turn.
    held: Option<Line>,
}

impl<'a> Walk<'a> {
    /// None where rank 0 has no first line.
    pub(super) fn of(ranks: &[&'a RunEvidence]) -> Result<Option<Self>, TraceError> {
        let Some(path) = ranks.first().and_then(|rank| rank.segments.first()) else { return Ok(None) };
        let Some(Line { event: Event::Run(opening), .. }) = TraceReader::open(path)?.next().transpose()?
        else {
            return Ok(None);
        };
        let reading = |rank: &&'a RunEvidence| Reading {
            segments: rank.segments.iter().enumerate(),
            segment: 0,
            reader: None,
            held: None,
        };
        Ok(Some(Self { opening: *opening, ranks: ranks.iter().map(reading).collect() }))
    }

    /// The next turn of every rank, in their order: empty for a rank that has ended before others. None once all have.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Turn>>, TraceError> {
        let turns: Result<Vec<Turn>, TraceError> =
            self.ranks.iter_mut().enumerate().map(|(rank, reading)| reading.turn(rank)).collect();
        Ok(Some(turns?).filter(|turns| turns.iter().any(|turn| !turn.lines.is_empty())))
    }
}

impl Reading<'_> {
    fn turn(&mut self, rank: usize) -> Result<Turn, TraceError> {
        let mut lines: Vec<Line> = Vec::new();
        lines.extend(self.held.take());
        let mut updated = false;
        loop {
            let Some(line) = self.reader.as_mut().and_then(Iterator::next).transpose()? else {
                // A turn does not go over the end of a trace, so that its place is one.
                if !lines.is_empty() {
                    break;
                }
                let Some((at, path)) = self.segments.next() else { break };
                (self.segment, self.reader) = (at, Some(TraceReader::open(path)?));
                continue;
            };
            match &line.event {
                Event::Memory(_) => continue,
                Event::MicroBatch(_) | Event::Epoch(_) if updated => {
                    self.held = Some(line);
                    break;
                }
                Event::Update(_) => updated = true,
                _ => {}
            }
            lines.push(line);
        }
        Ok(Turn { place: (rank, self.segment), lines })
    }
}
