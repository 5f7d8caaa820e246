//! `update/replayed`: the arithmetic of an optimizer step, made again from what the trainer had before it.

mod adam;

use std::collections::BTreeMap;

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Train;
use traintrue_protocol::trace::event::{CheckpointEdge, TensorStep, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::invariants::training::clip;
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};
use adam::{Expected, Place, Settings};

/// Relative: how alike the steps of all places must be for a factor to be the cause.
const ONE_FACTOR: f64 = 0.01;

pub(crate) static RULE: Rule = Rule {
    name: "update/replayed",
    says: "each value moves as the plan's AdamW moves it, from the gradient, the moments and the rate that were there",
    verifies: "Where a trainer tells what an update did at a few places of each tensor: the gradient is the unclipped \
               one times clip / grad_norm, where that is below 1; both moments are beta times the one before plus \
               1 - beta times the gradient, or its square; and the value is the one before, decayed by rate x decay \
               (matrices only), less the rate times the corrected first moment over the root of the corrected second \
               plus eps. An update begins with the values that the one before it left. Tolerances are 8 roundings, and 2e-4 of the step.",
    does_not_verify: "Places that the trainer does not tell. The gradient itself (partition/same-update, probes). That the \
                      rate is the schedule's (schedule/closed-form). Tensors that get no gradient. Moments in a layout of \
                      their own (Adafactor).",
    kind: Kind::Trace(|opening| Box::new(Replayed::of(&opening.plan.train, opening.plan.start.is_none()))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Arithmetic,
    needs: &[Fact::Plan],
};

struct Replayed {
    train: Train,
    unit: f64,
    moments: Wrong,
    values: Wrong,
    /// Of tensors whose moments are not told: the number of their updates, and the moments that they must have after them.
    carried: BTreeMap<String, (u64, Vec<[f64; 2]>)>,
    /// The values of each tensor after the last update that was told, and its step.
    left: BTreeMap<String, (u64, Vec<Number>)>,
    /// Applied updates, in a trace that begins with the first one.
    applied: Option<u64>,
}

/// What is wrong in the updates so far: the first place, and the causes that explain all of them.
#[derive(Default)]
struct Wrong {
    first: Option<(Line, Difference)>,
    causes: Vec<String>,
}

impl Wrong {
    /// One more wrong update. Where no cause explains this one too, the causes of those before stand.
    fn add(
        &mut self,
        line: &Line,
        miss: Option<Miss>,
        component: Component,
        causes: Vec<String>,
        count: (usize, usize),
    ) {
        let Some(Miss { tensor, what, place, expected, actual }) = miss else { return };
        if self.first.is_none() {
            let difference = Difference {
                expected: format!("{what} {expected:.9e} at place {place} of {}", tensor.told.name),
                actual: format!("{actual:.9e}, and others in {} of {} tensors", count.0, count.1),
                component,
                cause: String::new(),
            };
            (self.first, self.causes) = (Some((line.clone(), difference)), causes);
        } else if self.causes.iter().any(|it| causes.contains(it)) {
            self.causes.retain(|it| causes.contains(it));
        }
    }

    fn tell(&mut self, sheet: &mut Sheet) {
        let Some((line, difference)) = self.first.take() else { return };
        let cause = self.causes.first().cloned().unwrap_or_default();
        sheet.check(false, &line, || Difference { cause, ..difference });
    }
}

/// One tensor of an update, with its settings.
struct Tensor<'a> {
    told: &'a TensorStep,
    places: Vec<Place>,
    settings: Settings,
}

/// A wrong value: at which place of which tensor, and what it is.
struct Miss<'a> {
    tensor: &'a Tensor<'a>,
    what: &'static str,
    place: usize,
    expected: f64,
    actual: f64,
}

impl Replayed {
    fn of(train: &Train, whole: bool) -> Self {
        let unit = bound::unit_roundoff(train.dtype);
        let (moments, values) = (Wrong::default(), Wrong::default());
        let (carried, left) = (BTreeMap::new(), BTreeMap::new());
        Self { train: train.clone(), unit, moments, values, carried, left, applied: whole.then_some(0) }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        self.applied = self.applied.map(|applied| applied + u64::from(it.applied));
        if !it.applied || it.tensors.is_empty() {
            return;
        }
        let tensors: Vec<Tensor> =
            it.tensors.iter().filter_map(|told| self.tensor(told, it, sheet)).collect();
        if !self.goes_on(it, line, sheet)
            || !self.clip(it, &tensors, line, sheet)
            || !self.moments(&tensors, line, sheet)
            || !self.counts(it, line, sheet)
        {
            return;
        }
        self.values(&tensors, line, sheet);
    }

    /// The optimizer has counted every update of some tensor. One that has no gradient in a window may count fewer.
    fn counts(&self, update: &Update, line: &Line, sheet: &mut Sheet) -> bool {
        // A step that did not run is not counted, and is told by its moments.
        let applied = self.applied.filter(|_| self.moments.first.is_none());
        let Some((applied, most)) = applied.zip(update.tensors.iter().map(|it| it.updates).max()) else {
            return true;
        };
        sheet.check(most >= applied, line, || Difference {
            expected: format!("{applied} updates of some tensor in the optimizer's state"),
            actual: most.to_string(),
            component: Component::Moments,
            cause: format!(
                "the optimizer's state begins anew after update {}: its moments and its count of updates are lost there",
                applied.saturating_sub(most)
            ),
        })
    }

    /// An update begins with the values that the one before it left.
    fn goes_on(&mut self, update: &Update, line: &Line, sheet: &mut Sheet) -> bool {
        let before = std::mem::take(&mut self.left);
        for it in &update.tensors {
            self.left.insert(it.name.clone(), (update.step, it.after.clone()));
            let Some((step, left)) = before.get(&it.name) else { continue };
            let first = it.before.iter().zip(left).position(|(before, left)| before != left);
            let follows = step.saturating_add(1) == update.step && it.before.len() == left.len();
            if !follows || first.is_none() {
                continue;
            }
            let at = first.unwrap_or_default();
            sheet.check(false, line, || Difference {
                expected: format!("value {:.9e} at place {at} of {}, as update {step} left it", left[at].0, it.name),
                actual: format!("{:.9e}", it.before[at].0),
                component: Component::Optimizer,
                cause: format!(
                    "the values changed between updates {step} and {}, times {} here: something beside the optimizer writes \
                     them (a decay of one's own, a clamp, averaged weights left in place)",
                    update.step,
                    Number(it.before[at].0 / left[at].0)
                ),
            });
            return false;
        }
        true
    }

    fn tensor<'a>(&mut self, told: &'a TensorStep, update: &Update, sheet: &mut Sheet) -> Option<Tensor<'a>> {
        let rate = if update.lr.len() == 1 { update.lr.first() } else { update.lr.get(told.group as usize) };
        let Some(lr) = rate else {
            sheet.missing("rate of every group that a tensor is in");
            return None;
        };
        let optimizer = &self.train.optimizer;
        let settings = Settings {
            lr: lr.0,
            peak: optimizer.lr,
            betas: optimizer.betas,
            eps: optimizer.eps,
            decay: optimizer.decay,
            is_matrix: told.shape.len() > 1,
            updates: told.updates,
        };
        let places = places(told);
        if places.is_none() {
            sheet.cannot("some tensors of an update have lists of different lengths, or none: each has one value per place");
        }
        let mut places = places?;
        if places.iter().any(|it| it.moments.is_none()) && !self.carry(told, &settings, &mut places) {
            sheet.cannot("an optimizer that tells no moments is replayed only from a tensor's first update on, without a gap");
            return None;
        }
        Some(Tensor { told, places, settings })
    }

    /// Gives the places the moments that they must have before this update; false where that is not known.
    fn carry(&mut self, told: &TensorStep, settings: &Settings, places: &mut [Place]) -> bool {
        let fresh = || (told.updates == 1).then(|| (0, vec![[0.0; 2]; places.len()]));
        let Some((done, before)) = self.carried.remove(&told.name).or_else(fresh) else { return false };
        if done + 1 != told.updates || before.len() != places.len() {
            return false;
        }
        places.iter_mut().zip(before).for_each(|(place, before)| place.moments_before = before);
        let after = places.iter().map(|it| adam::moments(it, settings, 0.0).map(|it| it.value)).collect();
        self.carried.insert(told.name.clone(), (told.updates, after));
        true
    }

    fn clip(&self, update: &Update, tensors: &[Tensor], line: &Line, sheet: &mut Sheet) -> bool {
        let Some(norm) = update.grad_norm.filter(|it| it.is_finite()) else { return true };
        let share = self.train.clip.map_or(1.0, |clip| (clip / norm.0).min(1.0));
        let tolerance = clip::TOLERANCE + 8.0 * self.unit;
        for tensor in tensors {
            for (at, place) in tensor.places.iter().enumerate() {
                let Some(unclipped) = place.unclipped else { continue };
                let expected = share * unclipped;
                let holds = (place.gradient - expected).abs()
                    <= tolerance * expected.abs() + f64::from(f32::MIN_POSITIVE);
                let found = place.gradient / unclipped;
                if !sheet.check(holds, line, || Difference {
                    expected: format!(
                        "gradient {} at place {at} of {}: {} x {}, from norm {norm}",
                        Number(expected),
                        tensor.told.name,
                        Number(unclipped),
                        Number(share)
                    ),
                    actual: Number(place.gradient).to_string(),
                    component: Component::Clipper,
                    cause: if share < 1.0 && (found - 1.0).abs() < tolerance {
                        "the optimizer gets the gradients from before the clip".into()
                    } else {
                        format!(
                            "the gradients were scaled by {} between the last backward pass and the step",
                            Number(found)
                        )
                    },
                }) {
                    return false;
                }
            }
        }
        true
    }

    fn moments(&mut self, tensors: &[Tensor], line: &Line, sheet: &mut Sheet) -> bool {
        let pairs = |tensor: &Tensor, expected: fn(&Place, &Settings, f64) -> [Expected; 2]| {
            let told =
                tensor.places.iter().map(|it| Some((expected(it, &tensor.settings, self.unit), it.moments?)));
            told.map(|it| {
                it.map_or(Vec::new(), |(expected, found)| expected.into_iter().zip(found).collect())
            })
            .collect::<Vec<Vec<(Expected, f64)>>>()
        };
        let fits = |tensor: &Tensor, expected| {
            pairs(tensor, expected).concat().iter().all(|(it, found)| it.holds(*found))
        };
        let wrong: Vec<&Tensor> = tensors.iter().filter(|it| !fits(it, adam::moments)).collect();
        sheet.compared += (tensors.len() - wrong.len()) as u64;
        let Some(tensor) = wrong.first() else { return true };
        let all = pairs(tensor, adam::moments);
        let miss = all.iter().enumerate().find_map(|(place, both)| {
            let (at, (expected, actual)) =
                both.iter().enumerate().find(|(_, (it, found))| !it.holds(*found))?;
            let what = ["first moment", "second moment"][at];
            Some(Miss { tensor, what, place, expected: expected.value, actual: *actual })
        });
        let known = adam::MOMENTS.iter().filter(|(_, expected)| wrong.iter().all(|it| fits(it, *expected)));
        let mut causes: Vec<String> = known.map(|it| it.0.to_owned()).collect();
        if causes.is_empty() {
            causes.push("the moments are not the means of the gradients that the optimizer was given".into());
        }
        let count = (wrong.len(), tensors.len());
        self.moments.add(line, miss, Component::Moments, causes, count);
        false
    }

    fn values(&mut self, tensors: &[Tensor], line: &Line, sheet: &mut Sheet) {
        let fits = |tensor: &Tensor, expected: fn(&Place, &Settings, f64) -> Expected| {
            tensor.places.iter().all(|it| expected(it, &tensor.settings, self.unit).holds(it.after))
        };
        let wrong: Vec<&Tensor> = tensors.iter().filter(|it| !fits(it, adam::value)).collect();
        sheet.compared += (tensors.len() - wrong.len()) as u64;
        let Some(tensor) = wrong.first() else { return };
        let miss = tensor.places.iter().enumerate().find_map(|(place, it)| {
            let expected = adam::value(it, &tensor.settings, self.unit);
            (!expected.holds(it.after)).then_some(Miss {
                tensor,
                what: "value",
                place,
                expected: expected.value,
                actual: it.after,
            })
        });
        let known = adam::VALUES.iter().filter(|(_, expected)| wrong.iter().all(|it| fits(it, *expected)));
        let mut causes: Vec<String> = known.map(|it| it.0.to_owned()).collect();
        if causes.is_empty() {
            causes.push(self.unknown(&wrong));
        }
        let count = (wrong.len(), tensors.len());
        self.values.add(line, miss, Component::Optimizer, causes, count);
    }

    /// The cause of values that none of the known mistakes explains.
    fn unknown(&self, wrong: &[&Tensor]) -> String {
        let places = || wrong.iter().flat_map(|tensor| tensor.places.iter().map(|it| (it, &tensor.settings)));
        if places().all(|(it, _)| it.after == it.before) {
            return "the values do not move: the optimizer does not hold these tensors, or its step is undone".into();
        }
        let one = |times: fn(&Place, &Settings, f64) -> Option<f64>| {
            let times: Vec<f64> = places().filter_map(|(it, with)| times(it, with, self.unit)).collect();
            let first = *times.first()?;
            let alike = times.iter().all(|it| (it - first).abs() <= ONE_FACTOR * first.abs());
            (alike && (first - 1.0).abs() > ONE_FACTOR).then_some(first)
        };
        if let Some(first) = one(adam::times).or_else(|| one(adam::times_with_decay)) {
            let rate = wrong.first().map_or(0.0, |it| it.settings.lr * first);
            return format!(
                "the step is {:.3} times that of the rate that is told: these tensors are trained at a rate of {}",
                first,
                Number((rate * 1e9).round() / 1e9)
            );
        }
        let eps: Vec<f64> = places().filter_map(|(it, with)| adam::eps(it, with, self.unit)).collect();
        if let Some(first) = eps.first()
            && eps.len() > 1
            && eps.iter().all(|it| (it - first).abs() <= ONE_FACTOR * first.abs())
        {
            return format!(
                "eps is {}, and the plan's is {}",
                Number(*first),
                Number(self.train.optimizer.eps)
            );
        }
        if places().all(|(it, _)| adam::is_coarse(it.after)) {
            return "the values are kept in bf16: an update smaller than half of their last digit is lost"
                .into();
        }
        "the step is not that of the plan's optimizer from these moments: another optimizer, or a value that is changed after it"
            .into()
    }
}

/// The places of a tensor; none where its lists have different lengths.
fn places(told: &TensorStep) -> Option<Vec<Place>> {
    let count = told.gradient.len();
    let full = |length: usize| length == count;
    let absent = |length: usize| length == 0 || full(length);
    let lists = full(told.before.len()) && full(told.after.len()) && absent(told.unclipped.len());
    let moments = told.first.len() == told.second.len() && absent(told.first.len());
    if count == 0 || !lists || !moments {
        return None;
    }
    let moment = |at: usize, edge: usize| Some([told.first.get(at)?[edge].0, told.second.get(at)?[edge].0]);
    let place = |at: usize| Place {
        unclipped: told.unclipped.get(at).map(|it| it.0),
        gradient: told.gradient[at].0,
        before: told.before[at].0,
        after: told.after[at].0,
        moments_before: moment(at, 0).unwrap_or([0.0; 2]),
        moments: moment(at, 1),
    };
    Some((0..count).map(place).filter(|it| it.gradient.is_finite() && it.before.is_finite()).collect())
}

impl TraceRule for Replayed {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.update(it, line, sheet),
            // What is loaded is another value, and is held to what was saved elsewhere.
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Loaded => self.left.clear(),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if sheet.compared == 0 {
            sheet.missing("tensors of an update");
        }
        self.moments.tell(sheet);
        self.values.tell(sheet);
    }
}

#[cfg(test)]
mod tests;
