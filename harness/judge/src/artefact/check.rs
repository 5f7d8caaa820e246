//! Judges what runs have left, with one outcome per path.

use std::path::{Path, PathBuf};
use std::time::Instant;

use traintrue_protocol::contract::{Contract, FirstLr};
use traintrue_protocol::plan::SCHEMA;

use super::files::adapter::Adapter;
use super::files::error::ArtefactError;
use super::files::given::Given;
use super::files::left::{Left, of_adapter, of_model};
use super::files::trainer_state::TrainerState;
use crate::artefact::rules::{adapter, best, continues, epochs, log, moves, shards, targets, tensors};
use crate::finding::Sheet;
use crate::invariants::training::{finite, schedule};
use crate::pass::imported;
use crate::rule::{Opening, Rule, RunEvidence};
use crate::tally::{Labels, Tally};
use crate::verdict::{Outcome, RunReport, Summary, seconds_since};

/// Judges each path by its contents; with `against`, also as a later checkpoint of the same run. `reproduce` is the
/// command that shows a finding again. Fails if a path holds no known file, or a file that does not match its name.
pub fn check(
    paths: &[PathBuf],
    against: Option<&Path>,
    given: &Given,
    reproduce: &str,
) -> Result<RunReport, ArtefactError> {
    let earlier = against.map(|path| Left::read(path, true)).transpose()?;
    let outcome = |path: &PathBuf| -> Result<Outcome, ArtefactError> {
        let begun = Instant::now();
        let left = Left::read(path, earlier.is_some())?;
        let judged = judge(&left, earlier.as_ref(), given, reproduce)?;
        Ok(Outcome { seconds: seconds_since(begun), ..judged })
    };
    let outcomes: Vec<Outcome> = paths.iter().map(outcome).collect::<Result<_, _>>()?;
    Ok(RunReport {
        schema: SCHEMA,
        trainer: String::new(),
        contract: Contract::default(),
        summary: Summary::of(&outcomes),
        notes: Vec::new(),
        errors: Vec::new(),
        outcomes,
    })
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
            self.tally.asked(rule, &evidence, sheet);
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
    if let Some(state) = &left.state {
        of_state(state, given, &mut judged)?;
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

fn of_state(state: &TrainerState, given: &Given, judged: &mut Judged) -> Result<(), ArtefactError> {
    judged.by(&log::RULE, &state.path, |sheet| log::judge(state, sheet));
    judged.by(&epochs::RULE, &state.path, |sheet| epochs::judge(state, given, sheet));
    if let Some(it) = &state.best {
        judged.by(&best::RULE, &state.path, |sheet| best::judge(state, it, sheet));
    }
    let plan = given.plan(state)?;
    // The log does not say which convention it follows, so it is inferred.
    let contract = Contract { first_lr: state.first_lr(&plan), ..Contract::default() };
    let opening = Opening { plan: &plan, contract: &contract, recorded: None };
    for (rule, mut sheet) in imported(&[&finite::RULE, &schedule::RULE], &opening, &state.events()) {
        let rates = rule.name == schedule::RULE.name;
        if rates && !curve(state, given, contract.first_lr, &mut sheet, judged) {
            continue;
        }
        judged.tally.add(rule, &judged.run, &state.path, &sheet);
        judged.sheet(rule, &state.path, &sheet);
    }
    Ok(())
}

/// Whether the learning rates can be judged. If not, the tally says why.
fn curve(
    state: &TrainerState,
    given: &Given,
    first: FirstLr,
    sheet: &mut Sheet,
    judged: &mut Judged,
) -> bool {
    let name = schedule::RULE.name;
    if given.curve(state).is_none() {
        match given.curve {
            Some(_) => judged.tally.cannot_judge(format!("{name}: the file has no max_steps: give it with --updates")),
            None => judged.tally.note(&format!(
                "{name}: not judged: the training arguments are in a pickle; give --lr, --schedule and --warmup"
            )),
        }
        return false;
    }
    if sheet.compared == 0 {
        judged.tally.cannot_judge(format!("{name}: the log has no learning_rate"));
        return false;
    }
    // Taking the finding back avoids a false accusation: skipped updates give exactly this picture.
    if state.scaled && sheet.broken.take().is_some() {
        judged.tally.cannot_judge(format!(
            "{name}: the learning rates do not follow the schedule, but the run had a loss scaler: each update that it \
             skips delays the schedule, and the log does not say which updates were skipped"
        ));
        return false;
    }
    if first == FirstLr::Nonzero {
        judged
            .tally
            .note("the log gives the next update's learning rate at each step, as older releases of transformers do");
    }
    true
}

fn of_an_adapter(it: &Adapter, config: &Path, judged: &mut Judged) {
    let path = it.path();
    judged.by(&tensors::FINITE, path, |sheet| tensors::finite(&it.file, sheet));
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
    match (&later.state, &earlier.state) {
        // A swapped order would turn every rule about progress around.
        (Some(is), Some(was)) if is.global_step <= was.global_step => {
            return Err(ArtefactError::Order {
                later: later.path.clone(),
                later_step: is.global_step,
                earlier: earlier.path.clone(),
                earlier_step: was.global_step,
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
