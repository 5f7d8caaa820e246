//! Where a log starts again: a resumed run repeats steps, and another run in the same file counts from the start.
//!
//! A restart is no fault of training. Steps that fall while the epoch goes on are none: no resume explains them.

use std::collections::BTreeMap;

use crate::{Column, Counts, Log};

/// What was last seen of a figure, and which epoch that was.
#[derive(Clone, Copy)]
struct Last {
    step: u64,
    line: u64,
}

/// Finds the restarts of a log. `starts` are entries at which the format shows that another process begins.
pub(crate) fn find_restarts(log: &mut Log, starts: &[usize]) {
    let mut last: BTreeMap<&str, Last> = BTreeMap::new();
    let (mut epoch, mut restarts, mut falls) = (None, Vec::new(), Vec::new());
    let mut within_epochs = false;
    for (at, entry) in log.entries.iter().enumerate() {
        let shown = at > 0 && starts.binary_search(&at).is_ok();
        let fell = entry.figures.keys().find_map(|name| {
            // The Trainer logs training once per step. A script may log each micro-batch of a step.
            let repeats = log.counts == Counts::Updates && name == Column::Loss.figure();
            let last = last.get(name.as_str())?;
            (entry.step < last.step || repeats && entry.step == last.step).then_some(*last)
        });
        let goes_on = epoch.zip(entry.epoch).is_some_and(|(was, is)| is > was);
        if shown || fell.is_some() && !goes_on {
            if let Some(before) = fell.filter(|_| !shown) {
                falls.push((before, entry.line, entry.step));
            }
            restarts.push(at);
            last.clear();
        }
        within_epochs |= fell.is_some() && goes_on && log.counts == Counts::Own;
        epoch = entry.epoch.or(epoch.filter(|_| restarts.last() != Some(&at)));
        for name in entry.figures.keys() {
            last.insert(name, Last { step: entry.step, line: entry.line });
        }
    }
    if let Some((before, line, step)) = falls.first() {
        let line = if before.line == 0 { String::new() } else { format!("line {line}: ") };
        log.notes.push(format!(
            "{line}the step goes back from {} to {step}: taken for a resumed run{}",
            before.step,
            if falls.len() > 1 {
                format!("; so are {} later places", falls.len() - 1)
            } else {
                String::new()
            }
        ));
    }
    (log.restarts, log.steps_within_epochs) = (restarts, within_epochs);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;
    use traintrue_protocol::number::Number;

    use super::*;
    use crate::Entry;

    fn entry((step, epoch, name): (u64, f64, &str)) -> Entry {
        let figures = BTreeMap::from([(name.to_owned(), Number(1.0))]);
        Entry { line: 7, step, epoch: Some(epoch).filter(|it| *it >= 0.0), figures }
    }

    #[rstest]
    #[case::on(Counts::Own, &[(1, -1.0, "loss"), (2, -1.0, "loss")], &[], false)]
    #[case::other_axis(Counts::Own, &[(10, -1.0, "loss"), (1, -1.0, "eval_loss"), (11, -1.0, "loss")], &[], false)]
    #[case::micro_batches(Counts::Own, &[(1, -1.0, "loss"), (1, -1.0, "loss")], &[], false)]
    #[case::resumed(Counts::Own, &[(4, -1.0, "loss"), (3, -1.0, "loss"), (4, -1.0, "loss")], &[1], false)]
    #[case::by_epoch(Counts::Own, &[(4, 0.0, "loss"), (1, 1.0, "loss"), (2, 1.0, "loss")], &[], true)]
    #[case::updates_resumed(Counts::Updates, &[(4, 0.4, "loss"), (4, 0.4, "loss")], &[1], false)]
    #[case::counts_anew(Counts::Updates, &[(4, 0.4, "loss"), (1, 0.5, "loss")], &[], false)]
    fn a_fall_is_a_restart_unless_the_epoch_goes_on(
        #[case] counts: Counts,
        #[case] entries: &[(u64, f64, &str)],
        #[case] restarts: &[usize],
        #[case] within_epochs: bool,
    ) {
        let entries = entries.iter().copied().map(entry).collect();
        let mut log = Log { counts, entries, ..Log::default() };
        find_restarts(&mut log, &[]);
        assert_eq!((log.restarts.as_slice(), log.steps_within_epochs), (restarts, within_epochs));
        assert_eq!(log.notes.len(), restarts.len().min(1), "{:?}", log.notes);
    }

    #[test]
    fn a_process_that_the_format_shows_needs_no_fall() {
        let entries = [(1, -1.0, "loss"), (2, -1.0, "loss"), (9, -1.0, "loss")].map(entry).to_vec();
        let mut log = Log { entries, ..Log::default() };
        find_restarts(&mut log, &[2]);
        assert_eq!((log.restarts.as_slice(), log.notes.len()), ([2].as_slice(), 0));
        assert_eq!(log.processes().map(<[Entry]>::len).collect::<Vec<_>>(), [2, 1]);
    }
}
