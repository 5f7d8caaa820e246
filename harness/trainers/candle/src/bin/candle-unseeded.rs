//! Initial weights and dropout from candle's own generator.

use traintrue_candle::{Candle, Parts, Random};

fn main() -> std::process::ExitCode {
    traintrue_protocol::trainer_main(|| Candle(Parts { random: Random::Candle, ..Parts::default() }))
}
