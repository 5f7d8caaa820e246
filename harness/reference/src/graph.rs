//! What burn-autodiff keeps of nodes that nobody holds any more, brought to rest where memory is compared to the byte.
//!
//! Read in burn-autodiff 0.21: forwards leave nodes behind even where nothing is tracked, a backward pass lets go of one
//! layer of them, and the tables they stood in grow by the luck of their hashes. All of it is bounded, and none of it is
//! the trainer's: but it comes and goes by kilobytes.

use burn::tensor::Tensor;
use traintrue_protocol::lanes::heap;

use crate::engine::Engine;

/// More than twice the nodes of an evaluation, or of a decoding token by token.
const NODES: u64 = 1 << 14;

/// Brings the process's table of nodes to its full size. It never shrinks, and while it is not twice as large as needed it
/// may double at any later forward.
pub fn settle<E: Engine>(device: &E::Device) {
    let nodes: Vec<_> = (0..NODES).map(|_| number::<E>(device) + 1.0).collect();
    drop(nodes);
    collect::<E>(device);
}

/// Lets go of the nodes that nobody holds, a layer a backward pass, until the heap falls no more.
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
