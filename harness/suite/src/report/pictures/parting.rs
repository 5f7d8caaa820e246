//! Where two compared runs part: the first difference that an invariant found, in words, in numbers and in a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rayon::prelude::*;
use traintrue_judge::finding::{At, Broken};
use traintrue_judge::rule::RunEvidence;
use traintrue_judge::verdict::{Outcome, Pair};
use traintrue_protocol::number::Number;

use super::unfinite;
use crate::report::course::{Course, Quantity, Reading};
use crate::report::plot::PlotError;
use crate::report::plot::course::{Drawing, panels};
use crate::report::plot::style::Role;

/// Updates before and after the first difference that are shown one by one.
const NEAR: u64 = 20;

/// Two runs beside each other.
#[derive(Debug)]
pub(in crate::report) struct Parting {
    pub(in crate::report) scenario: String,
    pub(in crate::report) run: String,
    pub(in crate::report) against: String,
    /// The invariants that compared the two, each with its number of comparisons.
    pub(in crate::report) compared: Vec<(String, u64)>,
    pub(in crate::report) first: Option<First>,
    /// The updates done where a later process of the run goes on.
    pub(in crate::report) seams: Vec<u64>,
    /// A picture per quantity.
    pub(in crate::report) panels: Vec<String>,
    /// The updates around the first difference of long runs, and their pictures.
    pub(in crate::report) near: Option<(RangeInclusive<u64>, Vec<String>)>,
    /// What is not finite, in words.
    pub(in crate::report) unfinite: Vec<String>,
}

/// The first difference.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) struct First {
    pub(in crate::report) invariant: String,
    pub(in crate::report) place: String,
    pub(in crate::report) expected: String,
    pub(in crate::report) actual: String,
    /// The values of both runs at that update.
    pub(in crate::report) figures: Vec<Figure>,
    /// The update of the figures.
    pub(in crate::report) update: Option<u64>,
}

/// One quantity of both runs at one update.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) struct Figure {
    pub(in crate::report) quantity: &'static str,
    pub(in crate::report) against: String,
    pub(in crate::report) run: String,
}

/// The comparisons of the same two runs.
struct Group<'a> {
    pairs: Vec<&'a Pair>,
    /// The comparison whose failure comes first in the run.
    first: Option<(&'a Pair, &'a Broken)>,
}

impl Parting {
    /// All pairs of an outcome, in its order.
    pub(super) fn of(outcome: &Outcome) -> Result<Vec<Self>, PlotError> {
        let groups = Group::all(&outcome.pairs);
        let runs = groups.par_iter().map(|group| {
            let pair = group.pairs[0];
            let place = group.first.map(|(_, broken)| (broken.segment, broken.line));
            Course::read(
                &pair.run,
                &Reading { place, resumed_from: group.resumed_from(), ..Reading::default() },
            )
        });
        let runs: Vec<Course> = runs.collect::<Result<_, _>>()?;
        // Many runs are held against the same one: its traces are read once.
        let mut asked: BTreeMap<&[PathBuf], (&RunEvidence, BTreeSet<u64>)> = BTreeMap::new();
        for (group, course) in groups.iter().zip(&runs) {
            let against = &group.pairs[0].against;
            let (_, updates) = asked.entry(&against.segments).or_insert_with(|| (against, BTreeSet::new()));
            updates.extend(course.update);
        }
        let others = asked.into_par_iter().map(|(segments, (against, asked))| {
            Ok((segments, Course::read(against, &Reading { asked, ..Reading::default() })?))
        });
        let others: BTreeMap<&[PathBuf], Course> = others.collect::<Result<_, PlotError>>()?;
        let drawn = groups.par_iter().zip(&runs).map(|(group, course)| {
            let other = &others[group.pairs[0].against.segments.as_slice()];
            Self::draw(&outcome.scenario, group, course, other)
        });
        drawn.collect()
    }

    fn draw(scenario: &str, group: &Group, course: &Course, other: &Course) -> Result<Self, PlotError> {
        let pair = group.pairs[0];
        let (run, against) = names(pair);
        let parted = course.update;
        let draw = |course: &Course, other: &Course| {
            let drawings = [
                Drawing { name: &against, role: Role::Reference, course: other },
                Drawing { name: &run, role: Role::Judged, course },
            ];
            panels(&drawings, parted)
        };
        let last = [course, other].iter().filter_map(|it| it.span()).map(|(_, last)| last).max().unwrap_or(0);
        let near = parted.filter(|_| last > 4 * NEAR).map(|update| {
            let within = update.saturating_sub(NEAR)..=update.saturating_add(NEAR);
            let wanted = Reading {
                within: Some(within.clone()),
                resumed_from: group.resumed_from(),
                ..Reading::default()
            };
            let (course, other) = (Course::read(&pair.run, &wanted)?, Course::read(&pair.against, &wanted)?);
            let drawn = draw(&course, &other)?;
            Ok::<_, PlotError>((within, drawn))
        });
        Ok(Self {
            scenario: scenario.to_owned(),
            compared: group.pairs.iter().map(|it| (it.invariant.clone(), it.compared)).collect(),
            first: group.first.map(|(pair, broken)| First::of(pair, broken, course, other)),
            seams: course.seams.clone(),
            panels: draw(course, other)?,
            near: near.transpose()?,
            unfinite: [unfinite(&against, other), unfinite(&run, course)].concat(),
            run,
            against,
        })
    }
}

impl<'a> Group<'a> {
    fn resumed_from(&self) -> Option<u64> {
        self.pairs.iter().find_map(|pair| pair.resumed_from)
    }

    fn all(pairs: &'a [Pair]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for pair in pairs {
            let same = |group: &&mut Self| {
                let first = group.pairs[0];
                (&first.run, &first.against) == (&pair.run, &pair.against)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.pairs.push(pair),
                None => groups.push(Self { pairs: vec![pair], first: None }),
            }
        }
        for group in &mut groups {
            let broken = group.pairs.iter().filter_map(|pair| Some((*pair, pair.broken.as_ref()?)));
            group.first = broken.min_by_key(|(_, it)| (it.segment, it.line));
        }
        groups
    }
}

impl First {
    fn of(pair: &Pair, broken: &Broken, course: &Course, other: &Course) -> Self {
        let figure = |update: u64, quantity: Quantity| {
            let (run, against) = (course.at(update, quantity), other.at(update, quantity));
            let (against, run) = told_apart(&against, &run)?;
            Some(Figure { quantity: quantity.name(), against, run })
        };
        let figures = course.update.map(|update| {
            Quantity::ALL.into_iter().filter_map(|quantity| figure(update, quantity)).collect()
        });
        Self {
            invariant: pair.invariant.clone(),
            place: place(&broken.at, course.update),
            expected: broken.expected.clone(),
            actual: broken.actual.clone(),
            figures: figures.unwrap_or_default(),
            update: course.update,
        }
    }
}

/// The names of the two runs; their files if the runs have one name.
fn names(pair: &Pair) -> (String, String) {
    if pair.run.name != pair.against.name {
        return (pair.run.name.clone(), pair.against.name.clone());
    }
    let file =
        |run: &RunEvidence| run.segments.last().map_or_else(String::new, |it| it.display().to_string());
    (file(&pair.run), file(&pair.against))
}

/// The place of the first difference. A micro-batch belongs to the update that comes; everything else to the last one.
fn place(at: &At, update: Option<u64>) -> String {
    let Some(update) = update else { return format!("in the {} event", at.event) };
    match (at.event.as_str(), at.epoch.zip(at.index)) {
        ("micro_batch", Some((epoch, index))) => {
            format!("at update {update}, in micro-batch {index} of epoch {epoch}")
        }
        ("update", _) => format!("at update {update}"),
        ("state" | "process", _) if update == 0 => "before the first update".to_owned(),
        ("process", _) => format!("after update {update}"),
        (event, _) => format!("in the {event} event after update {update}"),
    }
}

/// The values of both runs with as many digits as tell them apart; none where neither run has a value.
fn told_apart(one: &[f64], other: &[f64]) -> Option<(String, String)> {
    if one.is_empty() && other.is_empty() {
        return None;
    }
    let list = |values: &[f64], shown: &dyn Fn(f64) -> String| match values {
        [] => "none".to_owned(),
        values => values.iter().map(|it| shown(*it)).collect::<Vec<_>>().join(", "),
    };
    let rounded = |values| list(values, &|it| Number(it).to_string());
    let exact = |values| list(values, &|it| format!("{it:?}"));
    let bits = |values: &[f64]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
    let hidden = rounded(one) == rounded(other) && bits(one) != bits(other);
    Some(if hidden { (exact(one), exact(other)) } else { (rounded(one), rounded(other)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain(&[1.5], &[2.5], Some(("1.50000", "2.50000")))]
    #[case::equal(&[1.0 / 3.0], &[1.0 / 3.0], Some(("0.333333", "0.333333")))]
    #[case::by_a_bit(&[0.1 + 0.2], &[0.3], Some(("0.30000000000000004", "0.3")))]
    #[case::not_finite(&[f64::NAN], &[1.0], Some(("NaN", "1.00000")))]
    #[case::one_has_none(&[], &[1e-5], Some(("none", "1.00000e-5")))]
    #[case::groups(&[1.0, 2.0], &[1.0, 3.0], Some(("1.00000, 2.00000", "1.00000, 3.00000")))]
    #[case::neither(&[], &[], None)]
    fn two_values_are_shown_with_as_many_digits_as_tell_them_apart(
        #[case] one: &[f64],
        #[case] other: &[f64],
        #[case] shown: Option<(&str, &str)>,
    ) {
        assert_eq!(told_apart(one, other), shown.map(|(one, other)| (one.into(), other.into())));
    }
}
