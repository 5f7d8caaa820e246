//! `dropout/as-asked`: dropout is on in training, drops at the plan's rate, scales what it keeps, and never repeats a mask.

use std::collections::BTreeMap;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{CheckpointEdge, DIGESTED_UNITS, Dropped, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Standard deviations that a count may be off: by chance, less than once in 1e8 counts.
const DEVIATIONS: f64 = 6.0;
/// Two masks of more information than this, in nats, are not equal by chance.
const SURPRISING: f64 = 40.0;
/// Relative: a unit times a factor, both in bf16.
const HALF_ROUNDED: f64 = 0.008;
/// Masks that are kept, to be compared with later ones.
const MASKS_MOST: usize = 20_000;

pub(crate) static RULE: Rule = Rule {
    name: "dropout/as-asked",
    says: "in training, dropout drops units at the plan's rate, scales the others, and draws each mask anew",
    verifies: "Where a trainer tells what its dropouts did: there is one at all; the share of dropped units is the plan's \
               rate, within 6 standard deviations; what is kept is multiplied by 1 / (1 - rate); the positions of a \
               dropout have masks of their own; and no mask comes twice, in one forward or in two.",
    does_not_verify: "That evaluations run without it (evaluation/changes-nothing). That its stream is restored on a resume \
                      (seam/identical). Which layers have a dropout.",
    kind: Kind::Trace(|opening| Box::new(Masks::of(opening.plan.train.dropout))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Plan],
};

struct Masks {
    rate: f64,
    /// Where each mask was first seen: the epoch, the micro-batch, and which of its dropouts.
    seen: BTreeMap<String, (u64, u64, usize)>,
    units: u64,
    dropped: u64,
    /// What came first since dropout was last seen to be on: what may have turned it off.
    since: Option<(Component, String)>,
    told: bool,
}

impl Masks {
    fn of(rate: f64) -> Self {
        Self { rate, seen: BTreeMap::new(), units: 0, dropped: 0, since: None, told: false }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let Some(told) = &it.dropout else { return };
        self.told = true;
        let (rate, dropped) = (self.rate, sum(told, |it| it.dropped));
        if rate > 0.0 && dropped == 0 {
            return self.off(told, line, sheet);
        }
        let mut broken = |holds: bool, expected: String, actual: String, cause: &str| {
            let cause = cause.to_owned();
            sheet.check(holds, line, || Difference { expected, actual, component: Component::Rng, cause })
        };
        if rate == 0.0 {
            let cause = "units are dropped, though the plan's rate is 0";
            broken(dropped == 0, "no unit dropped".into(), dropped.to_string(), cause);
            return;
        }
        self.since = None;
        // One mask for all positions has the spread of one position: its share says nothing yet.
        let holds = told.iter().all(|it| self.positions(it, &mut broken))
            && self.share(told, dropped, &mut broken)
            && told.iter().all(|it| self.scale(it, &mut broken));
        if holds {
            self.masks(it, told, &mut broken);
        }
    }

    /// No unit is dropped. In few units that may be chance.
    fn off(&self, told: &[Dropped], line: &Line, sheet: &mut Sheet) {
        let units = sum(told, |it| it.units);
        let by_chance = units > 0 && (1.0 - self.rate).powf(units as f64) > 1e-9;
        sheet.check(by_chance, line, || {
            let (component, cause) = match (&self.since, self.units) {
                (Some((component, what)), 1..) => (
                    *component,
                    format!(
                        "dropout was on until {what}, and is off in training from there on: check that it \
                                          puts the modules back into training mode (model.train())"
                    ),
                ),
                _ => (
                    Component::Rng,
                    "dropout is off in training: check that model.train() is called, and that the rate \
                                       reaches the modules"
                        .into(),
                ),
            };
            Difference {
                expected: format!("units dropped at a rate of {}", self.rate),
                actual: if units == 0 {
                    "no dropout in this forward".into()
                } else {
                    format!("0 of {units}")
                },
                component,
                cause,
            }
        });
    }

    /// Something that may turn dropout off.
    fn passes(&mut self, component: Component, what: String) {
        self.since.get_or_insert((component, what));
    }

    fn positions(&self, it: &Dropped, broken: &mut impl Broken) -> bool {
        let alike =
            it.positions > 3 && it.masks == 1 && self.is_surprising(it.units - it.units / it.positions);
        broken(
            !alike || it.dropped == 0,
            format!("masks of their own for {} positions", it.positions),
            "one mask".into(),
            "one mask is used for every position: check the shape that the mask is drawn in",
        )
    }

    /// The share that is dropped, over all that the trace has told.
    fn share(&mut self, told: &[Dropped], dropped: u64, broken: &mut impl Broken) -> bool {
        self.units = self.units.saturating_add(sum(told, |it| it.units));
        self.dropped = self.dropped.saturating_add(dropped);
        let (units, all) = (self.units as f64, self.dropped as f64);
        broken(
            self.is_near(),
            format!("about {:.0} of {units} units dropped", self.rate * units),
            all.to_string(),
            &other_rate(all / units, self.rate),
        )
    }

    fn scale(&self, it: &Dropped, broken: &mut impl Broken) -> bool {
        let factor = 1.0 / (1.0 - self.rate);
        // In half precision the factor is rounded; what is not scaled at all is off by the rate.
        let near = (it.scale.0 - factor).abs() <= factor * HALF_ROUNDED.min(0.25 * self.rate);
        // Nothing is known of the scale where nothing is kept, and nothing needs one where nothing is dropped.
        broken(
            near || it.dropped == it.units || it.dropped == 0,
            format!("kept units times {factor:.4}"),
            it.scale.to_string(),
            &match it.scale.0 {
                scale if scale > 1.0 => format!(
                    "what dropout keeps is scaled as for a rate of {}: this dropout has another rate than the plan's {}",
                    Number(1.0 - 1.0 / scale),
                    self.rate
                ),
                _ => "what dropout keeps is not scaled by 1 / (1 - rate): activations differ in size between training and \
                      evaluation"
                    .to_owned(),
            },
        )
    }

    fn is_near(&self) -> bool {
        let (units, rate) = (self.units as f64, self.rate);
        (self.dropped as f64 - rate * units).abs() <= DEVIATIONS * (units * rate * (1.0 - rate)).sqrt() + 1.0
    }

    /// Whether two masks of so many units are not equal by chance.
    fn is_surprising(&self, units: u64) -> bool {
        let equal = self.rate * self.rate + (1.0 - self.rate) * (1.0 - self.rate);
        -equal.ln() * units as f64 > SURPRISING
    }

    fn masks(&mut self, it: &MicroBatch, told: &[Dropped], broken: &mut impl Broken) {
        for (place, mask) in told.iter().enumerate() {
            if !self.is_surprising(mask.units.min(DIGESTED_UNITS)) {
                continue;
            }
            let before = self.seen.get(&mask.digest).copied();
            let cause = match before {
                Some((epoch, index, _)) if (epoch, index) == (it.epoch, it.index) => {
                    "two dropouts of one forward have one mask: check for a generator that is seeded again per layer"
                }
                _ => {
                    "a mask comes again: check for a generator that is seeded or restored in front of each forward"
                }
            };
            let actual = before.map_or(String::new(), |(epoch, index, place)| {
                format!("that of dropout {place} in micro-batch {index} of epoch {epoch}")
            });
            if !broken(before.is_none(), format!("a mask of its own for dropout {place}"), actual, cause) {
                return;
            }
            if self.seen.len() < MASKS_MOST {
                self.seen.insert(mask.digest.clone(), (it.epoch, it.index, place));
            }
        }
    }
}

/// Compares: whether it holds, what was expected, what is there, and the cause. Returns whether it holds.
trait Broken: FnMut(bool, String, String, &str) -> bool {}
impl<F: FnMut(bool, String, String, &str) -> bool> Broken for F {}

/// No figure of a trace may make the judge overflow.
fn sum(told: &[Dropped], of: fn(&Dropped) -> u64) -> u64 {
    told.iter().map(of).fold(0, u64::saturating_add)
}

fn other_rate(share: f64, rate: f64) -> String {
    if (share - (1.0 - rate)).abs() < 0.1 * rate.min(1.0 - rate) {
        format!("{:.0} % are dropped: the rate is taken for the share to keep", 100.0 * share)
    } else {
        format!(
            "{:.1} % of the units are dropped, not {:.1} %: check which rate reaches the modules",
            100.0 * share,
            100.0 * rate
        )
    }
}

impl TraceRule for Masks {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Evaluation(it) => {
                self.passes(Component::Evaluation, format!("the evaluation at step {}", it.step))
            }
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved => {
                self.passes(Component::Checkpoint, format!("the save at step {}", it.step));
            }
            Event::Probe(it) => self.passes(Component::Rng, format!("the probe {}", it.name)),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if !self.told {
            sheet.missing("dropout of a micro-batch");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;

    use super::*;
    use crate::testing::*;

    /// Every micro-batch tells two dropouts of 1,000 units at the plan's rate of 0.1.
    fn told(change: impl Fn(&mut MicroBatch)) -> Vec<Event> {
        let mut events = whole();
        for event in &mut events {
            if let Event::MicroBatch(it) = event {
                let dropped = |place| Dropped {
                    units: 1000,
                    dropped: 97 + it.index,
                    scale: Number(1.0 / 0.9),
                    positions: 10,
                    masks: 10,
                    digest: format!("t:{}-{}-{place}", it.epoch, it.index),
                };
                it.dropout = Some(vec![dropped(0), dropped(1)]);
                change(it);
            }
        }
        events
    }

    fn each(it: &mut MicroBatch, change: impl Fn(&mut Dropped)) {
        it.dropout.iter_mut().flatten().for_each(change);
    }

    #[test]
    fn dropout_at_its_rate_holds() {
        holds(&judge(RULE.name, &told(|_| {})));
    }

    #[rstest]
    #[case::off(|it: &mut MicroBatch| it.dropout = Some(Vec::new()), "dropout is off in training")]
    #[case::never(|it: &mut MicroBatch| each(it, |it| it.dropped = 0), "dropout is off in training")]
    #[case::of_another_rate(|it: &mut MicroBatch| each(it, |it| it.scale = Number(1.0 / 0.95)), "scaled as for a rate of 0.0500")]
    #[case::not_scaled(|it: &mut MicroBatch| each(it, |it| it.scale = Number(1.0)), "not scaled by 1 / (1 - rate)")]
    #[case::inverted(|it: &mut MicroBatch| each(it, |it| it.dropped = 903), "taken for the share to keep")]
    #[case::half(|it: &mut MicroBatch| each(it, |it| it.dropped = 50), "5.0 % of the units are dropped, not 10.0 %")]
    #[case::positions(|it: &mut MicroBatch| each(it, |it| it.masks = 1), "one mask is used for every position")]
    #[case::layers(|it: &mut MicroBatch| each(it, |dropped| dropped.digest = "t:1".into()), "seeded again per layer")]
    #[case::again(|it: &mut MicroBatch| {
        it.dropout.iter_mut().flatten().enumerate().for_each(|(at, dropped)| dropped.digest = at.to_string());
    }, "a mask comes again")]
    fn another_dropout_says_how(#[case] change: fn(&mut MicroBatch), #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &told(change)), "rng");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn what_turned_it_off_is_named() {
        // An evaluation comes after update 3, the last of the first epoch's.
        let events = told(|it| {
            if it.epoch > 0 {
                it.dropout = Some(Vec::new());
            }
        });
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.contains("until the evaluation at step 3"), "{found}");
    }

    #[test]
    fn a_factor_in_half_precision_is_rounded() {
        holds(&judge(RULE.name, &told(|it| each(it, |it| it.scale = Number(1.109_375)))));
    }

    #[test]
    fn small_masks_may_come_again() {
        let small =
            |it: &mut Dropped| (it.units, it.dropped, it.positions, it.digest) = (20, 2, 2, "t:1".into());
        holds(&judge(RULE.name, &told(|it| each(it, small))));
    }
}
