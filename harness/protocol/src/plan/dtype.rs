//! The format that numbers are computed in.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 24 bits of precision.
    #[default]
    F32,
    /// 11 bits; smallest normal 6.1e-5, smallest subnormal 6.0e-8.
    F16,
    /// 8 bits; the exponent range of f32.
    Bf16,
}

impl Dtype {
    /// Bytes of one value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}
