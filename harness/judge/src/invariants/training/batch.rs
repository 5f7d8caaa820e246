//! `batch/as-planned`: every micro-batch has the rows, width, tokens, targets and weights that follow from its samples.

use traintrue_protocol::contract::Targets;
use traintrue_protocol::plan::{Data, PaddingPolicy};
use traintrue_protocol::trace::event::{Cursor, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic::{self, Counts};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::rows;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "batch/as-planned",
    says: "each micro-batch has the rows, width, tokens, targets and loss weights that follow from its samples",
    verifies: "The judge derives from the plan's samples: the number of samples, the rows per sample (by the \
               contract), the width (by the padding policy), the unpadded tokens, the targets (by the contract), and the \
               weight that divides each loss. Where a trainer tells rows: their tokens are the sample's after truncation, \
               their padding is on the plan's side, and their targets are the next tokens. It also counts micro-batches, \
               positions and tokens, from which the report gives the share of padding.",
    does_not_verify: "The rows of micro-batches that the trainer does not tell, and rows beside one a sample. That the model \
                      uses the mask (padding/width-does-not-matter).",
    kind: Kind::Trace(|opening| Box::new(Batch::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Batch,
    needs: &[Fact::Plan],
};

struct Batch {
    /// Tokens of each sample after truncation.
    lengths: Vec<u64>,
    data: Data,
    counts: Counts,
    rows_per_sample: u64,
    targets: Targets,
    micro_batches: u64,
    positions: u64,
    tokens: u64,
    told: bool,
}

/// What the judge derives from the samples of one micro-batch.
#[derive(Default)]
struct Samples {
    tokens: u64,
    targets: u64,
    longest: u64,
    filled: u64,
}

impl Batch {
    fn new(opening: &Opening) -> Self {
        let data = &opening.plan.data;
        let counts = Counts::of(opening.plan, opening.contract);
        Self {
            lengths: (0..data.samples.len() as u64).map(|id| arithmetic::length(data, id)).collect(),
            data: data.clone(),
            counts,
            rows_per_sample: opening.contract.rows_per_sample,
            targets: opening.contract.targets,
            micro_batches: 0,
            positions: 0,
            tokens: 0,
            told: false,
        }
    }

    fn sum(&self, ids: &[u64]) -> Samples {
        let mut sum = Samples::default();
        for &id in ids {
            // An id outside the plan is the ledger's finding. Here it counts as an empty sample.
            let length = usize::try_from(id).ok().and_then(|id| self.lengths.get(id)).copied().unwrap_or(0);
            sum.tokens += length;
            sum.targets += arithmetic::targets(length, self.targets);
            sum.longest = sum.longest.max(length);
            sum.filled += u64::from(length > 0);
        }
        sum
    }

    fn width(&self, longest: u64) -> u64 {
        let width = match self.data.padding.policy {
            PaddingPolicy::Longest => longest.max(1),
            PaddingPolicy::MaxLength => self.data.max_length,
        };
        width.checked_next_multiple_of(self.data.padding.multiple_of.max(1)).unwrap_or(u64::MAX)
    }

    fn size_fits(&self, it: &MicroBatch, size: u64) -> bool {
        let Counts { batch, micro_batches, .. } = self.counts;
        size == batch
            || (it.index.checked_add(1) == Some(micro_batches) && size == self.counts.in_last_batch())
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        self.micro_batches += 1;
        self.positions = self.positions.saturating_add(it.positions());
        self.tokens = self.tokens.saturating_add(it.tokens.unwrap_or(0));
        let Some(ids) = &it.samples else {
            return sheet.missing("samples");
        };
        if !it.told.is_empty() {
            self.rows(it, ids, line, sheet);
        }
        let (size, sum) = (ids.len() as u64, self.sum(ids));
        sheet.check(self.size_fits(it, size), line, || Difference {
            expected: format!("{} samples", self.counts.batch),
            actual: size.to_string(),
            component: Component::Data,
            cause: "the micro-batch does not have the plan's batch size and is not the smaller last one of an epoch: \
                    check the batch sampler".into(),
        });
        let mut check = |field, found: Option<u64>, expected: u64, component, cause: &str| match found {
            None => sheet.missing(field),
            Some(found) => {
                sheet.check(found == expected, line, || Difference {
                    expected: format!("{field} {expected}"),
                    actual: found.to_string(),
                    component,
                    cause: cause.to_owned(),
                });
            }
        };
        let rows = self.rows_per_sample;
        check(
            "rows",
            it.rows,
            rows.saturating_mul(size),
            Component::Collator,
            "the forward pass does not have the contract's rows per sample: check where the inputs are concatenated",
        );
        check(
            "width",
            it.width,
            self.width(sum.longest),
            Component::Collator,
            "the collator pads to a width that does not follow from the plan's padding policy",
        );
        check(
            "tokens",
            it.tokens,
            rows.saturating_mul(sum.tokens),
            Component::Collator,
            "the collator counts padding as tokens, or truncates at another length than the plan's",
        );
        check(
            "targets",
            it.targets,
            sum.targets,
            Component::Labels,
            "the labels include padding, or mask tokens that should be predicted",
        );
        self.weights(it, sum.filled, line, sheet);
    }

    /// The rows themselves come before their counts: they say what is wrong with them.
    fn rows(&mut self, it: &MicroBatch, ids: &[u64], line: &Line, sheet: &mut Sheet) {
        self.told = true;
        if !it.told.iter().map(|row| row.sample).eq(ids.iter().copied()) {
            return sheet.cannot("some micro-batches tell other rows than one for each of their samples");
        }
        let Data { samples, evaluation, .. } = &self.data;
        let others = (&evaluation[..], "evaluation set", Component::Data);
        let made = rows::Made { samples, others, data: &self.data, targets: self.targets };
        it.told.iter().for_each(|told| rows::row(told, made, line, sheet));
    }

    fn weights(&self, it: &MicroBatch, filled: u64, line: &Line, sheet: &mut Sheet) {
        if it.losses.is_empty() {
            sheet.missing("losses");
        }
        for loss in &it.losses {
            let (expected, what) = match (loss.name.as_str(), it.targets) {
                ("lm", Some(targets)) => (targets, "targets"),
                ("lm", None) => continue,
                _ => (filled, "samples with a token"),
            };
            sheet.check(loss.weight.0 == expected as f64, line, || Difference {
                expected: format!("weight {expected} of loss {}", loss.name),
                actual: loss.weight.to_string(),
                component: Component::Normaliser,
                cause: format!("the loss is not divided by its number of {what}"),
            });
        }
    }
}

impl TraceRule for Batch {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Adapted(it) => {
                self.counts.adapt(it, Cursor { epoch: 0, micro_batches: 0 });
            }
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        sheet.count("micro_batches", self.micro_batches);
        sheet.count("positions", self.positions);
        sheet.count("tokens", self.tokens);
        if !self.told {
            sheet.remarks.push(
                "batch/as-planned: no rows are told, so truncation, padding side and labels are not judged"
                    .into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;

    #[test]
    fn a_healthy_trace_holds_and_its_padding_is_counted() {
        let sheet = judge(RULE.name, &whole());
        holds(&sheet);
        // Lengths 3 4 5 5 3 0 5 5 3 4 5 5 3, three rows a sample, two epochs: 50 x 3 x 2 tokens.
        assert_eq!((sheet.counted["micro_batches"], sheet.counted["tokens"]), (14, 300));
        assert!(sheet.counted["positions"] > 300);
    }

    #[rstest]
    #[case::next_tokens(Targets::NextTokens, |length| length - 1)]
    #[case::all_tokens(Targets::Tokens, |length| length)]
    #[case::one_per_sample(Targets::Samples, |_| 1)]
    fn targets_are_counted_as_the_contract_declares(
        #[case] declared: Targets,
        #[case] of: fn(u64) -> u64,
        #[values(Targets::NextTokens, Targets::Tokens, Targets::Samples)] counted: Targets,
    ) {
        let mut events = whole();
        let Event::Run(run) = &mut events[0] else { panic!("no run") };
        run.contract.targets = counted;
        let lengths: Vec<u64> =
            run.plan.data.samples.iter().map(|sample| sample.len().min(5) as u64).collect();
        for event in &mut events {
            if let Event::MicroBatch(it) = event {
                let ids = it.samples.iter().flatten().map(|&id| lengths[id as usize]);
                let targets = ids.filter(|&length| length > 0).map(of).sum();
                it.targets = Some(targets);
                it.losses
                    .iter_mut()
                    .filter(|loss| loss.name == "lm")
                    .for_each(|loss| loss.weight = Number(targets as f64));
            }
        }
        let sheet = judge(RULE.name, &events);
        assert_eq!(sheet.broken.is_some(), declared != counted, "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::width(|it: &mut MicroBatch| it.width = Some(5), "collator")]
    #[case::rows(|it: &mut MicroBatch| it.rows = Some(2), "collator")]
    #[case::tokens(|it: &mut MicroBatch| it.tokens = Some(24), "collator")]
    #[case::targets(|it: &mut MicroBatch| it.targets = Some(7), "labels")]
    #[case::lm_weight(|it: &mut MicroBatch| it.losses[0].weight = Number(8.0), "normaliser")]
    #[case::head_weight(|it: &mut MicroBatch| it.losses[1].weight = Number(6.0), "normaliser")]
    #[case::size(|it: &mut MicroBatch| it.samples = Some(vec![0]), "data")]
    fn a_wrong_micro_batch_breaks(#[case] change: fn(&mut MicroBatch), #[case] component: &str) {
        let mut events = whole();
        change(batch_at(&mut events, 0, 0));
        breaks(judge(RULE.name, &events), component);
    }
}
