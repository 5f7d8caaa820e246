//! `candle_nn::LayerNorm` as it is, where the other programs have `layer_norm_slow`.

use traintrue_candle::{Candle, Norm, Parts};

fn main() -> std::process::ExitCode {
    traintrue_protocol::trainer_main(|| Candle(Parts { norm: Norm::Module, ..Parts::default() }))
}
