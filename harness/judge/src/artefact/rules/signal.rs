//! `artefact/learning-signal`: a log shows that something was learned from.

use traintrue_logs::{Column, Entry, Log};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/learning-signal",
    says: "losses and gradient norms of a log are not 0 to its end, and no learning rate is negative",
    verifies: "The last three entries or more do not all have a gradient norm of exactly 0. Where no norm is logged, \
               they do not all have a loss of exactly 0. Every learning rate is 0 or more.",
    does_not_verify: "A loss of 0 in a log of rewards or of a KL term: policy gradients have such losses and still \
                      learn. A rate that rises again is only noted: it may be a warm restart. Training losses several \
                      times the evaluation losses are only noted, for they may be of other data.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// So many entries without a signal, up to the end of the log.
const SILENT: usize = 3;
/// Parts of the names of figures that are logged beside a loss that may be 0 in value.
const OF_A_POLICY: [&str; 4] = ["reward", "kl", "advantage", "entropy"];
/// A training loss this many times the evaluation's is noted.
const APART: f64 = 1.8;
/// How far the ratio of the two may be from a whole number.
const NEAR_WHOLE: f64 = 0.1;

pub(crate) fn judge(log: &Log, sheet: &mut Sheet) {
    let training: Vec<&Entry> = log.entries.iter().filter(|it| it.is_training()).collect();
    let norms = silent(&training, Column::GradNorm);
    match norms {
        Some(silent) => signal(&training, Column::GradNorm, silent, sheet),
        None if !of_a_policy(log) => {
            let silent = silent(&training, Column::Loss).unwrap_or(0);
            signal(&training, Column::Loss, silent, sheet);
        }
        None => {}
    }
    for it in &log.entries {
        let Some(rate) = it.lr() else { continue };
        sheet.check_at(rate.0 >= 0.0 || rate.0.is_nan(), it.line, || entry(it.step), || Difference {
            expected: "a learning rate of 0 or more".into(),
            actual: rate.to_string(),
            component: Component::Schedule,
            cause: "an update with a negative rate climbs the loss: the schedule was continued beyond its end".into(),
        });
    }
    beside_evaluation(log, sheet);
}

/// How many entries at the end of the log have a figure of exactly 0; None if the figure is not logged.
fn silent(training: &[&Entry], column: Column) -> Option<usize> {
    let logged: Vec<f64> =
        training.iter().filter_map(|it| it.figures.get(column.figure())).map(|it| it.0).collect();
    (!logged.is_empty()).then(|| logged.iter().rev().take_while(|figure| **figure == 0.0).count())
}

fn of_a_policy(log: &Log) -> bool {
    let names = log.entries.iter().flat_map(|it| it.figures.keys());
    names.into_iter().any(|name| OF_A_POLICY.iter().any(|part| name.contains(part)))
}

fn signal(training: &[&Entry], column: Column, silent: usize, sheet: &mut Sheet) {
    let name = column.figure();
    let logged: Vec<&&Entry> = training.iter().filter(|it| it.figures.contains_key(name)).collect();
    let Some(first) = logged.get(logged.len() - silent).or(logged.last()) else { return };
    let cause = match (column, silent == logged.len()) {
        (Column::GradNorm, true) => {
            "no gradient arrived: every target is masked, nothing trainable is in the graph, or \
                                     NaN is shown as 0"
        }
        (Column::GradNorm, false) => {
            "gradients stopped: NaN in the weights may be shown as 0, or what trains was frozen"
        }
        (_, true) => "there is nothing to learn from: every target is masked, or the loss is not computed",
        (_, false) => "the loss vanished: NaN may be shown as 0, or the targets of the rest are masked",
    };
    sheet.check_at(
        silent < SILENT,
        first.line,
        || entry(first.step),
        || Difference {
            expected: format!("a {name} other than 0"),
            actual: format!("{name} 0 in each of the last {silent} of {} entries", logged.len()),
            component: Component::Numerics,
            cause: cause.into(),
        },
    );
}

/// Notes a training loss that is about a whole multiple of the evaluation's throughout.
fn beside_evaluation(log: &Log, sheet: &mut Sheet) {
    let mut loss = None;
    let mut ratios: Vec<f64> = Vec::new();
    for it in &log.entries {
        let figure = |name: &str| it.figures.get(name).map(|it| it.0).filter(|it| it.is_finite());
        loss = figure(Column::Loss.figure()).or(loss);
        ratios.extend(loss.zip(figure("eval_loss")).map(|(loss, evaluated)| loss / evaluated));
    }
    let Some(mean) = (ratios.len() > 1).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64) else {
        return;
    };
    let near = |ratio: &f64| (ratio / mean.round() - 1.0).abs() < NEAR_WHOLE;
    if mean > APART && ratios.iter().all(near) {
        sheet.remark(format!(
            "the training loss is {:.0} times the evaluation loss at each of {} evaluations: one of the two may be summed \
             over, or divided by, an accumulation window of {:.0}",
            mean.round(),
            ratios.len(),
            mean.round()
        ));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;

    use super::super::testing::{broke, holds};
    use super::*;

    /// A log of the figures of each entry.
    fn judged(entries: &[&[(&str, f64)]]) -> Sheet {
        let entry = |(at, figures): (usize, &&[(&str, f64)])| {
            let figures =
                figures.iter().map(|(name, figure)| ((*name).to_owned(), Number(*figure))).collect();
            Entry { line: at as u64 + 1, step: at as u64 + 1, epoch: None, figures }
        };
        let mut sheet = Sheet::default();
        judge(
            &Log { entries: entries.iter().enumerate().map(entry).collect(), ..Log::default() },
            &mut sheet,
        );
        sheet
    }

    type Figures = &'static [(&'static str, f64)];

    const LEARNS: Figures = &[("loss", 2.0), ("grad_norm", 1.0), ("learning_rate", 0.0)];
    const STILL: Figures = &[("loss", 2.0), ("grad_norm", 0.0)];
    const ZERO: Figures = &[("loss", 0.0)];

    const BY_HEART: Figures = &[("loss", 0.0), ("grad_norm", 1e-4)];
    const REWARDED: Figures = &[("loss", 0.0), ("reward", 0.5)];
    const NEGATIVE: Figures = &[("loss", 2.0), ("learning_rate", -1e-5)];

    #[rstest]
    #[case::learns(&[LEARNS; 4])]
    #[case::once_without(&[LEARNS, STILL, LEARNS])]
    #[case::two_without(&[LEARNS, STILL, STILL])]
    #[case::learned_by_heart(&[BY_HEART; 5])]
    fn a_log_with_a_signal_holds(#[case] entries: &[Figures]) {
        holds(&judged(entries));
    }

    #[test]
    fn the_loss_of_a_policy_may_be_0() {
        let sheet = judged(&[REWARDED; 5]);
        assert!(sheet.broken.is_none() && sheet.compared == 0);
    }

    #[rstest]
    #[case::no_loss(&[ZERO; 3], "loss 0 in each of the last 3 of 3 entries: there is nothing to learn from")]
    #[case::no_gradient(&[STILL; 3], "grad_norm 0 in each of the last 3 of 3 entries: no gradient arrived")]
    #[case::stopped(&[LEARNS, STILL, STILL, STILL], "grad_norm 0 in each of the last 3 of 4 entries: gradients stopped")]
    #[case::vanished(&[&[("loss", 2.0)], ZERO, ZERO, ZERO], "the last 3 of 4 entries: the loss vanished")]
    #[case::rate(&[NEGATIVE], "expected a learning rate of 0 or more, found -1.00000e-5")]
    fn a_log_without_a_signal_breaks(#[case] entries: &[Figures], #[case] expected: &str) {
        let found = broke(&judged(entries));
        assert!(found.contains(expected), "{found}");
    }

    const EIGHTFOLD: Figures = &[("loss", 2.2), ("eval_loss", 0.275)];
    const TWOFOLD: Figures = &[("loss", 1.0), ("eval_loss", 0.5)];
    const ALIKE: Figures = &[("loss", 1.1), ("eval_loss", 1.0)];

    #[rstest]
    #[case::eightfold(&[EIGHTFOLD, EIGHTFOLD], 1)]
    #[case::once(&[EIGHTFOLD], 0)]
    #[case::not_the_same(&[EIGHTFOLD, TWOFOLD], 0)]
    #[case::alike(&[ALIKE, ALIKE], 0)]
    fn a_training_loss_of_a_multiple_is_noted(#[case] entries: &[Figures], #[case] remarks: usize) {
        assert_eq!(judged(entries).remarks.len(), remarks);
    }
}
