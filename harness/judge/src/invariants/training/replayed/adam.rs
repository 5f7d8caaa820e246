//! One AdamW step at one place of a tensor (arXiv 1711.05101, PyTorch's form), and the known ways to get it wrong.

/// What the step is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The rate that the trainer tells of the tensor's group.
    pub lr: f64,
    /// The rate that the schedule multiplies.
    pub peak: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    /// The plan's decay, which is of matrices only.
    pub decay: f64,
    pub is_matrix: bool,
    /// Updates of the tensor, this one included.
    pub updates: u64,
}

/// What an update did at one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub unclipped: Option<f64>,
    pub gradient: f64,
    pub before: f64,
    pub after: f64,
    /// Mean of the gradients and of their squares, before the update.
    pub moments_before: [f64; 2],
    /// After it; none where the trainer has no such moments.
    pub moments: Option<[f64; 2]>,
}

/// A value that must come out, and how far rounding may move it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub value: f64,
    pub within: f64,
}

impl Expected {
    pub fn holds(self, found: f64) -> bool {
        (found - self.value).abs() <= self.within
    }
}

/// Roundings of a sum of two products, with room.
const ROUNDINGS: f64 = 8.0;
/// Relative: roots, quotients and powers of the step's direction, in f32, where 1 - 0.999 is known to four digits.
const DIRECTION: f64 = 2e-4;
/// The smallest number of f32: a moment may be rounded to it or to 0.
const SMALLEST: f64 = 1.5e-45;

/// The two moments after an update with `gradient`.
fn moments_of(place: &Place, [beta1, beta2]: [f64; 2], gradient: f64, unit: f64) -> [Expected; 2] {
    let mean = |beta: f64, before: f64, new: f64| {
        let (kept, added) = (beta * before, (1.0 - beta) * new);
        // In f32, 1 - 0.999 is off by a unit of 1, and not of itself.
        let within = unit * (ROUNDINGS * (kept.abs() + added.abs()) + 2.0 * new.abs()) + ROUNDINGS * SMALLEST;
        Expected { value: kept + added, within }
    };
    let [first, second] = place.moments_before;
    [mean(beta1, first, gradient), mean(beta2, second, gradient * gradient)]
}

/// The moments after the update, as they must be.
pub(super) fn moments(place: &Place, settings: &Settings, unit: f64) -> [Expected; 2] {
    moments_of(place, settings.betas, place.gradient, unit)
}

/// What the step's direction is computed from.
#[derive(Clone, Copy)]
struct Form {
    corrects: [bool; 2],
    eps: Eps,
    /// Updates that the corrections count more than there were.
    ahead: f64,
}

/// Where eps is added.
#[derive(Clone, Copy)]
enum Eps {
    ToTheRoot,
    InTheRoot,
    BeforeTheCorrection,
}

const RIGHT: Form = Form { corrects: [true, true], eps: Eps::ToTheRoot, ahead: 0.0 };

fn direction(moments: [f64; 2], settings: &Settings, form: Form) -> f64 {
    // At least 1: before it a count of 0 corrects by 0.
    let updates = (settings.updates as f64 + form.ahead).max(1.0);
    let by = |at: usize| if form.corrects[at] { 1.0 - settings.betas[at].powf(updates) } else { 1.0 };
    let root = match form.eps {
        Eps::ToTheRoot => (moments[1] / by(1)).sqrt() + settings.eps,
        Eps::InTheRoot => (moments[1] / by(1) + settings.eps).sqrt(),
        Eps::BeforeTheCorrection => (moments[1].sqrt() + settings.eps) / by(1).sqrt(),
    };
    moments[0] / by(0) / root
}

fn decay(settings: &Settings) -> f64 {
    if settings.is_matrix { settings.decay } else { 0.0 }
}

/// The value after the update, from the moments that the trainer has then.
pub(super) fn value(place: &Place, settings: &Settings, unit: f64) -> Expected {
    let kept = place.before * (1.0 - settings.lr * decay(settings));
    stepped(place, settings, unit, kept, settings.lr * direction(known(place, settings), settings, RIGHT))
}

fn stepped(place: &Place, settings: &Settings, unit: f64, kept: f64, step: f64) -> Expected {
    let value = kept - step;
    // An epsilon of 1e-8 is no number of f16: there the root of a tiny moment is all that divides.
    let tiny = settings.lr * f64::from(known(place, settings)[1] < SMALLEST / unit);
    Expected {
        value,
        within: ROUNDINGS * unit * (place.before.abs() + value.abs()) + DIRECTION * step.abs() + tiny,
    }
}

/// The moments after the update: the trainer's own, or, in a tensor's first update, those that it must have.
fn known(place: &Place, settings: &Settings) -> [f64; 2] {
    place.moments.unwrap_or_else(|| moments(place, settings, 0.0).map(|it| it.value))
}

/// A way to get a step wrong: what comes out then, at one place.
pub(super) type Wrong<T> = (&'static str, fn(&Place, &Settings, f64) -> T);

/// How the moments go wrong. The first that explains every place is the cause.
pub(super) const MOMENTS: [Wrong<[Expected; 2]>; 8] = [
    (
        "the step did not run: values and moments are what they were, and the update is told as applied",
        |it, _, _| {
            let within = if it.after == it.before { 0.0 } else { f64::NAN };
            it.moments_before.map(|value| Expected { value, within })
        },
    ),
    ("the optimizer gets the gradients from before the clip", |it, with, unit| {
        moments_of(it, with.betas, it.unclipped.unwrap_or(f64::NAN), unit)
    }),
    ("beta1 and beta2 are swapped", |it, with, unit| {
        moments_of(it, [with.betas[1], with.betas[0]], it.gradient, unit)
    }),
    (
        "the decay is added to the gradient, and passes through the moments (L2, as in Adam, not AdamW)",
        |it, with, unit| moments_of(it, with.betas, it.gradient + with.decay * it.before, unit),
    ),
    ("the moments of the updates before are lost", |it, with, unit| {
        moments_of(&Place { moments_before: [0.0; 2], ..*it }, with.betas, it.gradient, unit)
    }),
    ("the gradient enters the moments with its whole size, and not with 1 - beta", |it, with, unit| {
        let [one, two] = with.betas;
        let [first, second] = it.moments_before;
        let sum = |kept: f64, new: f64| Expected {
            value: kept + new,
            within: ROUNDINGS * unit * (kept.abs() + new.abs()),
        };
        [sum(one * first, it.gradient), sum(two * second, it.gradient * it.gradient)]
    }),
    ("the second moment never falls (AMSGrad), and the plan's optimizer is AdamW", |it, with, unit| {
        let [first, second] = moments_of(it, with.betas, it.gradient, unit);
        [first, Expected { value: second.value.max(it.moments_before[1]), ..second }]
    }),
    ("a moment is kept in a coarser format than f32, and loses small gradients", |it, with, unit| {
        moments_of(it, with.betas, it.gradient, unit)
            .map(|right| Expected { within: right.value.abs() * COARSE, ..right })
    }),
];

/// The distance between two numbers of bf16.
const COARSE: f64 = 1.0 / 128.0;

/// How the value goes wrong though the moments are right.
pub(super) const VALUES: [Wrong<Expected>; 15] = [
    ("the decay is applied twice", |it, with, unit| {
        let kept = it.before * (1.0 - with.lr * decay(with)).powi(2);
        towards(it, with, unit, kept)
    }),
    ("nothing decays", |it, with, unit| towards(it, with, unit, it.before)),
    ("vectors decay, and the plan lets only matrices decay", |it, with, unit| {
        towards(it, with, unit, it.before * (1.0 - with.lr * with.decay))
    }),
    ("the decay has the wrong sign: values grow by it", |it, with, unit| {
        towards(it, with, unit, it.before * (1.0 + with.lr * decay(with)))
    }),
    ("the decay is not multiplied by the rate", |it, with, unit| {
        towards(it, with, unit, it.before * (1.0 - decay(with)))
    }),
    ("the decay is multiplied by the peak rate, and not by this update's", |it, with, unit| {
        towards(it, with, unit, it.before * (1.0 - with.peak * decay(with)))
    }),
    ("the moments are not corrected for their start at 0", |it, with, unit| {
        formed(it, with, unit, Form { corrects: [false, false], ..RIGHT })
    }),
    ("the second moment is not corrected for its start at 0", |it, with, unit| {
        formed(it, with, unit, Form { corrects: [true, false], ..RIGHT })
    }),
    ("the first moment is not corrected for its start at 0", |it, with, unit| {
        formed(it, with, unit, Form { corrects: [false, true], ..RIGHT })
    }),
    ("eps is added inside of the root, and not to it", |it, with, unit| {
        formed(it, with, unit, Form { eps: Eps::InTheRoot, ..RIGHT })
    }),
    ("eps is added before the second moment is corrected for its start at 0", |it, with, unit| {
        formed(it, with, unit, Form { eps: Eps::BeforeTheCorrection, ..RIGHT })
    }),
    ("the corrections for the start at 0 count one update too few", |it, with, unit| {
        formed(it, with, unit, Form { ahead: -1.0, ..RIGHT })
    }),
    ("the corrections for the start at 0 count one update too many", |it, with, unit| {
        formed(it, with, unit, Form { ahead: 1.0, ..RIGHT })
    }),
    ("the step has the wrong sign: it climbs", |it, with, unit| {
        let kept = it.before * (1.0 - with.lr * decay(with));
        stepped(it, with, unit, kept, -with.lr * direction(known(it, with), with, RIGHT))
    }),
    (
        "the step is the rate times the gradient: the optimizer is plain SGD, and the plan's is AdamW",
        |it, with, unit| {
            let kept = it.before * (1.0 - with.lr * decay(with));
            let expected = stepped(it, with, unit, kept, with.lr * it.gradient);
            // SGD decays as L2, if at all: by about as much.
            Expected { within: expected.within + 2.0 * with.lr * with.decay * it.before.abs(), ..expected }
        },
    ),
];

fn towards(it: &Place, with: &Settings, unit: f64, kept: f64) -> Expected {
    stepped(it, with, unit, kept, with.lr * direction(known(it, with), with, RIGHT))
}

fn formed(it: &Place, with: &Settings, unit: f64, form: Form) -> Expected {
    let kept = it.before * (1.0 - with.lr * decay(with));
    stepped(it, with, unit, kept, with.lr * direction(known(it, with), with, form))
}

/// How many times the right step was made, decay included, where it is large enough to tell.
pub(super) fn times_with_decay(place: &Place, settings: &Settings, unit: f64) -> Option<f64> {
    let step =
        settings.lr * (decay(settings) * place.before + direction(known(place, settings), settings, RIGHT));
    let rounding = ROUNDINGS * unit * (place.before.abs() + place.after.abs());
    (step.abs() > 100.0 * rounding).then(|| (place.before - place.after) / step)
}

/// How many times the right step was made after the right decay, where it is large enough to tell.
pub(super) fn times(place: &Place, settings: &Settings, unit: f64) -> Option<f64> {
    let kept = place.before * (1.0 - settings.lr * decay(settings));
    let step = settings.lr * direction(known(place, settings), settings, RIGHT);
    let rounding = ROUNDINGS * unit * (place.before.abs() + place.after.abs());
    (step.abs() > 100.0 * rounding).then(|| (kept - place.after) / step)
}

/// The eps that a step was made with, where it is large enough to tell.
pub(super) fn eps(place: &Place, settings: &Settings, unit: f64) -> Option<f64> {
    let times = times(place, settings, unit)?;
    let [first, _] = known(place, settings);
    let by = 1.0 - settings.betas[0].powf(settings.updates as f64);
    // direction = first / (root + eps), and the one that was made is `times` as large.
    let right = direction(known(place, settings), settings, RIGHT);
    let divisor = first / by / right;
    Some(divisor / times - divisor + settings.eps).filter(|it| it.is_finite() && (times - 1.0).abs() > 0.01)
}

/// Whether a value has no more digits than bf16 keeps.
pub(super) fn is_coarse(value: f64) -> bool {
    (value as f32).to_bits().trailing_zeros() >= 16
}
