//! `rows/independent`, `padding/width-does-not-matter` and `cache/same-outputs`: a sample gives the same outputs,
//! however it is batched, padded or decoded.
//!
//! A plan asks for probes in families: those whose names begin `rows:`, `width:` or `cache:`. Within a family, probes
//! made at the same time in the same number format are compared with the first of them.

use std::collections::{BTreeSet, HashMap};

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Dtype, Plan};
use traintrue_protocol::trace::event::{Probe, ProbeGradient};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::bound::{self, Unbounded};
use crate::finding::{Difference, Sheet};
use crate::invariants::probes::rows::{self, Tolerance};
use crate::near::near;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

const DOES_NOT_VERIFY: &str = "Samples that no probe covers. Differences below the bound: a mistake that changes an \
                               output by less than rounding can is not seen.";

pub(crate) static ROWS: Rule = Rule {
    name: "rows/independent",
    says: "a row's loss, logits, head output and gradient do not depend on the other rows of its batch",
    verifies: "Each probe `rows:` agrees with the first of them for every sample in both: loss, logits and head output \
               within the rounding bound. The gradients agree too, if both hold the same samples apart from empty \
               ones. A row without tokens has a loss of 0.",
    does_not_verify: DOES_NOT_VERIFY,
    kind: Kind::Trace(|opening| {
        let cause = "the result of a row depends on the other rows: check the attention mask and the pooling";
        Box::new(Probes::new(opening, Family { prefix: "rows:", component: Component::AttentionMask, cause }))
    }),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Probes,
    needs: &[Fact::Plan],
};

pub(crate) static WIDTH: Rule = Rule {
    name: "padding/width-does-not-matter",
    says: "loss, logits, head output and gradient do not depend on how far, or on which side, a row is padded",
    verifies: "Each probe `width:` agrees with the first of them for every sample in both: loss, logits at real \
               positions and head output within the rounding bound. The gradients agree too, if both hold the same \
               samples.",
    does_not_verify: DOES_NOT_VERIFY,
    kind: Kind::Trace(|opening| {
        let cause = "the result depends on padding: check the attention mask, the pooling, the labels and the position \
                     ids";
        Box::new(Probes::new(opening, Family { prefix: "width:", component: Component::Collator, cause }))
    }),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Probes,
    needs: &[Fact::Plan],
};

pub(crate) static CACHE: Rule = Rule {
    name: "cache/same-outputs",
    says: "decoding with a key-value cache gives the outputs of one whole forward pass",
    verifies: "Each probe `cache:` agrees with the first of them for every sample in both: loss, logits and head \
               output within the rounding bound.",
    does_not_verify: DOES_NOT_VERIFY,
    kind: Kind::Trace(|opening| {
        let cause = "decoding with the key-value cache differs from one whole forward pass: check the cached keys, \
                     values and positions";
        Box::new(Probes::new(opening, Family { prefix: "cache:", component: Component::CachePolicy, cause }))
    }),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Cache,
    needs: &[Fact::Plan],
};

/// Probes that are compared with each other: those whose names have one prefix.
struct Family {
    prefix: &'static str,
    component: Component,
    cause: &'static str,
}

/// What the plan asked of a probe.
struct Asked {
    samples: Vec<u64>,
    /// The samples that have at least one token.
    filled: BTreeSet<u64>,
    dtype: Dtype,
}

struct Probes {
    family: Family,
    asked: HashMap<String, Asked>,
    /// The first probe of the family for each moment. Probes of one moment saw the same parameters.
    first: Vec<(Option<String>, Probe)>,
}

impl Probes {
    fn new(opening: &Opening, family: Family) -> Self {
        let plan = opening.plan;
        let ours = plan.probes.iter().filter(|probe| probe.name.starts_with(family.prefix));
        let asked = ours.map(|probe| {
            let samples = probe.samples.clone();
            let filled = samples.iter().copied().filter(|&id| has_tokens(plan, id)).collect();
            let dtype = probe.dtype.unwrap_or(plan.train.dtype);
            (probe.name.clone(), Asked { samples, filled, dtype })
        });
        Self { asked: asked.collect(), family, first: Vec::new() }
    }

    fn probe(&mut self, it: &Probe, line: &Line, sheet: &mut Sheet) {
        // Probes of other families are for other rules.
        let Some(asked) = self.asked.get(&it.name) else {
            return;
        };
        let (rows, samples) = (it.rows.len(), asked.samples.len());
        sheet.check(rows == samples, line, || Difference {
            expected: format!("{samples} rows in {}", it.name),
            actual: rows.to_string(),
            component: self.family.component,
            cause: "the probe does not give one row per sample".into(),
        });
        // An empty row's loss is judged on its own: all probes could agree on a wrong value.
        self.empty_rows(it, asked, line, sheet);
        let first = self.first.iter().find_map(|(at, first)| {
            let other =
                self.asked.get(&first.name).filter(|other| *at == it.at && other.dtype == asked.dtype)?;
            Some((first, other))
        });
        match first {
            Some((first, other)) => {
                self.rows(Pair { first, asked: other, it, as_asked: asked }, line, sheet);
            }
            None => self.first.push((it.at.clone(), it.clone())),
        }
    }

    fn empty_rows(&self, it: &Probe, asked: &Asked, line: &Line, sheet: &mut Sheet) {
        for (id, row) in asked.samples.iter().zip(&it.rows).filter(|(id, _)| !asked.filled.contains(id)) {
            sheet.check(row.loss.0 == 0.0, line, || Difference {
                expected: format!("loss 0 of the empty sample {id} in {}", it.name),
                actual: row.loss.to_string(),
                component: self.family.component,
                cause: "a row without tokens has a loss: check how empty rows are masked".into(),
            });
        }
    }

    fn rows(&self, pair: Pair, line: &Line, sheet: &mut Sheet) {
        let (width, other) = (pair.first.width.unwrap_or(0), pair.it.width.unwrap_or(0));
        let terms = bound::output_terms(width, other, pair.as_asked.dtype);
        let Some(bound) = sheet.comparable(bound::between(terms, pair.as_asked.dtype)) else { return };
        let tolerance = Tolerance::Relative(bound);
        for (id, row) in pair.as_asked.samples.iter().zip(&pair.it.rows) {
            // Probes of one family may hold different samples in a different order; only common samples are compared.
            let Some(at) = pair.asked.samples.iter().position(|other| other == id) else {
                continue;
            };
            let Some(first) = pair.first.rows.get(at) else {
                continue;
            };
            let what = || format!("sample {id} of {}", pair.it.name);
            if let Some(found) = rows::rows_differ(first, row, tolerance, &what, sheet) {
                self.breaks(found.expected, found.actual, &pair, line, sheet);
            }
        }
        // A gradient is a sum over all rows, so it is comparable only if both hold the same samples with tokens.
        if pair.asked.filled == pair.as_asked.filled {
            self.gradients(&pair, line, sheet);
        }
    }

    fn gradients(&self, pair: &Pair, line: &Line, sheet: &mut Sheet) {
        let Some(bound) = sheet.comparable(pair.gradient_bound()) else { return };
        for gradient in &pair.it.gradients {
            let Some(first) = pair.first.gradients.iter().find(|first| first.name == gradient.name) else {
                continue;
            };
            let values = first.sketch.iter().zip(&gradient.sketch);
            let norm = (bound, first.norm, gradient.norm, "norm");
            for (bound, first, found, what) in
                std::iter::once(norm).chain(values.map(|(a, b)| (bound::sketch(bound), *a, *b, "sketch")))
            {
                sheet.compared += 1;
                if !near(found, first, bound) {
                    let bound = Number(bound);
                    let expected = format!("gradient {what} {first} of {} within {bound}", gradient.name);
                    if found.is_finite() == first.is_finite() {
                        self.breaks(expected, found.to_string(), pair, line, sheet);
                        continue;
                    }
                    sheet.check(false, line, || Difference {
                        expected: format!("{expected}, as in {}", pair.first.name),
                        actual: format!("{found} in {}", pair.it.name),
                        component: Component::Numerics,
                        cause: format!(
                            "the gradient of {} is finite in one of the two and not in the other: a row, or padding, makes a value \
                             that has none (the root or the quotient of 0), and a mask behind it does not undo that",
                            gradient.name
                        ),
                    });
                }
            }
        }
    }

    fn breaks(&self, expected: String, actual: String, pair: &Pair, line: &Line, sheet: &mut Sheet) {
        sheet.check(false, line, || Difference {
            expected: format!("{expected}, as in {}", pair.first.name),
            actual: format!("{actual} in {}", pair.it.name),
            component: self.family.component,
            cause: self.family.cause.to_owned(),
        });
    }
}

/// Two probes of a family, and what the plan asked of them.
struct Pair<'a> {
    first: &'a Probe,
    asked: &'a Asked,
    it: &'a Probe,
    as_asked: &'a Asked,
}

impl Pair<'_> {
    /// The largest norm by which two correct gradients differ.
    fn gradient_bound(&self) -> Result<f64, Unbounded> {
        let positions = |probe: &Probe| (probe.rows.len() as u64).saturating_mul(probe.width.unwrap_or(0));
        let shapes = self.first.gradients.iter().map(|gradient| gradient.shape.as_slice());
        let terms = bound::gradient_terms(positions(self.first).saturating_add(positions(self.it)), shapes);
        let largest = norm(&self.first.gradients).max(norm(&self.it.gradients));
        Ok(bound::between(terms, self.as_asked.dtype)? * largest)
    }
}

/// The norm of the gradients that are finite.
fn norm(gradients: &[ProbeGradient]) -> f64 {
    let finite = gradients.iter().filter(|gradient| gradient.norm.is_finite());
    finite.map(|gradient| gradient.norm.0.powi(2)).sum::<f64>().sqrt()
}

fn has_tokens(plan: &Plan, id: u64) -> bool {
    crate::arithmetic::length(&plan.data, id) > 0
}

impl TraceRule for Probes {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Probe(it) = &line.event {
            self.probe(it, line, sheet);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if sheet.compared == 0 {
            sheet.missing(&format!("pair of probes {}", self.family.prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    /// The healthy trace with its two probes renamed into a family; the second is changed.
    fn family(prefix: &str, change: impl Fn(&mut Probe)) -> Vec<Event> {
        let rename = |name: &str| name.replace("rows:", prefix);
        let mut events = whole();
        if let Event::Run(run) = &mut events[0] {
            run.plan.probes.iter_mut().for_each(|probe| probe.name = rename(&probe.name));
        }
        for event in &mut events {
            if let Event::Probe(it) = event {
                if it.name == "rows:without" {
                    change(it);
                }
                it.name = rename(&it.name);
            }
        }
        events
    }

    #[rstest]
    #[case(&ROWS, "rows:", "attention-mask")]
    #[case(&WIDTH, "width:", "collator")]
    #[case(&CACHE, "cache:", "cache-policy")]
    fn outputs_agree_within_rounding_and_no_further(
        #[case] rule: &Rule,
        #[case] prefix: &str,
        #[case] component: &str,
    ) {
        holds(&judge(rule.name, &family(prefix, |_| {})));
        holds(&judge(rule.name, &family(prefix, |it| it.rows[0].logits[0] = Number(1.500001))));
        breaks(judge(rule.name, &family(prefix, |it| it.rows[0].logits[0] = Number(1.501))), component);
        breaks(judge(rule.name, &family(prefix, |it| it.rows[1].loss = Number(10.1))), component);
        breaks(judge(rule.name, &family(prefix, |it| it.rows[1].head[1] = Number(f64::NAN))), component);
        breaks(
            judge(rule.name, &family(prefix, |it| it.rows[0].logits[0] = Number(f64::INFINITY))),
            component,
        );
        breaks(judge(rule.name, &family(prefix, |it| it.gradients[0].sketch[0] = Number(0.11))), component);
        breaks(
            judge(
                rule.name,
                &family(prefix, |it| {
                    it.rows.pop();
                }),
            ),
            component,
        );
    }

    #[test]
    fn an_empty_row_has_no_loss() {
        let mut events = whole();
        let at = position(&events, |event| matches!(event, Event::Probe(it) if it.name == "rows:with-empty"));
        if let Event::Probe(it) = &mut events[at] {
            it.rows[2].loss = Number(1.0);
        }
        breaks(judge(ROWS.name, &events), "attention-mask");
    }

    #[test]
    fn a_plan_without_such_probes_compares_nothing() {
        let sheet = judge(WIDTH.name, &whole());
        assert!(sheet.compared == 0 && sheet.missing.is_some());
    }
}
