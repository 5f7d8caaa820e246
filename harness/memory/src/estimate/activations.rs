//! What the forward pass keeps for the backward pass, one line a tensor.
//!
//! The tensors are those of Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1), for which a block of a GPT in 16
//! bits with dropout takes `s b h (34 + 5 a s / h)` bytes; here they are counted by the model's own extents, so that
//! gates, grouped keys, encoders and frozen linears come out too. What it assumes: a tensor that several operations need
//! is kept once, a mask is one byte, norms and softmax keep one tensor each, and nothing is padded or converted to f32 on
//! the way but the logits. Frameworks keep more where they do not live up to that, never less.

use super::architecture::{Architecture, Target};
use super::request::{Attention, Request};
use super::tensors::Tensors;

/// The bytes of a mask's element.
const MASK: u128 = 1;
/// The bytes of an f32.
const F32: u128 = 4;

/// One attention: who asks, and over how many positions.
#[derive(Clone, Copy)]
struct Span {
    queries: u128,
    keys: u128,
}

/// Counts tensors of one model under one request.
pub(super) struct Saved<'a> {
    pub architecture: &'a Architecture,
    pub request: &'a Request,
}

impl Saved<'_> {
    /// All that is kept, the logits apart.
    pub fn activations(&self) -> Tensors {
        let (encoder, decoder) = (self.encoder_block(), self.decoder_block());
        let (encoders, decoders) = (self.architecture.encoder_layers.into(), self.architecture.layers.into());
        let mut all = self.outside();
        if self.request.checkpointing {
            // The input of every block, and all of one block while it is recomputed.
            self.hidden(&mut all, encoders, self.source());
            self.hidden(&mut all, decoders, self.target());
            all.add_all(1, if encoder.bytes() > decoder.bytes() { &encoder } else { &decoder });
        } else {
            all.add_all(encoders, &encoder);
            all.add_all(decoders, &decoder);
        }
        all
    }

    /// The logits of every position of the decoder, in f32 (section 4.3 there).
    pub fn logits(&self) -> Tensors {
        let mut all = Tensors::default();
        all.add(1, self.target() * u128::from(self.architecture.vocabulary), F32);
        all
    }

    /// The keys and values of every layer; of a decoder beside an encoder, those of the encoder's output too.
    pub fn cache(&self) -> Tensors {
        let (width, layers) = (self.architecture.key_width(), u128::from(self.architecture.layers));
        let mut all = Tensors::default();
        all.add(2 * layers, self.target() * width, self.width());
        if self.architecture.has_encoder() {
            all.add(2 * layers, self.source() * width, self.width());
        }
        all
    }

    fn encoder_block(&self) -> Tensors {
        let length = u128::from(self.request.length);
        let mut all = Tensors::default();
        self.attention(&mut all, Span { queries: length, keys: length });
        self.feed_forward(&mut all, self.source());
        self.hidden(&mut all, self.architecture.norms(1), self.source());
        all
    }

    fn decoder_block(&self) -> Tensors {
        let length = self.request.decoder_length();
        let mut all = Tensors::default();
        self.attention(&mut all, Span { queries: length, keys: length });
        if self.architecture.has_encoder() {
            self.attention(&mut all, Span { queries: length, keys: self.request.length.into() });
        }
        self.feed_forward(&mut all, self.target());
        let attentions = if self.architecture.has_encoder() { 2 } else { 1 };
        // The inputs of the norms.
        self.hidden(&mut all, self.architecture.norms(attentions), self.target());
        all
    }

    /// Before and after the blocks of each stack.
    fn outside(&self) -> Tensors {
        let mut all = Tensors::default();
        // The input of a stack's last norm, and the mask of its embedding's dropout.
        let mut stack = |positions: u128| {
            self.hidden(&mut all, 1, positions);
            self.mask(&mut all, positions * self.hidden_width());
        };
        stack(self.target());
        if self.architecture.has_encoder() {
            stack(self.source());
            // The encoder's output, which every block of the decoder attends to.
            self.hidden(&mut all, 1, self.source());
        }
        if self.request.adapters.is_none() {
            // The input of the logits' matrix.
            self.hidden(&mut all, 1, self.target());
        }
        all
    }

    fn attention(&self, all: &mut Tensors, span: Span) {
        let (rows, heads) = (self.request.rows(), u128::from(self.architecture.heads));
        let (queries, keys) = (rows * span.queries, rows * span.keys);
        let weights = rows * heads * span.queries * span.keys;
        let width = self.width();

        // The norm's output; where the feed-forward part has no norm of its own, it reads it as well.
        let beside: &[Target] = if self.architecture.parallel { &[Target::Up] } else { &[] };
        if self.any_learns(&[Target::Q, Target::K, Target::V]) || self.any_learns(beside) {
            self.hidden(all, 1, queries);
        }
        all.add(1, queries * self.architecture.query_width(), width);
        all.add(2, keys * self.architecture.key_width(), width);
        match self.request.attention {
            Attention::Materialised => {
                all.add(1, weights, width);
                if self.architecture.dropout {
                    all.add(1, weights, MASK);
                    all.add(1, weights, width);
                }
            }
            Attention::Fused => all.add(1, queries * heads, F32),
        }
        // The attended values: a fused backward pass reads them, and so does the gradient of the output's weight.
        if self.request.attention == Attention::Fused || self.request.learns(Target::O) {
            all.add(1, queries * self.architecture.query_width(), width);
        }
        self.mask(all, queries * self.hidden_width());
        self.adapters(all, &[Target::Q, Target::O], queries);
        self.adapters(all, &[Target::K, Target::V], keys);
    }

    fn feed_forward(&self, all: &mut Tensors, positions: u128) {
        let inner = positions * u128::from(self.architecture.inner);
        if self.any_learns(&[Target::Gate, Target::Up]) && !self.architecture.parallel {
            self.hidden(all, 1, positions);
        }
        // The activation's input; with a gate, also the two factors of its product.
        all.add(if self.architecture.gated { 3 } else { 1 }, inner, self.width());
        if self.request.learns(Target::Down) {
            all.add(1, inner, self.width());
        }
        self.mask(all, positions * self.hidden_width());
        self.adapters(all, &[Target::Gate, Target::Up, Target::Down], positions);
    }

    /// What an adapter's second matrix is given.
    fn adapters(&self, all: &mut Tensors, among: &[Target], positions: u128) {
        let Some(adapters) = &self.request.adapters else { return };
        let has = |target: &&Target| self.has(**target) && adapters.targets.contains(target);
        let count = among.iter().filter(has).count() as u128;
        all.add(count, positions * u128::from(adapters.r), self.width());
    }

    fn any_learns(&self, targets: &[Target]) -> bool {
        targets.iter().any(|&target| self.request.learns(target))
    }

    fn has(&self, target: Target) -> bool {
        target != Target::Gate || self.architecture.gated
    }

    fn hidden(&self, all: &mut Tensors, count: u128, positions: u128) {
        all.add(count, positions * self.hidden_width(), self.width());
    }

    fn mask(&self, all: &mut Tensors, elements: u128) {
        all.add(u128::from(self.architecture.dropout), elements, MASK);
    }

    fn hidden_width(&self) -> u128 {
        self.architecture.hidden.into()
    }

    fn width(&self) -> u128 {
        self.request.dtype.bytes().into()
    }

    /// Positions of the encoder; of the only stack where there is none.
    fn source(&self) -> u128 {
        self.request.rows() * u128::from(self.request.length)
    }

    /// Positions of the decoder.
    fn target(&self) -> u128 {
        self.request.rows() * self.request.decoder_length()
    }
}
