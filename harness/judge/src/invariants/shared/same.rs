//! Walks two runs in step and finds the first event in which they differ.
//!
//! Both are streams: only the open window and the last state are in memory. A resumed segment is compared from where
//! the segment before it stopped. A segment after a killed one is compared from the cursor that it loaded.

use std::path::PathBuf;

use traintrue_protocol::trace::event::{Cursor, EndReason, State};
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Moment;

use crate::arithmetic::Counts;
use crate::finding::Sheet;
use crate::invariants::shared::fields::{self, Differs, Values};
use crate::invariants::shared::spread::{self, Measured, Spread};
use crate::invariants::shared::stream::Stream;
use crate::rule::RunEvidence;

/// Which events are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Micro-batches and updates.
    Training,
    /// Evaluations, and states after updates, too.
    Trajectory,
    /// Every state, probe and epoch, too.
    Everything,
}

impl Scope {
    fn takes(self, event: &Event) -> bool {
        match event {
            Event::MicroBatch(_) | Event::Update(_) => true,
            Event::Evaluation(_) => self != Self::Training,
            Event::State(it) => {
                self == Self::Everything || (self == Self::Trajectory && it.at == Moment::Update)
            }
            Event::Probe(_) | Event::Operation(_) | Event::Epoch(_) => self == Self::Everything,
            _ => false,
        }
    }
}

/// How two runs differ.
pub(crate) enum Parting {
    /// Both train, at different places. Holds the other run's place.
    Place(Cursor),
    /// The run closes its window; the other does not.
    Early,
    /// The other run closes its window; the run does not. Holds how the run's window ends.
    Late(Closing),
    /// The run has an event that the other does not have. Holds the other's event, unless it has ended.
    Event(Option<&'static str>),
    /// The run is done; the other continues.
    Short,
    /// A field differs.
    Field(Differs),
}

/// A micro-batch of the open window.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) place: Cursor,
    pub(crate) samples: Vec<u64>,
}

/// How a late window ends.
pub(crate) struct Closing {
    /// Its last micro-batch. None if the run ends before the update.
    pub(crate) last: Option<Cursor>,
    /// Micro-batches trained since the cut, or since the last update if there was no cut.
    pub(crate) holds: u64,
}

/// The first event in which the run differs from the other.
pub(crate) struct Divergence {
    pub(crate) segment: usize,
    pub(crate) line: Line,
    pub(crate) parting: Parting,
    /// The micro-batches since the run's last update.
    pub(crate) window: Vec<Held>,
    /// How many of them are from before the last cut.
    pub(crate) before_cut: usize,
    /// Whether the loaded state has the saved window and the saved gradients: then those micro-batches are not lost.
    pub(crate) restored: bool,
}

/// A loaded state that differs from the saved one.
pub(crate) struct Suspect {
    pub(crate) segment: usize,
    pub(crate) line: Line,
    pub(crate) differs: Differs,
}

/// What a walk found.
#[derive(Default)]
pub(crate) struct Walked {
    pub(crate) divergence: Option<Divergence>,
    pub(crate) suspect: Option<Suspect>,
}

/// How the values of the two runs are compared.
enum Hold<'a> {
    /// Bit for bit, unless a trace says that its trainer is not deterministic.
    Declared { deterministic: bool },
    /// Within the spread of the other run's repeats.
    Within(Spread),
    /// The two are repeats, and their spread is being measured.
    Measuring(&'a mut Spread),
}

/// Compares `run` with `against`: within the spread of the latter's repeats if there are any, otherwise bit for bit.
pub(crate) fn walk(
    run: &RunEvidence,
    against: &RunEvidence,
    scope: Scope,
    sheet: &mut Sheet,
) -> Result<Walked, TraceError> {
    let hold = match spread::measure(against)? {
        Measured::Nothing => Hold::Declared { deterministic: true },
        Measured::Spread(spread) => {
            if let Some((field, distance)) = spread.widest() {
                sheet.remark(format!(
                    "the repeats of {} differ by up to {distance:.1e} in {field}",
                    against.name
                ));
            }
            Hold::Within(spread)
        }
        Measured::Disorder(what) => {
            sheet.cannot(&spread::in_disorder(&against.name, &what));
            return Ok(Walked::default());
        }
    };
    walk_holding(run, against, scope, hold, sheet)
}

/// Compares two repeats of one plan and notes the distances of their values. Only different events count as a
/// difference.
pub(crate) fn walk_measuring(
    run: &RunEvidence,
    against: &RunEvidence,
    scope: Scope,
    spread: &mut Spread,
) -> Result<Option<Divergence>, TraceError> {
    // A spread is no verdict, so the comparisons go to a sheet that is thrown away.
    let walked = walk_holding(run, against, scope, Hold::Measuring(spread), &mut Sheet::default())?;
    Ok(walked.divergence)
}

fn walk_holding(
    run: &RunEvidence,
    against: &RunEvidence,
    scope: Scope,
    hold: Hold,
    sheet: &mut Sheet,
) -> Result<Walked, TraceError> {
    let mut walk = Walk::new(&against.segments, scope, hold);
    for (index, segment) in run.segments.iter().enumerate() {
        // The walk keeps its window and its place across segments: a window may begin before a cut and close after
        // it.
        walk.begin(index);
        let divergence = walk.segment(&mut Stream::of(std::slice::from_ref(segment)), sheet)?;
        if divergence.is_some() {
            return Ok(Walked { divergence, suspect: walk.suspect });
        }
    }
    Ok(Walked { divergence: None, suspect: walk.suspect })
}

/// Compares only the last segment with `against`, from the cursor that it loaded.
pub(crate) fn walk_last(
    run: &RunEvidence,
    against: &RunEvidence,
    scope: Scope,
    sheet: &mut Sheet,
) -> Result<Option<Divergence>, TraceError> {
    let Some((last, _)) = run.segments.split_last() else {
        return Ok(None);
    };
    let mut walk = Walk::new(&against.segments, scope, Hold::Declared { deterministic: true });
    walk.begin(run.segments.len() - 1);
    walk.segment(&mut Stream::of(std::slice::from_ref(last)), sheet)
}

struct Walk<'a> {
    others: &'a [PathBuf],
    other: Stream<'a>,
    scope: Scope,
    hold: Hold<'a>,
    /// Updates done.
    updates: u64,
    counts: Option<Counts>,
    segment: usize,
    window: Vec<Held>,
    before_cut: usize,
    /// The place after the last micro-batch.
    next: Option<Cursor>,
    /// The state at the end of the segment before.
    saved: Option<State>,
    loaded: Option<Cursor>,
    ended: Option<EndReason>,
    restored: bool,
    suspect: Option<Suspect>,
}

impl<'a> Walk<'a> {
    fn new(others: &'a [PathBuf], scope: Scope, hold: Hold<'a>) -> Self {
        Self {
            others,
            other: Stream::of(others),
            scope,
            hold,
            updates: 0,
            counts: None,
            segment: 0,
            window: Vec::new(),
            before_cut: 0,
            next: None,
            saved: None,
            loaded: None,
            ended: None,
            restored: false,
            suspect: None,
        }
    }

    fn begin(&mut self, segment: usize) {
        self.segment = segment;
        self.before_cut = self.window.len();
        self.loaded = None;
        self.restored = false;
    }

    fn segment(&mut self, run: &mut Stream, sheet: &mut Sheet) -> Result<Option<Divergence>, TraceError> {
        // The first segment begins where the other run does. Later ones wait for their first event, because only then
        // is the loaded cursor known.
        let mut laid = self.segment == 0;
        while let Some(line) = self.next_of(run, sheet)? {
            if !laid {
                self.lay_over()?;
                laid = true;
            }
            let scope = self.scope;
            // Both runs advance by one event at a time, so the first pair that differs is the first difference.
            let other = self.other.next_where(|event| scope.takes(event))?;
            let parting = self.compare(&line, other.as_ref(), sheet);
            if let Some(parting) = parting {
                return Ok(Some(self.diverge(line, parting, run)?));
            }
            // An update closes the window: what was lost before it cannot explain a later difference.
            if matches!(line.event, Event::Update(_)) {
                self.window.clear();
                self.before_cut = 0;
            }
        }
        if !laid {
            self.lay_over()?;
        }
        self.at_end(run, sheet)
    }

    /// The run's next event to compare. Events in between set the contract, the cursor and the saved state.
    fn next_of(&mut self, run: &mut Stream, sheet: &mut Sheet) -> Result<Option<Line>, TraceError> {
        while let Some(line) = run.next()? {
            match &line.event {
                Event::Run(it) => {
                    if let Hold::Declared { deterministic } = &mut self.hold {
                        // Any segment may declare that the trainer is not deterministic, for example on another
                        // device.
                        *deterministic &= it.contract.deterministic;
                    }
                    self.counts = Some(Counts::of(&it.plan, &it.contract));
                    self.loaded = None;
                }
                Event::Checkpoint(it) if self.loaded.is_none() => {
                    self.loaded = Some(Cursor { epoch: it.epoch, micro_batches: it.micro_batches });
                }
                Event::State(it) if it.at == Moment::Loaded => {
                    self.loaded = it.cursor.or(self.loaded);
                    self.look_at_loaded(it, &line, sheet);
                }
                Event::State(it) if it.at == Moment::End => self.saved = Some(State::clone(it)),
                Event::End(it) => {
                    self.ended = Some(it.reason);
                    // The end event goes back to the stream: the finding of a run that ends too early points to it.
                    run.hold(line);
                    return Ok(None);
                }
                _ => {}
            }
            if self.scope.takes(&line.event) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    fn look_at_loaded(&mut self, loaded: &State, line: &Line, sheet: &mut Sheet) {
        let (Some(saved), Some(counts)) = (self.saved.take(), self.counts) else {
            return;
        };
        // A window digest tells restored gradients from lost ones. Without this check a correct resume would be
        // blamed for the window.
        self.restored = (saved.window, &saved.window_digest) == (loaded.window, &loaded.window_digest);
        let differs = fields::compare_states(loaded, &saved, counts, sheet);
        if let Some(differs) = differs.filter(|_| self.suspect.is_none()) {
            self.suspect = Some(Suspect { segment: self.segment, line: line.clone(), differs });
        }
    }

    /// Moves the other run to where this segment should continue.
    fn lay_over(&mut self) -> Result<(), TraceError> {
        let from = match self.ended.take().filter(|reason| *reason != EndReason::Error).and(self.next) {
            Some(next) => next,
            None => {
                // A segment that died or ended with an error may have trained beyond its checkpoint, so the cursor of
                // the checkpoint counts and not the last micro-batch.
                self.other = Stream::of(self.others);
                self.window.clear();
                self.before_cut = 0;
                self.loaded.unwrap_or(Cursor { epoch: 0, micro_batches: 0 })
            }
        };
        // Skips by place and not by number of events: the other run may evaluate or save at other places.
        let due = self.other.next_where(|event| {
            matches!(event, Event::MicroBatch(it) if (it.epoch, it.index) >= (from.epoch, from.micro_batches))
        })?;
        if let Some(line) = due {
            self.other.hold(line);
        }
        Ok(())
    }

    fn compare(&mut self, line: &Line, other: Option<&Line>, sheet: &mut Sheet) -> Option<Parting> {
        // The other run is over while this one continues.
        let Some(other) = other else {
            return Some(Parting::Event(None));
        };
        if let Event::MicroBatch(it) = &line.event {
            let place = Cursor { epoch: it.epoch, micro_batches: it.index };
            self.window.push(Held { place, samples: it.samples.clone().unwrap_or_default() });
            self.next = Some(Cursor { micro_batches: it.index.saturating_add(1), ..place });
        }
        if let Event::Update(it) = &line.event {
            self.updates = it.step;
        }
        sheet.compared += 1;
        match (&line.event, &other.event) {
            (Event::MicroBatch(run), Event::MicroBatch(other))
                if (run.epoch, run.index) != (other.epoch, other.index) =>
            {
                Some(Parting::Place(Cursor { epoch: other.epoch, micro_batches: other.index }))
            }
            // An update against a micro-batch is a window that closes at another place. It explains more than two
            // events of different kinds.
            (Event::Update(_), Event::MicroBatch(_)) => Some(Parting::Early),
            (Event::MicroBatch(_), Event::Update(_)) => Some(Parting::Late(Closing { last: None, holds: 0 })),
            (run, other) if run.name() != other.name() => Some(Parting::Event(Some(other.name()))),
            (run, other) => {
                let values = match &mut self.hold {
                    Hold::Declared { deterministic: true } => Values::Bits,
                    Hold::Declared { deterministic: false } => Values::Unknown,
                    Hold::Within(spread) => Values::Within(spread, self.updates),
                    Hold::Measuring(spread) => Values::Measured(spread, self.updates),
                };
                fields::compare(run, other, values, sheet).map(Parting::Field)
            }
        }
    }

    fn diverge(&mut self, line: Line, parting: Parting, run: &mut Stream) -> Result<Divergence, TraceError> {
        let parting = match parting {
            Parting::Late(_) => Parting::Late(self.closing(run)?),
            other => other,
        };
        Ok(Divergence {
            segment: self.segment,
            line,
            parting,
            window: std::mem::take(&mut self.window),
            before_cut: self.before_cut,
            restored: self.restored,
        })
    }

    /// Reads to the run's next update, so that the finding can say what is in it.
    fn closing(&self, run: &mut Stream) -> Result<Closing, TraceError> {
        let mut holds = (self.window.len() - self.before_cut) as u64;
        let mut last =
            self.next.map(|next| Cursor { micro_batches: next.micro_batches.saturating_sub(1), ..next });
        while let Some(line) =
            run.next_where(|event| matches!(event, Event::MicroBatch(_) | Event::Update(_)))?
        {
            match line.event {
                Event::MicroBatch(it) => {
                    holds += 1;
                    last = Some(Cursor { epoch: it.epoch, micro_batches: it.index });
                }
                _ => return Ok(Closing { last, holds }),
            }
        }
        Ok(Closing { last: None, holds })
    }

    /// If the run is done, the other must have no events left.
    fn at_end(&mut self, run: &mut Stream, sheet: &mut Sheet) -> Result<Option<Divergence>, TraceError> {
        if self.ended != Some(EndReason::Done) {
            return Ok(None);
        }
        let (scope, end) = (self.scope, run.next()?);
        sheet.compared += 1;
        match (end, self.other.next_where(|event| scope.takes(event))?) {
            (Some(end), Some(_)) => Ok(Some(self.diverge(end, Parting::Short, run)?)),
            _ => Ok(None),
        }
    }
}
