//! Averages of the weights (EMA) through a resume: they move no parameter, so only their own values tell of a loss.

use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::event::State;
use traintrue_protocol::vocabulary::{Component, Moment};

use super::history::{History, state};
use crate::finding::{Difference, Sheet};

/// Compares the averages that the resumed run has at its last update with those of the uninterrupted run at that update. At
/// its first, a copy that every update writes anew would still differ.
pub(super) fn compare(whole: &History, from: u64, resumed: &History, segment: usize, sheet: &mut Sheet) {
    let states: Vec<&State> = after_updates(whole).map(|(_, it)| it).collect();
    let Some((line, last)) = after_updates(resumed).last() else { return };
    let Some(due) = states.iter().rfind(|it| it.step == from + last.step) else { return };
    for (name, digest) in last.parts.iter().filter(|(name, _)| follows(&states, name)) {
        let Some(expected) = due.parts.get(name) else { continue };
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
