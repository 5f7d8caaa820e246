//! Reads the architecture from a Hugging Face `config.json`.

use serde_json::{Map, Value};

use super::architecture::{Architecture, Biases, Norm};
use super::request::EXTENT_MOST;

/// The model types that are read.
const TYPES: [&str; 8] = ["gpt2", "llama", "mistral", "qwen2", "phi", "phi3", "t5", "mt5"];

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("line {line}, column {column}: {problem}", line = .0.line(), column = .0.column(), problem = .0)]
    Json(#[from] serde_json::Error),
    #[error("found {0}, expected an object with the model's figures")]
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
        other => return Err(ConfigError::NotAnObject(kind(&other))),
    };
    let model_type = fields.0.get("model_type").unwrap_or(&Value::Null);
    match model_type.as_str().unwrap_or_default() {
        "llama" | "mistral" => fields.llama(),
        "qwen2" => Ok(Architecture { biases: Biases { qkv: true, ..Biases::default() }, ..fields.llama()? }),
        "phi3" => fields.llama(),
        "phi" => fields.phi(),
        "gpt2" => fields.gpt2(),
        "t5" | "mt5" => fields.t5(),
        _ => Err(ConfigError::Type { found: model_type.to_string() }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    /// The field's value; null is absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn extent(&self, field: &'static str) -> Result<u64, ConfigError> {
        self.extent_if(field)?.ok_or(ConfigError::Missing { field })
    }

    fn extent_if(&self, field: &'static str) -> Result<Option<u64>, ConfigError> {
        let read = |value: &Value| match value.as_u64().filter(|it| (1..=EXTENT_MOST).contains(it)) {
            Some(extent) => Ok(extent),
            None => Err(ConfigError::Field {
                field,
                found: value.to_string(),
                expected: format!("a whole number from 1 to {EXTENT_MOST}"),
            }),
        };
        self.get(field).map(read).transpose()
    }

    fn flag(&self, field: &'static str, default: bool) -> Result<bool, ConfigError> {
        let read = |value: &Value| {
            let found = || value.to_string();
            value.as_bool().ok_or_else(|| ConfigError::Field {
                field,
                found: found(),
                expected: "true or false".into(),
            })
        };
        self.get(field).map_or(Ok(default), read)
    }

    /// Whether a rate of dropout is above 0.
    fn rate(&self, field: &'static str, default: f64) -> Result<bool, ConfigError> {
        let read = |value: &Value| match value.as_f64().filter(|rate| (0.0..1.0).contains(rate)) {
            Some(rate) => Ok(rate),
            None => Err(ConfigError::Field {
                field,
                found: value.to_string(),
                expected: "a rate from 0 to below 1".into(),
            }),
        };
        Ok(self.get(field).map_or(Ok(default), read)? > 0.0)
    }

    fn head_width(&self, hidden: u64, heads: u64) -> Result<u64, ConfigError> {
        match self.extent_if("head_dim")? {
            Some(width) => Ok(width),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(ConfigError::Field {
                field: "num_attention_heads",
                found: heads.to_string(),
                expected: format!("a divisor of hidden_size, {hidden}, or head_dim beside it"),
            }),
        }
    }

    fn llama(&self) -> Result<Architecture, ConfigError> {
        let hidden = self.extent("hidden_size")?;
        let heads = self.extent("num_attention_heads")?;
        let attention = self.flag("attention_bias", false)?;
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            hidden,
            encoder_layers: 0,
            layers: self.extent("num_hidden_layers")?,
            heads,
            key_value_heads: self.extent_if("num_key_value_heads")?.unwrap_or(heads),
            head_width: self.head_width(hidden, heads)?,
            inner: self.extent("intermediate_size")?,
            gated: true,
            norm: Norm::Scale,
            parallel: false,
            biases: Biases {
                qkv: attention,
                output: attention,
                inner: self.flag("mlp_bias", false)?,
                head: false,
            },
            positions: 0,
            distance_buckets: 0,
            tied: self.flag("tie_word_embeddings", false)?,
            dropout: self.rate("attention_dropout", 0.0)?,
        })
    }

    fn phi(&self) -> Result<Architecture, ConfigError> {
        Ok(Architecture {
            gated: false,
            norm: Norm::ScaleAndShift,
            parallel: true,
            biases: Biases { qkv: true, output: true, inner: true, head: true },
            ..self.llama()?
        })
    }

    fn gpt2(&self) -> Result<Architecture, ConfigError> {
        let (hidden, heads) = (self.extent("n_embd")?, self.extent("n_head")?);
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            hidden,
            encoder_layers: 0,
            layers: self.extent("n_layer")?,
            heads,
            key_value_heads: heads,
            head_width: self.head_width(hidden, heads)?,
            inner: self.extent_if("n_inner")?.unwrap_or(4 * hidden),
            gated: false,
            norm: Norm::ScaleAndShift,
            parallel: false,
            biases: Biases { qkv: true, output: true, inner: true, head: false },
            positions: self.extent("n_positions")?,
            distance_buckets: 0,
            tied: self.flag("tie_word_embeddings", true)?,
            dropout: self.rate("attn_pdrop", 0.1)? || self.rate("resid_pdrop", 0.1)?,
        })
    }

    fn t5(&self) -> Result<Architecture, ConfigError> {
        let heads = self.extent("num_heads")?;
        let layers = self.extent("num_layers")?;
        let feed_forward = self.get("feed_forward_proj").and_then(Value::as_str).unwrap_or("relu");
        Ok(Architecture {
            vocabulary: self.extent("vocab_size")?,
            hidden: self.extent("d_model")?,
            encoder_layers: layers,
            layers: self.extent_if("num_decoder_layers")?.unwrap_or(layers),
            heads,
            key_value_heads: heads,
            head_width: self.extent("d_kv")?,
            inner: self.extent("d_ff")?,
            gated: feed_forward.starts_with("gated"),
            norm: Norm::Scale,
            parallel: false,
            biases: Biases::default(),
            positions: 0,
            distance_buckets: self.extent_if("relative_attention_num_buckets")?.unwrap_or(32),
            tied: self.flag("tie_word_embeddings", true)?,
            dropout: self.rate("dropout_rate", 0.1)?,
        })
    }
}
