//! Compares two events of one kind, field by field: bit for bit, or within the spread of repeats.

mod of_state;

use std::collections::BTreeMap;
use std::fmt::Debug;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{
    Cursor, Evaluation, Loss, MicroBatch, Operation, OperationTensor, Probe, ProbeRow, State, TensorState,
    Update,
};

pub(crate) use self::of_state::of_state;
use crate::arithmetic::Counts;
use crate::finding::Sheet;
use crate::invariants::shared::spread::{Spread, distance};

/// The first field in which two events differ.
#[derive(Clone, Debug)]
pub(crate) struct Differs {
    pub(crate) field: &'static str,
    pub(crate) expected: String,
    pub(crate) actual: String,
    /// False if one of the two values is NaN or infinite, and the other is a number.
    pub(crate) finite: bool,
}

/// How to compare values that only a deterministic trainer gives twice. Order, counts and rates are always compared.
pub(crate) enum Values<'a> {
    /// They must be equal, bit for bit.
    Bits,
    /// The allowed difference is unknown, so they are not compared.
    Unknown,
    /// They must be within what the trainer's repeats allow after this many updates.
    Within(&'a Spread, u64),
    /// They are from two repeats: their difference after this many updates is what is being measured.
    Measured(&'a mut Spread, u64),
}

/// Compares fields and counts them on the sheet.
struct Fields<'a> {
    sheet: &'a mut Sheet,
    /// The run's counts, with which the two names of an epoch's edge compare as equal. None if both traces use the same
    /// name.
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
        (Event::Operation(run), Event::Operation(against)) => fields.operation(run, against),
        _ => fields.same("event", &run.name(), &against.name()),
    }
    fields.differs
}

/// The first difference of a loaded state from the saved one; fields that would explain the others come first. Loading
/// computes nothing, so this comparison is bit for bit for any trainer.
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
    fields.adapter_scale(run, against);
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

    /// A value that is equal or not, such as a digest: it has no distance.
    fn value<T: PartialEq + Debug>(&mut self, field: &'static str, run: &T, against: &T) {
        match self.values {
            Values::Bits => self.same(field, run, against),
            Values::Unknown => self.sheet.cannot(UNKNOWN),
            Values::Within(..) | Values::Measured(..) => {}
        }
    }

    /// Numbers of one quantity, which have a distance.
    fn figures(&mut self, field: &'static str, run: &[Number], against: &[Number]) {
        let plain = |numbers: &[Number]| numbers.iter().map(|number| number.0).collect::<Vec<_>>();
        let apart = || distance(&plain(run), &plain(against));
        let lost = run.iter().zip(against).find(|(run, against)| run.is_finite() != against.is_finite());
        if let Some((run, against)) = lost {
            // In repeats, too: no spread says how far a number is from none.
            return self.note(false, field, false, || (self::plain(against), self::plain(run)));
        }
        match &mut self.values {
            Values::Bits => self.note(run == against, field, true, || (shown(against), shown(run))),
            Values::Unknown => self.sheet.cannot(UNKNOWN),
            Values::Measured(spread, updates) => spread.take(field, *updates, apart()),
            Values::Within(spread, updates) => {
                let (apart, allowed) = (apart(), spread.allows(field, *updates));
                let near = run.len() == against.len() && apart.is_finite() && apart <= allowed;
                self.note(near, field, true, || {
                    let within = format!("{} within {} (relative)", shown(against), Number(allowed));
                    (within, format!("{}, a relative difference of {}", shown(run), Number(apart)))
                });
            }
        }
    }

    /// A tensor's sketch stands in for its digest: digests of a non-deterministic trainer always differ.
    fn sketch(&mut self, run: &[Number], against: &[Number]) {
        if let Values::Within(..) | Values::Measured(..) = self.values {
            self.figures("sketch", run, against);
        }
    }

    /// A field that a trace may lack. If one of the two lacks it, nothing is compared, and the sheet notes it.
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
        // Two runs that both lost a value are equal. finite/everywhere reports the loss, in each trace.
        let lost = run.is_finite() != against.is_finite();
        self.note(!lost, field, false, || (plain(&against), plain(&run)));
        self.figures(field, &[run], &[against]);
    }

    fn given_number(&mut self, field: &'static str, run: Option<Number>, against: Option<Number>) {
        match (run, against) {
            (Some(run), Some(against)) => self.number(field, run, against),
            _ => self.sheet.missing(field),
        }
    }

    // Every event is destructured in full, so that the compiler asks about each new field whether it is compared.

    fn losses(&mut self, run: &[Loss], against: &[Loss]) {
        self.same("losses", &run.len(), &against.len());
        for (Loss { name, sum, weight }, against) in run.iter().zip(against) {
            self.same("loss name", name, &against.name);
            self.same("loss weight", weight, &against.weight);
            self.number("loss sum", *sum, against.sum);
        }
    }

    fn micro_batch(&mut self, run: &MicroBatch, against: &MicroBatch) {
        // The two were aligned by their place. Caches and recomputation change no update: cache/off-in-training and
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
            // Told of a few micro-batches, which the rules about them judge on each trace.
            told: _,
            dropout: _,
            // What only a recorder writes describes the loop and not its result: the loop/ rules judge it on each trace.
            loader: _,
            backward: _,
            optimizers: _,
            modes: _,
            // These are written where a recorded loop is cut, which seam/identical judges by itself.
            rng: _,
            content: _,
        } = run;
        self.given("samples", samples, &against.samples);
        self.given("rows", rows, &against.rows);
        self.given("width", width, &against.width);
        self.given("tokens", tokens, &against.tokens);
        self.given("targets", targets, &against.targets);
        self.losses(losses, &against.losses);
    }

    fn update(&mut self, run: &Update, against: &Update) {
        let Update {
            step,
            micro_batches,
            targets,
            lr,
            grad_norm,
            clipped_norm,
            applied,
            digest,
            optimizer,
            decay,
            // Its counts begin anew in a resumed trace: the loop/ rules judge it on each trace.
            since: _,
            // What they are samples of is compared whole, by its digest.
            tensors: _,
        } = run;
        // Absent is the only optimizer.
        self.same("optimizer", &optimizer.unwrap_or(0), &against.optimizer.unwrap_or(0));
        self.same("decay", decay, &against.decay);
        self.same("step", step, &against.step);
        self.given("micro_batches", micro_batches, &against.micro_batches);
        self.given("targets", targets, &against.targets);
        self.same("lr", lr, &against.lr);
        self.same("applied", applied, &against.applied);
        // A skipped update has gradients that overflowed; their norms are not comparable.
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
            told: _,
            apart: _,
            modes: _,
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
            // Only recorders write them, for a seam, which compares them by itself.
            buffers: _,
            rng,
            schedule_step,
            cursor,
            window,
            window_digest,
            best,
            scaler,
            ema,
            parts,
        } = run;
        // The end of an epoch and the beginning of the next are one place with two names.
        let settle = |cursor: Cursor| self.counts.map_or(cursor, |counts| counts.settle(cursor));
        let cursors = (cursor.map(settle), against.cursor.map(settle));
        self.given("cursor", &cursors.0, &cursors.1);
        self.given("window", window, &against.window);
        self.same("step", step, &against.step);
        self.given("schedule_step", schedule_step, &against.schedule_step);
        self.value("window_digest", window_digest, &against.window_digest);
        self.adapter_scale(run, against);
        self.tensors(run, against, true);
        self.given_value("rng", rng, &against.rng);
        self.value("best", best, &against.best);
        self.value("scaler", scaler, &against.scaler);
        self.value("ema", ema, &against.ema);
        if !parts.is_empty() && !against.parts.is_empty() {
            let (expected, actual) = (unlike(&against.parts, parts), unlike(parts, &against.parts));
            self.value("part of the state", &actual, &expected);
        }
    }

    /// What scales an adapter is no tensor: where only tensors are saved, it is lost.
    fn adapter_scale(&mut self, run: &State, against: &State) {
        let of = |state: &State| state.parts.get(State::ADAPTER_SCALE).cloned();
        if let (Some(run), Some(against)) = (of(run), of(against)) {
            self.same("adapter scale", &run, &against);
        }
    }

    fn tensors(&mut self, run: &State, against: &State, with_moments: bool) {
        if run.tensors.is_empty() || against.tensors.is_empty() {
            return self.sheet.missing("tensors");
        }
        let names =
            |state: &State| state.tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
        self.same("tensors", &names(run), &names(against));
        let saved = &against.tensors;
        for (run, against) in run.tensors.iter().zip(saved) {
            let named = self.differs.is_none();
            // The plan fixes the model, and with it shape, group and format. Norms are compared with their update.
            let TensorState {
                name: _,
                group: _,
                shape: _,
                dtype: _,
                trainable,
                optimized,
                decay: _,
                digest,
                moments,
                grad_norm: _,
                sketch,
            } = run;
            self.same("trainable", trainable, &against.trainable);
            self.same("optimized", optimized, &against.optimized);
            let is_of = |other: &TensorState| other.name != against.name;
            let others = || saved.iter().filter(|it| is_of(it));
            let field = if others().any(|it| it.digest == *digest) { "values of another" } else { "values" };
            self.value(field, digest, &against.digest);
            self.sketch(sketch, &against.sketch);
            if with_moments {
                let has = moments.is_some() && others().any(|it| it.moments == *moments);
                let field = if has { "moments of another" } else { "moments" };
                self.value(field, moments, &against.moments);
            }
            // The field alone does not say which tensor differs.
            if named && let Some(differs) = &mut self.differs {
                differs.expected = format!("{}: {}", against.name, differs.expected);
                differs.actual = format!("{}: {}", run.name, differs.actual);
            }
        }
    }

    fn probe(&mut self, run: &Probe, against: &Probe) {
        // cache/same-outputs judges the cache of a probe.
        let Probe { name, at: _, rows, width: _, cache_bytes: _, gradients } = run;
        self.same("probe", name, &against.name);
        self.same("rows", &rows.len(), &against.rows.len());
        for (ProbeRow { loss, logits, head, nonfinite: _ }, against) in rows.iter().zip(&against.rows) {
            self.number("loss", *loss, against.loss);
            self.figures("logits", logits, &against.logits);
            self.figures("head", head, &against.head);
        }
        // Probe gradients are compared as a whole: padding and row rules judge them within bounds.
        self.value("gradients", gradients, &against.gradients);
    }

    fn operation(&mut self, run: &Operation, against: &Operation) {
        let Operation { name, terms: _, tensors } = run;
        self.same("operation", name, &against.name);
        self.same("tensors", &tensors.len(), &against.tensors.len());
        for (OperationTensor { name, norm, sketch }, against) in tensors.iter().zip(&against.tensors) {
            self.same("tensor", name, &against.name);
            self.number("norm", *norm, against.norm);
            self.figures("sketch", sketch, &against.sketch);
        }
    }
}

/// The first part that is not the same in `others`, with its digest.
fn unlike(parts: &BTreeMap<String, String>, others: &BTreeMap<String, String>) -> Option<String> {
    let found = parts.iter().find(|(name, digest)| others.get(*name) != Some(*digest));
    found.map(|(name, digest)| format!("{name}: {digest}"))
}

const UNKNOWN: &str = "values are not compared: the trainer is not deterministic and the spread of its repeats was not \
                       measured";

fn shown(numbers: &[Number]) -> String {
    match numbers {
        [one] => plain(one),
        many => plain(&many),
    }
}

/// A value as a reader expects it: without quotes and without `Some(…)`.
fn plain(value: &impl Debug) -> String {
    let shown = format!("{value:?}");
    let given = shown.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&shown);
    given.trim_matches('"').to_owned()
}
