//! `seam/identical`: a run that is stopped and resumed continues as the uninterrupted run.

use traintrue_protocol::trace::event::{Cursor, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, TraceError};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::resume::recorded;
use crate::invariants::shared::fields::{self, Differs};
use crate::invariants::shared::place::{Place, first_ids, micro_batches};
use crate::invariants::shared::same::{Closing, Divergence, Parting, Scope, Suspect, Walked, walk};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// A resumed run continues as the uninterrupted run.
pub static RULE: Rule = Rule {
    name: "seam/identical",
    says: "a run that was stopped and resumed equals the uninterrupted run bit for bit",
    verifies: "Each segment equals the uninterrupted run from where the segment before it stopped: micro-batches with \
               their samples and losses, updates with their windows, rates, norms and digests, evaluations and states. \
               What a segment loads equals what the segment before it saved. The first difference is reported with its \
               cause: place and samples, window, loaded state, field. A recorded script is compared from the update whose \
               parameters its resumed run starts with, which must not be older than its newest complete checkpoint.",
    does_not_verify: "That the uninterrupted run is right: a value that is NaN in both runs is equal (finite/everywhere \
                      reports it). Differences within the spread of a trainer that is not deterministic.",
    kind: Kind::Pair(judge),
    compares: Compares::Bits,
    judges_a_start: false,
    rank: Rank::Seam,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    if is_recorded(against)? {
        return recorded::judge(run, against, sheet);
    }
    let Walked { divergence, suspect } = walk(run, against, Scope::Trajectory, sheet)?;
    let Some(divergence) = divergence else {
        if let Some(suspect) = suspect {
            loaded(&suspect, sheet);
        }
        return Ok(());
    };
    // Place and window first: if samples or boundaries differ, every later value differs as a consequence.
    let structural = match (&divergence.parting, &divergence.line.event) {
        (Parting::Field(differs), Event::MicroBatch(it)) if differs.field == "samples" => {
            Some(order(it, differs, against)?)
                .filter(|found| suspect.is_none() || found.component != Component::Order)
        }
        _ => structure(&divergence),
    };
    match (structural, suspect) {
        (Some(difference), _) => report(&divergence, difference, sheet),
        // A wrong loaded state explains a wrong value at the seam, and the finding names the field.
        (None, Some(suspect)) => loaded(&suspect, sheet),
        (None, None) => report(&divergence, value(&divergence), sheet),
    }
    Ok(())
}

/// Whether the uninterrupted run is a script that follows no plan: it saves at places of its own.
fn is_recorded(against: &RunEvidence) -> Result<bool, TraceError> {
    Ok(Stream::of(&against.segments).run()?.is_some_and(|run| run.recorded.is_some()))
}

fn report(divergence: &Divergence, difference: Difference, sheet: &mut Sheet) {
    sheet.check_in(divergence.segment, false, &divergence.line, || difference);
}

fn loaded(suspect: &Suspect, sheet: &mut Sheet) {
    let (component, cause) = fields::of_state(suspect.differs.field);
    sheet.check_in(suspect.segment, false, &suspect.line, || Difference {
        expected: format!("{} {}, as saved", suspect.differs.field, suspect.differs.expected),
        actual: suspect.differs.actual.clone(),
        component,
        cause: cause.to_owned(),
    });
}

/// What differs in the order of events: place, window, length.
fn structure(divergence: &Divergence) -> Option<Difference> {
    match (&divergence.parting, &divergence.line.event) {
        (Parting::Place(due), Event::MicroBatch(it)) => Some(place(*due, it)),
        (Parting::Early, Event::Update(it)) => Some(Difference {
            expected: format!("{} before update {}", next_place(divergence), it.step),
            actual: format!("update {} after {}", it.step, micro_batches(divergence.window.len() as u64)),
            component: Component::Boundary,
            cause: "the window closes early: after the resume its micro-batches are counted from another place than \
                    before the cut"
                .into(),
        }),
        (Parting::Late(closing), _) => Some(late(divergence, closing)),
        (Parting::Field(differs), Event::Update(_)) if differs.field == "micro_batches" => Some(Difference {
            expected: format!("{} micro-batches in the update", differs.expected),
            actual: differs.actual.clone(),
            component: Component::Boundary,
            cause: lost(divergence).unwrap_or_else(|| "the update leaves out micro-batches of its window".into()),
        }),
        (Parting::Event(other), event) => Some(Difference {
            expected: other.map_or("the end".into(), |name| format!("{name} event")),
            actual: format!("{} event", event.name()),
            component: Component::Protocol,
            cause: "the resumed run has another event here than the uninterrupted run".into(),
        }),
        (Parting::Short, _) => Some(Difference {
            expected: "the rest of the uninterrupted run".into(),
            actual: "the run is done".into(),
            component: Component::Cursor,
            cause: "the resumed run ends before the uninterrupted run: it skips the remaining micro-batches".into(),
        }),
        _ => None,
    }
}

fn place(due: Cursor, it: &MicroBatch) -> Difference {
    let here = Cursor { epoch: it.epoch, micro_batches: it.index };
    let (due_name, here_name) = (Place::from(due), Place::from(here));
    Difference {
        expected: due_name.to_string(),
        actual: here_name.to_string(),
        component: Component::Cursor,
        cause: if here > due {
            format!(
                "the resumed run skips the micro-batches from {due_name} until {here_name}: check the data loader's \
                 offset after the resume"
            )
        } else {
            format!(
                "the resumed run trains again from {here_name} until {due_name}: check the data loader's offset after \
                 the \
                 resume"
            )
        },
    }
}

fn next_place(divergence: &Divergence) -> String {
    let last = divergence.window.last().map(|held| held.place);
    last.map_or("a micro-batch".into(), |last| {
        Place { epoch: last.epoch, index: last.micro_batches.saturating_add(1) }.to_string()
    })
}

fn late(divergence: &Divergence, closing: &Closing) -> Difference {
    // The last micro-batch in the window is the one too many. The update was due after the one before it.
    let due = divergence.window.iter().rev().nth(1).map(|held| Place::from(held.place));
    Difference {
        expected: due.map_or("an update before this micro-batch".into(), |due| format!("an update after {due}")),
        actual: match closing.last {
            Some(last) => format!("an update after {}, with {}", Place::from(last), micro_batches(closing.holds)),
            None => format!("no update until the end, with {} in the open window", micro_batches(closing.holds)),
        },
        component: Component::Boundary,
        cause: lost(divergence).unwrap_or_else(|| {
            let held = match divergence.before_cut {
                0 => "",
                _ => ", and the micro-batches from before the cut are in the update too",
            };
            format!("the window closes late: after the resume its micro-batches are counted from another place{held}")
        }),
    }
}

/// Names the micro-batches from before the cut that an update leaves out.
fn lost(divergence: &Divergence) -> Option<String> {
    // Micro-batches from before the cut are lost only if the loaded state does not have them.
    let before = divergence.window.get(..divergence.before_cut).filter(|_| !divergence.restored)?;
    let (first, last) = (before.first()?, before.last()?);
    Some(format!(
        "the partial window was lost at the cut: {}, {} to {} (samples {}), never reach an update",
        micro_batches(before.len() as u64),
        Place::from(first.place),
        last.place.micro_batches,
        first_ids(before.iter().flat_map(|held| &held.samples)),
    ))
}

/// Other samples at the right place. Where the uninterrupted run has them tells an offset from another order.
fn order(it: &MicroBatch, differs: &Differs, against: &RunEvidence) -> Result<Difference, TraceError> {
    let found = places_of(it.samples.as_deref().unwrap_or_default(), against)?;
    // The same place in another epoch means a replayed order; another place means a wrong offset.
    let replayed = found.iter().find(|at| at.micro_batches == it.index && at.epoch != it.epoch);
    let shifted = found.iter().find(|at| at.epoch == it.epoch).or(found.first());
    let (component, cause) = match (replayed, shifted) {
        (Some(at), _) => {
            (Component::Order, format!("the order of epoch {} is used again in epoch {}: check that the sampler's \
                                        epoch is restored", at.epoch, it.epoch))
        }
        (None, Some(at)) if (at.epoch, at.micro_batches) > (it.epoch, it.index) => (
            Component::Cursor,
            format!("the data loader is at {}, and the micro-batches in between are skipped", Place::from(*at)),
        ),
        (None, Some(at)) => (
            Component::Cursor,
            format!("the data loader is at {}, and the micro-batches in between are trained again", Place::from(*at)),
        ),
        (None, None) => (
            Component::Order,
            "the uninterrupted run has no such micro-batch: the shuffle after the resume differs, check its seed".into(),
        ),
    };
    let cause = if replayed.is_some() || found.is_empty() {
        cause
    } else {
        format!("the offset in the data is wrong: {cause}")
    };
    Ok(Difference {
        expected: format!("samples {} at {}", differs.expected, Place { epoch: it.epoch, index: it.index }),
        actual: differs.actual.clone(),
        component: if replayed.is_some() { Component::Order } else { component },
        cause,
    })
}

fn places_of(samples: &[u64], run: &RunEvidence) -> Result<Vec<Cursor>, TraceError> {
    // Small batches can repeat; a few places are enough to recognise a pattern.
    const ENOUGH: usize = 8;
    let mut stream = Stream::of(&run.segments);
    let mut places = Vec::new();
    while let Some(line) = stream.next_where(
        |event| matches!(event, Event::MicroBatch(it) if it.samples.as_deref() == Some(samples)),
    )? {
        if let Event::MicroBatch(it) = line.event {
            places.push(Cursor { epoch: it.epoch, micro_batches: it.index });
        }
        if places.len() == ENOUGH {
            break;
        }
    }
    Ok(places)
}

/// What differs in value. Everything before it agreed, parameters included, so few parts of a trainer can be the cause.
fn value(divergence: &Divergence) -> Difference {
    let Parting::Field(differs) = &divergence.parting else {
        return blame(divergence, Component::Protocol, "the event differs from the uninterrupted run's");
    };
    if !differs.finite {
        return blame(
            divergence,
            Component::Numerics,
            "the value is NaN or infinite in one of the two runs only",
        );
    }
    let (component, cause) = match (&divergence.line.event, differs.field) {
        (Event::MicroBatch(_), "rows" | "width" | "tokens") => {
            (Component::Collator, "the collator makes a different batch of the same samples")
        }
        (Event::MicroBatch(_), "targets") => (Component::Labels, "the same samples have different labels"),
        (Event::MicroBatch(_), "loss weight") => {
            (Component::Normaliser, "the same samples give a different loss weight")
        }
        (Event::MicroBatch(_), _) => (
            Component::Rng,
            "samples and parameters are equal, so the random stream of dropout or the train/eval mode differs",
        ),
        (Event::Update(_), "step") => (Component::Step, "the number of updates was not restored"),
        (Event::Update(_), "targets") => {
            (Component::Boundary, "the update counts a different number of targets for the same window")
        }
        (Event::Update(_), "lr") => (
            Component::Schedule,
            "the schedule has another rate after the resume: check that its step is restored, and what its length is computed \
             from",
        ),
        (Event::Update(_), "grad_norm") if divergence.before_cut > 0 && divergence.restored => (
            Component::Window,
            "the window began before the cut, its saved gradients came back, and it makes another gradient: check that what it is \
             divided by counts the micro-batches from before the cut",
        ),
        // If the window crosses the cut, its saved gradients are the first suspect; otherwise the loss scaling is.
        (Event::Update(_), "grad_norm") if divergence.before_cut > 0 => (
            Component::Window,
            "the window began before the cut and its gradient differs: check that the saved gradients are restored",
        ),
        (Event::Update(_), "grad_norm") => (
            Component::Normaliser,
            "the losses are equal but the gradients are not: check how the loss is scaled",
        ),
        (Event::Update(it), "clipped_norm") if it.clipped_norm == it.grad_norm => {
            (Component::Clipper, "the resumed run does not clip: the norm stays what it was")
        }
        (Event::Update(_), "clipped_norm") => {
            (Component::Clipper, "gradients of equal norm are clipped to a different norm")
        }
        (Event::Update(_), "digest") => (
            Component::Moments,
            "gradients and learning rate are equal, and the step is not: check the optimizer's moments, its count of updates, and \
             the rate that it really uses",
        ),
        (Event::Evaluation(_), _) => {
            (Component::Evaluation, "the same parameters give a different evaluation")
        }
        (Event::State(_), field) => fields::of_state(field),
        _ => (Component::Numerics, "the event differs from the uninterrupted run's"),
    };
    blame(divergence, component, cause)
}

fn blame(divergence: &Divergence, component: Component, cause: &str) -> Difference {
    let (expected, actual) = match &divergence.parting {
        Parting::Field(differs) => {
            (format!("{} {}", differs.field, differs.expected), differs.actual.clone())
        }
        _ => ("the uninterrupted run's event".to_owned(), divergence.line.event.name().to_owned()),
    };
    Difference { expected, actual, component, cause: cause.to_owned() }
}

#[cfg(test)]
mod tests;
