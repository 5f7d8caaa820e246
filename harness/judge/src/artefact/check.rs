//! Judges what runs have left, with one outcome per path.

use std::path::{Path, PathBuf};
use std::time::Instant;

use traintrue_logs::{Counts, Layout, Log, Precision};
use traintrue_protocol::contract::{Contract, FirstLr};
use traintrue_protocol::plan::Plan;

use super::files::adapter::Adapter;
use super::files::error::ArtefactError;
use super::files::events::{Reading, finite_figures};
use super::files::given::Given;
use super::files::left::{Left, of_adapter, of_model};
use crate::artefact::rules::{
    adapter, best, continues, epochs, log, moves, patience, shards, signal, targets, tensors, tied,
};
use crate::finding::Sheet;
use crate::invariants::training::{finite, schedule};
use crate::pass::imported;
use crate::rule::{Opening, Rule, RunEvidence};
use crate::tally::{Labels, Tally};
use crate::verdict::{Outcome, RunReport, seconds_since};

/// Judges each path by its contents; with `against`, also as a later checkpoint of the same run. `layout` says how logs
/// are read, and `reproduce` is the command that shows a finding again. Fails if a path holds no known file, or a file
/// that does not match its name.
pub fn check(
    paths: &[PathBuf],
    against: Option<&Path>,
    given: &Given,
    layout: &Layout,
    reproduce: &str,
) -> Result<RunReport, ArtefactError> {
    let earlier = against.map(|path| Left::read(path, layout, true)).transpose()?;
    let outcome = |path: &PathBuf| -> Result<Outcome, ArtefactError> {
        let begun = Instant::now();
        let left = Left::read(path, layout, earlier.is_some())?;
        let judged = judge(&left, earlier.as_ref(), given, reproduce)?;
        Ok(Outcome { seconds: seconds_since(begun), ..judged })
    };
    let outcomes: Vec<Outcome> = paths.iter().map(outcome).collect::<Result<_, _>>()?;
    Ok(RunReport::new(String::new(), Contract::default(), outcomes))
}

/// A tally, and the name of the run that it is about.
struct Judged<'a> {
    tally: Tally<'a>,
    run: String,
}

impl Judged<'_> {
    /// Judges one file by one invariant.
    fn by(&mut self, rule: &'static Rule, file: &Path, judge: impl FnOnce(&mut Sheet)) {
        let mut sheet = Sheet::default();
        judge(&mut sheet);
        self.sheet(rule, file, &sheet);
    }

    fn sheet(&mut self, rule: &'static Rule, file: &Path, sheet: &Sheet) {
        // A rule without anything to compare in this file is left out: a folder need not hold every kind of file.
        if sheet.compared > 0 || sheet.missing.is_some() {
            let evidence =
                RunEvidence { name: self.run.clone(), segments: vec![file.to_owned()], repeats: Vec::new() };
            self.tally.asked(rule, &evidence, None, sheet);
        }
    }
}

fn judge(
    left: &Left,
    earlier: Option<&Left>,
    given: &Given,
    command: &str,
) -> Result<Outcome, ArtefactError> {
    let show = |path: &Path| path.display().to_string();
    let labels = Labels { reproduce: command, trace: &show };
    let mut judged = Judged { tally: Tally::new(labels), run: left.name() };
    pickles(left, &mut judged);
    if let Some(log) = &left.log {
        of_log(log, given, &mut judged)?;
    }
    if let Some(adapter) = &left.adapter {
        let config = left.contents.adapter.as_ref().map_or(left.path.as_path(), |(config, _)| config);
        of_an_adapter(adapter, config, &mut judged);
    }
    for index in &left.indices {
        judged.by(&shards::RULE, &index.path, |sheet| shards::judge(index, &left.files, sheet));
    }
    for file in &left.files {
        judged.by(&tensors::FINITE, &file.path, |sheet| tensors::finite(file, sheet));
        judged.by(&tensors::ZERO, &file.path, |sheet| tensors::zero(file, |_| true, sheet));
        judged.by(&tensors::EMPTY, &file.path, |sheet| tensors::empty(file, sheet));
    }
    if let Some(weights) = left.weights().filter(|_| left.tied) {
        judged.by(&tied::RULE, &weights.path, |sheet| tied::judge(&weights, sheet));
    }
    if let Some(earlier) = earlier {
        of_pair(left, earlier, &mut judged)?;
    }
    Ok(judged.tally.outcome(&left.path.display().to_string()))
}

fn pickles(left: &Left, judged: &mut Judged) {
    if left.contents.pickles.is_empty() {
        return;
    }
    let named = left.contents.pickles.join(", ");
    let why = format!("not judged: {named}: loading a pickle runs code, so traintrue never opens one");
    // Pickled weights mean that the main content is not judged. A pickled optimizer beside safetensors is normal and
    // only a note.
    if left.contents.weights_pickled() {
        judged.tally.cannot_judge(why);
    } else {
        judged.tally.note(&why);
    }
}

fn of_log(log: &Log, given: &Given, judged: &mut Judged) -> Result<(), ArtefactError> {
    log.notes.iter().for_each(|note| judged.tally.note(note));
    judged.by(&log::RULE, &log.path, |sheet| log::judge(log, sheet));
    judged.by(&epochs::RULE, &log.path, |sheet| epochs::judge(log, given, sheet));
    judged.by(&signal::RULE, &log.path, |sheet| signal::judge(log, sheet));
    if let Some(it) = &log.best {
        judged.by(&best::RULE, &log.path, |sheet| best::judge(log, it, sheet));
        if let Some(patience) = &log.patience {
            judged.by(&patience::RULE, &log.path, |sheet| patience::judge(log, it, patience, sheet));
        }
    }
    let plan = given.plan(log)?;
    let contract = Contract::default();
    let opening = Opening { plan: &plan, contract: &contract, recorded: None, precision: Precision::EXACT };
    for (rule, sheet) in imported(&[&finite::RULE], &opening, &finite_figures(log)) {
        judged.tally.add(rule, &judged.run, &log.path, &sheet);
        judged.sheet(rule, &log.path, &sheet);
    }
    if let Some(why) = rates_missing(log, given) {
        match given.curve {
            Some(_) => judged.tally.cannot_judge(format!("{}: {why}", schedule::RULE.name)),
            None => judged.tally.note(&format!("{}: not judged: {why}", schedule::RULE.name)),
        }
        return Ok(());
    }
    let reading = Reading::of(log, &plan);
    let contract = Contract { first_lr: reading.first, ..Contract::default() };
    let precision = log.precision_of_rates();
    let opening = Opening { plan: &plan, contract: &contract, recorded: None, precision };
    for (rule, mut sheet) in imported(&[&schedule::RULE], &opening, &reading.updates(log)) {
        if sheet.broken.is_some()
            && let Some(why) = skipped(log, reading, &plan)
        {
            sheet.broken = None;
            judged.tally.cannot_judge(format!(
                "{}: the learning rates do not follow the schedule, but {why}",
                rule.name
            ));
            continue;
        }
        remark(log, reading, precision, judged);
        judged.tally.add(rule, &judged.run, &log.path, &sheet);
        judged.sheet(rule, &log.path, &sheet);
    }
    Ok(())
}

/// Why the learning rates cannot be judged.
fn rates_missing(log: &Log, given: &Given) -> Option<&'static str> {
    let steps = || log.entries.iter().map(|it| it.step);
    if given.curve.is_none() {
        let of_checkpoint = "the training arguments are in a pickle; give --lr, --schedule and --warmup";
        let of_log =
            "the log does not hold the training arguments; give --lr, --schedule, --warmup and --updates";
        return Some(if log.global_step.is_some() { of_checkpoint } else { of_log });
    }
    let why = [
        (given.curve(log).is_none(), "the file has no max_steps: give it with --updates"),
        (
            log.entries.iter().all(|it| it.lr().is_none()),
            "the log has no learning rate; name its column with --columns lr=NAME",
        ),
        (log.steps_within_epochs, "the steps begin again with each epoch, and are not updates"),
        (log.entries.len() > 1 && steps().min() == steps().max(), "every entry of the log has the same step"),
    ];
    why.into_iter().find_map(|(holds, why)| holds.then_some(why))
}

/// Why a finding on the rates is taken back: skipped updates give exactly this picture, and a clean run must not be
/// accused.
fn skipped(log: &Log, reading: Reading, plan: &Plan) -> Option<String> {
    match log.scaled {
        Some(true) => Some(
            "the run had a loss scaler: each update that it skips delays the schedule, and the log does not say which \
             updates were skipped"
                .into(),
        ),
        Some(false) => None,
        None => reading.skipped(log, plan).map(|skipped| {
            format!(
                "they do if a loss scaler skipped {skipped} updates: each skipped update delays the schedule, and the log \
                 does not say whether the run had a loss scaler"
            )
        }),
    }
}

/// How the rates were read.
fn remark(log: &Log, reading: Reading, precision: Precision, judged: &mut Judged) {
    let tally = &mut judged.tally;
    match (reading.first, reading.from_zero, log.counts) {
        (FirstLr::Zero, ..) => {}
        (_, _, Counts::Updates) => tally.note(
            "the log gives the next update's learning rate at each step, as older releases of transformers do",
        ),
        (_, false, _) => {
            tally.note("the log gives the next update's learning rate at each step, or counts its steps from 0")
        }
        (_, true, _) => {
            tally.note("the log counts its steps from 0 and gives the next update's learning rate at each: step 0 is update 1")
        }
    }
    if precision != Precision::EXACT {
        tally
            .note("the learning rates of the log are rounded: each is held to half a unit of its last digit");
    }
}

fn of_an_adapter(it: &Adapter, config: &Path, judged: &mut Judged) {
    let path = it.path();
    judged.by(&tensors::FINITE, path, |sheet| tensors::finite(&it.file, sheet));
    judged.by(&tensors::EMPTY, path, |sheet| tensors::empty(&it.file, sheet));
    judged.by(&targets::MODULES_TO_SAVE, path, |sheet| targets::modules_to_save(it, config, sheet));
    let whole = |tensor: &super::Tensor| it.is_saved_whole(&tensor.name);
    judged.by(&tensors::ZERO, path, |sheet| tensors::zero(&it.file, whole, sheet));
    // Other methods have other tensors, which these rules would call wrong.
    if it.config.peft_type != "LORA" {
        let kind = &it.config.peft_type;
        return judged
            .tally
            .cannot_judge(format!("peft_type is {kind}: only the tensors of LORA are judged"));
    }
    judged.by(&adapter::SHAPES, path, |sheet| adapter::shapes(it, sheet));
    judged.by(&adapter::SCALE, config, |sheet| adapter::scale(it, sheet));
    judged.by(&adapter::LEARNS, path, |sheet| adapter::learns(it, sheet));
    judged.by(&targets::TARGETS, path, |sheet| targets::targets(it, sheet));
    if it.modules().is_empty() {
        judged.tally.cannot_judge("the file has no lora_A and no lora_B".to_owned());
    }
}

fn of_pair(later: &Left, earlier: &Left, judged: &mut Judged) -> Result<(), ArtefactError> {
    let unlike =
        |what| ArtefactError::Unlike { later: later.path.clone(), earlier: earlier.path.clone(), what };
    let weights = (later.weights(), earlier.weights());
    match (&later.log, &earlier.log) {
        // A swapped order would turn every rule about progress around.
        (Some(is), Some(was)) if is.last_step() <= was.last_step() => {
            return Err(ArtefactError::Order {
                later: later.path.clone(),
                later_step: is.last_step(),
                earlier: earlier.path.clone(),
                earlier_step: was.last_step(),
            });
        }
        (Some(is), Some(was)) => {
            judged.by(&continues::RULE, &is.path, |sheet| continues::judge(is, was, sheet))
        }
        (Some(_), None) if earlier.adapter.is_none() && weights.1.is_none() => return Err(unlike("a log")),
        _ => {}
    }
    match (&later.adapter, &earlier.adapter) {
        (Some(is), Some(was)) => {
            judged.by(&moves::SAME, is.path(), |sheet| moves::same(&is.file, &was.file, sheet));
            let role = |tensor: &super::Tensor| of_adapter(is, tensor);
            judged.by(&moves::MOVES, is.path(), |sheet| moves::moves(&is.file, &was.file, role, sheet));
        }
        (Some(_), None) => return Err(unlike("an adapter")),
        (None, _) => {}
    }
    match weights {
        (Some(is), Some(was)) => {
            judged.by(&moves::SAME, &is.path, |sheet| moves::same(&is, &was, sheet));
            judged.by(&moves::MOVES, &is.path, |sheet| moves::moves(&is, &was, of_model, sheet));
        }
        (Some(_), None) => return Err(unlike("weights")),
        (None, _) => {}
    }
    Ok(())
}
