//! `ranks/mean-gradient`: what every rank applies is the mean over the micro-batches of all ranks.

mod cause;

use std::collections::BTreeMap;

use traintrue_protocol::contract::{Contract, Gradients, Normaliser};
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::{MicroBatch, Run, TensorStep};

use super::walk::{Turn, Walk};
use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Relative to the largest of a tensor's sums: float32 sums of a few micro-batches and ranks.
const TOLERANCE: f64 = 1e-4;

/// Ranks average.
pub static RULE: Rule = Rule {
    name: "ranks/mean-gradient",
    says: "every rank applies the mean gradient of the micro-batches of all ranks, as the contract normalises it",
    verifies: "At a few places of every tensor: the gradient before clipping is the sum, over all ranks and micro-batches \
               of the window, of what each backward pass added, with the weights of the contract: `tokens` gives each \
               target of all ranks one weight, `micro-batches` each micro-batch. Where it is not, least squares tell \
               which combination it is.",
    does_not_verify: "Other places of a tensor. The gradient of one backward pass (ranks/equal-one). Losses of several heads. \
                      A recorded loop has no contract: there the micro-batches must have one weight, whichever.",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[],
};

/// One micro-batch of one rank, with the weight that it should have in what is applied.
#[derive(Clone)]
struct Part {
    rank: usize,
    /// In its window, from 0.
    index: usize,
    weight: f64,
    /// Targets in it.
    targets: f64,
}

/// What the ranks added to one tensor.
struct Added<'a> {
    name: &'a str,
    shape: &'a [u64],
    /// One per part.
    by_part: Vec<&'a [Number]>,
}

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    while let Some(turns) = walk.next()? {
        let told: Option<Vec<&[TensorStep]>> = turns.iter().map(told).collect();
        let Some(told) = told else { continue };
        match update(&turns, &told, &walk.opening, sheet) {
            Ok(()) if sheet.broken.is_some() => break,
            Ok(()) => {}
            Err(why) => sheet.cannot(why),
        }
    }
    if sheet.compared == 0 && sheet.broken.is_none() {
        sheet.blind("gradients of single micro-batches");
    }
    Ok(())
}

/// What the turn's update tells of its tensors.
fn told(turn: &Turn) -> Option<&[TensorStep]> {
    Some(turn.update()?.1.tensors.as_slice()).filter(|told| !told.is_empty())
}

/// One update of all ranks. Fails with the reason why it cannot be judged.
fn update(
    turns: &[Turn],
    told: &[&[TensorStep]],
    opening: &Run,
    sheet: &mut Sheet,
) -> Result<(), &'static str> {
    let recorded = opening.recorded.is_some();
    let parts = if recorded { alike(told) } else { parts(turns, &opening.contract)? };
    // A window that another process opened is not told whole.
    let added = added(told, &parts).ok_or("a window is not told whole")?;
    let tolerance = TOLERANCE.max(16.0 * bound::unit_roundoff(opening.plan.train.dtype));
    for (rank, turn) in turns.iter().enumerate() {
        let Some((line, it)) = turn.update() else { continue };
        let first = |applied: &[TensorStep]| {
            let scaled = if recorded { scaled(applied, &added, &parts) } else { parts.clone() };
            let mut pairs = tensors_in_turn(applied, &added);
            pairs.find_map(|(tensor, own)| {
                Some((tensor.name.clone(), differs(tensor, own, &scaled, tolerance)?))
            })
        };
        // A recorded loop may average by hand after its backward passes: what the step was given then counts.
        let differs =
            first(told[rank]).filter(|_| !recorded || first(&when_the_step_began(told[rank])).is_some());
        let Some((name, (expected, found))) = differs else {
            sheet.compared += told[rank].len() as u64;
            continue;
        };
        let window = cause::Window { parts: &parts, added: &added, world: turns.len(), tolerance };
        sheet.check_on(turn.place, false, line, || {
            let (component, cause) = window.cause(told, rank);
            Difference {
                expected: format!("a gradient of {expected} at a place of {name} in update {}", it.step),
                actual: format!("{found} on rank {rank}"),
                component,
                cause,
            }
        });
    }
    Ok(())
}

/// The tensors with the gradient that the step was given in the place of the one after the last backward pass.
fn when_the_step_began(tensors: &[TensorStep]) -> Vec<TensorStep> {
    let given = |tensor: &TensorStep| match tensor.gradient.as_slice() {
        [] => tensor.clone(),
        gradient => TensorStep { unclipped: gradient.to_vec(), ..tensor.clone() },
    };
    tensors.iter().map(given).collect()
}

/// The micro-batches of the window of all ranks. A backward pass ran on `backward` in the place of the summed loss: what it
/// added counts as the gradient of that sum, scaled by their ratio.
fn parts(turns: &[Turn], contract: &Contract) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    let lm = |it: &MicroBatch| match it.losses.as_slice() {
        [loss] => Ok((loss.sum.0, loss.weight.0)),
        _ => Err("a micro-batch has several losses, or none"),
    };
    let windows: Vec<(usize, Vec<&MicroBatch>)> =
        turns.iter().map(|turn| (turn.place.0, turn.micro_batches().map(|(_, it)| it).collect())).collect();
    let micro_batches: usize = windows.iter().map(|(_, window)| window.len()).sum();
    let mut all = 0.0;
    for it in windows.iter().flat_map(|(_, window)| window) {
        all += lm(it)?.1;
    }
    for (rank, window) in &windows {
        for (index, it) in window.iter().enumerate() {
            let (sum, targets) = lm(it)?;
            let backward = it.backward.ok_or("no value in the trace that backward ran on")?.0;
            let divisor = match (contract.gradients, contract.normaliser) {
                (Gradients::Sum, _) => 1.0,
                (Gradients::Mean, Normaliser::Tokens) => all,
                (Gradients::Mean, Normaliser::MicroBatches) => targets * micro_batches as f64,
            };
            // A micro-batch without a target adds nothing, with any weight.
            let weight = if targets == 0.0 || backward == 0.0 { 0.0 } else { sum / backward / divisor };
            parts.push(Part { rank: *rank, index, weight, targets });
        }
    }
    Ok(parts)
}

/// Each tensor with what was added to it.
fn tensors_in_turn<'t, 'a>(
    tensors: &'t [TensorStep],
    added: &'t [Added<'a>],
) -> impl Iterator<Item = (&'t TensorStep, &'t Added<'a>)> {
    added.iter().filter_map(|added| Some((tensors.iter().find(|it| it.name == added.name)?, added)))
}

/// The same of recorded ranks: what their losses are divided by, nobody says, and each micro-batch has its share of the
/// mean.
fn alike(told: &[&[TensorStep]]) -> Vec<Part> {
    let weight = 1.0 / told.len() as f64;
    let of = |(rank, tensors): (usize, &&[TensorStep])| {
        let window = tensors.first().map_or(0, |tensor| tensor.added.len());
        (0..window).map(move |index| Part { rank, index, weight, targets: 0.0 })
    };
    told.iter().enumerate().flat_map(of).collect()
}

/// The parts with the one weight with which their sum comes closest to what was applied.
fn scaled(applied: &[TensorStep], added: &[Added], parts: &[Part]) -> Vec<Part> {
    let (mut product, mut square) = (0.0, 0.0);
    for (tensor, added) in tensors_in_turn(applied, added) {
        for (place, found) in tensor.unclipped.iter().enumerate() {
            let sum: f64 = added.by_part.iter().filter_map(|values| Some(values.get(place)?.0)).sum();
            product += sum * found.0;
            square += sum * sum;
        }
    }
    let weight = product / square;
    // Where nothing was added, or it is not finite, the mean is as good as any.
    let one = |part: &Part| if weight.is_finite() { Part { weight, ..part.clone() } } else { part.clone() };
    parts.iter().map(one).collect()
}

/// What was added to each tensor that all ranks tell, part by part. None where a rank does not tell all of its window.
fn added<'a>(told: &[&'a [TensorStep]], parts: &[Part]) -> Option<Vec<Added<'a>>> {
    let by_name: Vec<BTreeMap<&str, &TensorStep>> =
        told.iter().map(|tensors| tensors.iter().map(|it| (it.name.as_str(), it)).collect()).collect();
    let everywhere =
        |tensor: &&TensorStep| by_name.iter().all(|told| told.contains_key(tensor.name.as_str()));
    let of = |tensor: &'a TensorStep| {
        let by_part = parts.iter().map(|part| {
            let there = by_name[part.rank].get(tensor.name.as_str())?;
            there.added.get(part.index).map(Vec::as_slice)
        });
        Some(Added { name: &tensor.name, shape: &tensor.shape, by_part: by_part.collect::<Option<_>>()? })
    };
    told.first()?.iter().filter(everywhere).map(of).collect()
}

/// The first place at which a tensor's gradient is not the weighted sum: what it should be and what it is.
fn differs(tensor: &TensorStep, added: &Added, parts: &[Part], tolerance: f64) -> Option<(Number, Number)> {
    let places = tensor.unclipped.len();
    let terms = |place: usize| {
        let values = added.by_part.iter().zip(parts);
        values.filter_map(move |(values, part)| Some(values.get(place)?.0 * part.weight))
    };
    let largest = (0..places).map(|place| terms(place).map(f64::abs).sum::<f64>()).fold(0.0, f64::max);
    (0..places).find_map(|place| {
        let (expected, found) = (terms(place).sum::<f64>(), tensor.unclipped[place]);
        // What is not finite is the finding of finite/everywhere.
        let fits = !(expected - found.0).is_finite() || (expected - found.0).abs() <= tolerance * largest;
        (!fits).then_some((Number(expected), found))
    })
}

#[cfg(test)]
mod tests;
