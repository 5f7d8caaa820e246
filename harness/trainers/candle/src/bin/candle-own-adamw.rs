//! An AdamW whose moments can be saved, and a checkpoint with them and with the open window.

use traintrue_candle::{Adam, Candle, Parts};

fn main() -> std::process::ExitCode {
    traintrue_protocol::trainer_main(|| Candle(Parts { adam: Adam::Own, ..Parts::default() }))
}
