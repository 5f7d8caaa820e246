//! candle's own AdamW, and a checkpoint of what candle's public interface gives: the weights.

fn main() -> std::process::ExitCode {
    traintrue_protocol::trainer_main(|| traintrue_candle::Candle(Default::default()))
}
