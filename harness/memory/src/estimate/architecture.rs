//! A transformer by its extents.

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

/// Where the norms of a block are, and what its two parts read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each part reads the residual stream through a norm of its own.
    PreNorm,
    /// Each part reads the stream, and a norm follows each sum (BERT).
    PostNorm,
    /// Both parts read the output of one norm (Phi).
    SharedNorm,
    /// Both parts read the same stream, each through a norm of its own (GPT-NeoX).
    Parallel,
}

/// How the activation of the feed-forward part is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// By one operation, which keeps its input (`silu`, `gelu`, `gelu_pytorch_tanh`).
    Gelu,
    /// By one operation whose result is enough for its slope.
    Relu,
    /// By several operations (transformers' `gelu_new`).
    NewGelu,
}

/// Feed-forward parts of which a router picks some for each position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// All of them.
    pub count: u64,
    /// Those that a position goes through.
    pub per_position: u64,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Token ids.
    Tokens,
    /// Patches of an image with a class token before them.
    Patches {
        /// Colours.
        channels: u64,
        /// Pixels along a side of a patch.
        side: u64,
    },
    /// Frames of a spectrogram, two a position; the decoder has tokens.
    Frames {
        /// Frequencies.
        bins: u64,
    },
}

/// What follows the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A linear to the vocabulary.
    Vocabulary,
    /// A linear, an activation and a norm before the linear to the vocabulary (BERT).
    Transformed,
    /// A linear from the class token to so many classes.
    Classes(u64),
}

/// Which linears have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries and values.
    pub qv: bool,
    /// Keys.
    pub k: bool,
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
    /// Token ids; 0 where there are none.
    pub vocabulary: u64,
    /// Width of the hidden states.
    pub hidden: u64,
    /// Blocks of an encoder beside the decoder; 0 where there is one stack.
    pub encoder_layers: u64,
    /// Blocks of the decoder, or of the only stack. Where there is an encoder, they attend to its output as well.
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
    /// How its activation is computed.
    pub activation: Activation,
    /// Its copies, where a router picks among several.
    pub experts: Option<Experts>,
    /// The norms.
    pub norm: Norm,
    /// Where they are.
    pub order: Order,
    /// Whether the heads of queries and keys have a norm (Qwen3).
    pub head_norms: bool,
    /// Whether positions turn queries and keys (RoPE, arXiv 2104.09864).
    pub rotary: bool,
    /// Whether queries, keys and values come from one linear: an adapter of one of them cannot be told.
    pub fused_qkv: bool,
    /// Whether queries are copied into the order of the heads before they are used: by Whisper, and where positions turn a
    /// part of each head and the rest is put beside it (Phi, GPT-NeoX).
    pub queries_by_heads: bool,
    /// Whether gate and up come from one linear.
    pub fused_gate: bool,
    /// Biases.
    pub biases: Biases,
    /// What a row is made of.
    pub input: Input,
    /// Positions that every row has, where it is not the data that says.
    pub fixed_length: Option<u64>,
    /// Rows of a table of positions that does not learn; 0 where there is none.
    pub fixed_positions: u64,
    /// Rows of a learnt table of positions; 0 where there is none.
    pub positions: u64,
    /// Rows of a learnt table of segments; 0 where there is none. Such an embedding ends in a norm.
    pub segments: u64,
    /// Buckets of a learnt bias by distance, one value a head in each stack; 0 where there is none.
    pub distance_buckets: u64,
    /// Whether the logits' matrix is the embedding's.
    pub tied: bool,
    /// What follows the last block.
    pub head: Head,
    /// Whether it is trained with dropout.
    pub dropout: bool,
}

impl Architecture {
    /// A stack of pre-norm blocks over tokens as Llama has them: gated, rotary, with no bias and an untied head.
    pub fn decoder(vocabulary: u64, hidden: u64, layers: u64, heads: u64, inner: u64) -> Self {
        Self {
            vocabulary,
            hidden,
            encoder_layers: 0,
            layers,
            heads,
            key_value_heads: heads,
            head_width: hidden / heads,
            inner,
            gated: true,
            activation: Activation::Gelu,
            experts: None,
            norm: Norm::Scale,
            order: Order::PreNorm,
            head_norms: false,
            rotary: true,
            fused_qkv: false,
            fused_gate: false,
            queries_by_heads: false,
            biases: Biases::default(),
            input: Input::Tokens,
            fixed_length: None,
            fixed_positions: 0,
            positions: 0,
            segments: 0,
            distance_buckets: 0,
            tied: false,
            head: Head::Vocabulary,
            dropout: false,
        }
    }

    /// Whether there is an encoder beside the decoder.
    pub fn has_encoder(&self) -> bool {
        self.encoder_layers > 0
    }
}
