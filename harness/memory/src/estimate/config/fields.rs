//! Fields of a `config.json`: what is read of them, and what is refused by name.

use serde_json::{Map, Value};

use super::{Activation, ConfigError, EXTENT_MOST};

pub(super) struct Fields(pub Map<String, Value>);

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn refused(field: &'static str, found: &Value, expected: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, found: found.to_string(), expected: expected.into() }
}

impl Fields {
    /// The field's value; null is absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub fn extent(&self, field: &'static str) -> Result<u64, ConfigError> {
        self.extent_if(field)?.ok_or(ConfigError::Missing { field })
    }

    pub fn extent_if(&self, field: &'static str) -> Result<Option<u64>, ConfigError> {
        let read = |value: &Value| {
            let extent = value.as_u64().filter(|it| (1..=EXTENT_MOST).contains(it));
            extent.ok_or_else(|| refused(field, value, format!("a whole number from 1 to {EXTENT_MOST}")))
        };
        self.get(field).map(read).transpose()
    }

    pub fn flag(&self, field: &'static str, default: bool) -> Result<bool, ConfigError> {
        let read = |value: &Value| value.as_bool().ok_or_else(|| refused(field, value, "true or false"));
        self.get(field).map_or(Ok(default), read)
    }

    pub fn text<'a>(&'a self, field: &'static str, default: &'a str) -> Result<&'a str, ConfigError> {
        let read = |value: &'a Value| value.as_str().ok_or_else(|| refused(field, value, "a string"));
        self.get(field).map_or(Ok(default), read)
    }

    /// Whether a rate of dropout is above 0.
    pub fn rate(&self, field: &'static str, default: f64) -> Result<bool, ConfigError> {
        let read = |value: &Value| {
            let rate = value.as_f64().filter(|rate| (0.0..1.0).contains(rate));
            rate.ok_or_else(|| refused(field, value, "a rate from 0 to below 1"))
        };
        Ok(self.get(field).map_or(Ok(default), read)? > 0.0)
    }

    /// An activation, by what transformers calls it. Others keep other tensors.
    pub fn activation(&self, field: &'static str, default: &str) -> Result<Activation, ConfigError> {
        match self.text(field, default)? {
            "silu" | "gelu" | "gelu_pytorch_tanh" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            "gelu_new" => Ok(Activation::NewGelu),
            other => Err(refused(field, &other.into(), "silu, gelu, gelu_new, gelu_pytorch_tanh or relu")),
        }
    }

    /// Labels of a classifier: `id2label` has one entry a label, and two where it is not there.
    pub fn labels(&self) -> Result<u64, ConfigError> {
        let read = |value: &Value| {
            let labels = value.as_object().filter(|labels| !labels.is_empty());
            labels
                .map(|it| it.len() as u64)
                .ok_or_else(|| refused("id2label", value, "an object with a label"))
        };
        self.get("id2label").map_or(Ok(2), read)
    }

    pub fn head_width(
        &self,
        heads_field: &'static str,
        hidden_field: &'static str,
        hidden: u64,
        heads: u64,
    ) -> Result<u64, ConfigError> {
        match self.extent_if("head_dim")? {
            Some(width) => Ok(width),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => {
                let expected = format!("a divisor of {hidden_field}, {hidden}, or head_dim beside it");
                Err(refused(heads_field, &heads.into(), expected))
            }
        }
    }

    /// Heads of keys and values: several queries share one, so they divide the heads.
    pub fn key_value_heads(&self, heads: u64) -> Result<u64, ConfigError> {
        let field = "num_key_value_heads";
        match self.extent_if(field)? {
            Some(found) if !heads.is_multiple_of(found) => {
                Err(refused(field, &found.into(), format!("a divisor of num_attention_heads, {heads}")))
            }
            found => Ok(found.unwrap_or(heads)),
        }
    }

    pub fn must_be(&self, field: &'static str, expected: u64, as_field: &str) -> Result<(), ConfigError> {
        let found = self.extent(field)?;
        let equal = found == expected;
        let wrong = || refused(field, &found.into(), format!("as {as_field}: {expected}"));
        if equal { Ok(()) } else { Err(wrong()) }
    }

    pub fn must_be_absent(&self, field: &'static str, expected: &str) -> Result<(), ConfigError> {
        self.get(field).map_or(Ok(()), |found| Err(refused(field, found, expected)))
    }

    pub fn must_be_off(&self, field: &'static str) -> Result<(), ConfigError> {
        let expected = "false: what it adds is not known here";
        if self.flag(field, false)? { Err(refused(field, &true.into(), expected)) } else { Ok(()) }
    }
}
