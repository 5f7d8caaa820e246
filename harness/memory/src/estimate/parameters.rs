//! The linears and the parameters that follow from an architecture's extents.

use super::architecture::{Architecture, Biases, Head, Input, Norm, Order, Target};
use super::tensors::Tensors;

/// One linear of an attention or of a feed-forward part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    /// What it computes: several where they are fused.
    pub targets: &'static [Target],
    pub from: u128,
    pub to: u128,
    pub bias: bool,
    /// Its copies in one tensor: the experts.
    pub copies: u128,
}

impl Linear {
    /// Elements of its matrix.
    pub fn matrix(&self) -> u128 {
        self.copies * self.from * self.to
    }

    /// Elements of its bias.
    pub fn shift(&self) -> u128 {
        if self.bias { self.copies * self.to } else { 0 }
    }

    /// Whether all that it computes is among `targets`.
    pub fn is_in(&self, targets: &[Target]) -> bool {
        self.targets.iter().all(|target| targets.contains(target))
    }
}

impl Architecture {
    /// Width of all queries together.
    pub(super) fn query_width(&self) -> u128 {
        u128::from(self.heads) * u128::from(self.head_width)
    }

    /// Width of all keys together, and of all values.
    pub(super) fn key_width(&self) -> u128 {
        u128::from(self.key_value_heads) * u128::from(self.head_width)
    }

    /// The linears of one attention that read its input.
    pub(super) fn projections(&self) -> Vec<Linear> {
        let (from, queries, keys) = (self.hidden.into(), self.query_width(), self.key_width());
        let Biases { qv, k, .. } = self.biases;
        if self.fused_qkv {
            let targets = &[Target::Q, Target::K, Target::V];
            return vec![Linear { targets, from, to: queries + 2 * keys, bias: qv, copies: 1 }];
        }
        vec![
            Linear { targets: &[Target::Q], from, to: queries, bias: qv, copies: 1 },
            Linear { targets: &[Target::K], from, to: keys, bias: k, copies: 1 },
            Linear { targets: &[Target::V], from, to: keys, bias: qv, copies: 1 },
        ]
    }

    /// The linear after an attention.
    pub(super) fn output(&self) -> Linear {
        let (from, to) = (self.query_width(), self.hidden.into());
        Linear { targets: &[Target::O], from, to, bias: self.biases.output, copies: 1 }
    }

    /// The linears of one feed-forward part that read its input. Those of experts are fused, too.
    pub(super) fn widening(&self) -> Vec<Linear> {
        let (from, to, bias) = (self.hidden.into(), self.inner.into(), self.biases.inner);
        let copies = self.copies();
        if self.fused_gate || self.experts.is_some() && self.gated {
            return vec![Linear { targets: &[Target::Gate, Target::Up], from, to: 2 * to, bias, copies }];
        }
        let up = Linear { targets: &[Target::Up], from, to, bias, copies };
        let gate = Linear { targets: &[Target::Gate], ..up };
        if self.gated { vec![gate, up] } else { vec![up] }
    }

    /// The linear after it.
    pub(super) fn narrowing(&self) -> Linear {
        let (from, to) = (self.inner.into(), self.hidden.into());
        Linear { targets: &[Target::Down], from, to, bias: self.biases.inner, copies: self.copies() }
    }

    fn copies(&self) -> u128 {
        self.experts.map_or(1, |it| it.count.into())
    }

    /// Every linear of every block with the number of its copies.
    pub(super) fn linears(&self) -> Vec<(u128, Linear)> {
        let blocks = u128::from(self.encoder_layers + self.layers);
        let cross = if self.has_encoder() { u128::from(self.layers) } else { 0 };
        let attention = self.projections().into_iter().chain([self.output()]).map(|it| (blocks + cross, it));
        let feed_forward = self.widening().into_iter().chain([self.narrowing()]).map(|it| (blocks, it));
        attention.chain(feed_forward).collect()
    }

    /// Whether a linear can have an adapter. The experts' are one tensor, and no linears that PEFT would find.
    pub(super) fn is_adaptable(&self, target: Target) -> bool {
        let of_experts = matches!(target, Target::Gate | Target::Up | Target::Down);
        self.experts.is_none() || !of_experts
    }

    /// Norms of a block that has `attentions`, those of heads apart.
    fn norms(&self, attentions: u128) -> u128 {
        if self.order == Order::SharedNorm { attentions } else { attentions + 1 }
    }

    /// Norms outside the blocks: after the last block of each stack, and after an embedding with segments.
    fn outer_norms(&self) -> u128 {
        let stacks = if self.has_encoder() { 2 } else { 1 };
        let last = if self.order == Order::PostNorm { 0 } else { stacks };
        last + u128::from(self.segments > 0) + u128::from(self.head == Head::Transformed)
    }

    /// The parameters of a norm over `width`.
    pub(super) fn norm_parameters(&self, width: u128) -> u128 {
        if self.norm == Norm::ScaleAndShift { 2 * width } else { width }
    }

    /// The tables and projections that make hidden states of a row, with the number of elements of each.
    pub(super) fn embedding(&self, input: Input) -> Vec<u128> {
        let hidden = u128::from(self.hidden);
        match input {
            Input::Tokens => {
                [self.vocabulary, self.positions, self.segments].map(|rows| u128::from(rows) * hidden).into()
            }
            // A convolution of the patch's extent with its bias, the class token, the places.
            Input::Patches { channels, side } => {
                let patch = u128::from(channels * side * side);
                vec![patch * hidden, hidden, hidden, u128::from(self.positions) * hidden]
            }
            // Two convolutions over three frames each, with their biases.
            Input::Frames { bins } => {
                vec![3 * u128::from(bins) * hidden, hidden, 3 * hidden * hidden, hidden]
            }
        }
    }

    /// What follows the last block and its norm, with the number of elements of each. A tied matrix is the embedding's.
    pub(super) fn head_parameters(&self) -> Vec<u128> {
        let (hidden, vocabulary) = (u128::from(self.hidden), u128::from(self.vocabulary));
        let matrix = if self.tied { 0 } else { vocabulary * hidden };
        let bias = if self.biases.head { vocabulary } else { 0 };
        match self.head {
            Head::Vocabulary => vec![matrix, bias],
            Head::Transformed => vec![hidden * hidden, hidden, matrix, bias],
            Head::Classes(classes) => vec![u128::from(classes) * hidden, classes.into()],
        }
    }

    /// The parameters, as tensors of `width_bytes` an element. With a width of 1 their bytes are their number.
    pub fn parameters(&self, width_bytes: u128) -> Tensors {
        let mut tensors = self.learnt(width_bytes);
        tensors.add(1, u128::from(self.fixed_positions) * u128::from(self.hidden), width_bytes);
        tensors
    }

    /// The parameters that learn where no adapter does.
    pub(super) fn learnt(&self, width_bytes: u128) -> Tensors {
        let mut tensors = Tensors::default();
        let mut add = |count: u128, elements: u128| tensors.add(count, elements, width_bytes);
        let (encoder, decoder) = (u128::from(self.encoder_layers), u128::from(self.layers));
        let attentions = if self.has_encoder() { 2 } else { 1 };

        let of_decoder = if self.has_encoder() { self.embedding(Input::Tokens) } else { Vec::new() };
        // Two stacks over tokens share their table.
        let own = self.input != Input::Tokens || !self.has_encoder();
        let of_input = if own { self.embedding(self.input) } else { Vec::new() };
        let outside = of_input.into_iter().chain(of_decoder).chain(self.head_parameters());
        outside.for_each(|elements| add(1, elements));
        add(attentions, u128::from(self.distance_buckets) * u128::from(self.heads));
        for (count, linear) in self.linears() {
            add(count, linear.matrix());
            add(count, linear.shift());
        }
        let router = self.experts.map_or(0, |it| u128::from(it.count) * u128::from(self.hidden));
        add(encoder + decoder, router);
        let head_norms = if self.head_norms { 2 * (encoder + decoder) } else { 0 };
        add(head_norms, self.norm_parameters(self.head_width.into()));
        let norms = encoder * self.norms(1) + decoder * self.norms(attentions) + self.outer_norms();
        add(norms, self.norm_parameters(self.hidden.into()));
        tensors
    }

    /// The tensors of adapters of rank `r` on some linears of every block: `[in, r]` and `[r, out]` each
    /// (LoRA, arXiv 2106.09685).
    pub fn adapters(&self, r: u64, targets: &[Target], width_bytes: u128) -> Tensors {
        let mut tensors = Tensors::default();
        let adapted = |(_, linear): &(u128, Linear)| linear.is_in(targets);
        for (count, linear) in self.linears().into_iter().filter(adapted) {
            tensors.add(count, linear.from * u128::from(r), width_bytes);
            tensors.add(count, linear.to * u128::from(r), width_bytes);
        }
        tensors
    }
}
