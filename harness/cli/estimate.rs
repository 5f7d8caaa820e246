//! `traintrue estimate`: what training a model will need, part by part, against what it may use.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use traintrue::report::json;
use traintrue_memory::bytes::Bytes;
use traintrue_memory::estimate::{self, Adapters, Architecture, Engine, Request, Target};
use traintrue_protocol::exit::Exit;
use traintrue_protocol::{limited, plan};

use crate::Done;
use crate::output::{self, ListFormat};

/// A longer file is no configuration.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

#[derive(Args, Debug)]
pub struct EstimateArgs {
    /// A published model, such as meta-llama/Llama-3.2-3B; the longest known name in it counts.
    #[arg(long, value_name = "NAME", required_unless_present = "config", conflicts_with = "config")]
    model: Option<String>,
    /// A model's config.json, as Hugging Face has it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Samples a micro-batch.
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: u64,
    /// Rows of the forward that one sample becomes: 3 where three inputs are concatenated.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rows_per_sample: u64,
    /// Positions a row; of the encoder where there is one.
    #[arg(long, value_name = "N")]
    length: u64,
    /// Positions a row of the decoder, where there is an encoder too.
    #[arg(long, value_name = "N")]
    target_length: Option<u64>,
    /// Format of weights, gradients and activations.
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// Format of the optimizer's moments; the weights' where it is not given.
    #[arg(long, value_enum)]
    moments: Option<Moments>,
    /// The optimizer.
    #[arg(long, value_enum, default_value_t = Optimizer::Adamw)]
    optimizer: Optimizer,
    /// Train adapters of this rank on a frozen base, in place of everything.
    #[arg(long, value_name = "R")]
    adapters: Option<u64>,
    /// The linears that have an adapter: of q, k, v, o, gate, up and down.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "q,v", requires = "adapters")]
    targets: Vec<String>,
    /// How attention is computed.
    #[arg(long, value_enum, default_value_t = Attention::Eager)]
    attention: Attention,
    /// Micro-batches a window: with more than one, gradients are there during the forward pass.
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulation: u64,
    /// Each block is computed again in the backward pass from its input.
    #[arg(long)]
    checkpointing: bool,
    /// Training forwards keep keys and values.
    #[arg(long)]
    cache: bool,
    /// What may be used, such as 24GiB; exit status 1 where it does not do.
    #[arg(long, value_name = "BYTES")]
    capacity: Option<Bytes>,
    /// The form of the estimate.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

impl From<Dtype> for plan::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

/// Optimizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Optimizer {
    /// Two moments a parameter.
    Adamw,
    /// One.
    Momentum,
    /// None.
    Sgd,
}

impl From<Optimizer> for estimate::Optimizer {
    fn from(optimizer: Optimizer) -> Self {
        match optimizer {
            Optimizer::Adamw => Self::Adamw,
            Optimizer::Momentum => Self::Momentum,
            Optimizer::Sgd => Self::Sgd,
        }
    }
}

/// Attentions, as transformers' `attn_implementation` calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attention {
    /// The weights of every query on every key are in memory.
    #[value(alias = "materialised")]
    Eager,
    /// They are not.
    #[value(alias = "fused")]
    Sdpa,
}

impl From<Attention> for Engine {
    fn from(attention: Attention) -> Self {
        match attention {
            Attention::Eager => Self::TorchEager,
            Attention::Sdpa => Self::TorchSdpa,
        }
    }
}

/// Formats of moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Moments {
    F32,
    Bf16,
    F16,
    /// One byte a value, as bitsandbytes has them.
    #[value(name = "8bit")]
    EightBit,
}

impl From<Moments> for estimate::Moments {
    fn from(moments: Moments) -> Self {
        match moments {
            Moments::F32 => Self::In(plan::Dtype::F32),
            Moments::Bf16 => Self::In(plan::Dtype::Bf16),
            Moments::F16 => Self::In(plan::Dtype::F16),
            Moments::EightBit => Self::EightBit,
        }
    }
}

/// A request that names something that is not there.
#[derive(Debug, thiserror::Error)]
enum EstimateError {
    #[error("--targets: no linear is called {0:?}; there are q, k, v, o, gate, up and down")]
    Target(String),
    #[error("{path}: cannot read the configuration: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: longer than {CONFIG_LIMIT_BYTES} bytes: no configuration", path = .path.display())]
    TooLong { path: PathBuf },
    #[error("{path}: {source}", path = .path.display())]
    Config { path: PathBuf, source: estimate::ConfigError },
}

pub fn estimate(args: &EstimateArgs) -> Done {
    let (name, architecture) = architecture(args)?;
    let found = estimate::estimate(&name, &architecture, &request(args)?, args.capacity)?;
    output::write(&match args.format {
        ListFormat::Text => estimate::text(&found),
        ListFormat::Json => json::document(&found)?,
    })?;
    Ok(if found.fits { Exit::Held } else { Exit::Broken })
}

fn architecture(args: &EstimateArgs) -> Result<(String, Architecture), Box<dyn std::error::Error>> {
    if let Some(path) = &args.config {
        let read = estimate::read_config(&read(path)?);
        let architecture = read.map_err(|source| EstimateError::Config { path: path.clone(), source })?;
        return Ok((path.display().to_string(), architecture));
    }
    let (name, architecture) = estimate::named(args.model.as_deref().unwrap_or_default())?;
    Ok((name.to_owned(), architecture))
}

fn read(path: &Path) -> Result<String, EstimateError> {
    let failed = |source| EstimateError::Read { path: path.to_owned(), source };
    let text = File::open(path).and_then(|file| limited::text(file, CONFIG_LIMIT_BYTES)).map_err(failed)?;
    text.ok_or_else(|| EstimateError::TooLong { path: path.to_owned() })
}

fn request(args: &EstimateArgs) -> Result<Request, EstimateError> {
    let target = |name: &String| {
        let known = Target::ALL.into_iter().find(|target| target.name() == name);
        known.ok_or_else(|| EstimateError::Target(name.clone()))
    };
    let adapters = match args.adapters {
        Some(r) => Some(Adapters { r, targets: args.targets.iter().map(target).collect::<Result<_, _>>()? }),
        None => None,
    };
    Ok(Request {
        batch: args.batch,
        rows_per_sample: args.rows_per_sample,
        labelled_rows: None,
        length: args.length,
        target_length: args.target_length,
        dtype: args.dtype.into(),
        moments: args.moments.map_or(estimate::Moments::In(args.dtype.into()), Into::into),
        optimizer: args.optimizer.into(),
        adapters,
        engine: args.attention.into(),
        accumulation: args.accumulation,
        clips: false,
        checkpointing: args.checkpointing,
        cache: args.cache,
    })
}
