//! Why another grouping of the same samples has other gradients by right, as far as the trace of a run tells.

use traintrue_protocol::trace::event::{Cursor, State};
use traintrue_protocol::trace::{Event, TraceError, TraceReader};
use traintrue_protocol::vocabulary::Moment;

use crate::rule::RunEvidence;

/// The reason, where there is one.
pub(super) fn coupled(run: &RunEvidence) -> Result<Option<&'static str>, TraceError> {
    let Some(path) = run.segments.first() else { return Ok(None) };
    let mut before: Option<(Cursor, String)> = None;
    for line in TraceReader::open(path)? {
        match &line?.event {
            Event::State(it) if it.parts.contains_key(State::BATCH_STATISTICS) => {
                return Ok(Some("a layer takes statistics of its batch"));
            }
            Event::State(it) if it.at == Moment::Update => {
                let now = it.cursor.zip(it.rng.clone());
                // A new epoch may draw its order, or what its loader begins with. Its end may be told as the next one's
                // beginning.
                if let Some(((was, rng), (is, next))) = before.take().zip(now.clone())
                    && (was.epoch == is.epoch
                        || (is.epoch == was.epoch.saturating_add(1) && is.micro_batches == 0))
                {
                    return Ok((rng != next).then_some("micro-batches draw random numbers"));
                }
                before = now;
            }
            Event::Evaluation(_) | Event::Checkpoint(_) | Event::Probe(_) | Event::Epoch(_) => before = None,
            _ => {}
        }
    }
    Ok(None)
}
