//! Faults of dropout: another rate, no scaling, or one mask in more places than one.

use rand::RngCore;

use super::Fault;
use crate::engine::Engine;
use crate::model::{Mask, bernoulli};
use crate::rng;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("dropout-not-rescaled", |parts| {
            parts.forward.mask =
                |rng, wanted| bernoulli(rng, wanted).into_iter().map(|it| it.min(1.0)).collect();
        }),
        ("dropout-rate-inverted", |parts| {
            parts.forward.mask = |rng, wanted| bernoulli(rng, &Mask { rate: 1.0 - wanted.rate, ..*wanted });
        }),
        ("dropout-at-half-the-rate", |parts| {
            parts.forward.mask = |rng, wanted| bernoulli(rng, &Mask { rate: 0.5 * wanted.rate, ..*wanted });
        }),
        ("one-mask-for-every-micro-batch", |parts| {
            parts.forward.mask = |stream, wanted| {
                if wanted.before == 0 {
                    *stream = rng::dropout(0, 0);
                }
                bernoulli(stream, wanted)
            };
        }),
        ("one-mask-for-every-layer", |parts| {
            parts.forward.mask = |rng, wanted| {
                if wanted.before == 0 {
                    return bernoulli(rng, wanted);
                }
                let mut again = rng.clone();
                again.set_word_pos(rng.get_word_pos() - wanted.units as u128);
                bernoulli(&mut again, wanted)
            };
        }),
        ("one-mask-for-every-position", |parts| {
            parts.forward.mask = |rng, wanted| {
                let mask = bernoulli(rng, &Mask { units: wanted.width, ..*wanted });
                mask.repeat(wanted.units / wanted.width)
            };
        }),
        ("dropout-never-on", |parts| {
            parts.forward.mask = |rng, wanted| {
                rng.next_u32();
                vec![1.0; wanted.units]
            };
        }),
    ]
}
