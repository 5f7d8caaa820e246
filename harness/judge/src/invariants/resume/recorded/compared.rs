//! Compares a resumed run event by event with the uninterrupted run, from the update that it goes on from.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{MicroBatch, Update};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::data::{is, known, other_samples, shown};
use super::history::History;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::micro_batches;

/// The first events in which two runs from the same start differ; nothing where they are equal as far as both go.
pub(super) fn parting<'a>(run: &'a [Line], whole: &'a [Line]) -> Option<(&'a Line, &'a Line)> {
    run.iter().zip(whole).find(|(one, other)| match (&one.event, &other.event) {
        (Event::MicroBatch(one), Event::MicroBatch(other)) => {
            !is(one, other) || one.backward != other.backward
        }
        (Event::Update(one), Event::Update(other)) => one.digest != other.digest || one.lr != other.lr,
        _ => true,
    })
}

/// A line of the uninterrupted run, in words.
pub(super) fn named(line: &Line) -> String {
    match &line.event {
        Event::MicroBatch(it) => format!("epoch {}, micro-batch {}", it.epoch, it.index),
        Event::Update(it) => format!("update {}", it.step),
        it => format!("a {} event", it.name()),
    }
}

/// What a script does after the signal that tells it to end, where the uninterrupted run goes on otherwise.
pub(super) fn after_signal(line: &Line, due: &Line) -> Difference {
    let early = matches!((&line.event, &due.event), (Event::Update(_), Event::MicroBatch(_)));
    Difference {
        expected: format!("{}, as in the uninterrupted run", named(due)),
        actual: match &line.event {
            Event::Update(it) if early => {
                format!("an update of {}", micro_batches(it.micro_batches.unwrap_or_default()))
            }
            _ => named(line),
        },
        component: Component::Boundary,
        cause: if early {
            "after the signal the script makes an update of the open window: what it saves then is a state that the \
             uninterrupted run never has"
                .into()
        } else {
            "after the signal the script trains otherwise than without one".into()
        },
    }
}

/// What the states of two runs say of a comparison of their events.
pub(super) struct Beside<'a> {
    /// Whether the digests of updates are over the same tensors.
    pub digests: bool,
    /// The tensors that the resumed run begins with frozen, and that trained before.
    pub frozen: Vec<&'a str>,
}

/// Compares until the first difference. `position` counts the events of the whole run before the resumed one goes on.
pub(super) fn from_there(
    whole: &History,
    position: usize,
    resumed: &History,
    beside: &Beside,
    segment: usize,
    sheet: &mut Sheet,
) {
    let rest = &whole.steps[position.min(whole.steps.len())..];
    let Some(offset) = offset(rest, resumed) else {
        if let Some((line, Event::MicroBatch(it))) = resumed.steps.first().map(|line| (line, &line.event)) {
            sheet.check_in(segment, false, line, || other_samples(&whole.steps, position, it));
        }
        return;
    };
    if let Some((line, it)) = skipped(rest, offset, resumed) {
        sheet.check_in(segment, false, line, || other_samples(&whole.steps, position, it));
        return;
    }
    let mut left_in_window = offset as u64;
    for (line, due) in resumed.steps.iter().zip(&rest[offset..]) {
        let difference = match (&line.event, &due.event) {
            (Event::MicroBatch(it), Event::MicroBatch(due)) => micro_batch(it, due, &whole.steps, position),
            (Event::Update(it), Event::Update(due)) => {
                let difference = update(it, due, &whole.steps, left_in_window, beside);
                left_in_window = 0;
                difference
            }
            (it, due) => Some(boundary(it, due)),
        };
        if !sheet.compared_in(segment, line, difference) {
            return;
        }
    }
    length(resumed, &rest[offset..], whole, segment, sheet);
}

/// How many micro-batches of the whole run's open window the resumed run does not repeat: a script that saves inside
/// a window saves the window's gradients too. Nothing where the resumed run's first samples are not in that window.
fn offset(rest: &[Line], resumed: &History) -> Option<usize> {
    let Some(Event::MicroBatch(first)) = resumed.steps.first().map(|line| &line.event) else {
        return Some(0);
    };
    let mut window = rest.iter().map_while(|line| match &line.event {
        Event::MicroBatch(it) => Some(it),
        _ => None,
    });
    // Without ids nothing can be matched: the losses will tell.
    if !known(first) {
        return Some(0);
    }
    window.position(|it| is(it, first))
}

/// The first micro-batch of a resumed run that has the random state of the update that it goes on from, and samples from
/// further on: nothing of the window was restored with it.
fn skipped<'a>(rest: &[Line], offset: usize, resumed: &'a History) -> Option<(&'a Line, &'a MicroBatch)> {
    let rng = |line: Option<&Line>| match line.map(|line| &line.event) {
        Some(Event::MicroBatch(it)) => it.rng.clone(),
        _ => None,
    };
    let line = resumed.steps.first()?;
    let Event::MicroBatch(it) = &line.event else { return None };
    let (at_update, there) = (rng(rest.first()), rng(rest.get(offset)));
    (it.rng.is_some() && it.rng == at_update && at_update != there).then_some((line, it))
}

fn micro_batch(it: &MicroBatch, due: &MicroBatch, whole: &[Line], position: usize) -> Option<Difference> {
    if !is(it, due) {
        return Some(Difference {
            expected: format!("samples {}", shown(due, it)),
            ..other_samples(whole, position, it)
        });
    }
    let acting = |it: &MicroBatch| it.modes.map(|it| (it.training, it.evaluation));
    if acting(it) != acting(due) {
        let shown = |it: &MicroBatch| {
            it.modes.map_or("unknown".to_owned(), |it| {
                format!("{} in training mode, {} in evaluation mode", it.training, it.evaluation)
            })
        };
        return Some(Difference {
            expected: format!("modules that act only in training: {}", shown(due)),
            actual: shown(it),
            component: Component::Evaluation,
            cause: "the resumed run trains with its modules in another mode: model.train() after loading is missing, or left out".into(),
        });
    }
    // What backward() was called on decides: a loss without a backward pass may come before it, as of a first evaluation.
    if it.backward == due.backward && (it.backward.is_some() || it.losses == due.losses) {
        return None;
    }
    let random = it.rng != due.rng;
    if it.content != due.content {
        return Some(Difference {
            expected: "the same samples to look as they did".into(),
            actual: "other values in their rows".into(),
            component: if random { Component::Rng } else { Component::Data },
            cause: if random {
                "the samples are drawn with an augmentation, and the random state before them was not restored".into()
            } else {
                "the samples of these indices are others than before: the dataset was changed, or an augmentation draws from \
                 a generator of its own that was not restored"
                    .into()
            },
        });
    }
    let shown = |it: &MicroBatch| it.backward.map_or("unknown".to_owned(), |it| it.to_string());
    Some(Difference {
        expected: format!("loss {} for the same samples", shown(due)),
        actual: shown(it),
        component: if random { Component::Rng } else { Component::CheckpointSections },
        cause: if random {
            "the random state is another one before this forward: dropout draws other masks. Save and restore torch's \
             random state, after everything else that draws"
                .into()
        } else {
            "parameters, samples and random state are the same and the loss is not: state that is neither (a setting, a \
             counter, a second model, an adapter's scale, a cache) did not come back"
                .into()
        },
    })
}

fn update(it: &Update, due: &Update, whole: &[Line], left: u64, beside: &Beside) -> Option<Difference> {
    if it.lr != due.lr {
        let of = whole.iter().find_map(|line| match &line.event {
            Event::Update(other) if other.lr == it.lr => Some(other.step),
            _ => None,
        });
        return Some(Difference {
            expected: format!("rate {}", rates(&due.lr)),
            actual: rates(&it.lr),
            component: Component::Schedule,
            cause: of.map_or("the learning-rate schedule did not come back".to_owned(), |step| {
                format!("the schedule did not come back: this is the rate of update {step}")
            }),
        });
    }
    if it.grad_norm != due.grad_norm {
        return Some(Difference {
            expected: format!("gradient norm {}", due.grad_norm.unwrap_or(Number(f64::NAN))),
            actual: it.grad_norm.unwrap_or(Number(f64::NAN)).to_string(),
            component: if beside.frozen.is_empty() { Component::Window } else { Component::OptimizerGroups },
            cause: if !beside.frozen.is_empty() {
                format!(
                    "{} trained in the uninterrupted run by then, and the resumed run begins with them frozen: what was unfrozen \
                     before the cut must be unfrozen again",
                    beside.frozen.join(", ")
                )
            } else if left > 0 {
                format!(
                    "the open window did not come back: its first {}, trained before the cut, are in no update: their gradients \
                     are lost, or they are skipped",
                    micro_batches(left)
                )
            } else {
                "the losses are the same and the gradients are not: gradients of the open window, or the loss scale, did \
                 not come back"
                    .into()
            },
        });
    }
    (beside.digests && it.digest != due.digest || it.applied != due.applied).then(|| Difference {
        expected: "the parameters of the uninterrupted run after this update".into(),
        actual: "others, from the same gradient norm and rate".into(),
        component: Component::Optimizer,
        cause: "the optimizer's settings did not come back: betas, decay or the step count of a group".into(),
    })
}

fn boundary(it: &Event, due: &Event) -> Difference {
    Difference {
        expected: format!("{} event, as in the uninterrupted run", due.name()),
        actual: format!("{} event", it.name()),
        component: Component::Boundary,
        cause: "the accumulation window closes at another micro-batch than without the cut: micro-batches are counted from \
                the resume and not from the last update"
            .into(),
    }
}

/// The resumed run must end where the uninterrupted run ends.
fn length(resumed: &History, rest: &[Line], whole: &History, segment: usize, sheet: &mut Sheet) {
    let Some(last) = resumed.steps.last() else { return };
    let due = rest.iter().filter(|line| matches!(line.event, Event::Update(_))).count() as u64;
    let made = resumed.updates();
    if !whole.ended || !resumed.ended {
        return;
    }
    sheet.check_in(segment, made == due, last, || Difference {
        expected: format!("{due} more updates, as in the uninterrupted run"),
        actual: made.to_string(),
        component: Component::Step,
        cause: if made == whole.updates() {
            "the resumed run makes as many updates as the whole one: it trains from the beginning again, or its limit of updates \
             or epochs is counted from the resume"
                .into()
        } else if made > due {
            format!(
                "the resumed run makes {} updates more than were left: it trains again what was trained before the cut. Check \
                 the epoch that the checkpoint holds, and its place in the data",
                made - due
            )
        } else {
            format!(
                "the resumed run ends {} updates early: check the epoch that the checkpoint holds, its place in the data, and \
                 what the limit of updates counts",
                due - made
            )
        },
    });
}

fn rates(lr: &[Number]) -> String {
    lr.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
