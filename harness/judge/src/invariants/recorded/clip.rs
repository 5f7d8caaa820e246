//! `loop/clip`: gradients are clipped once per update, after the last backward and before the step.

use std::collections::BTreeMap;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::Update;
use traintrue_protocol::trace::recorded::{Fact, Recorded};
use traintrue_protocol::trace::since::{ClipCall, Since};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Optimizers, Sightings, all_cleared, most, number};
use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::micro_batches;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Relative: torch adds 1e-6 to the norm before it divides by it, and sums in f32.
const TOLERANCE: f64 = 1e-3;
/// Three values are rounded to the format of the gradients: the norm, the scale, and the product with each gradient.
const ROUNDED: f64 = 3.0;
/// A limit that is so many times the norm is there to measure it.
const OUT_OF_REACH: f64 = 100.0;
/// Relative: two limits that differ by less are one.
const SAME: f64 = 1e-6;

pub(crate) static RULE: Rule = Rule {
    name: "loop/clip",
    says: "gradients are clipped once per update: after the last backward, after unscaling, before the step",
    verifies: "No backward follows a clip within its window. No clip comes after the step, or before a GradScaler has \
               unscaled the gradients. With a declared clip, the gradients of every applied update have at most that \
               norm. Without one, a loop that clips most updates by one limit clips all that exceed it.",
    does_not_verify: "Clipping by value, by another norm than the L2 norm, or of parts of the parameters. Whether a \
                      loop that never clips should.",
    kind: Kind::Trace(|opening| Box::new(Clip::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Clip,
    needs: &[Fact::Observed],
};

struct Clip {
    optimizers: Optimizers,
    /// The clip that was declared or read, and by whom.
    said: Option<(f64, &'static str)>,
    tolerance: f64,
    open: BTreeMap<u64, Seen>,
}

/// What was seen of the clips on one optimizer's gradients.
#[derive(Default)]
struct Seen {
    applied: u64,
    /// Updates with a call that clips before the step.
    clipped: u64,
    limit: Limit,
    /// Updates from several micro-batches.
    windows: u64,
    within_window: Sightings,
    after_step: Sightings,
    /// Updates with a call on gradients that were cleared.
    emptied: Sightings,
    scaled: Sightings,
    /// Updates whose gradients exceed the declared clip, and what was wrong with the first.
    exceeds: Option<(Line, Excess)>,
    /// Updates that no call clipped and that exceed the limit of the others; not those before the first clipped one.
    missed: Vec<(Line, f64)>,
    partial: bool,
    by_value: bool,
    other_norm: bool,
}

/// The limits of the calls.
#[derive(Clone, Copy, Default)]
enum Limit {
    #[default]
    None,
    One(f64),
    Several,
}

/// Why an update's gradients exceed the declared clip.
#[derive(Clone, Copy)]
enum Excess {
    Unclipped,
    OtherLimit(f64),
    ChangedSince,
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME * one.abs().max(other.abs())
}

/// Whether a call changes gradients: with an infinite limit it only measures their norm.
fn clips(call: &&ClipCall) -> bool {
    call.limit.is_finite()
}

/// Whether a call found gradients that were cleared, and not yet any of the next window.
fn is_emptied(call: &ClipCall) -> bool {
    call.held == 0 && call.norm.is_some_and(|norm| norm.0 == 0.0)
}

fn is_of_l2(call: &ClipCall) -> bool {
    !call.by_value && call.norm_type.is_none_or(|it| it.0 == 2.0)
}

impl Clip {
    fn new(opening: &Opening) -> Self {
        let source = |it: &Recorded| match it.read.contains_key("clip") {
            true => "read from the framework's settings",
            false => "declared",
        };
        let dtype = opening.recorded.map(|it| it.dtype).unwrap_or_default();
        Self {
            optimizers: Optimizers::of(opening),
            said: opening.recorded.and_then(|it| Some((it.clip?, source(it)))),
            tolerance: TOLERANCE + ROUNDED * bound::unit_roundoff(dtype),
            open: BTreeMap::new(),
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        let (said, tolerance) = (self.said.map(|(limit, _)| limit), self.tolerance);
        let seen = self.open.entry(number(it)).or_default();
        seen.calls(it, since, line);
        if !it.applied {
            return;
        }
        seen.applied += 1;
        let before_step: Vec<&ClipCall> =
            since.clips.iter().filter(clips).filter(|call| !call.used && !is_emptied(call)).collect();
        if let Some(limit) = said {
            seen.held_to(limit, tolerance, it, &before_step, line, sheet);
        }
        if !before_step.is_empty() {
            seen.clipped += 1;
            before_step.iter().for_each(|call| seen.limit.add(call.limit.0));
        } else if let (Limit::One(limit), Some(norm)) = (seen.limit, it.grad_norm)
            && norm.is_finite()
            && norm.0 > limit * (1.0 + tolerance)
        {
            seen.missed.push((line.clone(), norm.0));
        }
    }

    fn finish_one(&self, optimizer: u64, seen: &Seen, sheet: &mut Sheet) {
        let of = self.optimizers.suffix(optimizer);
        let several = self.open.len() > 1;
        sheet.compared += seen.clipped;
        if self.said.is_none() {
            match seen.limit {
                Limit::One(limit) if seen.by_value => sheet.observe(format!("values clipped to {limit}{of}")),
                Limit::One(limit) => sheet.observe(format!("clip {limit}{of}")),
                Limit::Several => sheet.cannot(&format!("the clip{of}: its limit changes")),
                Limit::None => {}
            }
        }
        if seen.partial {
            sheet.cannot(&format!("the norm after the clip{of}: each call clips a part of the parameters"));
        }
        if seen.by_value || seen.other_norm {
            sheet.cannot(&format!(
                "the norm after the clip{of}: it clips by value, or by another norm than the L2 norm"
            ));
        }
        if let Some(line) = seen.within_window.at_least(2.min(seen.windows.max(1))) {
            sheet.check(false, line, || within_window(line, &of));
        }
        // With two optimizers the call may be meant for the one that steps next.
        if let Some(line) = seen.after_step.at_least(2).filter(|_| seen.clipped == 0 && !several) {
            sheet.check(false, line, || Difference {
                expected: "clip_grad_norm_ between the last backward and the step".into(),
                actual: "clip_grad_norm_ on gradients that the step has already used".into(),
                component: Component::Clipper,
                cause: "the gradients are clipped after optimizer.step(): the clip has no effect".into(),
            });
        }
        if let Some(line) = seen.emptied.at_least(2).filter(|_| seen.clipped == 0 && !several) {
            sheet.check(false, line, || Difference {
                expected: "clip_grad_norm_ between the last backward and the step".into(),
                actual: "clip_grad_norm_ on gradients that zero_grad() has set to 0".into(),
                component: Component::Clipper,
                cause: if matches!(&line.event, Event::Update(it) if it.since.as_deref().is_some_and(all_cleared)) {
                    "zero_grad() runs between backward() and the clip: nothing is left to clip, or to step with"
                } else {
                    "the gradients are clipped after optimizer.step() and zero_grad(): the clip has no effect"
                }
                        .into(),
            });
        }
        if let Some(line) = seen.scaled.at_least(2.min(seen.applied.max(1))).filter(|_| !seen.limit.varies())
        {
            sheet.check(false, line, || Difference {
                expected: format!("unscaled gradients at the clip{of}"),
                actual: "gradients that still have the factor of the GradScaler".into(),
                component: Component::Clipper,
                cause: "the gradients are clipped before scaler.unscale_(optimizer): the limit applies to scaled \
                        gradients, which are thousands of times larger".into(),
            });
        }
        let others_are_clipped = seen.clipped == 0 && self.open.values().any(|it| it.clipped > 0);
        if others_are_clipped && self.said.is_some() {
            sheet.cannot(&format!(
                "the declared clip: only another optimizer's gradients than those{of} are clipped"
            ));
        } else if let (Some((line, excess)), Some((limit, who))) = (&seen.exceeds, self.said) {
            sheet.check(false, line, || exceeds(line, *excess, limit, who, &of));
        }
        if let (Limit::One(limit), Some((line, norm))) = (seen.limit, seen.missed.first())
            && self.said.is_none()
            && most(seen.clipped, seen.applied)
        {
            sheet.check(false, line, || Difference {
                expected: format!("gradients{of} clipped to {}, as in {} of {} updates", Number(limit), seen.clipped, seen.applied),
                actual: format!("a norm of {} and no clip", Number(*norm)),
                component: Component::Clipper,
                cause: format!(
                    "{} updates are not clipped: check optimizer.step() calls outside of the main loop body, such as the one \
                     for an epoch's last window",
                    seen.missed.len()
                ),
            });
        }
    }
}

impl Seen {
    fn calls(&mut self, it: &Update, since: &Since, line: &Line) {
        let in_update = it.micro_batches.unwrap_or(0);
        self.windows += u64::from(in_update > 1);
        let whole = || since.clips.iter().filter(clips).filter(|call| call.whole);
        if whole().any(|call| !call.used && call.held < in_update && !is_emptied(call)) {
            self.within_window.add(line);
        }
        // A norm is measured by a limit that is far out of reach, too.
        let is_limit = |call: &ClipCall| call.norm.is_none_or(|norm| norm.0 > call.limit.0 / OUT_OF_REACH);
        if whole().any(|call| call.used && is_limit(call)) {
            self.after_step.add(line);
        }
        if whole().any(is_emptied) {
            self.emptied.add(line);
        }
        if whole().any(|call| call.scaled && !call.used) {
            self.scaled.add(line);
        }
        let before_step = || since.clips.iter().filter(clips).filter(|call| !call.used);
        self.partial |= before_step().any(|call| !call.whole);
        self.by_value |= before_step().any(|call| call.by_value);
        self.other_norm |= before_step().any(|call| !call.by_value && !is_of_l2(call));
    }

    fn held_to(
        &mut self,
        limit: f64,
        tolerance: f64,
        it: &Update,
        calls: &[&ClipCall],
        line: &Line,
        sheet: &mut Sheet,
    ) {
        let most = limit * (1.0 + tolerance);
        if calls.iter().any(|call| !call.whole || !is_of_l2(call)) {
            return;
        }
        let other = calls.iter().find(|call| !is_same(call.limit.0, limit)).map(|call| call.limit.0);
        let has_it = calls.iter().any(|call| is_same(call.limit.0, limit));
        // A recorder samples the norm after a clip call, which takes a pass over all gradients.
        let Some(after) = it.clipped_norm else {
            if calls.is_empty() {
                sheet.missing("clipped_norm of an update");
            }
            return;
        };
        let excess = match (calls.is_empty(), other) {
            _ if !after.is_finite() => None,
            (_, Some(other)) if !has_it && other > most => Some(Excess::OtherLimit(other)),
            _ if after.0 <= most => None,
            (true, _) => Some(Excess::Unclipped),
            (false, _) => Some(Excess::ChangedSince),
        };
        sheet.compared += u64::from(excess.is_none());
        if let Some(excess) = excess {
            self.exceeds.get_or_insert_with(|| (line.clone(), excess));
        }
    }
}

impl Limit {
    fn add(&mut self, limit: f64) {
        *self = match *self {
            Self::None => Self::One(limit),
            Self::One(one) if is_same(one, limit) => Self::One(one),
            _ => Self::Several,
        };
    }

    fn varies(self) -> bool {
        matches!(self, Self::Several)
    }
}

fn within_window(line: &Line, of: &str) -> Difference {
    let (mut held, mut calls, mut all) = (0, 0, 0);
    if let Event::Update(it) = &line.event {
        held = it.micro_batches.unwrap_or(0);
        let since = it.since.iter().flat_map(|since| &since.clips);
        let before_step = since.filter(clips).filter(|call| !call.used);
        (calls, all) =
            before_step.fold((0, 0), |(early, all), it| (early + u64::from(it.held < held), all + 1));
    }
    Difference {
        expected: format!("one clip{of}, with the gradients of all {}", micro_batches(held)),
        actual: format!("{calls} of {all} clips before the last backward"),
        component: Component::Clipper,
        cause: if held > 1 {
            "clip_grad_norm_ runs at every micro-batch and not once per update: gradients that were clipped already are \
             clipped again with the next ones"
        } else {
            "clip_grad_norm_ runs before backward(): the gradients of this update are not clipped"
        }
        .into(),
    }
}

fn exceeds(line: &Line, excess: Excess, limit: f64, who: &str, of: &str) -> Difference {
    let norms = match &line.event {
        Event::Update(it) => it.grad_norm.zip(it.clipped_norm),
        _ => None,
    };
    let (before, after) =
        norms.map_or_else(Default::default, |(before, after)| (before.to_string(), after.to_string()));
    Difference {
        expected: format!("gradients{of} with a norm of at most {} ({who})", Number(limit)),
        actual: match excess {
            Excess::OtherLimit(other) => format!("clip_grad_norm_ with a limit of {}", Number(other)),
            _ => format!("a norm of {after} at the step, from {before}"),
        },
        component: Component::Clipper,
        cause: match excess {
            Excess::Unclipped => "clip_grad_norm_ did not run before this step",
            Excess::OtherLimit(_) => "the loop clips by another limit than the one that it was given",
            Excess::ChangedSince => {
                "the gradients changed between the clip and the step: check what runs after \
                                     clip_grad_norm_"
            }
        }
        .into(),
    }
}

impl TraceRule for Clip {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Update(it) = &line.event {
            self.update(it, line, sheet);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        self.open.iter().for_each(|(&optimizer, seen)| self.finish_one(optimizer, seen, sheet));
    }
}

#[cfg(test)]
mod tests;
