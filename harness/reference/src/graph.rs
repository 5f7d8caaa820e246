//! Brings the memory of burn-autodiff's graph to rest, where a plan compares memory to the byte.
//!
//! In burn-autodiff 0.21 a forward pass leaves nodes behind even without gradients. A backward pass frees one layer of
//! them. The hash table of the nodes may double at any insertion. All of this is bounded and none of it is the trainer's,
//! but it changes the heap by kilobytes.

use burn::tensor::Tensor;
use traintrue_protocol::lanes::heap;

use crate::engine::Engine;

/// More than twice the nodes of an evaluation, or of a probe that decodes token by token.
const NODES: u64 = 1 << 14;

/// Grows the process's table of nodes to its full size. The table never shrinks, and below twice the needed size it may
/// double at any later forward pass.
pub fn settle<E: Engine>(device: &E::Device) {
    let nodes: Vec<_> = (0..NODES).map(|_| number::<E>(device) + 1.0).collect();
    drop(nodes);
    collect::<E>(device);
}

/// Frees unused nodes, one layer per backward pass, until the heap no longer shrinks.
pub fn collect<E: Engine>(device: &E::Device) {
    let held = || heap::now().map(|heap| heap.bytes);
    let mut before = held();
    loop {
        drop((number::<E>(device).require_grad() + 1.0).backward());
        let after = held();
        if after >= before {
            return;
        }
        before = after;
    }
}

fn number<E: Engine>(device: &E::Device) -> Tensor<E, 1> {
    Tensor::zeros([1], device)
}
