//! Peaks worked out by hand, beside each case.

use super::array::{Array, Heap};
use super::backward::backward;
use super::tape::{Op, Tape, Tensor};

/// The bytes of a matrix of floats with what ndarray holds beside them.
fn matrix(rows: u64, columns: u64) -> u64 {
    4 * rows * columns + 40
}

#[test]
fn a_block_is_held_until_its_last_sharer_is_dropped() {
    let heap = Heap::default();
    let one = Array::new(&heap, &[100, 10]);
    let other = one.clone();
    drop(one);
    // Nobody else holds it now, so it is written in place; of a shared one there is a copy.
    let alone = other.in_place();
    assert_eq!(heap.peak_bytes(), matrix(100, 10));
    drop(alone.clone().in_place());
    assert_eq!(heap.peak_bytes(), 2 * matrix(100, 10));
}

#[test]
fn a_product_of_matrices_takes_both_operands_twice_and_its_result_twice() {
    let heap = Heap::default();
    let (a, b) = (Array::new(&heap, &[500, 30]), Array::new(&heap, &[30, 400]));
    let (a, b) = ((a.clone(), a), (b.clone(), b));
    let product = a.0.matmul(b.0);
    assert_eq!(product.shape, [500, 400]);
    assert_eq!(heap.peak_bytes(), 2 * matrix(500, 30) + 2 * matrix(30, 400) + 2 * matrix(500, 400));
}

/// `exp(x w)` summed, and gone back from.
fn chain(heap: &Heap, checkpointing: bool) -> Option<Array> {
    let tape = Tape::new(heap, checkpointing);
    let x = tape.constant(&[1000, 50]);
    let w = tape.leaf(Array::new(heap, &[50, 80]), true);
    let scaled = x.with(Op::Matmul, w.clone()).by(Op::Scale);
    let loss = scaled.by(Op::Pointwise).by(Op::Reduce(1)).by(Op::Reduce(0));
    backward(loss).remove(&w.node)
}

#[test]
fn a_gradient_has_its_weights_shape_and_nothing_else_is_left() {
    for checkpointing in [false, true] {
        let heap = Heap::default();
        let gradient = chain(&heap, checkpointing).unwrap();
        assert_eq!(gradient.shape, [50, 80]);
        let before = heap.peak_bytes();
        drop(gradient);
        let all = heap.hold(before);
        assert_eq!(heap.peak_bytes(), before);
        drop(all);
    }
}

#[test]
fn a_light_operation_is_kept_only_where_it_is_not_computed_again() {
    let kept = |checkpointing| {
        let heap = Heap::default();
        let tape = Tape::new(&heap, checkpointing);
        let x = tape.leaf(Array::new(&heap, &[1000, 100]), true);
        // Each slope needs the operand before it: two squares, and the last result is given up.
        let square = |x: Tensor| x.clone().with(Op::Mul, x);
        drop(square(square(square(x))));
        let held = heap.hold(0);
        drop(held);
        let results = tape.needed.take().len();
        let again = tape.spare.take().len();
        (results, again)
    };
    // Two operands a product; beside them, under checkpointing, what each could be computed from.
    assert_eq!(kept(false), (6, 0));
    assert_eq!(kept(true), (6, 6));
}

#[test]
fn an_untracked_operand_makes_a_light_operation_one_that_is_kept() {
    let heap = Heap::default();
    let tape = Tape::new(&heap, true);
    let light = |other_is_tracked: bool| {
        let x = tape.leaf(Array::new(&heap, &[10, 10]), true);
        let y = tape.leaf(Array::new(&heap, &[10, 10]), other_is_tracked);
        let sum = x.with(Op::Add, y);
        tape.nodes.borrow()[sum.node].is_light
    };
    assert!(light(true) && !light(false));
}
