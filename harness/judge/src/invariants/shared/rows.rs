//! Whether a row that a trainer told is the plan's sample: its tokens, the side of its padding, and its targets.

use traintrue_protocol::contract::Targets;
use traintrue_protocol::plan::{Data, Side};
use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::event::Row;
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic;
use crate::finding::{Difference, Sheet};

/// What rows are made of.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    /// The samples that the ids count, before truncation.
    pub samples: &'a [Vec<u32>],
    /// Other samples, which a loader may give in their place, and what they are called.
    pub others: (&'a [Vec<u32>], &'static str, Component),
    /// The plan's truncation and padding.
    pub data: &'a Data,
    /// What a target is.
    pub targets: Targets,
}

/// Compares one row with the sample that it says it is.
pub(crate) fn row(told: &Row, made: Made, line: &Line, sheet: &mut Sheet) {
    if told.real.len() != told.ids.len() || told.targets.len() != told.ids.len() {
        return sheet.cannot("some rows have lists of different lengths: each has one value per position");
    }
    // An id outside of the set is the finding of the rules about samples.
    let Some(sample) = usize::try_from(told.sample).ok().and_then(|id| made.samples.get(id)) else { return };
    let expected = arithmetic::truncated(sample, made.data.max_length);
    let real: Vec<u32> =
        told.ids.iter().zip(&told.real).filter(|(_, real)| **real).map(|(id, _)| *id).collect();
    let is_same = sheet.check(real == expected, line, || Difference {
        expected: format!("tokens {} of sample {}", some(&expected), told.sample),
        actual: some(&real),
        component: if is_other(&real, told, made) { made.others.2 } else { Component::Collator },
        cause: other_tokens(&real, &expected, sample, told, made),
    });
    if is_same
        && is_on_its_side(told, made.data.padding.side, line, sheet)
        && made.targets == Targets::NextTokens
    {
        targets(told, line, sheet);
    }
}

/// Whether the tokens are those of the other set's sample with this id.
fn is_other(real: &[u32], told: &Row, made: Made) -> bool {
    let other = usize::try_from(told.sample).ok().and_then(|id| made.others.0.get(id));
    other.is_some_and(|other| real == arithmetic::truncated(other, made.data.max_length))
}

/// Another sample of the set whose tokens these are.
fn other_sample(real: &[u32], told: &Row, made: Made) -> Option<usize> {
    let is_it =
        |sample: &Vec<u32>| !real.is_empty() && arithmetic::truncated(sample, made.data.max_length) == real;
    made.samples.iter().position(is_it).filter(|id| *id as u64 != told.sample)
}

fn other_tokens(real: &[u32], expected: &[u32], sample: &[u32], told: &Row, made: Made) -> String {
    let name = made.others.1;
    let most = made.data.max_length as usize;
    let (is_cut, is_next) = (sample.len() > most, real.len() == expected.len());
    if is_other(real, told, made) {
        format!("the row is sample {} of the {name}", told.sample)
    } else if is_cut && real == &sample[..most] {
        "truncation keeps the first tokens and loses the last one, the end of the text".into()
    } else if is_cut && real == &sample[sample.len() - most..] {
        "truncation keeps the end of the text and loses its beginning: check the truncation side".into()
    } else if real.len() < expected.len() && is_cut_short(real, sample) {
        format!("truncation leaves {} tokens of {}", real.len(), expected.len())
    } else if let Some(id) = other_sample(real, told, made) {
        format!("the row is sample {id}: check how ids and rows are kept together")
    } else if real.len() > expected.len() && is_within(expected, real) {
        "the mask lets the model attend to padding".into()
    } else if is_within(real, expected) {
        format!(
            "the mask hides tokens, or the row has lost them: {} of {}",
            expected.len() - real.len(),
            expected.len()
        )
    } else if is_next {
        "as many tokens, but others: check the tokenizer and what augments or masks the inputs".into()
    } else {
        "the row is another text than its sample: check how ids and rows are kept together".into()
    }
}

/// Whether the tokens are the sample's first ones and its last.
fn is_cut_short(real: &[u32], sample: &[u32]) -> bool {
    real.split_last().is_some_and(|(last, begin)| sample.starts_with(begin) && sample.last() == Some(last))
}

/// Whether all of `inner` comes in `outer`, in its order and without a gap.
fn is_within(inner: &[u32], outer: &[u32]) -> bool {
    inner.is_empty() || outer.windows(inner.len()).any(|window| window == inner)
}

fn is_on_its_side(told: &Row, side: Side, line: &Line, sheet: &mut Sheet) -> bool {
    let tokens = told.real.iter().filter(|real| **real).count();
    let pads = told.real.len() - tokens;
    let begins = if side == Side::Left { pads } else { 0 };
    let is_there =
        told.real.iter().enumerate().all(|(at, real)| *real == (begins..begins + tokens).contains(&at));
    sheet.check(is_there, line, || Difference {
        expected: format!("{pads} positions of padding on the {} of sample {}", name(side), told.sample),
        actual: format!("tokens at {}", places(&told.real)),
        component: Component::Collator,
        cause:
            "the padding is not on the plan's side: check padding_side of the tokenizer and of the collator"
                .into(),
    })
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
    }
}

fn places(real: &[bool]) -> String {
    let of = |real: &bool| if *real { 'x' } else { '.' };
    let shown: String = real.iter().take(SHOWN).map(of).collect();
    if real.len() > SHOWN { format!("{shown}…") } else { shown }
}

fn targets(told: &Row, line: &Line, sheet: &mut Sheet) {
    let at = |place: usize| Some(*told.ids.get(place)?).filter(|_| told.real[place]);
    let ahead = |by: isize| -> Vec<Option<u32>> {
        let other = |place: usize| place.checked_add_signed(by).and_then(at);
        (0..told.ids.len()).map(|place| at(place).and_then(|_| other(place))).collect()
    };
    let expected = ahead(1);
    let first = expected.iter().zip(&told.targets).position(|(expected, told)| expected != told);
    sheet.check(first.is_none(), line, || {
        let place = first.unwrap_or_default();
        Difference {
            expected: format!(
                "target {} at position {place} of sample {}",
                shown(expected[place]),
                told.sample
            ),
            actual: shown(told.targets[place]),
            component: Component::Labels,
            cause: other_targets(told, &expected, ahead),
        }
    });
}

fn other_targets(told: &Row, expected: &[Option<u32>], ahead: impl Fn(isize) -> Vec<Option<u32>>) -> String {
    // Where both are supervised: which positions are is another question.
    let fits = |other: &[Option<u32>]| {
        let mut both =
            other.iter().zip(&told.targets).filter_map(|(other, told)| (*other).zip(*told)).peekable();
        both.peek().is_some() && both.all(|(other, told)| other == told)
    };
    if fits(expected) {
        let (more, fewer) = expected.iter().zip(&told.targets).fold((0, 0), |(more, fewer), it| match it {
            (None, Some(_)) => (more + 1, fewer),
            (Some(_), None) => (more, fewer + 1),
            _ => (more, fewer),
        });
        return format!(
            "of the positions that have a next token, {fewer} are not supervised; of those that have none, {more} are: \
             check what masks the labels"
        );
    }
    let by = [0, 2, 3, -1, -2].into_iter().find(|&by| fits(&ahead(by)));
    match by {
        Some(0) => "the targets are the tokens themselves: the labels are not shifted by one, and the model learns to copy"
            .into(),
        Some(by @ ..0) => {
            format!("the targets are the tokens {} back: logits and labels are shifted the wrong way", -by)
        }
        Some(by) => format!("the targets are the tokens {by} ahead: the labels are shifted {by} times"),
        None => "the targets are not the next tokens".into(),
    }
}

/// Tokens of a row that a finding shows.
const SHOWN: usize = 12;

fn some(ids: &[u32]) -> String {
    let shown: Vec<String> = ids.iter().take(SHOWN).map(u32::to_string).collect();
    let rest = if ids.len() > SHOWN { ", …" } else { "" };
    format!("[{}{rest}] ({})", shown.join(", "), ids.len())
}

fn shown(target: Option<u32>) -> String {
    target.map_or("none".into(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing;
    use traintrue_protocol::trace::Event;
    use traintrue_protocol::trace::event::Epoch;

    const SAMPLE: [u32; 7] = [1, 10, 11, 12, 13, 14, 2];

    /// The row of a sample of 7 tokens under a limit of 5, in a width of 6.
    fn healthy() -> Row {
        Row {
            sample: 0,
            ids: vec![1, 10, 11, 12, 2, 3],
            real: vec![true, true, true, true, true, false],
            targets: vec![Some(10), Some(11), Some(12), Some(2), None, None],
            logits: Vec::new(),
        }
    }

    fn judged(told: &Row, side: Side) -> Sheet {
        let mut plan = testing::plan();
        plan.data.padding.side = side;
        let (samples, others) = (vec![SAMPLE.to_vec(), vec![1, 30, 31, 2]], vec![vec![1, 7, 7, 2]]);
        let made = Made {
            samples: &samples,
            others: (&others, "training set", Component::Data),
            data: &plan.data,
            targets: Targets::NextTokens,
        };
        let (mut sheet, line) = (Sheet::default(), Line { number: 2, event: Event::Epoch(Epoch::begin(0)) });
        row(told, made, &line, &mut sheet);
        sheet
    }

    #[test]
    fn the_sample_itself_holds() {
        testing::holds(&judged(&healthy(), Side::Right));
    }

    fn of(ids: &[u32]) -> Row {
        let targets = (0..ids.len()).map(|at| ids.get(at + 1).copied()).collect();
        Row { ids: ids.to_vec(), real: vec![true; ids.len()], targets, ..healthy() }
    }

    #[rstest]
    #[case::no_end(of(&[1, 10, 11, 12, 13]), "loses the last one")]
    #[case::no_beginning(of(&[11, 12, 13, 14, 2]), "loses its beginning")]
    #[case::short(of(&[1, 10, 11, 2]), "leaves 4 tokens of 5")]
    #[case::cut_without_need(Row { sample: 1, ..of(&[1, 30, 2]) }, "leaves 3 tokens of 4")]
    #[case::attended(Row { real: vec![true; 6], ..healthy() }, "attend to padding")]
    #[case::hidden(Row { real: vec![true, true, true, true, false, false], ..healthy() }, "hides tokens")]
    #[case::replaced(of(&[1, 10, 9, 12, 2]), "as many tokens, but others")]
    #[case::another_text(of(&[1, 20, 2]), "another text")]
    #[case::another_sample(of(&[1, 30, 31, 2]), "the row is sample 1")]
    #[case::another_set(of(&[1, 7, 7, 2]), "sample 0 of the training set")]
    #[case::not_shifted(Row { targets: healthy().ids.iter().map(|id| Some(*id)).collect(), ..healthy() }, "learns to copy")]
    #[case::shifted_twice(
        Row { targets: vec![Some(11), Some(12), Some(2), Some(3), None, None], ..healthy() },
        "the tokens 2 ahead"
    )]
    #[case::shifted_back(Row { targets: vec![None, Some(1), Some(10), Some(11), Some(12), None], ..healthy() }, "the tokens 1 back")]
    #[case::masked(Row { targets: vec![None, Some(11), Some(12), None, None, None], ..healthy() }, "next token, 2 are not")]
    #[case::pads(Row { targets: vec![Some(10), Some(11), Some(12), Some(2), Some(3), None], ..healthy() }, "that have none, 1 are")]
    fn a_row_that_is_not_the_sample_says_how(#[case] told: Row, #[case] cause: &str) {
        let found = judged(&told, Side::Right).broken.expect("the row is wrong");
        assert!(found.cause.contains(cause), "{}", found.cause);
    }

    #[test]
    fn padding_on_the_other_side_breaks() {
        let found = judged(&healthy(), Side::Left).broken.expect("the padding is on the right");
        assert_eq!((found.component, &*found.actual), (Component::Collator, "tokens at xxxxx."));
    }

    #[test]
    fn a_row_of_padding_holds_on_either_side() {
        let empty = Row { ids: vec![3, 3], real: vec![false; 2], targets: vec![None; 2], ..healthy() };
        let plan = testing::plan();
        let samples = vec![Vec::new()];
        let made = Made {
            samples: &samples,
            others: (&[], "", Component::Data),
            data: &plan.data,
            targets: Targets::NextTokens,
        };
        let (mut sheet, line) = (Sheet::default(), Line { number: 2, event: Event::Epoch(Epoch::begin(0)) });
        row(&empty, made, &line, &mut sheet);
        testing::holds(&sheet);
    }
}
