//! `evaluation/whole-set-mean`: the reported metric is the mean over the whole evaluation set.

use traintrue_protocol::contract::Targets;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Data;
use traintrue_protocol::trace::event::{Evaluation, Loss};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::rows;
use crate::near::near;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Relative: f32 sums of a few thousand terms.
const TOLERANCE: f64 = 1e-5;
/// Fewer evaluations with the same losses say nothing.
const STILL: usize = 3;

pub(crate) static RULE: Rule = Rule {
    name: "evaluation/whole-set-mean",
    says: "an evaluation covers every sample once and reports the mean over all their targets",
    verifies: "The evaluated sample ids are the plan's, each exactly once; rows that are told are those samples; and \
               the weights of the losses add up to all their targets. The metric is the sum of the language-model \
               losses divided by the sum of their weights, within 1e-5. Not all of three evaluations or more have the \
               same losses, bit for bit, where the parameters are others and no head is trained.",
    does_not_verify: "The losses of the batches. Metrics other than a mean loss.",
    kind: Kind::Trace(|opening| Box::new(Mean::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Evaluation,
    needs: &[Fact::Plan],
};

struct Mean {
    data: Data,
    targets: Targets,
    /// Targets of the whole set.
    weight: u64,
    /// Whether other ranks evaluate the rest of the set (ranks/evaluate-once).
    shares: bool,
    /// Whether everything that trains is in the loss of the language model.
    is_one_loss: bool,
    /// The highest rate, and whether an update had a rate near it: since the last evaluation, and since the first.
    peak: f64,
    trained: bool,
    moved: bool,
    /// The first evaluations, and whether a later one has other losses than the first.
    still: Vec<(Evaluation, Line)>,
    differ: bool,
}

impl Mean {
    fn new(opening: &Opening) -> Self {
        let (data, targets) = (&opening.plan.data, opening.contract.targets);
        let length = |sample: &Vec<u32>| arithmetic::truncated(sample, data.max_length).len() as u64;
        let weight = data.evaluation.iter().map(|sample| arithmetic::targets(length(sample), targets)).sum();
        Self {
            data: data.clone(),
            targets,
            weight,
            shares: opening.plan.train.together,
            is_one_loss: opening.plan.train.heads.is_empty(),
            peak: opening.plan.train.optimizer.lr,
            trained: false,
            moved: false,
            still: Vec::new(),
            differ: false,
        }
    }

    fn covers(&self, it: &Evaluation, line: &Line, sheet: &mut Sheet) {
        let Some(samples) = &it.samples else {
            return sheet.missing("samples of an evaluation");
        };
        let mut ids = samples.clone();
        ids.sort_unstable();
        let all = self.data.evaluation.len() as u64;
        sheet.check(ids.iter().copied().eq(0..all), line, || {
            let again = ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            let left_out = (0..all).find(|id| ids.binary_search(id).is_err());
            Difference {
                expected: format!("each of the {all} evaluation samples once"),
                actual: format!("{} samples", ids.len()),
                component: Component::Evaluation,
                cause: match (left_out, again) {
                    (Some(id), None) => format!("sample {id} is not evaluated: check drop_last of the evaluation loader, and \
                                                 its last batch"),
                    (None, Some(id)) => format!("sample {id} is evaluated twice: check what repeats or pads batches"),
                    _ => "the evaluation leaves out samples and evaluates others twice, or others than the plan's: check \
                          its sampler".into(),
                },
            }
        });
    }

    fn weight(&self, it: &Evaluation, line: &Line, sheet: &mut Sheet) {
        let weight: f64 = it.losses.iter().filter(|loss| loss.name == "lm").map(|loss| loss.weight.0).sum();
        // Other samples have other targets: that is their finding.
        let covers = it.samples.as_ref().is_none_or(|samples| samples.len() == self.data.evaluation.len());
        if !covers || weight == 0.0 {
            return;
        }
        sheet.check(weight == self.weight as f64, line, || Difference {
            expected: format!("losses over {} targets", self.weight),
            actual: Number(weight).to_string(),
            component: Component::Evaluation,
            cause: "the losses of the evaluation are not over the targets of its set: check what masks its labels, which set its \
                    loader has, and its last batch".into(),
        });
    }

    /// The model that trains is the one that is evaluated.
    fn moves(&mut self, it: &Evaluation, line: &Line) {
        self.moved |= !self.still.is_empty() && self.trained;
        self.trained = false;
        self.differ |= self.still.first().is_some_and(|(first, _)| first.losses != it.losses);
        if self.still.len() < STILL && !it.losses.is_empty() {
            self.still.push((it.clone(), line.clone()));
        }
    }

    fn still(&self, sheet: &mut Sheet) {
        let [(first, _), .., (last, line)] = self.still.as_slice() else { return };
        let parted = first.digest_before.is_some() && first.digest_before != last.digest_before;
        if self.still.len() < STILL || self.differ || !self.moved || !parted || !self.is_one_loss {
            return;
        }
        sheet.check(false, line, || Difference {
            expected: format!("other losses than after update {}: the parameters are others", first.step),
            actual: "the same ones in every evaluation, bit for bit".into(),
            component: Component::Evaluation,
            cause:
                "what is evaluated is not the model that trains: a copy, or the weights of an earlier time"
                    .into(),
        });
    }

    fn rows(&self, it: &Evaluation, line: &Line, sheet: &mut Sheet) {
        let Data { samples, evaluation, .. } = &self.data;
        let made = rows::Made {
            samples: evaluation,
            others: (samples, "training set", Component::Evaluation),
            data: &self.data,
            targets: self.targets,
        };
        it.told.iter().for_each(|told| rows::row(told, made, line, sheet));
    }
}

fn metric(it: &Evaluation, line: &Line, sheet: &mut Sheet) {
    let Some(metric) = it.metric else {
        return sheet.missing("metric");
    };
    let lm: Vec<&Loss> = it.losses.iter().filter(|loss| loss.name == "lm").collect();
    let weight = lm.iter().map(|loss| loss.weight.0).sum::<f64>();
    if weight == 0.0 {
        return sheet.missing("weight of an evaluation's losses");
    }
    let expected = lm.iter().map(|loss| loss.sum.0).sum::<f64>() / weight;
    let means = lm.iter().filter(|loss| loss.weight.0 > 0.0).map(|loss| loss.sum.0 / loss.weight.0);
    let of_means = means.sum::<f64>() / lm.len() as f64;
    let fits = |other: f64| near(metric, Number(other), TOLERANCE * other.abs().max(f64::MIN_POSITIVE));
    sheet.check(fits(expected), line, || Difference {
        expected: format!("metric {}", Number(expected)),
        actual: metric.to_string(),
        component: Component::Evaluation,
        cause: if metric.is_finite() != expected.is_finite() {
            "the metric and the losses that it is the mean of are not both finite: check which batches it leaves out"
                .into()
        } else if fits(of_means) {
            "the metric is the mean of the batch means: a short last batch counts as much as a full one"
                .into()
        } else {
            "the metric is not the mean loss per evaluated target".into()
        },
    });
}

impl TraceRule for Mean {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Evaluation(it) = &line.event {
            self.rows(it, line, sheet);
            self.moves(it, line);
            if self.shares {
                return;
            }
            self.covers(it, line, sheet);
            self.weight(it, line, sheet);
            metric(it, line, sheet);
        } else if let Event::Update(it) = &line.event {
            // Rates near 0 may move no loss.
            self.trained |= it.applied && it.lr.iter().any(|lr| lr.0 > 0.0 && 2.0 * lr.0 >= self.peak);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        self.still(sheet);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use traintrue_protocol::trace::event::Row;

    use super::*;
    use crate::testing::*;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    // Batches of 12 / 6 and 9 / 3: means 2 and 3.
    #[case(|it: &mut Evaluation| it.metric = Some(Number(2.5)), "the mean of the batch means")]
    #[case(|it: &mut Evaluation| it.metric = Some(Number(2.0)), "not the mean")]
    #[case(|it: &mut Evaluation| it.samples = Some(vec![0, 1, 1]), "leaves out samples and evaluates others twice")]
    #[case(|it: &mut Evaluation| it.samples = Some(vec![0, 1]), "sample 2 is not evaluated")]
    #[case(|it: &mut Evaluation| it.samples = Some(vec![0, 1, 2, 0]), "sample 0 is evaluated twice")]
    #[case(|it: &mut Evaluation| it.losses[0].weight = Number(5.0), "not over the targets of its set")]
    #[case(|it: &mut Evaluation| {
        let (ids, real, targets) = (vec![9; 3], vec![true; 3], vec![None; 3]);
        it.told = vec![Row { sample: 0, ids, real, targets, logits: Vec::new() }];
    }, "the row is sample 0 of the training set")]
    fn a_wrong_figure_breaks(#[case] change: fn(&mut Evaluation), #[case] cause: &str) {
        let mut events = whole();
        let at = position(&events, |event| matches!(event, Event::Evaluation(_)));
        if let Event::Evaluation(it) = &mut events[at] {
            change(it);
        }
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.contains(cause), "{found}");
    }

    /// Three evaluations, one after each update, with these digests.
    #[rstest]
    #[case::of_a_copy(["t:1", "t:2", "t:3"], 1.0, false)]
    #[case::of_one_state(["t:1", "t:1", "t:1"], 1.0, true)]
    #[case::at_a_rate_of_nearly_0(["t:1", "t:2", "t:3"], 1e-9, true)]
    fn losses_of_other_parameters_are_others(
        #[case] digests: [&str; 3],
        #[case] rate: f64,
        #[case] fits: bool,
    ) {
        let mut events = whole();
        if let Event::Run(run) = &mut events[0] {
            run.plan.train.heads.clear();
        }
        let at = position(&events, |event| matches!(event, Event::Evaluation(_)));
        let evaluation = events[at].clone();
        events.retain(|event| !matches!(event, Event::Evaluation(_)));
        for (step, digest) in (1..).zip(digests) {
            update_at(&mut events, step).lr[0].0 *= rate;
            let at = position(&events, |event| matches!(event, Event::Update(it) if it.step == step));
            let mut evaluation = evaluation.clone();
            if let Event::Evaluation(it) = &mut evaluation {
                (it.step, it.digest_before) = (step, Some(digest.into()));
            }
            events.insert(at + 1, evaluation);
        }
        let sheet = judge(RULE.name, &events);
        assert_eq!(sheet.broken.is_none(), fits, "{:?}", sheet.broken);
    }
}
