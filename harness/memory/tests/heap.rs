//! The counted heap and the guards over it. One test alone in its process: the heap is counted for all of it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::panic::catch_unwind;

use traintrue_memory::guard::{Growth, flat_over, returns_to_baseline, scope};
use traintrue_protocol::lanes::heap;

traintrue_protocol::count_heap!();

#[test]
fn the_heap_is_counted_to_the_byte_and_what_is_kept_is_found() {
    bytes_blocks_and_peak_are_counted();
    what_is_given_back_passes();
    what_is_kept_is_told_with_its_size();
    a_scope_panics_where_it_does_not_come_back();
}

fn bytes_blocks_and_peak_are_counted() {
    let before = heap::now().unwrap();
    let mut held = vec![1_u8; 1000];
    held.reserve_exact(2000);
    let after = heap::now().unwrap();
    assert_eq!((after.bytes - before.bytes, after.blocks - before.blocks), (3000, 1));
    drop(held);
    assert_eq!(heap::now().unwrap().bytes, before.bytes);
    heap::begin_peak();
    drop(vec![1_u8; 5000]);
    assert_eq!(heap::now().unwrap().peak_bytes - before.bytes, 5000);
}

fn what_is_given_back_passes() {
    returns_to_baseline(|| vec![7; 500]).unwrap();
    let mut cache = None;
    returns_to_baseline(|| cache.get_or_insert_with(|| vec![1_u8; 4096]).len()).unwrap();
    let mut buffer = Vec::new();
    let sawtooth = |step| if step % 10 == 9 { buffer = Vec::new() } else { buffer.push(vec![step; 10]) };
    flat_over(200, sawtooth).unwrap();
    scope("evaluation").leave().unwrap();
}

fn what_is_kept_is_told_with_its_size() {
    let mut kept = Vec::with_capacity(10_000);
    let found = returns_to_baseline(|| kept.push(vec![0_u8; 64])).unwrap_err();
    assert_eq!(found, Growth::Held { what: "a call".into(), bytes: 64, blocks: 1 });
    let found = flat_over(400, |step| kept.push(step.to_le_bytes().to_vec())).unwrap_err();
    assert_eq!(
        found.to_string(),
        "each 100 steps keeps 800 B (800 B) in 100 more blocks: the heap holds them, so the program's own code still \
         references them"
    );
    assert_eq!(flat_over(3, |_| ()), Err(Growth::TooFew { steps: 3 }));
}

fn a_scope_panics_where_it_does_not_come_back() {
    let mut kept = Vec::with_capacity(10);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let fell = catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _evaluation = scope("evaluation");
        kept.push(vec![0_u8; 100]);
    }));
    std::panic::set_hook(hook);
    let message = fell.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("evaluation keeps"), "{message}");
}
