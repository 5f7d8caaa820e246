//! What burn keeps of each operation for its backward pass, on ndarray, as the reference trainer's model calls it.
//!
//! The model is written in plain tensor operations, so a norm, an activation and a softmax keep what each of theirs keeps.
//! Checkpointing is burn's balanced strategy: sums, products by element and reshapes are computed again, from the results of
//! matrix products and of constants, which are kept. ndarray copies both operands of a matrix product, and its result.
//!
//! In elements, as in `torch.rs`; `w` is one weight of a query on a key and a head.
//!
//! | operation | kept | kept when checkpointing |
//! |---|---|---|
//! | layer norm | input less its mean (`h`); unit vectors (`h`) if the scale learns | the addend, then the stream (`h`) |
//! | linear | input if a matrix or an adapter learns; `r` per adapter | the same, unless a learning norm gives the input |
//! | attention | `q`, `k`, `v`; scores, their exponentials, weights (3 `w`) | `q`, `k`, `v`; scores (`w`) |
//! | GELU | its slope (`i`) | the same |
//! | dropout | a mask in f32 | the same |
//! | cross-entropy | logits less their largest (`v`) | the same |

use super::engine::Keeps;
use super::operation::{Activating, Attending, Linears, Norming, Reader, Source};
use super::tensors::Tensors;
use super::walk::Step;

/// burn-ndarray has f32 alone.
const F32: u128 = 4;

/// burn with or without checkpointing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burn {
    pub recomputes: bool,
    /// Whether the update clips gradients: the clipped ones are held beside the window's.
    pub clips: bool,
}

fn list<const N: usize>(tensors: [(u128, u128); N]) -> Tensors {
    let mut all = Tensors::default();
    tensors.iter().for_each(|&(count, elements)| all.add(count, elements, F32));
    all
}

impl Keeps for Burn {
    fn norm(&self, it: &Norming) -> Step {
        let elements = it.rows * it.width;
        // Computed again, the stream takes the place of what was added to it.
        let kept = if self.recomputes { 1 } else { 1 + u128::from(it.learns > 0) };
        // The gradients of the result, of the unit vectors, and twice of the centred input; all of them once more where the
        // centred input, the unit vectors and the result are computed again.
        let held = if self.recomputes { 7 } else { 4 };
        Step {
            keeps: list([(kept, elements), (2, it.rows)]),
            forward: list([(3, elements)]),
            backward: list([(held, elements)]),
            learns: list([(1, it.learns)]),
            ..Step::default()
        }
    }

    fn linears(&self, it: &Linears) -> Step {
        let mut step = Step::default();
        // The product with a scale that is frozen is not computed again: one of its operands needs no gradient.
        let all_learns = it.products.iter().any(|product| product.learns[0] > 0);
        let is_recomputed = self.recomputes && it.source == Source::Norm && all_learns;
        if it.need_input() && it.source != Source::Kept && !is_recomputed {
            step.keeps.add(1, it.rows * it.from, F32);
        }
        let input = it.rows * it.from;
        let (mut forward, mut backward) = (0, 0);
        for product in &it.products {
            step.keeps.add(1, it.rows * product.rank, F32);
            // What an adapter adds is a product of matrices of its own. An activation and a dropout keep what they need
            // themselves.
            let adds = self.recomputes && product.rank > 0 && it.reader == Reader::Other;
            step.keeps.add(u128::from(adds), it.rows * product.to, F32);
            // Operands of what could be computed again are kept until the backward pass says which are needed: the product
            // that a bias is added to, or the two that an adapter adds up.
            let spare = if product.rank > 0 { 2 } else { u128::from(all_learns) };
            let is_spare = self.recomputes && it.reader != Reader::Other;
            step.until_backward.add(if is_spare { spare } else { 0 }, it.rows * product.to, F32);
            let (result, matrix) = (it.rows * product.to, it.from * product.to);
            // The result and its copy, beside copies of both operands; backwards, the input's gradient is the result.
            forward = forward.max(2 * result + input + matrix);
            backward = backward.max(2 * input + result + matrix);
            step.backward.add(1, result, F32);
            for learnt in product.learns {
                step.learns.add(1, learnt, F32);
            }
            step.learns.add(1, product.rank * it.from, F32);
            step.learns.add(1, product.rank * product.to, F32);
        }
        step.forward.add(1, forward, F32);
        step.backward.add(1, backward, F32);
        // The gradient that has come another way, and the input where it is computed again.
        step.backward.add(u128::from(it.products.len() > 1) + u128::from(is_recomputed), input, F32);
        step
    }

    fn attention(&self, it: &Attending) -> Step {
        let kept = if self.recomputes { 1 } else { 3 };
        // The gradient of the weights and its copy, or a copy of the weights for the gradient of the values; beside them,
        // where they are computed again, exponentials and weights.
        let held = if self.recomputes { 4 } else { 2 };
        Step {
            keeps: list([(1, it.asked()), (2, it.answered()), (kept, it.weights())]),
            forward: list([(2, it.weights()), (2, it.asked())]),
            backward: list([(held, it.weights()), (4, it.asked())]),
            ..Step::default()
        }
    }

    fn activation(&self, it: &Activating) -> Step {
        Step {
            keeps: list([(1, it.elements)]),
            // The input, its distribution, and what they are multiplied to.
            forward: list([(3, it.elements)]),
            backward: list([(2, it.elements)]),
            ..Step::default()
        }
    }

    fn keeps_attended(&self, _: &Attending) -> bool {
        false
    }

    fn weighted(&self, elements: u128) -> Step {
        Step { keeps: list([(1, elements)]), backward: list([(2, elements)]), ..Step::default() }
    }

    fn dropout(&self, elements: u128) -> Step {
        Step { keeps: list([(1, elements)]), backward: list([(2, elements)]), ..Step::default() }
    }

    fn loss(&self, rows: u128, classes: u128) -> Step {
        Step {
            keeps: list([(1, rows * classes)]),
            forward: list([(2, rows * classes)]),
            // The gradient of the sum waits while that of the chosen one is scattered into zeros and their copy.
            backward: list([(3, rows * classes)]),
            ..Step::default()
        }
    }

    fn adds_at_once(&self) -> bool {
        false
    }

    fn update(&self, trained: &Tensors) -> Tensors {
        let mut working = Tensors::default();
        if self.clips {
            working.add_all(1, trained);
        }
        // A moment's two terms and their sum, or the root and the direction.
        working.add(3, trained.largest(), 1);
        working
    }
}
