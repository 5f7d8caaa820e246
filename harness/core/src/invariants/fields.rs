//! Holds two events of one kind against each other, field by field: bit for bit, or within the spread of repeats.

use std::fmt::Debug;

use super::spread::{Spread, distance};
use crate::arithmetic::Counts;
use crate::finding::Sheet;
use crate::number::Number;
use crate::trace::Event;
use crate::trace::event::{Cursor, Evaluation, Loss, MicroBatch, Probe, State, Update};

/// The first field in which two events differ.
#[derive(Clone, Debug)]
pub(super) struct Differs {
    pub(super) field: &'static str,
    pub(super) expected: String,
    pub(super) actual: String,
    /// False where the value is NaN or infinite: two of those that agree are no agreement.
    pub(super) finite: bool,
}

/// What becomes of figures that only a deterministic trainer gives twice. Order, counts and rates are always compared.
pub(super) enum Values<'a> {
    /// They are the same, bit for bit.
    Bits,
    /// Nobody knows how far apart they may lie: they are not compared.
    Unknown,
    /// They lie within what the trainer's repeats allow after so many updates.
    Within(&'a Spread, u64),
    /// They are two repeats: how far apart they lie after so many updates is what is measured.
    Measured(&'a mut Spread, u64),
}

/// Compares fields and counts them on the sheet.
struct Fields<'a> {
    sheet: &'a mut Sheet,
    /// The run's counts, where an epoch's edge may have either of its names.
    counts: Option<Counts>,
    values: Values<'a>,
    differs: Option<Differs>,
}

/// The first difference of `run` from `against`, two events of one kind.
pub(super) fn compare(run: &Event, against: &Event, values: Values, sheet: &mut Sheet) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: None, values, differs: None };
    match (run, against) {
        (Event::MicroBatch(run), Event::MicroBatch(against)) => fields.micro_batch(run, against),
        (Event::Update(run), Event::Update(against)) => fields.update(run, against),
        (Event::Evaluation(run), Event::Evaluation(against)) => fields.evaluation(run, against),
        (Event::State(run), Event::State(against)) => fields.state(run, against),
        (Event::Probe(run), Event::Probe(against)) => fields.probe(run, against),
        _ => fields.same("event", &run.name(), &against.name()),
    }
    fields.differs
}

/// The first difference of a loaded state from the one that was saved, beginning with what would explain the rest.
/// Loading computes nothing, so that this is bit for bit for any trainer.
pub(super) fn compare_states(
    run: &State,
    against: &State,
    counts: Counts,
    sheet: &mut Sheet,
) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: Some(counts), values: Values::Bits, differs: None };
    fields.state(run, against);
    fields.differs
}

/// The first difference of the tensors of two states, their optimizer's moments aside.
pub(super) fn compare_weights(run: &State, against: &State, sheet: &mut Sheet) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: None, values: Values::Bits, differs: None };
    fields.tensors(run, against, false);
    fields.differs
}

impl Fields<'_> {
    fn note(
        &mut self,
        holds: bool,
        field: &'static str,
        finite: bool,
        show: impl FnOnce() -> (String, String),
    ) {
        self.sheet.compared += 1;
        if !holds && self.differs.is_none() {
            let (expected, actual) = show();
            self.differs = Some(Differs { field, expected, actual, finite });
        }
    }

    fn same<T: PartialEq + Debug>(&mut self, field: &'static str, run: &T, against: &T) {
        self.note(run == against, field, true, || (plain(against), plain(run)));
    }

    /// A value of which it can only be said that it is the same.
    fn value<T: PartialEq + Debug>(&mut self, field: &'static str, run: &T, against: &T) {
        match self.values {
            Values::Bits => self.same(field, run, against),
            Values::Unknown => self.sheet.cannot(UNKNOWN),
            Values::Within(..) | Values::Measured(..) => {}
        }
    }

    /// Figures of one quantity, which can also be near each other.
    fn figures(&mut self, field: &'static str, run: &[Number], against: &[Number]) {
        let plain = |numbers: &[Number]| numbers.iter().map(|number| number.0).collect::<Vec<_>>();
        let apart = || distance(&plain(run), &plain(against));
        match &mut self.values {
            Values::Bits => self.note(run == against, field, true, || (shown(against), shown(run))),
            Values::Unknown => self.sheet.cannot(UNKNOWN),
            Values::Measured(spread, updates) => spread.take(field, *updates, apart()),
            Values::Within(spread, updates) => {
                let (apart, allowed) = (apart(), spread.allows(field, *updates));
                let near = run.len() == against.len() && apart.is_finite() && apart <= allowed;
                self.note(near, field, true, || {
                    let within = format!("{} within {} of it", shown(against), Number(allowed));
                    (within, format!("{}, {} off", shown(run), Number(apart)))
                });
            }
        }
    }

    /// What is known of a tensor beside its digest: needed where digests say nothing.
    fn sketch(&mut self, run: &[Number], against: &[Number]) {
        if let Values::Within(..) | Values::Measured(..) = self.values {
            self.figures("sketch", run, against);
        }
    }

    /// A field that a trace may lack, or have now and then: where one of the two does, nothing is compared, which is noted.
    fn given<T: PartialEq + Debug>(&mut self, field: &'static str, run: &Option<T>, against: &Option<T>) {
        if self.both(field, run, against) {
            self.same(field, run, against);
        }
    }

    /// Whether both have the field.
    fn both<T>(&mut self, field: &'static str, run: &Option<T>, against: &Option<T>) -> bool {
        let both = run.is_some() && against.is_some();
        if !both {
            self.sheet.missing(field);
        }
        both
    }

    fn given_value<T: PartialEq + Debug>(
        &mut self,
        field: &'static str,
        run: &Option<T>,
        against: &Option<T>,
    ) {
        if self.both(field, run, against) {
            self.value(field, run, against);
        }
    }

    fn number(&mut self, field: &'static str, run: Number, against: Number) {
        self.note(run.is_finite(), field, false, || ("a finite number".into(), plain(&run)));
        self.figures(field, &[run], &[against]);
    }

    fn given_number(&mut self, field: &'static str, run: Option<Number>, against: Option<Number>) {
        match (run, against) {
            (Some(run), Some(against)) => self.number(field, run, against),
            _ => self.sheet.missing(field),
        }
    }

    fn losses(&mut self, run: &[Loss], against: &[Loss]) {
        self.same("losses", &run.len(), &against.len());
        for (run, against) in run.iter().zip(against) {
            self.same("loss name", &run.name, &against.name);
            self.same("loss weight", &run.weight, &against.weight);
            self.number("loss sum", run.sum, against.sum);
        }
    }

    fn micro_batch(&mut self, run: &MicroBatch, against: &MicroBatch) {
        self.given("samples", &run.samples, &against.samples);
        self.given("rows", &run.rows, &against.rows);
        self.given("width", &run.width, &against.width);
        self.given("tokens", &run.tokens, &against.tokens);
        self.given("targets", &run.targets, &against.targets);
        self.losses(&run.losses, &against.losses);
    }

    fn update(&mut self, run: &Update, against: &Update) {
        self.same("step", &run.step, &against.step);
        self.given("micro_batches", &run.micro_batches, &against.micro_batches);
        self.given("targets", &run.targets, &against.targets);
        self.same("lr", &run.lr, &against.lr);
        self.same("applied", &run.applied, &against.applied);
        if run.applied {
            self.given_number("grad_norm", run.grad_norm, against.grad_norm);
            self.given_number("clipped_norm", run.clipped_norm, against.clipped_norm);
        }
        self.given_value("digest", &run.digest, &against.digest);
    }

    fn evaluation(&mut self, run: &Evaluation, against: &Evaluation) {
        self.same("step", &run.step, &against.step);
        self.given("samples", &run.samples, &against.samples);
        self.losses(&run.losses, &against.losses);
        if self.both("metric", &run.metric, &against.metric) {
            self.figures("metric", run.metric.as_slice(), against.metric.as_slice());
        }
        self.given_value("digest", &run.digest_after, &against.digest_after);
        self.given_value("rng", &run.rng_after, &against.rng_after);
    }

    fn state(&mut self, run: &State, against: &State) {
        let settle = |cursor: Cursor| self.counts.map_or(cursor, |counts| counts.settle(cursor));
        let cursors = (run.cursor.map(settle), against.cursor.map(settle));
        self.given("cursor", &cursors.0, &cursors.1);
        self.given("window", &run.window, &against.window);
        self.same("step", &run.step, &against.step);
        self.given("schedule_step", &run.schedule_step, &against.schedule_step);
        self.value("window_digest", &run.window_digest, &against.window_digest);
        self.tensors(run, against, true);
        self.given_value("rng", &run.rng, &against.rng);
        self.value("best", &run.best, &against.best);
        self.value("scaler", &run.scaler, &against.scaler);
        self.value("ema", &run.ema, &against.ema);
    }

    fn tensors(&mut self, run: &State, against: &State, moments: bool) {
        if run.tensors.is_empty() || against.tensors.is_empty() {
            return self.sheet.missing("tensors");
        }
        let names =
            |state: &State| state.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
        self.same("tensors", &names(run), &names(against));
        for (run, against) in run.tensors.iter().zip(&against.tensors) {
            let named = self.differs.is_none();
            self.same("trainable", &run.trainable, &against.trainable);
            self.same("optimized", &run.optimized, &against.optimized);
            self.value("values", &run.digest, &against.digest);
            self.sketch(&run.sketch, &against.sketch);
            if moments {
                self.value("moments", &run.moments, &against.moments);
            }
            if named && let Some(differs) = &mut self.differs {
                differs.expected = format!("{}: {}", against.name, differs.expected);
                differs.actual = format!("{}: {}", run.name, differs.actual);
            }
        }
    }

    fn probe(&mut self, run: &Probe, against: &Probe) {
        self.same("probe", &run.name, &against.name);
        self.same("rows", &run.rows.len(), &against.rows.len());
        for (run, against) in run.rows.iter().zip(&against.rows) {
            self.number("loss", run.loss, against.loss);
            self.figures("logits", &run.logits, &against.logits);
            self.figures("head", &run.head, &against.head);
        }
        self.value("gradients", &run.gradients, &against.gradients);
    }
}

/// The component that restores a field of the state, and what it means that it differs.
pub(super) fn of_state(field: &str) -> (&'static str, &'static str) {
    match field {
        "cursor" => ("cursor", "the data cursor was not restored: training goes on at another place"),
        "window" => ("boundary", "the partial window was lost: its micro-batches never reach an update"),
        "step" => ("step", "the number of updates done was not restored"),
        "schedule_step" => ("schedule", "the schedule was not restored with the rest"),
        "window_digest" => ("window", "the gradients of the partial window are not those that were saved"),
        "tensors" => ("adapter-loader", "the loaded model does not have the tensors that were saved"),
        "trainable" => ("adapter-loader", "a tensor came back frozen, or thawed"),
        "optimized" => ("optimizer-groups", "the optimizer was built over other tensors than before"),
        "values" => ("adapter-loader", "a tensor came back with other values than were saved"),
        "moments" => ("moments", "the optimizer's moments were not restored"),
        "rng" => ("rng", "the random stream was not restored: dropout draws other units"),
        "best" => ("checkpoint-sections", "the best evaluation so far was not restored"),
        _ => ("checkpoint-sections", "a part of the training state was not restored"),
    }
}

const UNKNOWN: &str =
    "the trainer is not deterministic and its repeats were not measured: values are not compared";

fn shown(numbers: &[Number]) -> String {
    match numbers {
        [one] => plain(one),
        many => plain(&many),
    }
}

/// A value as a reader has it: without the marks of a string and of a field that may be absent.
fn plain(value: &impl Debug) -> String {
    let shown = format!("{value:?}");
    let given = shown.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&shown);
    given.trim_matches('"').to_owned()
}
