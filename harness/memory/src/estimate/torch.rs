//! What PyTorch keeps of each operation for its backward pass, as the models of transformers call it.
//!
//! Per position of a row, in elements (`h` hidden, `q` all queries, `k` all keys, `i` inner, `r` rank, `v` vocabulary);
//! attention also per pair of positions and head (`w`). In 16 bits, norms, softmax and loss are computed in f32.
//!
//! | operation | kept for the backward pass | held beside that while it works |
//! |---|---|---|
//! | RMSNorm | input in f32 (`h`); unit vectors (`h`) where the scale learns | 4 `h` |
//! | LayerNorm | input (`h`), mean, deviation | 2 `h` |
//! | linear | input, once for all that read it, where a matrix or an adapter learns; `r` an adapter | its gradients |
//! | rotation | none: sines and cosines are constants | 2 `q`, 2 `k` |
//! | eager attention | `q`, `k` and `v` repeated to all heads, the weights `w` | 2 `w`, the gradients of `q`, `k`, `v` |
//! | SDPA | `q`, `k`, `v`, the result (`q`), one f32 a query and head | the gradients of `q`, `k`, `v` |
//! | SiLU, GELU | input (`i`) | `i` |
//! | ReLU | result (`i`), which the linear after it reads | `i` |
//! | `gelu_new` | input, half of it, tanh, 1 + tanh (4 `i`) | 3 `i` |
//! | product with a gate | both factors (2 `i`; one of them is the activation's result) | 2 `i` |
//! | dropout | a mask of one byte | the gradient |
//! | cross-entropy | log-probabilities (`v`, f32) | two gradients of them (2 `v`, f32) |

use super::architecture::{Activation, Norm};
use super::engine::Keeps;
use super::operation::{Activating, Attending, Bias, Linears, Norming, Source};
use super::tensors::Tensors;
use super::walk::Step;

/// The bytes of an f32, and of a mask's element.
const F32: u128 = 4;
const MASK: u128 = 1;

/// PyTorch in one number format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Torch {
    /// Bytes of a weight and of an activation.
    pub width: u128,
    /// Whether attention is `scaled_dot_product_attention`, and not matrix products and a softmax.
    pub sdpa: bool,
    /// Whether keys and values go through a cache, which copies them: transformers' default, but not when checkpointing.
    pub caches: bool,
}

impl Torch {
    fn list<const N: usize>(self, tensors: [(u128, u128); N]) -> Tensors {
        let mut all = Tensors::default();
        tensors.iter().for_each(|&(count, elements)| all.add(count, elements, self.width));
        all
    }
}

impl Keeps for Torch {
    fn norm(&self, it: &Norming) -> Step {
        let elements = it.rows * it.width;
        let mut keeps = Tensors::default();
        match it.kind {
            Norm::Scale => {
                keeps.add(u128::from(!it.input_is_kept || self.width < F32), elements, F32);
                keeps.add(1, it.rows, F32);
                keeps.add(u128::from(it.learns > 0), elements, self.width);
            }
            Norm::ScaleAndShift => {
                keeps.add(u128::from(!it.input_is_kept), elements, self.width);
                keeps.add(2, it.rows, F32);
            }
        }
        let mut backward = Tensors::default();
        backward.add(if it.kind == Norm::Scale { 4 } else { 2 }, elements, F32);
        let learns = self.list([(1, it.learns)]);
        Step { keeps, forward: self.list([(2, elements)]), backward, learns, ..Step::default() }
    }

    fn linears(&self, it: &Linears) -> Step {
        let mut keeps = Tensors::default();
        if it.need_input() && it.source != Source::Kept {
            keeps.add(1, it.rows * it.from, self.width);
        }
        let (mut results, mut learns) = (Tensors::default(), Tensors::default());
        for product in &it.products {
            keeps.add(1, it.rows * product.rank, self.width);
            results.add(1, it.rows * product.to, self.width);
            for learnt in product.learns {
                learns.add(1, learnt, self.width);
            }
            // An adapter's two matrices: `[from, rank]` and `[rank, to]`.
            learns.add(1, product.rank * it.from, self.width);
            learns.add(1, product.rank * product.to, self.width);
        }
        let mut backward = results.clone();
        backward.add(it.products.len().min(2) as u128, it.rows * it.from, self.width);
        Step { keeps, forward: results, backward, learns, ..Step::default() }
    }

    fn attention(&self, it: &Attending) -> Step {
        let heads = self.list([(2, it.asked()), (1, it.answered())]);
        let mut step = Step::default();
        // With a mask that needs a gradient, SDPA falls back to products and a softmax.
        if self.sdpa && it.bias != Bias::Learns {
            step.keeps = self.list([(2, it.asked()), (2, it.answered())]);
            // Queries that are a part of one tensor keep all of it; keys and values are in it, unless a cache has copied
            // them.
            if it.fused && !it.rotary && self.caches {
                step.keeps.add_all(1, &self.list([(2, it.answered())]));
            }
            step.keeps.add(1, it.rows * it.heads * it.queries, F32);
            // A bias goes in as a mask, copied by each block.
            step.keeps.add(1, it.bias(), self.width);
            step.forward = self.list([(1, it.asked())]);
            step.backward = self.list([(2, it.asked()), (2, it.answered())]);
            return step;
        }
        step.keeps = self.list([(1, it.asked()), (2, it.repeated())]);
        step.keeps.add(1, it.weights(), F32);
        step.keeps.add(u128::from(self.width < F32), it.weights(), self.width);
        step.keeps.add(u128::from(it.drops), it.weights(), MASK);
        step.keeps.add(u128::from(it.drops), it.weights(), self.width);
        step.forward.add(1, it.weights(), F32);
        step.backward.add(2, it.weights(), F32);
        step.backward.add_all(1, &heads);
        if it.bias == Bias::Learns {
            // Its gradient, and the sum of those of the blocks after.
            step.backward.add(2, it.bias(), F32);
        }
        step
    }

    fn activation(&self, it: &Activating) -> Step {
        let kept = match it.kind {
            Activation::Gelu | Activation::Relu => 1,
            Activation::NewGelu => 4,
        };
        // The factors of a gate's product: what the activation gives, and what it is multiplied by.
        let factors = if it.gated { 2 } else { 0 };
        let held = if it.kind == Activation::NewGelu { 3 } else { 2 };
        Step {
            keeps: self.list([(kept + factors, it.elements)]),
            forward: self.list([(1, it.elements)]),
            backward: self.list([(held + factors / 2, it.elements)]),
            ..Step::default()
        }
    }

    fn keeps_attended(&self, it: &Attending) -> bool {
        // The result is laid out as the queries are, and turned by a copy where these are in the order of the heads.
        self.sdpa && it.bias != Bias::Learns && !it.by_heads
    }

    fn weighted(&self, elements: u128) -> Step {
        Step { keeps: self.list([(1, elements)]), backward: self.list([(2, elements)]), ..Step::default() }
    }

    fn dropout(&self, elements: u128) -> Step {
        let mut keeps = Tensors::default();
        keeps.add(1, elements, MASK);
        Step { keeps, backward: self.list([(2, elements)]), ..Step::default() }
    }

    fn loss(&self, rows: u128, classes: u128) -> Step {
        let mut step = Step::default();
        step.forward.add(2, rows * classes, F32);
        step.backward.add(3, rows * classes, F32);
        step
    }

    fn adds_at_once(&self) -> bool {
        true
    }

    fn update(&self, trained: &Tensors) -> Tensors {
        let mut working = Tensors::default();
        // The root of the second moment, and that divided by its correction.
        working.add(2, trained.largest(), 1);
        working
    }
}
