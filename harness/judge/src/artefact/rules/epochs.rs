//! `artefact/epochs`: updates, epochs and totals are consistent.

use traintrue_logs::{Counts, Entry, Log};
use traintrue_protocol::contract::Tail;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::artefact::Given;
use crate::finding::{At, Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/epochs",
    says: "global_step, epochs and max_steps are consistent",
    verifies: "global_step is not beyond max_steps and equals the number in the checkpoint's name. Every epoch in the \
               log is above 0 and follows from its step at one pace for the whole run. With --micro-batches and \
               --accumulation, each logged epoch is the one that its step implies, where the partial last window of an \
               epoch is an update of its own. With --epochs, max_steps is the number of updates in these epochs, and a \
               finished run has trained all of them; without it, max_steps is no more than num_train_epochs can have at \
               the pace of the log.",
    does_not_verify: "The pace of a log that transformers' Trainer did not write. What max_steps should be without \
                      --epochs: the file does not say whether it was set or derived. Which samples were trained.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// Older releases log epochs rounded to two decimals: half a unit of the second, and room for f64.
const ROUNDED: f64 = 0.005_001;

/// A total of this many times what fits is no rounding.
const FAR: f64 = 1.25;

/// As many epochs stand for a stream without an end.
const MANY_EPOCHS: u64 = 1_000_000;

pub(crate) fn judge(state: &Log, given: &Given, sheet: &mut Sheet) {
    counts(state, sheet);
    if state.counts == Counts::Updates {
        begun(state, sheet);
    }
    match (given.micro_batches, state.counts) {
        (Some(_), _) if state.epochs_are_whole() || state.steps_within_epochs => {
            sheet.cannot("epochs are not compared with steps: the log gives no fractions of epochs");
        }
        (Some(micro_batches), _) => exact(state, given, micro_batches, sheet),
        (None, Counts::Updates) => pace(state, sheet),
        // The epochs of a script may have as many updates as they like.
        (None, Counts::Own) => {}
    }
    let updates = match given.micro_batches {
        Some(micro_batches) => Some(Loop::of(micro_batches, given).updates()),
        None => updates_an_epoch(state),
    };
    match (given.epochs, updates, state.max_steps) {
        (Some(epochs), Some(updates), Some(max_steps)) => {
            total(state, given, epochs, updates, max_steps, sheet)
        }
        (Some(_), _, None) => {
            sheet.cannot("max_steps is not compared with --epochs: the log does not say it")
        }
        (Some(_), None, _) => {
            sheet.cannot("max_steps is not compared with --epochs: the log has no whole epoch")
        }
        (None, Some(updates), Some(max_steps)) => remark(state, updates, max_steps, sheet),
        (None, ..) => {}
    }
    if given.epochs.is_none() && state.counts == Counts::Updates {
        too_many(state, sheet);
    }
}

fn top() -> At {
    At { event: "state".to_owned(), ..At::default() }
}

/// No epoch is below 0, and none is 0 where the run is well into its epochs.
fn begun(state: &Log, sheet: &mut Sheet) {
    // An epoch of 0 after a later one goes backwards, which is artefact/log's.
    let logged = state.entries.iter().filter_map(|it| Some((it.line, it.step, it.epoch?)));
    let logged = logged.take_while(|(.., epoch)| *epoch <= 0.0);
    for (line, step, epoch) in logged.chain(own(state)) {
        // num_train_epochs is rounded up.
        let least = state.num_train_epochs.zip(state.max_steps).filter(|(epochs, _)| *epochs < MANY_EPOCHS);
        let least = least.map_or(0.0, |(epochs, most)| step as f64 / most as f64 * (epochs - 1) as f64);
        sheet.check_at(
            epoch > 0.0 || epoch == 0.0 && least < 2.0 * ROUNDED,
            line,
            || entry(step),
            || Difference {
                expected: format!("an epoch above {least:.2} after {step} updates"),
                actual: format!("epoch {epoch}"),
                component: Component::Data,
                cause: "the place in the data was lost, while the count of updates was kept".into(),
            },
        );
    }
}

fn counts(state: &Log, sheet: &mut Sheet) {
    let done = state.last_step();
    if let Some(most) = state.max_steps {
        sheet.check_at(done <= most, 0, top, || Difference {
            expected: format!("global_step of at most max_steps {most}"),
            actual: done.to_string(),
            component: Component::Schedule,
            cause: "the run continued after max_steps, where its schedule has ended".into(),
        });
    }
    let folder = state.path.parent().and_then(|it| it.file_name()).and_then(|it| it.to_str());
    let named = folder.and_then(|it| it.strip_prefix("checkpoint-")).and_then(|it| it.parse::<u64>().ok());
    if let Some((named, is)) = named.zip(state.global_step) {
        sheet.check_at(is == named, 0, top, || Difference {
            expected: format!("global_step {named}, as in the folder's name"),
            actual: is.to_string(),
            component: Component::Checkpoint,
            cause: "the state file does not belong to this folder's checkpoint".into(),
        });
    }
}

/// A line of the log, updates done, and passes over the data.
type Place = (u64, u64, f64);

/// The state's own place, which has no line in the log.
fn own(state: &Log) -> Option<Place> {
    state.global_step.zip(state.epoch).map(|(step, epoch)| (0, step, epoch))
}

/// Steps and epochs of each process, where both are known; the last is the state's own.
fn places(state: &Log) -> Vec<Vec<Place>> {
    let of =
        |entries: &[Entry]| entries.iter().filter_map(|it| Some((it.line, it.step, it.epoch?))).collect();
    let mut processes: Vec<Vec<Place>> = state.processes().map(of).collect();
    processes.last_mut().into_iter().for_each(|last| last.extend(own(state)));
    for process in &mut processes {
        process.retain(|&(_, step, epoch)| step > 0 && epoch > 0.0 && epoch.is_finite());
    }
    processes.retain(|process| !process.is_empty());
    processes
}

/// One pace for every entry of a process, taken from its last step and epoch. If the partial last window is an update of
/// its own, the pace within an epoch varies by less than one update; two are allowed.
fn pace(state: &Log, sheet: &mut Sheet) {
    let processes = places(state);
    if processes.is_empty() {
        return sheet.cannot("epochs are not compared with steps: the file has no epochs");
    }
    for places in processes {
        let [places @ .., (_, steps, epochs)] = places.as_slice() else { continue };
        let pace = epochs / *steps as f64;
        for &(line, step, epoch) in places {
            let expected = pace * step as f64;
            let near = (epoch - expected).abs() <= 2.0 * pace + ROUNDED;
            sheet.check_at(near, line, || entry(step), || Difference {
                expected: format!("about epoch {expected:.2}: the run has done {epochs:.2} in {steps} updates"),
                actual: format!("epoch {epoch}"),
                component: Component::Data,
                cause: "the epochs do not pass at one pace: the batch size, the accumulation or the number of devices \
                        changed during the run, or a resumed run started at another place in the data"
                    .into(),
            });
        }
    }
}

/// The micro-batches and windows of an epoch.
#[derive(Clone, Copy)]
struct Loop {
    micro_batches: u64,
    accumulation: u64,
}

impl Loop {
    fn of(micro_batches: u64, given: &Given) -> Self {
        Self { micro_batches: micro_batches.max(1), accumulation: given.accumulation.unwrap_or(1).max(1) }
    }

    /// Updates per epoch. The partial last window is an update of its own.
    fn updates(self) -> u64 {
        self.micro_batches.div_ceil(self.accumulation)
    }

    /// The epoch, as a fraction, after this many updates.
    fn epoch_at(self, tail: Tail, step: u64) -> f64 {
        let n = self.micro_batches;
        let done = match tail {
            Tail::Carry => return step.saturating_mul(self.accumulation) as f64 / n as f64,
            Tail::Flush => self.updates(),
            Tail::Drop => (n / self.accumulation).max(1),
        };
        let (epoch, window) = ((step.max(1) - 1) / done, (step.max(1) - 1) % done + 1);
        epoch as f64 + window.saturating_mul(self.accumulation).min(n) as f64 / n as f64
    }
}

fn exact(state: &Log, given: &Given, micro_batches: u64, sheet: &mut Sheet) {
    let it = Loop::of(micro_batches, given);
    let places: Vec<Place> = places(state).concat();
    // A log with only two decimals throughout is taken for an older release's.
    let rounded = places.iter().all(|(.., epoch)| (epoch * 100.0 - (epoch * 100.0).round()).abs() < 1e-9);
    let tolerance = if rounded { ROUNDED } else { 1e-6 };
    let fits = |tail, step, epoch: f64| (it.epoch_at(tail, step) - epoch).abs() <= tolerance;
    let count =
        |from: u64| places.iter().filter(|(_, step, epoch)| fits(Tail::Flush, step + from, *epoch)).count();
    // Whether the steps of a script count from 0 shows only in what fits.
    let from = u64::from(state.counts == Counts::Own && count(1) > count(0));
    for (line, logged, epoch) in places {
        let step = logged + from;
        sheet.check_at(fits(Tail::Flush, step, epoch), line, || entry(logged), || Difference {
            expected: format!("epoch {} at step {logged}", it.epoch_at(Tail::Flush, step)),
            actual: format!("epoch {epoch}"),
            component: Component::Boundary,
            cause: if fits(Tail::Carry, step, epoch) {
                "the partial window at an epoch's end is carried into the next epoch, as in older releases of \
                 transformers"
            } else if fits(Tail::Drop, step, epoch) {
                "the partial last window of every epoch is dropped"
            } else {
                "the number of micro-batches per update or per epoch is not the one that was given"
            }
            .into(),
        });
    }
}

/// Updates per epoch, if the log has an entry at an epoch's end.
fn updates_an_epoch(state: &Log) -> Option<u64> {
    let whole = |&(_, step, epoch): &Place| epoch.fract() == 0.0 && step % (epoch as u64) == 0;
    places(state).concat().into_iter().find(whole).map(|(_, step, epoch)| step / epoch as u64)
}

/// Whether max_steps is more updates than num_train_epochs can have at the pace of the log. transformers rounds
/// num_train_epochs up where max_steps was set, so it is never more.
fn too_many(state: &Log, sheet: &mut Sheet) {
    let epochs = state.num_train_epochs.filter(|it| *it < MANY_EPOCHS);
    let (Some(epochs), Some(max_steps)) = (epochs, state.max_steps) else { return };
    let Some(&(_, step, epoch)) = places(state).last().and_then(|it| it.last()) else { return };
    if epoch <= 4.0 * ROUNDED {
        return;
    }
    // At the fastest that the rounded epoch allows, and with a partial window at each epoch's end.
    let most = epochs as f64 * ((step + 1) as f64 / (epoch - ROUNDED) + 1.0);
    sheet.check_at(max_steps as f64 <= FAR * most, 0, top, || Difference {
        expected: format!("at most {most:.0} updates in all: num_train_epochs is {epochs}, and update {step} is epoch {epoch}"),
        actual: format!("max_steps {max_steps}"),
        component: Component::Schedule,
        cause: "the total, and with it the schedule, is of another batch size, accumulation or number of devices than the \
                run trains with (transformers#43708)"
            .into(),
    });
}

fn total(state: &Log, given: &Given, epochs: f64, updates: u64, max_steps: u64, sheet: &mut Sheet) {
    let expected = (epochs * updates as f64).ceil() as u64;
    sheet.check_at(max_steps == expected, 0, top, || Difference {
        expected: format!("max_steps {expected}: {epochs} epochs of {updates} updates"),
        actual: max_steps.to_string(),
        component: Component::Schedule,
        cause: total_cause(given, epochs, updates, max_steps),
    });
    if let Some(trained) = state.last_epoch().filter(|_| state.last_step() == max_steps) {
        sheet.check_at((trained - epochs).abs() <= ROUNDED.max(1.0 / updates as f64), 0, top, || Difference {
            expected: format!("{epochs} epochs trained when max_steps are done"),
            actual: format!("{trained:.2}"),
            component: Component::Schedule,
            cause: "the run and its schedule ended before the requested epochs were trained (transformers#36297)"
                .into(),
        });
    }
}

/// The known mistake that gives this total, if any.
fn total_cause(given: &Given, epochs: f64, updates: u64, max_steps: u64) -> String {
    let asked = |updates: u64| (epochs * updates as f64).ceil() as u64;
    let window = given.accumulation.unwrap_or(1).max(1);
    let micro_batches = given.micro_batches.unwrap_or(updates.saturating_mul(window));
    // The more specific mistakes come first: several can give the same total.
    let known = [
        (
            asked(updates.saturating_sub(1)),
            "it leaves out the update of each epoch's partial last window (transformers#36297)",
        ),
        (asked(micro_batches), "it counts micro-batches: it is not divided by the accumulation"),
        (asked(updates) / window, "it is divided by the accumulation twice"),
        (asked(micro_batches).div_ceil(window), "it is rounded up once for all epochs together"),
        (asked(micro_batches) / window, "it is rounded down once for all epochs together"),
    ];
    match known.iter().find(|(total, _)| *total == max_steps) {
        Some((_, what)) => format!("the total is wrong: {what}"),
        None => "the total does not follow from the requested epochs, or max_steps was set directly".into(),
    }
}

/// A remark in place of a finding: the file alone does not say whether the total is wrong.
fn remark(state: &Log, updates: u64, max_steps: u64, sheet: &mut Sheet) {
    let Some(epochs) = state.num_train_epochs.filter(|it| it.checked_mul(updates) != Some(max_steps)) else {
        return;
    };
    let reached = max_steps as f64 / updates as f64;
    sheet.remark(format!(
        "max_steps {max_steps} is {reached:.2} epochs of {updates} updates, and num_train_epochs is {epochs}: that is \
         right if max_steps or a part of an epoch was requested; give --epochs to check it"
    ));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::state_text;

    fn judged(change: impl FnOnce(&mut Value), given: Given) -> Sheet {
        let path = Path::new("out/checkpoint-10/trainer_state.json");
        let state = traintrue_logs::trainer_state::parse(path, &state_text(change), false).unwrap();
        let mut sheet = Sheet::default();
        judge(&state, &given, &mut sheet);
        sheet
    }

    fn given(micro_batches: u64, accumulation: u64, epochs: f64) -> Given {
        Given {
            micro_batches: Some(micro_batches),
            accumulation: Some(accumulation),
            epochs: Some(epochs),
            curve: None,
        }
    }

    /// The log of 10 updates with windows of 4 over 19 micro-batches, the tail of 3 being the fifth update.
    fn uneven(it: &mut Value) {
        for entry in it["log_history"].as_array_mut().unwrap() {
            let step = entry["step"].as_u64().unwrap();
            let (epoch, window) = ((step - 1) / 5, (step - 1) % 5 + 1);
            entry["epoch"] = json!(epoch as f64 + (4 * window).min(19) as f64 / 19.0);
        }
    }

    #[rstest]
    #[case::alone(|_: &mut Value| {}, Given::default())]
    #[case::given(|_: &mut Value| {}, given(20, 4, 3.0))]
    #[case::uneven(uneven, given(19, 4, 3.0))]
    #[case::uneven_alone(uneven, Given::default())]
    #[case::part_of_an_epoch(|it: &mut Value| it["max_steps"] = json!(13), given(20, 4, 2.5))]
    #[case::rounded(|it: &mut Value| {
        uneven(it);
        for entry in it["log_history"].as_array_mut().unwrap() {
            entry["epoch"] = json!((entry["epoch"].as_f64().unwrap() * 100.0).round() / 100.0);
        }
    }, given(19, 4, 3.0))]
    fn counts_that_fit_hold(#[case] change: fn(&mut Value), #[case] given: Given) {
        let sheet = judged(change, given);
        holds(&sheet);
        assert_eq!((sheet.missing, sheet.remarks), (None, Vec::new()));
    }

    #[rstest]
    #[case::beyond(|it: &mut Value| it["max_steps"] = json!(9), Given::default(), "global_step of at most max_steps 9, \
        found 10")]
    #[case::folder(|it: &mut Value| it["global_step"] = json!(11), Given::default(), "expected global_step 10, as in \
        the folder's name")]
    #[case::pace(|it: &mut Value| it["log_history"][1]["epoch"] = json!(1.2), Given::default(), "about epoch 0.40")]
    #[case::below_0(|it: &mut Value| it["log_history"][0]["epoch"] = json!(-1.0), Given::default(), "found epoch -1")]
    #[case::lost(|it: &mut Value| it["epoch"] = json!(0.0), Given::default(), "an epoch above 1.33 after 10 updates, found \
        epoch 0")]
    #[case::accumulation(|_: &mut Value| {}, given(20, 8, 3.0), "expected epoch 0.4 at step 1, found epoch 0.2")]
    #[case::carried(|it: &mut Value| {
        for entry in it["log_history"].as_array_mut().unwrap() {
            entry["epoch"] = json!(entry["step"].as_f64().unwrap() * 4.0 / 19.0);
        }
        it["epoch"] = json!(40.0 / 19.0);
    }, given(19, 4, 3.0), "carried into the next epoch, as in older releases of transformers")]
    #[case::total_of_another_batch(|it: &mut Value| it["max_steps"] = json!(60), Given::default(), "at most 20 updates in all: \
        num_train_epochs is 3, and update 10 is epoch 2, found max_steps 60")]
    #[case::total_of_micro_batches(|it: &mut Value| it["max_steps"] = json!(60), given(20, 4, 3.0), "it counts micro-batches")]
    #[case::total_divided_twice(|it: &mut Value| it["max_steps"] = json!(10), given(20, 4, 8.0), "divided by the accumulation twice")]
    #[case::total_without_tails(|it: &mut Value| it["max_steps"] = json!(12), Given { epochs: Some(3.0), ..Given::default() }, "max_steps 15: 3 epochs of 5 updates, found 12: the total is wrong: it leaves out the update")]
    fn counts_that_do_not_fit_break(
        #[case] change: fn(&mut Value),
        #[case] given: Given,
        #[case] expected: &str,
    ) {
        let found = broke(&judged(change, given));
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_total_that_may_have_been_asked_for_is_remarked_upon() {
        let sheet = judged(|it| it["max_steps"] = json!(12), Given::default());
        holds(&sheet);
        assert!(
            sheet.remarks[0].starts_with("max_steps 12 is 2.40 epochs of 5 updates"),
            "{:?}",
            sheet.remarks
        );
    }

    #[test]
    fn epochs_without_a_whole_one_in_the_log_are_not_judged() {
        let three = |it: &mut Value| {
            it["log_history"].as_array_mut().unwrap().truncate(3);
            (it["epoch"], it["global_step"]) = (json!(0.6), json!(3));
        };
        let sheet = judged(three, Given { epochs: Some(3.0), ..Given::default() });
        assert!(sheet.missing.unwrap().contains("the log has no whole epoch"));
    }
}
