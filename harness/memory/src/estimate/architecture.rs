//! A transformer by its extents, and the parameters that follow from them.

use super::tensors::Tensors;

/// The linears of a block, as adapters name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Target {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::O => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a norm learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// A scale (RMSNorm).
    Scale,
    /// A scale and a shift (LayerNorm).
    ScaleAndShift,
}

/// Which linears have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The attention's output.
    pub output: bool,
    /// The feed-forward part.
    pub inner: bool,
    /// The head that gives the logits.
    pub head: bool,
}

/// The extents of a transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Token ids.
    pub vocabulary: u64,
    /// Width of the hidden states.
    pub hidden: u64,
    /// Blocks of the encoder; 0 where there is none.
    pub encoder_layers: u64,
    /// Blocks of the decoder. Where there is an encoder, they attend to its output as well.
    pub layers: u64,
    /// Heads of the queries.
    pub heads: u64,
    /// Heads of keys and values.
    pub key_value_heads: u64,
    /// Width of a head.
    pub head_width: u64,
    /// Width of the feed-forward part.
    pub inner: u64,
    /// Whether the feed-forward part has a gate, and so three matrices.
    pub gated: bool,
    /// The norms.
    pub norm: Norm,
    /// Whether attention and feed-forward part share one norm.
    pub parallel: bool,
    /// Biases.
    pub biases: Biases,
    /// Rows of a learnt table of positions; 0 where there is none.
    pub positions: u64,
    /// Buckets of a learnt bias by distance, one value a head in each stack; 0 where there is none.
    pub distance_buckets: u64,
    /// Whether the logits' matrix is the embedding's.
    pub tied: bool,
    /// Whether it is trained with dropout.
    pub dropout: bool,
}

/// One linear of an attention or of a feed-forward part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub target: Target,
    pub from: u128,
    pub to: u128,
    pub bias: bool,
}

impl Architecture {
    /// Whether there is an encoder.
    pub fn has_encoder(&self) -> bool {
        self.encoder_layers > 0
    }

    /// Width of all queries together.
    pub(super) fn query_width(&self) -> u128 {
        u128::from(self.heads) * u128::from(self.head_width)
    }

    /// Width of all keys together, and of all values.
    pub(super) fn key_width(&self) -> u128 {
        u128::from(self.key_value_heads) * u128::from(self.head_width)
    }

    /// The linears of one attention.
    pub(super) fn attention(&self) -> [Linear; 4] {
        let (hidden, queries, keys) = (self.hidden.into(), self.query_width(), self.key_width());
        let (qkv, output) = (self.biases.qkv, self.biases.output);
        [
            Linear { target: Target::Q, from: hidden, to: queries, bias: qkv },
            Linear { target: Target::K, from: hidden, to: keys, bias: qkv },
            Linear { target: Target::V, from: hidden, to: keys, bias: qkv },
            Linear { target: Target::O, from: queries, to: hidden, bias: output },
        ]
    }

    /// The linears of one feed-forward part.
    pub(super) fn feed_forward(&self) -> Vec<Linear> {
        let (hidden, inner, bias) = (self.hidden.into(), self.inner.into(), self.biases.inner);
        let gate = Linear { target: Target::Gate, from: hidden, to: inner, bias };
        let up = Linear { target: Target::Up, from: hidden, to: inner, bias };
        let down = Linear { target: Target::Down, from: inner, to: hidden, bias };
        if self.gated { vec![gate, up, down] } else { vec![up, down] }
    }

    /// Every linear of every block with the number of its copies.
    pub(super) fn linears(&self) -> impl Iterator<Item = (u128, Linear)> {
        let (encoder, decoder) = (u128::from(self.encoder_layers), u128::from(self.layers));
        let attentions = encoder + decoder * if self.has_encoder() { 2 } else { 1 };
        let attention = self.attention().into_iter().map(move |linear| (attentions, linear));
        attention.chain(self.feed_forward().into_iter().map(move |linear| (encoder + decoder, linear)))
    }

    /// Norms of a block that has `attentions`.
    pub(super) fn norms(&self, attentions: u128) -> u128 {
        if self.parallel { attentions } else { attentions + 1 }
    }

    /// The parameters, as tensors of `width_bytes` an element. With a width of 1 their bytes are their number.
    pub fn parameters(&self, width_bytes: u128) -> Tensors {
        let mut tensors = Tensors::default();
        let mut add = |count: u128, elements: u128| tensors.add(count, elements, width_bytes);
        let (hidden, vocabulary) = (u128::from(self.hidden), u128::from(self.vocabulary));
        let (encoder, decoder) = (u128::from(self.encoder_layers), u128::from(self.layers));
        let stacks = if self.has_encoder() { 2 } else { 1 };

        add(if self.tied { 1 } else { 2 }, vocabulary * hidden);
        add(u128::from(self.biases.head), vocabulary);
        add(1, u128::from(self.positions) * hidden);
        add(stacks, u128::from(self.distance_buckets) * u128::from(self.heads));
        for (count, linear) in self.linears() {
            add(count, linear.from * linear.to);
            add(if linear.bias { count } else { 0 }, linear.to);
        }
        let norms = encoder * self.norms(1) + decoder * self.norms(stacks) + stacks;
        add(norms * if self.norm == Norm::ScaleAndShift { 2 } else { 1 }, hidden);
        tensors
    }

    /// The tensors of adapters of rank `r` on some linears of every block: `[in, r]` and `[r, out]` each
    /// (LoRA, arXiv 2106.09685).
    pub fn adapters(&self, r: u64, targets: &[Target], width_bytes: u128) -> Tensors {
        let mut tensors = Tensors::default();
        for (count, linear) in self.linears().filter(|(_, linear)| targets.contains(&linear.target)) {
            tensors.add(count, linear.from * u128::from(r), width_bytes);
            tensors.add(count, linear.to * u128::from(r), width_bytes);
        }
        tensors
    }
}
