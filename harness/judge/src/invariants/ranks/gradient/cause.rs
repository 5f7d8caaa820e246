//! Which mistake makes of the ranks' gradients what was applied in their place.

use traintrue_protocol::trace::event::TensorStep;
use traintrue_protocol::vocabulary::Component;

use super::super::combination;
use super::{Added, Part, differs, tensors_in_turn};

/// How far a weight may be from the one that a mistake gives, relative to it.
const NEAR: f64 = 0.02;
/// Relative: the distance between two numbers of bf16.
const COARSE: f64 = 1.0 / 128.0;

/// What the ranks added in one window.
pub(super) struct Window<'a> {
    pub(super) parts: &'a [Part],
    pub(super) added: &'a [Added<'a>],
    pub(super) world: usize,
    /// As in [`differs`].
    pub(super) tolerance: f64,
}

/// A tensor as it was applied, with what was added to it.
type Pair<'a> = (&'a TensorStep, &'a Added<'a>);

impl Window<'_> {
    /// The cause of what `rank` applied; `applied` has the update of every rank.
    pub(super) fn cause(&self, applied: &[&[TensorStep]], rank: usize) -> (Component, String) {
        if let Some(cause) = self.rounded(applied[rank]) {
            return (Component::Reduction, cause);
        }
        let Some(shares) = self.shares(applied[rank]) else {
            return self.of_no_combination(applied[rank], rank);
        };
        if let Some(only) = self.alone(&shares) {
            let others = (0..self.world).filter(|&other| other != rank);
            let everywhere = others
                .clone()
                .all(|other| self.shares(applied[other]).and_then(|it| self.alone(&it)) == Some(only));
            return (Component::Reduction, of_one_rank(only, rank, everywhere));
        }
        self.of_shares(&shares, rank)
    }

    /// The rank whose gradients alone are applied, in whatever size.
    fn alone(&self, shares: &[f64]) -> Option<usize> {
        let is_in = |rank: usize| {
            let of = self.parts.iter().zip(shares).filter(|(part, _)| part.weight != 0.0);
            of.clone().all(|(part, share)| (share.abs() > NEAR) == (part.rank == rank))
        };
        (0..self.world).find(|&rank| is_in(rank))
    }

    /// By what factor each micro-batch's weight in the applied gradient is another than it should be.
    fn shares(&self, applied: &[TensorStep]) -> Option<Vec<f64>> {
        let pairs: Vec<_> = tensors_in_turn(applied, self.added).collect();
        let places: Vec<(usize, usize)> = pairs
            .iter()
            .enumerate()
            .flat_map(|(tensor, (step, _))| (0..step.unclipped.len()).map(move |place| (tensor, place)))
            .collect();
        let vector = |part: usize| -> Option<Vec<f64>> {
            let of = |&(tensor, place): &(usize, usize)| Some(pairs[tensor].1.by_part[part].get(place)?.0);
            places.iter().map(of).collect()
        };
        let counting: Vec<usize> =
            (0..self.parts.len()).filter(|&part| self.parts[part].weight != 0.0).collect();
        let vectors: Vec<Vec<f64>> = counting.iter().map(|&part| vector(part)).collect::<Option<_>>()?;
        let whole: Vec<f64> =
            places.iter().map(|&(tensor, place)| pairs[tensor].0.unclipped[place].0).collect();
        let found = combination::of(&vectors, &whole)?;
        let mut shares = vec![1.0; self.parts.len()];
        for (part, weight) in counting.into_iter().zip(found) {
            shares[part] = weight / self.parts[part].weight;
        }
        Some(shares)
    }

    fn of_shares(&self, shares: &[f64], rank: usize) -> (Component, String) {
        let (parts, world) = (self.parts, self.world as f64);
        // Least squares give 1e-3 where a weight is 0.
        let near = |share: f64, wanted: f64| (share - wanted).abs() <= NEAR * wanted.max(1.0);
        let all = |wanted: &dyn Fn(&Part) -> f64| {
            parts
                .iter()
                .zip(shares)
                .filter(|(part, _)| part.weight != 0.0)
                .all(|(part, share)| near(*share, wanted(part)))
        };
        let last = |part: &Part| {
            let of_rank = parts.iter().filter(|other| other.rank == part.rank);
            of_rank.map(|other| other.index).max() == Some(part.index)
        };
        let factor = shares[0];
        let reduction = |cause: String| (Component::Reduction, cause);
        if all(&|part| match (last(part), part.rank == rank) {
            (true, true) => world,
            (true, false) => 0.0,
            (false, _) => 1.0,
        }) {
            return reduction(format!(
                "the last micro-batch of the window is averaged nowhere, and the others are: rank {rank} adds its own after the \
                 mean, as where no_sync() is on for the wrong micro-batches"
            ));
        }
        if all(&|_| factor) {
            let all_targets: f64 = (0..self.world).map(|rank| self.targets(rank)).sum();
            let counted =
                (0..self.world).find(|&rank| near(factor, all_targets / (world * self.targets(rank))));
            let what = if near(factor, world) {
                ": the ranks are summed, not averaged".into()
            } else if near(factor, 1.0 / world) {
                ": the mean over the ranks is divided by their number once more".into()
            } else if let Some(rank) = counted {
                format!(": the divisor takes rank {rank}'s number of targets for every rank's")
            } else {
                String::new()
            };
            return reduction(format!(
                "the applied gradient is {} times the mean over the ranks{what}",
                shown(factor)
            ));
        }
        let lost: Vec<usize> = self.lost(shares, &near);
        if !lost.is_empty() {
            let named = lost.iter().map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(", ");
            return reduction(format!(
                "micro-batch {named} of the window is not in what is applied, on any rank: the last one overwrites what was added \
                 before it, or only some are reduced"
            ));
        }
        let by_rank: Vec<f64> = (0..self.world).map(|rank| self.of_rank(shares, rank)).collect();
        let shown: Vec<String> = by_rank
            .iter()
            .enumerate()
            .map(|(rank, share)| format!("rank {rank} {}", shown(*share)))
            .collect();
        let shown = shown.join(", ");
        if !all(&|part| by_rank[part.rank]) {
            return reduction(format!(
                "the micro-batches of the ranks have other weights than they should: {shown} on average"
            ));
        }
        let targets = |rank: usize| self.targets(rank);
        let mean = (0..self.world).map(targets).sum::<f64>() / world;
        if mean > 0.0 && (0..self.world).all(|rank| near(by_rank[rank], mean / targets(rank))) {
            let counts: Vec<String> = (0..self.world).map(|rank| targets(rank).to_string()).collect();
            return (
                Component::Normaliser,
                format!(
                    "the ranks have {} targets, and each divides its loss by its own: the mean of these means gives the targets of \
                     the ranks other weights than the contract does ({shown})",
                    counts.join(" and ")
                ),
            );
        }
        if by_rank.iter().all(|share| *share <= 1.0 + NEAR) {
            return (
                Component::Clipper,
                format!(
                    "the gradients of the ranks were scaled before they were averaged ({shown}): each rank clips its own, and the \
                     plan clips their mean"
                ),
            );
        }
        reduction(format!("the ranks have other weights in the mean than they should: {shown}"))
    }

    /// Micro-batches of the window that are missing on every rank, while the others are all there.
    fn lost(&self, shares: &[f64], near: &dyn Fn(f64, f64) -> bool) -> Vec<usize> {
        let of = |index: usize| self.parts.iter().zip(shares).filter(move |(part, _)| part.index == index);
        let most = self.parts.iter().map(|part| part.index).max().unwrap_or_default();
        let (lost, kept): (Vec<usize>, Vec<usize>) =
            (0..=most).partition(|&index| of(index).all(|(_, share)| near(*share, 0.0)));
        let whole = kept.iter().all(|&index| of(index).all(|(_, share)| near(*share, 1.0)));
        if whole { lost } else { Vec::new() }
    }

    /// The targets of a rank's window.
    fn targets(&self, rank: usize) -> f64 {
        self.parts.iter().filter(|part| part.rank == rank).map(|part| part.targets).sum()
    }

    fn of_rank(&self, shares: &[f64], rank: usize) -> f64 {
        let own: Vec<f64> = self
            .parts
            .iter()
            .zip(shares)
            .filter(|(part, _)| part.rank == rank)
            .map(|(_, share)| *share)
            .collect();
        own.iter().sum::<f64>() / own.len().max(1) as f64
    }

    /// Gradients that are not one combination of the micro-batches': another tensor's, or a part of the tensors that is
    /// combined otherwise than the rest.
    fn of_no_combination(&self, applied: &[TensorStep], rank: usize) -> (Component, String) {
        let (pairs, wrong) = self.wrong(applied);
        if let Some(cause) = wrong.iter().find_map(|&at| self.exchanged(pairs[at].0, pairs[at].1)) {
            return (Component::Reduction, cause);
        }
        let of = in_words(&pairs, &wrong);
        let given: Vec<TensorStep> = wrong.iter().map(|&at| pairs[at].0.clone()).collect();
        if wrong.len() < pairs.len()
            && let Some(shares) = self.shares(&given)
        {
            if self.alone(&shares) == Some(rank) {
                let cause = format!(
                    "in {of}, rank {rank} applies its own gradients alone: these are left out of the mean"
                );
                return (Component::Reduction, cause);
            }
            let (component, cause) = self.of_shares(&shares, rank);
            return (component, format!("in {of} alone: {cause}"));
        }
        let cause = format!(
            "what is applied is no weighted sum of the micro-batches' gradients of the ranks, in {of}"
        );
        (Component::Reduction, cause)
    }

    /// The tensors that are applied, and which of them are not the weighted sum.
    fn wrong<'t>(&'t self, applied: &'t [TensorStep]) -> (Vec<Pair<'t>>, Vec<usize>) {
        let pairs: Vec<_> = tensors_in_turn(applied, self.added).collect();
        let is_wrong = |at: &usize| differs(pairs[*at].0, pairs[*at].1, self.parts, self.tolerance).is_some();
        let wrong = (0..pairs.len()).filter(is_wrong).collect();
        (pairs, wrong)
    }

    /// Gradients that are the weighted sum, in fewer digits than f32 has.
    fn rounded(&self, applied: &[TensorStep]) -> Option<String> {
        let (pairs, wrong) = self.wrong(applied);
        let is_rounded = |at: &usize| {
            let (tensor, added) = pairs[*at];
            let coarse = |value: f64| (value as f32).to_bits().trailing_zeros() >= 16;
            differs(tensor, added, self.parts, COARSE).is_none()
                && tensor.unclipped.iter().all(|it| coarse(it.0))
        };
        (!wrong.is_empty() && wrong.iter().all(is_rounded)).then(|| {
            format!(
                "the applied gradients have no more digits than bf16 keeps, in {}: they are summed or averaged in it",
                in_words(&pairs, &wrong)
            )
        })
    }

    /// Another tensor of the same extents whose gradients a rank gave in this one's place.
    fn exchanged(&self, tensor: &TensorStep, own: &Added) -> Option<String> {
        let others =
            || self.added.iter().filter(|others| others.name != own.name && others.shape == own.shape);
        (0..self.world).find_map(|rank| {
            others().find_map(|others| {
                let mixed = |part: usize| if self.parts[part].rank == rank { others } else { own }.by_part[part];
                let by_part = (0..self.parts.len()).map(mixed).collect();
                let exchanged = Added { by_part, name: others.name, shape: others.shape };
                differs(tensor, &exchanged, self.parts, self.tolerance).is_none().then(|| {
                    format!(
                        "the gradient of {} has rank {rank}'s gradient of {} in it: the ranks walk their parameters in different \
                         orders",
                        tensor.name, others.name
                    )
                })
            })
        })
    }
}

fn in_words(pairs: &[Pair], some: &[usize]) -> String {
    let names: Vec<&str> = some.iter().take(3).map(|&at| pairs[at].0.name.as_str()).collect();
    format!("{} of {} tensors ({})", some.len(), pairs.len(), names.join(", "))
}

fn of_one_rank(only: usize, rank: usize, everywhere: bool) -> String {
    if everywhere {
        format!("every rank applies the gradients of rank {only} alone: they are broadcast, and not averaged")
    } else if only == rank {
        format!(
            "rank {rank} applies its own gradients alone: no backward pass of the window averages the ranks, as where the wrapped \
             model is bypassed, or every micro-batch runs under no_sync()"
        )
    } else {
        format!("rank {rank} applies the gradients of rank {only} alone, and not the mean")
    }
}

fn shown(share: f64) -> String {
    format!("{share:.2}")
}
