//! The trainer's forward pass on tensors without values. It follows `model/forward.rs`, `attention.rs`, `layers.rs`,
//! `pooling.rs` and `loss.rs` operation by operation: what they clone is cloned here, what they give up is given up.

use std::rc::Rc;

use super::Micro;
use super::array::Array;
use super::tape::{Op, Tape, Tensor};
use crate::model::{Block, Linear, Model, Norm};

/// What a forward pass needs.
pub struct Pass<'a> {
    /// The structure.
    pub model: &'a Model,
    /// The parameters as leaves.
    pub weights: &'a [Tensor],
    /// Where it is recorded.
    pub tape: &'a Rc<Tape>,
    /// Whether units are dropped.
    pub drops: bool,
}

/// The two losses, and what the forwards kept of keys and values: it lives as long as they do.
pub struct Losses {
    /// Of one element.
    pub lm: Tensor,
    /// Of one element, where there is a head.
    pub head: Option<Tensor>,
    _caches: Vec<Tensor>,
}

/// The losses of a micro-batch.
pub fn losses(pass: &Pass, micro: &Micro) -> Losses {
    let (tape, d) = (pass.tape, pass.model.size.hidden);
    let anchors = micro.samples * micro.width;
    let mut caches = Vec::new();
    let rows = micro.rows / micro.forwards;
    // Ids, positions and whether each is a token, copied for each part.
    let parts = tape.heap.hold((micro.rows * micro.width * (4 + 4 + 1)) as u64);
    let mut part = |_| {
        let mask = tape.constant(&[rows, 1, micro.width, micro.width]);
        forward(pass, rows, micro.width, &mask, micro.keeps_cache.then_some(&mut caches))
    };
    let first = part(0);
    let hidden = first.record(Op::Cat, (1..micro.forwards).map(part).collect());
    drop(parts);
    let logits = {
        let anchors = hidden.clone().by(Op::Slice(vec![anchors, d]));
        anchors.with(Op::Matmul, pass.weights[pass.model.lm_head].clone())
    };
    let lm = cross_entropy(logits, micro);
    let head = pass.model.projection.as_ref().filter(|_| micro.rows > micro.samples);
    let head = head.map(|head| contrastive(project(pass, hidden, head, micro), micro));
    Losses { lm, head, _caches: caches }
}

fn forward(
    pass: &Pass,
    rows: usize,
    width: usize,
    mask: &Tensor,
    mut caches: Option<&mut Vec<Tensor>>,
) -> Tensor {
    let mut x = embed(pass, rows, width);
    x = pass.dropout(x);
    for block in &pass.model.blocks {
        let attended = attend(pass, block, x.clone(), rows, mask, caches.as_deref_mut());
        x = x.with(Op::Add, pass.dropout(attended));
        let inner = norm(pass, x.clone(), &block.inner_norm);
        let inner = gelu(linear(pass, inner, &block.up));
        let inner = linear(pass, inner, &block.down);
        x = x.with(Op::Add, pass.dropout(inner));
    }
    norm(pass, x, &pass.model.norm)
}

fn embed(pass: &Pass, rows: usize, width: usize) -> Tensor {
    let (heap, d, n) = (&pass.tape.heap, pass.model.size.hidden, rows * width);
    // Places and ids as indices, and the table of waves, while the rows are embedded.
    let host = (Array::indices(heap, &[n]), Array::indices(heap, &[n]), Array::new(heap, &[width, d]));
    let positions = pass.tape.constant(&[n, d]);
    let embedded = pass.weights[pass.model.embedding].clone().by(Op::Select(n));
    let placed = embedded.with(Op::Add, positions);
    drop(host);
    placed
}

fn attend(
    pass: &Pass,
    block: &Block,
    x: Tensor,
    rows: usize,
    mask: &Tensor,
    caches: Option<&mut Vec<Tensor>>,
) -> Tensor {
    let (heads, d) = (pass.model.size.heads, pass.model.size.hidden);
    let width = x.shape()[0] / rows;
    let split = |y: Tensor| y.by(Op::Reshape(vec![rows, width, heads, d / heads])).by(Op::Swap(1, 2));

    let x = norm(pass, x, &block.attention_norm);
    let queries = split(linear(pass, x.clone(), &block.q));
    let mut keys = split(linear(pass, x.clone(), &block.k));
    let mut values = split(linear(pass, x, &block.v));
    if let Some(caches) = caches {
        for kept in [&mut keys, &mut values] {
            let shape = kept.shape();
            let stored = pass.tape.constant(&shape).with(Op::Assign, kept.clone());
            *kept = stored.clone().by(Op::Slice(shape));
            caches.push(stored);
        }
    }
    let queries = queries.by(Op::Scale);
    let scores = queries.with(Op::Matmul, keys.by(Op::Swap(2, 3)));
    let attended = softmax(pass, scores, mask).with(Op::Matmul, values);
    let attended = attended.by(Op::Swap(1, 2)).by(Op::Reshape(vec![rows * width, d]));
    linear(pass, attended, &block.o)
}

fn softmax(pass: &Pass, scores: Tensor, mask: &Tensor) -> Tensor {
    let scores = scores.with(Op::Add, mask.clone());
    let largest = scores.clone().detach().largest();
    let weights = scores.with(Op::Sub, largest).by(Op::Pointwise);
    let sum = weights.clone().by(Op::Reduce(3));
    let none = pass.tape.constant(&sum.shape());
    weights.with(Op::Mul, sum.with(Op::Add, none).by(Op::Recip))
}

fn linear(pass: &Pass, x: Tensor, layer: &Linear) -> Tensor {
    let weight = |place: usize| pass.weights[place].clone();
    let y = x.clone().with(Op::Matmul, weight(layer.weight)).with(Op::Add, weight(layer.bias));
    match layer.adapter {
        Some((a, b)) => {
            let down = x.with(Op::Matmul, weight(a)).by(Op::Scale);
            y.with(Op::Add, down.with(Op::Matmul, weight(b)))
        }
        None => y,
    }
}

fn norm(pass: &Pass, x: Tensor, layer: &Norm) -> Tensor {
    let centred = x.clone().with(Op::Sub, x.by(Op::Reduce(1)));
    let variance = centred.clone().with(Op::Mul, centred.clone()).by(Op::Reduce(1));
    let unit = centred.with(Op::Mul, variance.by(Op::Shift).by(Op::Pointwise).by(Op::Recip));
    let scaled = unit.with(Op::Mul, pass.weights[layer.weight].clone());
    scaled.with(Op::Add, pass.weights[layer.bias].clone())
}

fn gelu(x: Tensor) -> Tensor {
    let tape = x.tape.clone();
    let at = x.array.clone();
    let shape = at.shape.clone();
    let below = at.clone().in_place();
    // Both are products of a shared array, and so new ones.
    let density = at.fresh(&shape);
    let product = at.clone().in_place();
    drop(density);
    let slope = below.clone().add(product);
    let value = at.clone().in_place();
    drop(below);
    let centred = x.with(Op::Sub, tape.leaf(at, false));
    centred.with(Op::Mul, tape.leaf(slope, false)).with(Op::Add, tape.leaf(value, false))
}

fn cross_entropy(logits: Tensor, micro: &Micro) -> Tensor {
    let tape = logits.tape.clone();
    let anchors = micro.samples * micro.width;
    let next = Array::indices(&tape.heap, &[anchors]);
    let largest = logits.clone().detach().largest();
    let logits = logits.with(Op::Sub, largest);
    let all = logits.clone().by(Op::Pointwise).by(Op::Reduce(1)).by(Op::Pointwise);
    let surprise = all.with(Op::Sub, logits.by(Op::Gather)).by(Op::MaskFill);
    drop(next);
    let by_row = surprise.by(Op::Reshape(vec![micro.samples, micro.width])).by(Op::Reduce(1));
    by_row.by(Op::Reshape(vec![micro.samples])).by(Op::Reduce(0))
}

/// The head's unit vectors.
fn project(pass: &Pass, hidden: Tensor, head: &Linear, micro: &Micro) -> Tensor {
    let (tape, d) = (pass.tape, pass.model.size.hidden);
    let real = tape.constant(&[micro.rows, micro.width, 1]);
    let tokens = hidden.by(Op::Reshape(vec![micro.rows, micro.width, d])).with(Op::Mul, real);
    let sum = tokens.by(Op::Reduce(1)).by(Op::Reshape(vec![micro.rows, d]));
    let pooled = sum.with(Op::Mul, tape.constant(&[micro.rows, 1]));
    let x = linear(pass, pooled, head);
    let square = x.clone().with(Op::Mul, x.clone()).by(Op::Reduce(1));
    let zero = tape.constant(&square.shape());
    x.with(Op::Mul, square.with(Op::Add, zero).by(Op::Pointwise).by(Op::Recip))
}

fn contrastive(vectors: Tensor, micro: &Micro) -> Tensor {
    let part = || vectors.clone().by(Op::Slice(vec![micro.samples, vectors.shape()[1]]));
    let anchors = part();
    let apart = part().with(Op::Sub, part());
    let difference = anchors.with(Op::Mul, apart).by(Op::Reduce(1)).by(Op::Scale);
    let softplus = difference.by(Op::Scale).by(Op::Pointwise).by(Op::Shift).by(Op::Pointwise).by(Op::Scale);
    let real = vectors.tape.constant(&[micro.samples, 1]);
    softplus.with(Op::Mul, real).by(Op::Reshape(vec![micro.samples])).by(Op::Reduce(0))
}

impl Pass<'_> {
    fn dropout(&self, x: Tensor) -> Tensor {
        if !self.drops {
            return x;
        }
        let mask = self.tape.constant(&x.shape());
        x.with(Op::Mul, mask)
    }
}
