//! Reads the architecture from a Hugging Face `config.json`.

mod fields;

use serde_json::Value;

use super::architecture::{Activation, Architecture, Biases, Experts, Head, Input, Norm, Order};
use super::request::EXTENT_MOST;
use fields::Fields;

/// The model types that are read.
const TYPES: [&str; 15] = [
    "bert", "gemma", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "mt5", "phi", "phi3", "qwen2",
    "qwen3", "t5", "vit", "whisper",
];

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("line {line}, column {column}: {problem}", line = .0.line(), column = .0.column(), problem = .0)]
    Json(#[from] serde_json::Error),
    #[error("found {0}, expected an object with the model's configuration")]
    NotAnObject(&'static str),
    #[error("model_type: {found}, expected one of {}", TYPES.join(", "))]
    Type { found: String },
    #[error("{field}: missing")]
    Missing { field: &'static str },
    #[error("{field}: {found}, expected {expected}")]
    Field { field: &'static str, found: String, expected: String },
}

/// The architecture that the text of a `config.json` describes. Fails with the field that is wrong.
pub fn read_config(text: &str) -> Result<Architecture, ConfigError> {
    let fields = match serde_json::from_str(text)? {
        Value::Object(fields) => Fields(fields),
        other => return Err(ConfigError::NotAnObject(fields::kind(&other))),
    };
    // Four bits a weight, and others: what a quantised model keeps is not what is computed here.
    fields.must_be_absent(
        "quantization_config",
        "no quantised weights: only 16-bit and 32-bit formats are supported",
    )?;
    let model_type = fields.0.get("model_type").unwrap_or(&Value::Null);
    match model_type.as_str().unwrap_or_default() {
        "llama" | "mistral" => fields.llama("silu"),
        "qwen2" => fields.qwen2(),
        "qwen3" => Ok(Architecture { head_norms: true, ..fields.llama("silu")? }),
        "gemma" => fields.gemma(),
        "mixtral" => fields.mixtral(),
        "phi3" => fields.phi3(),
        "phi" => fields.phi(),
        "gpt_neox" => fields.gpt_neox(),
        "gpt2" => fields.gpt2(),
        "bert" => fields.bert(),
        "vit" => fields.vit(),
        "t5" | "mt5" => fields.t5(),
        "whisper" => fields.whisper(),
        _ => Err(ConfigError::Type { found: model_type.to_string() }),
    }
}

/// One reader a family: what its configuration class calls a field, and what it takes for one that is not there.
impl Fields {
    /// The names that most configurations share.
    fn stack(&self, activation: &'static str, norm: Norm) -> Result<Architecture, ConfigError> {
        let (hidden, heads) = (self.extent("hidden_size")?, self.extent("num_attention_heads")?);
        Ok(Architecture {
            key_value_heads: heads,
            head_width: self.head_width("num_attention_heads", "hidden_size", hidden, heads)?,
            activation: self.activation("hidden_act", activation)?,
            norm,
            ..Architecture::decoder(
                0,
                hidden,
                self.extent("num_hidden_layers")?,
                heads,
                self.extent("intermediate_size")?,
            )
        })
    }

    fn llama(&self, activation: &'static str) -> Result<Architecture, ConfigError> {
        let stack = self.stack(activation, Norm::Scale)?;
        let attention = self.flag("attention_bias", false)?;
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            key_value_heads: self.key_value_heads(stack.heads)?,
            biases: Biases {
                qv: attention,
                k: attention,
                output: attention,
                inner: self.flag("mlp_bias", false)?,
                head: false,
            },
            tied: self.flag("tie_word_embeddings", false)?,
            dropout: self.rate("attention_dropout", 0.0)? || self.rate("resid_pdrop", 0.0)?,
            ..stack
        })
    }

    fn qwen2(&self) -> Result<Architecture, ConfigError> {
        Ok(Architecture { biases: Biases { qv: true, k: true, ..Biases::default() }, ..self.llama("silu")? })
    }

    fn gemma(&self) -> Result<Architecture, ConfigError> {
        let tied = self.flag("tie_word_embeddings", true)?;
        Ok(Architecture { tied, ..self.llama("gelu_pytorch_tanh")? })
    }

    fn mixtral(&self) -> Result<Architecture, ConfigError> {
        let count = self.extent("num_local_experts")?;
        let per_position = self.extent("num_experts_per_tok")?;
        if per_position > count {
            let expected = format!("at most num_local_experts, {count}");
            return Err(ConfigError::Field {
                field: "num_experts_per_tok",
                found: per_position.to_string(),
                expected,
            });
        }
        Ok(Architecture { experts: Some(Experts { count, per_position }), ..self.llama("silu")? })
    }

    fn phi3(&self) -> Result<Architecture, ConfigError> {
        Ok(Architecture { fused_qkv: true, queries_by_heads: true, fused_gate: true, ..self.llama("silu")? })
    }

    fn phi(&self) -> Result<Architecture, ConfigError> {
        self.must_be_off("qk_layernorm")?;
        Ok(Architecture {
            gated: false,
            norm: Norm::ScaleAndShift,
            order: Order::SharedNorm,
            queries_by_heads: true,
            biases: Biases { qv: true, k: true, output: true, inner: true, head: true },
            ..self.llama("gelu_new")?
        })
    }

    fn gpt_neox(&self) -> Result<Architecture, ConfigError> {
        let attention = self.flag("attention_bias", true)?;
        let parallel = self.flag("use_parallel_residual", true)?;
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            gated: false,
            order: if parallel { Order::Parallel } else { Order::PreNorm },
            fused_qkv: true,
            queries_by_heads: true,
            biases: Biases { qv: attention, k: attention, output: attention, inner: true, head: false },
            tied: self.flag("tie_word_embeddings", false)?,
            dropout: self.rate("attention_dropout", 0.0)? || self.rate("hidden_dropout", 0.0)?,
            ..self.stack("gelu", Norm::ScaleAndShift)?
        })
    }

    fn gpt2(&self) -> Result<Architecture, ConfigError> {
        self.must_be_off("add_cross_attention")?;
        let (hidden, heads) = (self.extent("n_embd")?, self.extent("n_head")?);
        let inner = self.extent_if("n_inner")?.unwrap_or(4 * hidden);
        Ok(Architecture {
            head_width: self.head_width("n_head", "n_embd", hidden, heads)?,
            gated: false,
            activation: self.activation("activation_function", "gelu_new")?,
            norm: Norm::ScaleAndShift,
            rotary: false,
            fused_qkv: true,
            biases: Biases { qv: true, k: true, output: true, inner: true, head: false },
            positions: self.extent("n_positions")?,
            tied: self.flag("tie_word_embeddings", true)?,
            dropout: self.rate("attn_pdrop", 0.1)? || self.rate("resid_pdrop", 0.1)?,
            ..Architecture::decoder(self.extent("vocab_size")?, hidden, self.extent("n_layer")?, heads, inner)
        })
    }

    fn bert(&self) -> Result<Architecture, ConfigError> {
        self.must_be_off("is_decoder")?;
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            gated: false,
            order: Order::PostNorm,
            rotary: false,
            biases: Biases { qv: true, k: true, output: true, inner: true, head: true },
            positions: self.extent("max_position_embeddings")?,
            segments: self.extent("type_vocab_size")?,
            tied: self.flag("tie_word_embeddings", true)?,
            head: Head::Transformed,
            dropout: self.rate("hidden_dropout_prob", 0.1)?
                || self.rate("attention_probs_dropout_prob", 0.1)?,
            ..self.stack("gelu", Norm::ScaleAndShift)?
        })
    }

    fn vit(&self) -> Result<Architecture, ConfigError> {
        let (image, side) = (self.extent("image_size")?, self.extent("patch_size")?);
        let channels = self.extent_if("num_channels")?.unwrap_or(3);
        let positions = (image / side).pow(2) + 1;
        let qkv = self.flag("qkv_bias", true)?;
        Ok(Architecture {
            gated: false,
            rotary: false,
            biases: Biases { qv: qkv, k: qkv, output: true, inner: true, head: true },
            input: Input::Patches { channels, side },
            fixed_length: Some(positions),
            positions,
            tied: true,
            head: Head::Classes(self.labels()?),
            dropout: self.rate("hidden_dropout_prob", 0.0)?
                || self.rate("attention_probs_dropout_prob", 0.0)?,
            ..self.stack("gelu", Norm::ScaleAndShift)?
        })
    }

    fn t5(&self) -> Result<Architecture, ConfigError> {
        let (heads, layers) = (self.extent("num_heads")?, self.extent("num_layers")?);
        let (gated, activation) = match self.text("feed_forward_proj", "relu")? {
            // transformers computes a gated GELU of T5 as `gelu_new`.
            "gated-gelu" => (true, Activation::NewGelu),
            "gated-silu" => (true, Activation::Gelu),
            "relu" => (false, Activation::Relu),
            other => {
                let expected = "relu, gated-gelu or gated-silu".to_owned();
                return Err(ConfigError::Field {
                    field: "feed_forward_proj",
                    found: format!("{other:?}"),
                    expected,
                });
            }
        };
        let decoder_layers = self.extent_if("num_decoder_layers")?.unwrap_or(layers);
        let (vocabulary, hidden, inner) =
            (self.extent("vocab_size")?, self.extent("d_model")?, self.extent("d_ff")?);
        Ok(Architecture {
            encoder_layers: layers,
            head_width: self.extent("d_kv")?,
            gated,
            activation,
            rotary: false,
            distance_buckets: self.extent_if("relative_attention_num_buckets")?.unwrap_or(32),
            tied: self.flag("tie_word_embeddings", true)?,
            dropout: self.rate("dropout_rate", 0.1)?,
            ..Architecture::decoder(vocabulary, hidden, decoder_layers, heads, inner)
        })
    }

    fn whisper(&self) -> Result<Architecture, ConfigError> {
        let (hidden, heads) = (self.extent("d_model")?, self.extent("decoder_attention_heads")?);
        let inner = self.extent("decoder_ffn_dim")?;
        self.must_be("encoder_attention_heads", heads, "decoder_attention_heads")?;
        self.must_be("encoder_ffn_dim", inner, "decoder_ffn_dim")?;
        let frames = self.extent("max_source_positions")?;
        Ok(Architecture {
            encoder_layers: self.extent("encoder_layers")?,
            head_width: self.head_width("decoder_attention_heads", "d_model", hidden, heads)?,
            gated: false,
            activation: self.activation("activation_function", "gelu")?,
            norm: Norm::ScaleAndShift,
            rotary: false,
            biases: Biases { qv: true, k: false, output: true, inner: true, head: false },
            queries_by_heads: true,
            input: Input::Frames { bins: self.extent_if("num_mel_bins")?.unwrap_or(80) },
            fixed_length: Some(frames),
            fixed_positions: frames,
            positions: self.extent("max_target_positions")?,
            tied: self.flag("tie_word_embeddings", true)?,
            dropout: self.rate("dropout", 0.0)? || self.rate("attention_dropout", 0.0)?,
            ..Architecture::decoder(
                self.extent("vocab_size")?,
                hidden,
                self.extent("decoder_layers")?,
                heads,
                inner,
            )
        })
    }
}
