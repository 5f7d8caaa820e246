//! The engines whose memory is known: what each keeps of an operation, and holds while it works.

use super::burn::Burn;
use super::operation::{Activating, Attending, Linears, Norming};
use super::request::Request;
use super::tensors::Tensors;
use super::torch::Torch;
use super::walk::Step;

/// What computes a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PyTorch, attention by products and a softmax: the weights of all queries on all keys are kept.
    TorchEager,
    /// PyTorch, attention by `scaled_dot_product_attention`: they are not (FlashAttention, arXiv 2205.14135).
    TorchSdpa,
    /// burn 0.21 on ndarray, as the reference trainer calls it. It is never fused, and has f32 alone.
    BurnNdarray,
}

impl Engine {
    /// What it keeps in the request's number format.
    pub(super) fn keeps(self, request: &Request) -> Box<dyn Keeps> {
        let width = request.dtype.bytes().into();
        match self {
            Self::TorchEager => Box::new(Torch { width, sdpa: false, caches: !request.checkpointing }),
            Self::BurnNdarray => Box::new(Burn { recomputes: request.checkpointing, clips: request.clips }),
            Self::TorchSdpa => Box::new(Torch { width, sdpa: true, caches: !request.checkpointing }),
        }
    }

    /// Whether checkpointing keeps a block's input and computes the block again.
    pub(super) fn recomputes_blocks(self) -> bool {
        self != Self::BurnNdarray
    }
}

/// What an engine keeps of each operation for its backward pass, and what it holds beside that while it works.
pub(super) trait Keeps {
    fn norm(&self, norm: &Norming) -> Step;
    fn linears(&self, linears: &Linears) -> Step;
    fn attention(&self, attention: &Attending) -> Step;
    fn activation(&self, activation: &Activating) -> Step;
    /// Whether the linear after an attention reads what the attention itself keeps.
    fn keeps_attended(&self, attention: &Attending) -> bool;
    /// The results of experts under the router's weights: so many elements.
    fn weighted(&self, elements: u128) -> Step;
    /// Of a tensor with so many elements.
    fn dropout(&self, elements: u128) -> Step;
    /// Cross-entropy of logits, which are in memory while it is computed.
    fn loss(&self, rows: u128, classes: u128) -> Step;
    /// Whether a new gradient is added to that of earlier micro-batches as soon as it is there.
    fn adds_at_once(&self) -> bool;
    /// What an optimizer's update holds beside weights, gradients and moments.
    fn update(&self, trained: &Tensors) -> Tensors;
}
