//! A trainer of two tensors, in f32 as trainers are, that is right or wrong in one thing.

use rstest::rstest;

use super::*;
use crate::testing::*;

const PLACES: usize = 6;

/// One tensor while it trains.
struct Trained {
    name: &'static str,
    shape: Vec<u64>,
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// What a step needs to know.
struct With {
    lr: f32,
    peak: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    decay: f32,
    is_matrix: bool,
    updates: i32,
    /// The gradient before clipping.
    unclipped: f32,
}

/// A trainer's step at one place: from value, gradient and moments to the new value and moments.
type Step = fn(f32, f32, [f32; 2], &With) -> (f32, [f32; 2]);

fn moments(gradient: f32, [first, second]: [f32; 2], with: &With) -> [f32; 2] {
    [
        with.beta1 * first + (1.0 - with.beta1) * gradient,
        with.beta2 * second + (1.0 - with.beta2) * gradient * gradient,
    ]
}

fn direction([first, second]: [f32; 2], with: &With) -> f32 {
    let by = |beta: f32| 1.0 - beta.powi(with.updates);
    first / by(with.beta1) / ((second / by(with.beta2)).sqrt() + with.eps)
}

fn decayed(value: f32, with: &With) -> f32 {
    value * (1.0 - with.lr * if with.is_matrix { with.decay } else { 0.0 })
}

fn right(value: f32, gradient: f32, before: [f32; 2], with: &With) -> (f32, [f32; 2]) {
    let after = moments(gradient, before, with);
    (decayed(value, with) - with.lr * direction(after, with), after)
}

/// The trace of six updates of this trainer.
fn trained(step: Step, tells_moments: bool) -> Vec<Event> {
    let mut events = whole();
    let plan = plan();
    let optimizer = &plan.train.optimizer;
    let fresh = |name, shape: &[u64]| Trained {
        name,
        shape: shape.to_vec(),
        values: (0..PLACES).map(|at| 0.4 * (at as f32 * 1.7 + shape.len() as f32).sin() + 0.5).collect(),
        first: vec![0.0; PLACES],
        second: vec![0.0; PLACES],
    };
    let mut tensors = [fresh("head.weight", &[4, 3]), fresh("norm", &[6])];
    for updates in 1..=6 {
        let update = update_at(&mut events, updates);
        let share = (1.0 / update.grad_norm.unwrap().0).min(1.0) as f32;
        let lr = update.lr[0].0 as f32;
        update.tensors = tensors
            .iter_mut()
            .map(|tensor| {
                let unclipped: Vec<f32> = (0..PLACES)
                    .map(|at| 0.02 * ((updates as usize * 7 + at * 3) as f32).sin() + 0.001)
                    .collect();
                let gradient: Vec<f32> = unclipped.iter().map(|it| it * share).collect();
                let (before, first, second) =
                    (tensor.values.clone(), tensor.first.clone(), tensor.second.clone());
                for at in 0..PLACES {
                    let with = With {
                        lr,
                        peak: optimizer.lr as f32,
                        beta1: optimizer.betas[0] as f32,
                        beta2: optimizer.betas[1] as f32,
                        eps: optimizer.eps as f32,
                        decay: optimizer.decay as f32,
                        is_matrix: tensor.shape.len() > 1,
                        updates: updates as i32,
                        unclipped: unclipped[at],
                    };
                    let moments = [tensor.first[at], tensor.second[at]];
                    let (value, [one, two]) = step(tensor.values[at], gradient[at], moments, &with);
                    (tensor.values[at], tensor.first[at], tensor.second[at]) = (value, one, two);
                }
                let numbers = |it: &[f32]| it.iter().map(|it| Number(f64::from(*it))).collect::<Vec<_>>();
                let pairs = |before: &[f32], after: &[f32]| {
                    let pair = |(a, b): (&f32, &f32)| [Number(f64::from(*a)), Number(f64::from(*b))];
                    if tells_moments { before.iter().zip(after).map(pair).collect() } else { Vec::new() }
                };
                TensorStep {
                    added: Vec::new(),
                    name: tensor.name.into(),
                    shape: tensor.shape.clone(),
                    group: 0,
                    updates,
                    unclipped: numbers(&unclipped),
                    gradient: numbers(&gradient),
                    before: numbers(&before),
                    after: numbers(&tensor.values),
                    first: pairs(&first, &tensor.first),
                    second: pairs(&second, &tensor.second),
                }
            })
            .collect();
    }
    events
}

#[test]
fn the_plans_step_holds() {
    let sheet = judge(RULE.name, &trained(right, true));
    assert!(sheet.broken.is_none() && sheet.missing.is_none(), "{sheet:?}");
    assert!(sheet.compared > 50, "{}", sheet.compared);
}

#[test]
fn moments_that_are_not_told_are_carried_from_the_first_update_on() {
    let sheet = judge(RULE.name, &trained(right, false));
    assert!(sheet.broken.is_none() && sheet.missing.is_none(), "{sheet:?}");
    let sgd = judge(RULE.name, &trained(|p, g, m, it| (p - it.lr * g, m), false)).broken.expect("a finding");
    assert!(sgd.cause.contains("plain SGD"), "{}", sgd.cause);
    let mut gap = trained(right, false);
    update_at(&mut gap, 1).tensors.clear();
    assert!(
        judge(RULE.name, &gap).missing.is_some_and(|why| why.contains("from a tensor's first update on"))
    );
}

#[rstest]
#[case::decay_twice(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (decayed(decayed(p, it), it) - it.lr * direction(after, it), after)
}, "the decay is applied twice")]
#[case::no_decay(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (p - it.lr * direction(after, it), after)
}, "nothing decays")]
#[case::vectors(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { is_matrix: true, ..*it }), "vectors decay")]
#[case::wrong_sign(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { decay: -it.decay, ..*it }), "wrong sign: values grow")]
#[case::not_times_the_rate(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { decay: it.decay / it.lr, ..*it }), "not multiplied by the rate")]
#[case::peak_rate(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { decay: it.decay * it.peak / it.lr, ..*it }), "by the peak rate")]
#[case::l2(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g + it.decay * p, m, it);
    (p - it.lr * direction(after, it), after)
}, "L2, as in Adam")]
#[case::half_the_rate_and_decay(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { lr: 0.5 * it.lr, ..*it }), "0.500 times that of the rate")]
#[case::skipped(|p: f32, g: f32, m: [f32; 2], it: &With| if it.updates == 3 { (p, m) } else { right(p, g, m, it) }, "the step did not run")]
#[case::one_update_too_few(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (decayed(p, it) - it.lr * direction(after, &With { updates: (it.updates - 1).max(1), ..*it }), after)
}, "one update too few")]
#[case::half_the_rate(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (decayed(p, it) - 0.5 * it.lr * direction(after, it), after)
}, "0.500 times that of the rate")]
#[case::climbs(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (decayed(p, it) + it.lr * direction(after, it), after)
}, "it climbs")]
#[case::uncorrected(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    (decayed(p, it) - it.lr * after[0] / (after[1].sqrt() + it.eps), after)
}, "the moments are not corrected")]
#[case::second_uncorrected(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = moments(g, m, it);
    let first = after[0] / (1.0 - it.beta1.powi(it.updates));
    (decayed(p, it) - it.lr * first / (after[1].sqrt() + it.eps), after)
}, "the second moment is not corrected")]
#[case::swapped(|p: f32, g: f32, m: [f32; 2], it: &With| right(p, g, m, &With { beta1: it.beta2, beta2: it.beta1, ..*it }), "beta1 and beta2 are swapped")]
#[case::sgd(|p: f32, g: f32, m: [f32; 2], it: &With| (p - it.lr * g, moments(g, m, it)), "plain SGD")]
#[case::momentum_of_whole_gradients(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let after = [it.beta1 * m[0] + g, it.beta2 * m[1] + g * g];
    (decayed(p, it) - it.lr * direction(after, it), after)
}, "with its whole size")]
#[case::unclipped(|p: f32, _, m, it: &With| right(p, it.unclipped, m, it), "from before the clip")]
#[case::begun_anew(|p: f32, g: f32, _, it: &With| right(p, g, [0.0; 2], it), "the moments of the updates before are lost")]
#[case::second_in_bf16(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let [first, second] = moments(g, m, it);
    let after = [first, f32::from_bits(second.to_bits() & 0xFFFF_0000)];
    (decayed(p, it) - it.lr * direction(after, it), after)
}, "coarser format than f32")]
#[case::values_in_bf16(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let (value, after) = right(p, g, m, it);
    (f32::from_bits((value.to_bits() + 0x8000) & 0xFFFF_0000), after)
}, "kept in bf16")]
#[case::another_eps(|p, g, m, it: &With| right(p, g, m, &With { eps: 1e-3, ..*it }), "and the plan's is 1.00000e-8")]
#[case::never_moves(|p: f32, g: f32, m: [f32; 2], it: &With| (p, moments(g, m, it)), "the values do not move")]
#[case::clamped(|p: f32, g: f32, m: [f32; 2], it: &With| {
    let (value, after) = right(p, g, m, it);
    (value.min(0.5), after)
}, "a value that is changed after it")]
fn a_wrong_step_is_named(#[case] step: Step, #[case] cause: &str) {
    let broken = judge(RULE.name, &trained(step, true)).broken.expect("a finding");
    assert!(
        broken.cause.contains(cause),
        "{}: expected {}, found {}",
        broken.cause,
        broken.expected,
        broken.actual
    );
}

#[test]
fn a_second_moment_that_does_not_fall_is_that_of_amsgrad() {
    let moments = [1e-3, 1e-2];
    let place = Place {
        unclipped: None,
        gradient: 1e-3,
        before: 0.5,
        after: 0.4,
        moments_before: moments,
        moments: Some(moments),
    };
    let optimizer = plan().train.optimizer;
    let settings = Settings {
        lr: 1e-3,
        peak: 1e-3,
        betas: optimizer.betas,
        eps: optimizer.eps,
        decay: 0.0,
        is_matrix: true,
        updates: 9,
    };
    let explains = |expected: fn(&Place, &Settings, f64) -> [Expected; 2]| {
        expected(&place, &settings, 6e-8).iter().zip(moments).all(|(it, found)| it.holds(found))
    };
    let first = adam::MOMENTS.iter().find(|(_, expected)| explains(*expected)).expect("a cause");
    assert!(first.0.contains("AMSGrad"), "{}", first.0);
    assert!(!explains(adam::moments));
}

/// A step that is divided by a root of the second moment and of its correction.
fn divided(p: f32, g: f32, m: [f32; 2], it: &With, root: impl Fn(f32, f32) -> f32) -> (f32, [f32; 2]) {
    let after = moments(g, m, it);
    let by = |beta: f32| 1.0 - beta.powi(it.updates);
    (decayed(p, it) - it.lr * after[0] / by(it.beta1) / root(after[1], by(it.beta2)), after)
}

#[rstest]
#[case::inside_of_the_root(
    1e-8,
    |p, g, m, it: &With| divided(p, g, m, it, |second, by| (second / by + 1e-8).sqrt()),
    "inside of the root"
)]
#[case::before_the_correction(
    1e-3,
    |p, g, m, it: &With| divided(p, g, m, it, |second, by| (second.sqrt() + 1e-3) / by.sqrt()),
    "before the second moment is corrected"
)]
fn eps_in_another_place_is_named(#[case] eps: f64, #[case] step: Step, #[case] cause: &str) {
    let mut events = trained(step, true);
    if let Event::Run(run) = &mut events[0] {
        run.plan.train.optimizer.eps = eps;
    }
    let broken = judge(RULE.name, &events).broken.expect("a finding");
    assert!(broken.cause.contains(cause), "{}", broken.cause);
}

#[test]
fn gradients_that_were_scaled_before_the_step_are_the_clippers() {
    let mut events = trained(right, true);
    for it in &mut update_at(&mut events, 2).tensors {
        it.gradient.iter_mut().for_each(|it| it.0 *= 0.5);
    }
    let found = breaks(judge(RULE.name, &events), "clipper");
    assert!(found.contains("scaled by 0.5"), "{found}");
}

#[test]
fn a_state_that_begins_anew_is_told_by_its_count() {
    let mut events = trained(right, true);
    update_at(&mut events, 6).tensors.iter_mut().for_each(|it| it.updates = 2);
    let found = breaks(judge(RULE.name, &events), "moments");
    assert!(found.contains("begins anew after update 4"), "{found}");
    // A step that did not run is not counted either, and nothing begins anew.
    let mut events = trained(|p, g, m, it| if it.updates == 1 { (p, m) } else { right(p, g, m, it) }, true);
    (1..=6).for_each(|step| update_at(&mut events, step).tensors.iter_mut().for_each(|it| it.updates -= 1));
    let found = breaks(judge(RULE.name, &events), "moments");
    assert!(found.contains("the step did not run"), "{found}");
}

#[test]
fn lists_of_different_lengths_are_not_judged() {
    let mut events = trained(right, true);
    update_at(&mut events, 1).tensors[0].after.pop();
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none());
    assert!(sheet.missing.is_some_and(|why| why.contains("lists of different lengths")));
}

#[test]
fn values_that_change_between_two_updates_are_no_step() {
    let mut events = trained(right, true);
    let told = update_at(&mut events, 4).tensors[0].clone();
    let before: Vec<Number> = told.before.iter().map(|it| Number(0.999 * it.0)).collect();
    update_at(&mut events, 4).tensors[0].before = before;
    let found = breaks(judge(RULE.name, &events), "optimizer");
    assert!(found.contains("changed between updates 3 and 4, times 0.999"), "{found}");
}
