//! Averages of the weights (EMA) through a resume: they move no parameter, so only their own values tell of a loss.

use std::collections::BTreeSet;

use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::event::State;
use traintrue_protocol::vocabulary::{Component, Moment};

use super::history::{History, state};
use crate::finding::{Difference, Sheet};

/// Compares each average as it is after the last update of the resumed run that tells it with the uninterrupted run's
/// after that update. After its first update, a copy that every update writes anew would still differ; after the very
/// last one, it may be gone with the function that made it.
pub(super) fn compare(whole: &History, from: u64, resumed: &History, segment: usize, sheet: &mut Sheet) {
    let states: Vec<&State> = after_updates(whole).map(|(_, it)| it).collect();
    let names: BTreeSet<&String> = after_updates(resumed).flat_map(|(_, it)| it.parts.keys()).collect();
    for name in names.into_iter().filter(|name| follows(&states, name)) {
        let told = after_updates(resumed).filter_map(|(line, it)| {
            let due =
                states.iter().rfind(|due| due.step == from + it.step && due.parts.contains_key(name))?;
            Some((line, it.parts.get(name)?, due))
        });
        let Some((line, digest, due)) = told.last() else { continue };
        let expected = &due.parts[name];
        sheet.check_in(segment, digest == expected, line, || Difference {
            expected: format!("{name}: {expected}, as in the uninterrupted run after update {}", due.step),
            actual: digest.clone(),
            component: Component::Averages,
            cause: "the average of the weights did not come back, or not all of it: it began anew from the loaded weights, or \
                    its count of updates did. Save and load it with the model"
                .into(),
        });
    }
}

/// Whether it moves with most updates: a copy from the start, or of the best weights, is no average.
fn follows(states: &[&State], name: &str) -> bool {
    let updates = || states.windows(2).filter(|pair| pair[0].tensors != pair[1].tensors);
    let moves = updates().filter(|pair| pair[0].parts.get(name) != pair[1].parts.get(name)).count();
    moves > 0 && 4 * moves >= 3 * updates().count()
}

fn after_updates(run: &History) -> impl Iterator<Item = (&Line, &State)> {
    let all = run.states.iter().filter_map(|(_, line)| state(line).map(|it| (line, it)));
    all.filter(|(_, it)| it.at == Moment::Update)
}
