//! Holds two events of one kind against each other, field by field, bit for bit.

use std::fmt::Debug;

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

/// Compares fields and counts them on the sheet.
struct Fields<'a> {
    sheet: &'a mut Sheet,
    /// The run's counts, where an epoch's edge may have either of its names.
    counts: Option<Counts>,
    /// Whether values are compared, or only what no rounding changes: order, counts, rates.
    exact: bool,
    differs: Option<Differs>,
}

/// The first difference of `run` from `against`, two events of one kind.
pub(super) fn compare(run: &Event, against: &Event, exact: bool, sheet: &mut Sheet) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: None, exact, differs: None };
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

/// The first difference of two states, beginning with what would explain the rest.
pub(super) fn compare_states(
    run: &State,
    against: &State,
    counts: Counts,
    exact: bool,
    sheet: &mut Sheet,
) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: Some(counts), exact, differs: None };
    fields.state(run, against);
    fields.differs
}

/// The first difference of the tensors of two states, their optimizer's moments aside.
pub(super) fn compare_weights(run: &State, against: &State, sheet: &mut Sheet) -> Option<Differs> {
    let mut fields = Fields { sheet, counts: None, exact: true, differs: None };
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

    /// A value that only a deterministic trainer gives twice.
    fn value<T: PartialEq + Debug>(&mut self, field: &'static str, run: &T, against: &T) {
        if self.exact {
            self.same(field, run, against);
        } else {
            self.sheet.cannot(
                "the trainer declares that it is not deterministic: values are not compared bit for bit",
            );
        }
    }

    /// A field that a trace may lack: where both do, nothing is compared.
    fn given<T: PartialEq + Debug>(&mut self, field: &'static str, run: &Option<T>, against: &Option<T>) {
        match (run, against) {
            (Some(run), Some(against)) => self.same(field, run, against),
            _ => self.sheet.missing(field),
        }
    }

    fn given_value<T: PartialEq + Debug>(
        &mut self,
        field: &'static str,
        run: &Option<T>,
        against: &Option<T>,
    ) {
        match (run, against) {
            (Some(run), Some(against)) => self.value(field, run, against),
            _ => self.sheet.missing(field),
        }
    }

    fn number(&mut self, field: &'static str, run: Number, against: Number) {
        self.note(run.is_finite(), field, false, || ("a finite number".into(), plain(&run)));
        self.value(field, &run, &against);
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
        self.value("metric", &run.metric, &against.metric);
        self.value("digest", &run.digest_after, &against.digest_after);
        self.value("rng", &run.rng_after, &against.rng_after);
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
            self.value("logits", &run.logits, &against.logits);
            self.value("head", &run.head, &against.head);
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

fn plain(value: &impl Debug) -> String {
    format!("{value:?}").trim_matches('"').to_owned()
}
