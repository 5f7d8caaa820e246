//! The peak of a forward and a backward pass: the operations of a model in order, walked forwards and back.
//!
//! Going forwards, what each operation keeps is added up. Going backwards it is given up again, and gradients of the
//! weights take its place. Both ways an operation holds more while it works. The peak is the most that is held at any of
//! them.

use super::tensors::Tensors;

/// One operation, as memory sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// Kept from the forward pass until this operation's own backward.
    pub keeps: Tensors,
    /// Kept beside that until the backward pass begins.
    pub until_backward: Tensors,
    /// Held beside that while the forward pass computes it.
    pub forward: Tensors,
    /// Held beside that while the backward pass computes it: gradients of values, and copies.
    pub backward: Tensors,
    /// The weights that get their gradients here.
    pub learns: Tensors,
    /// Whether it reads what the block reads, and not the result of the operation before.
    pub branches: bool,
}

/// Equal runs of operations: the blocks of a stack, or what is before or after them.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What it is called in a sentence.
    pub name: &'static str,
    /// How often the run is repeated.
    pub times: u128,
    /// One run.
    pub steps: Vec<Step>,
    /// What is kept of a run that is computed again in the backward pass. None keeps all of it.
    pub input: Option<Tensors>,
}

impl Group {
    /// What is kept of one run.
    fn retained(&self, pass: Pass) -> Tensors {
        match &self.input {
            Some(input) => input.clone(),
            None => kept(&self.steps, pass),
        }
    }

    fn learns(&self) -> Tensors {
        sum(self.steps.iter().map(|step| &step.learns))
    }
}

/// What is held at the peak.
#[derive(Clone, Debug, Default)]
pub(super) struct Peak {
    /// The pass, and where in the model.
    pub place: String,
    /// Kept for operations whose backward is still to come.
    pub kept: Tensors,
    /// Held by the operation at work.
    pub working: Tensors,
    /// Of weights.
    pub gradients: Tensors,
}

impl Peak {
    /// The bytes of all of it.
    pub fn bytes(&self) -> u128 {
        self.kept.bytes() + self.working.bytes() + self.gradients.bytes()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Backward,
}

/// The gradients that earlier micro-batches of a window have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// None: the window has just opened.
    None,
    /// One of every weight. A new one is added to it as soon as it is there.
    AddedAtOnce,
    /// One of every weight. New ones are added when the backward pass is over.
    AddedAtTheEnd,
}

/// The peak of both passes.
pub(super) fn peak(groups: &[Group], earlier: Earlier) -> Peak {
    let mut peak = Peak::default();
    for (at, group) in groups.iter().enumerate() {
        // What is held changes by the same amount from run to run, so its extremes are the first and the last.
        for run in [0, group.times.saturating_sub(1)] {
            for step in 0..group.steps.len() {
                for pass in [Pass::Forward, Pass::Backward] {
                    let held = held(groups, at, run, step, pass, earlier);
                    peak = if held.bytes() > peak.bytes() { held } else { peak };
                }
            }
        }
    }
    peak
}

/// What is held while the operation `step` works, in the `run`th run of the group `at`.
fn held(groups: &[Group], at: usize, run: u128, step: usize, pass: Pass, earlier: Earlier) -> Peak {
    let group = &groups[at];
    let mut peak = Peak::default();
    for before in &groups[..at] {
        peak.kept.add_all(before.times, &before.retained(pass));
    }
    peak.kept.add_all(run, &group.retained(pass));
    peak.kept.add_all(1, &group.input.clone().unwrap_or_default());
    // In the first pass over a run that is computed again, nothing of it is kept.
    let is_dropped = group.input.is_some() && pass == Pass::Forward;
    if !is_dropped {
        peak.kept.add_all(1, &kept(&group.steps[..=step], pass));
    }

    let here = &group.steps[step];
    match pass {
        Pass::Forward => peak.working.add_all(1, &here.forward),
        Pass::Backward => peak.working.add_all(1, &here.backward),
    }
    if earlier != Earlier::None {
        groups.iter().for_each(|it| peak.gradients.add_all(it.times, &it.learns()));
    }
    match pass {
        Pass::Forward => {}
        Pass::Backward if earlier == Earlier::AddedAtOnce => peak.gradients.add_all(1, &here.learns),
        Pass::Backward => {
            peak.gradients.add_all(1, &sum(group.steps[step..].iter().map(|it| &it.learns)));
            peak.gradients.add_all(group.times - 1 - run, &group.learns());
            groups[at + 1..].iter().for_each(|it| peak.gradients.add_all(it.times, &it.learns()));
        }
    }
    let pass = if pass == Pass::Forward { "forward" } else { "backward" };
    peak.place = format!("the {pass} pass, in {}", group.name);
    peak
}

fn kept(steps: &[Step], pass: Pass) -> Tensors {
    let mut all = sum(steps.iter().map(|it| &it.keeps));
    if pass == Pass::Forward {
        all.add_all(1, &sum(steps.iter().map(|it| &it.until_backward)));
    }
    all
}

fn sum<'a>(tensors: impl Iterator<Item = &'a Tensors>) -> Tensors {
    let mut all = Tensors::default();
    tensors.for_each(|it| all.add_all(1, it));
    all
}
