//! Holds two events of one kind against each other, field by field: bit for bit, or within the spread of repeats.

use std::fmt::Debug;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{
    Cursor, Evaluation, Loss, MicroBatch, Probe, ProbeRow, State, TensorState, Update,
};
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic::Counts;
use crate::finding::Sheet;
use crate::invariants::shared::spread::{Spread, distance};

/// The first field in which two events differ.
#[derive(Clone, Debug)]
pub(crate) struct Differs {
    pub(crate) field: &'static str,
    pub(crate) expected: String,
    pub(crate) actual: String,
    /// False where the value is NaN or infinite: two of those that agree are no agreement.
    pub(crate) finite: bool,
}

/// What becomes of figures that only a deterministic trainer gives twice. Order, counts and rates are always compared.
pub(crate) enum Values<'a> {
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
pub(crate) fn compare(run: &Event, against: &Event, values: Values, sheet: &mut Sheet) -> Option<Differs> {
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
pub(crate) fn compare_states(
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
pub(crate) fn compare_weights(run: &State, against: &State, sheet: &mut Sheet) -> Option<Differs> {
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

    // Each event is taken apart field by field, so that a new field makes the compiler ask whether it is compared.

    fn losses(&mut self, run: &[Loss], against: &[Loss]) {
        self.same("losses", &run.len(), &against.len());
        for (Loss { name, sum, weight }, against) in run.iter().zip(against) {
            self.same("loss name", name, &against.name);
            self.same("loss weight", weight, &against.weight);
            self.number("loss sum", *sum, against.sum);
        }
    }

    fn micro_batch(&mut self, run: &MicroBatch, against: &MicroBatch) {
        // The place is what aligned the two. Caches and recomputation change no update: cache/off-in-training and
        // checkpointing/lower-peak judge them on each trace.
        let MicroBatch {
            epoch: _,
            index: _,
            cache_bytes: _,
            checkpointing: _,
            samples,
            rows,
            width,
            tokens,
            targets,
            losses,
        } = run;
        self.given("samples", samples, &against.samples);
        self.given("rows", rows, &against.rows);
        self.given("width", width, &against.width);
        self.given("tokens", tokens, &against.tokens);
        self.given("targets", targets, &against.targets);
        self.losses(losses, &against.losses);
    }

    fn update(&mut self, run: &Update, against: &Update) {
        let Update { step, micro_batches, targets, lr, grad_norm, clipped_norm, applied, digest } = run;
        self.same("step", step, &against.step);
        self.given("micro_batches", micro_batches, &against.micro_batches);
        self.given("targets", targets, &against.targets);
        self.same("lr", lr, &against.lr);
        self.same("applied", applied, &against.applied);
        if *applied {
            self.given_number("grad_norm", *grad_norm, against.grad_norm);
            self.given_number("clipped_norm", *clipped_norm, against.clipped_norm);
        }
        self.given_value("digest", digest, &against.digest);
    }

    fn evaluation(&mut self, run: &Evaluation, against: &Evaluation) {
        // What an evaluation changes is evaluation/changes-nothing's to judge.
        let Evaluation {
            step,
            samples,
            losses,
            metric,
            digest_before: _,
            digest_after,
            rng_before: _,
            rng_after,
            dropped: _,
        } = run;
        self.same("step", step, &against.step);
        self.given("samples", samples, &against.samples);
        self.losses(losses, &against.losses);
        if self.both("metric", metric, &against.metric) {
            self.figures("metric", metric.as_slice(), against.metric.as_slice());
        }
        self.given_value("digest", digest_after, &against.digest_after);
        self.given_value("rng", rng_after, &against.rng_after);
    }

    fn state(&mut self, run: &State, against: &State) {
        let State {
            at: _,
            step,
            tensors: _,
            rng,
            schedule_step,
            cursor,
            window,
            window_digest,
            best,
            scaler,
            ema,
        } = run;
        let settle = |cursor: Cursor| self.counts.map_or(cursor, |counts| counts.settle(cursor));
        let cursors = (cursor.map(settle), against.cursor.map(settle));
        self.given("cursor", &cursors.0, &cursors.1);
        self.given("window", window, &against.window);
        self.same("step", step, &against.step);
        self.given("schedule_step", schedule_step, &against.schedule_step);
        self.value("window_digest", window_digest, &against.window_digest);
        self.tensors(run, against, true);
        self.given_value("rng", rng, &against.rng);
        self.value("best", best, &against.best);
        self.value("scaler", scaler, &against.scaler);
        self.value("ema", ema, &against.ema);
    }

    fn tensors(&mut self, run: &State, against: &State, with_moments: bool) {
        if run.tensors.is_empty() || against.tensors.is_empty() {
            return self.sheet.missing("tensors");
        }
        let names =
            |state: &State| state.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
        self.same("tensors", &names(run), &names(against));
        for (run, against) in run.tensors.iter().zip(&against.tensors) {
            let named = self.differs.is_none();
            // Shape, group and format are the model's, which the plan fixes; norms are compared with their update.
            let TensorState {
                name: _,
                group: _,
                shape: _,
                dtype: _,
                trainable,
                optimized,
                digest,
                moments,
                grad_norm: _,
                sketch,
            } = run;
            self.same("trainable", trainable, &against.trainable);
            self.same("optimized", optimized, &against.optimized);
            self.value("values", digest, &against.digest);
            self.sketch(sketch, &against.sketch);
            if with_moments {
                self.value("moments", moments, &against.moments);
            }
            if named && let Some(differs) = &mut self.differs {
                differs.expected = format!("{}: {}", against.name, differs.expected);
                differs.actual = format!("{}: {}", run.name, differs.actual);
            }
        }
    }

    fn probe(&mut self, run: &Probe, against: &Probe) {
        // A cache of a probe is cache/same-outputs' to judge.
        let Probe { name, at: _, rows, width: _, cache_bytes: _, gradients } = run;
        self.same("probe", name, &against.name);
        self.same("rows", &rows.len(), &against.rows.len());
        for (ProbeRow { loss, logits, head, nonfinite: _ }, against) in rows.iter().zip(&against.rows) {
            self.number("loss", *loss, against.loss);
            self.figures("logits", logits, &against.logits);
            self.figures("head", head, &against.head);
        }
        self.value("gradients", gradients, &against.gradients);
    }
}

/// The component that restores a field of the state, and what it means that it differs.
pub(crate) fn of_state(field: &str) -> (Component, &'static str) {
    match field {
        "cursor" => {
            (Component::Cursor, "the data cursor was not restored: training goes on at another place")
        }
        "window" => {
            (Component::Boundary, "the partial window was lost: its micro-batches never reach an update")
        }
        "step" => (Component::Step, "the number of updates done was not restored"),
        "schedule_step" => (Component::Schedule, "the schedule was not restored with the rest"),
        "window_digest" => {
            (Component::Window, "the gradients of the partial window are not those that were saved")
        }
        "tensors" => (Component::AdapterLoader, "the loaded model does not have the tensors that were saved"),
        "trainable" => (Component::AdapterLoader, "a tensor came back frozen, or thawed"),
        "optimized" => (Component::OptimizerGroups, "the optimizer was built over other tensors than before"),
        "values" => (Component::AdapterLoader, "a tensor came back with other values than were saved"),
        "moments" => (Component::Moments, "the optimizer's moments were not restored"),
        "rng" => (Component::Rng, "the random stream was not restored: dropout draws other units"),
        "best" => (Component::CheckpointSections, "the best evaluation so far was not restored"),
        _ => (Component::CheckpointSections, "a part of the training state was not restored"),
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
