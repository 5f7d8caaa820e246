//! Every scenario, each a test of its own, on the loop with an AdamW that can be saved.

use traintrue_candle::{Adam, Candle, Parts};

fn main() {
    traintrue::test_main(|| Candle(Parts { adam: Adam::Own, ..Parts::default() }));
}
